"""The claims that a study tests, each as an effect with an interval and a verdict."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lsh_jax.study.analysis import Draws, Estimate, correlation, correlation_within, estimated
from lsh_jax.study.scores import COMBINED, DISTANCE, LEADING, LOSS, Scored

_PAPER, _PAPER_SORTED = "paper's recipe", "paper's recipe, sorted"


class Claim(NamedTuple):
    """A difference of two rank correlations with the finals that a claim says is above 0.

    Attributes:
      text: the claim.
      better: the score that it says is the better judge.
      worse: the other one; None for a correlation of 0.
      within: "growth" for the mean within growth modes, "" for all candidates.
      negative: the claim says below 0 instead.
    """

    text: str
    better: str
    worse: str | None
    within: str = ""
    negative: bool = False


CLAIMS: tuple[Claim, ...] = (
    Claim("the distance foretells the final better than the loss", DISTANCE, "loss"),
    Claim("... than the loss of averaged weights", DISTANCE, LOSS),
    Claim("the distance foretells the final at all", DISTANCE, None),
    Claim("the paper's recipe foretells the final better than the loss", _PAPER, "loss"),
    Claim("... with its exponents sorted", _PAPER_SORTED, "loss"),
    Claim("leading exponents foretell it better than the loss", LEADING, "loss"),
    Claim("leading exponents say more than all exponents", LEADING, DISTANCE),
    Claim("trailing exponents mislead", "hidden last 30%", None, negative=True),
    Claim("within one growth mode the averaged loss is the better judge", LOSS, DISTANCE, "growth"),
    Claim("the rank sum of both beats the distance", COMBINED, DISTANCE),
    Claim("the rank sum of both beats the averaged loss", COMBINED, LOSS),
    Claim("the dense reference adds to the mean of the exponents", DISTANCE, "mean of all"),
    Claim(
        "the reference of the same epoch beats the final one", DISTANCE, "hidden 100%, final dense"
    ),
    Claim("... and that of the same loss", DISTANCE, "hidden 100%, dense of the same loss"),
)


class Verdict(NamedTuple):
    """What a study says of a claim."""

    text: str
    effect: Estimate
    answer: str  # "supported", "contradicted" or "undecided"


def judge(scored: Scored, draws: Draws, growths: Sequence[str]) -> list[Verdict]:
    """Holds every claim against the scores of one epoch.

    Supported where the interval of the effect lies on the side that the claim names, contradicted
    where it lies on the other, undecided where it holds 0.
    """
    found = []
    for claim in CLAIMS:
        effect = estimated(_effect(claim, scored, draws, growths))
        found.append(Verdict(claim.text, effect, answer(effect, negative=claim.negative)))
    return found


def answer(effect: Estimate, *, negative: bool = False) -> str:
    """The verdict on an effect that is claimed to be above 0, or below."""
    low, high = (-effect.high, -effect.low) if negative else (effect.low, effect.high)
    if low > 0:
        return "supported"
    return "contradicted" if high < 0 else "undecided"


def _effect(claim: Claim, scored: Scored, draws: Draws, growths: Sequence[str]) -> np.ndarray:
    def rho(label: str) -> np.ndarray:
        if claim.within:
            return correlation_within(scored.scores[label], scored.final, growths, draws)
        return correlation(scored.scores[label], scored.final, draws)

    return rho(claim.better) - (rho(claim.worse) if claim.worse else 0.0)
