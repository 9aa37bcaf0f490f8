"""Every judge of a candidate at an epoch, computed from a study's table; the lower the better.

A score is named by what it reads and how: "hidden 30%" is the LS distance over the leading 30 % of
each layer's hidden-state exponents to the dense network after as many epochs, with the same seed;
"mean of the leading 30%" is minus the mean of these exponents, without a dense network.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lsh_jax.distance import num_leading
from lsh_jax.study.table import Table, Trajectory
from lsh_jax.study.trajectories import AVERAGED_LENGTH

_FLOOR = -15.0  # nats: as of `ls_distance`
_LENGTH = 100  # steps, where a score does not say

SHARES = (0.03, 0.1, 0.3, 0.5, 1.0)


class At(NamedTuple):
    """A candidate at an epoch, and the dense network that it is compared with.

    Attributes:
      candidate: the candidate.
      dense: the dense network of the same seed.
      epoch: of the candidate.
      lengths: steps of its hidden-state spectra.
      full_lengths: steps of its full-state spectra.
      controls: the candidate's configuration.
    """

    candidate: Trajectory
    dense: Trajectory
    epoch: int
    lengths: tuple[int, ...]
    full_lengths: tuple[int, ...]
    controls: Mapping[str, Any]


Score = Callable[[At], float]


def _spectrum(
    at: At, trajectory: Trajectory, name: str, epoch: int, length: int = _LENGTH
) -> np.ndarray:
    """[L, K], largest first."""
    known = {"full": at.full_lengths, "averaged": (AVERAGED_LENGTH,)}.get(name, at.lengths)
    return trajectory.spectra[name][epoch][known.index(length)]


def _reference_epoch(at: At, reference: str) -> int:
    """The dense network's epoch: `same-epoch`, `same-loss` (of raw weights) or `final`."""
    if reference == "final":
        return len(at.dense.val_nll)
    if reference == "same-loss":
        own = at.candidate.val_nll[at.epoch - 1]
        return int(np.argmin(np.abs(at.dense.val_nll - own))) + 1
    return at.epoch


def _part(exponents: np.ndarray, share: float) -> np.ndarray:
    """The leading share of each layer, or for a negative share the trailing one."""
    count = num_leading(abs(share), exponents.shape[-1])
    return exponents[:, :count] if share > 0 else exponents[:, -count:]


def ls(
    share: float, *, state: str = "hidden", reference: str = "same-epoch", length: int = _LENGTH
) -> Score:
    """The LS distance of `ls_distance`: l2, sorted, floored."""

    def score(at: At) -> float:
        own = _spectrum(at, at.candidate, state, at.epoch, length)
        other = _spectrum(at, at.dense, state, _reference_epoch(at, reference), length)
        parts = [np.maximum(_part(exponents, share), _FLOOR) for exponents in (own, other)]
        return float(np.linalg.norm(parts[0] - parts[1]))

    return score


def debiased(share: float) -> Score:
    """The squared distance less what the errors of estimation add (`debiased_squared_distance`)."""

    def score(at: At) -> float:
        total = 0.0
        values = []
        for trajectory in (at.candidate, at.dense):
            own = _spectrum(at, trajectory, "hidden", at.epoch)
            error = _spectrum(at, trajectory, "hidden_std_error", at.epoch)
            own, error = _part(own, share), _part(error, share)
            total -= float((np.where(own <= _FLOOR, 0, error) ** 2).sum())
            values.append(np.maximum(own, _FLOOR))
        return total + float(((values[0] - values[1]) ** 2).sum())

    return score


def paper(*, sort: bool) -> Score:
    """The authors' recipe: all hidden exponents of 35 steps and 2 columns, in bits."""

    def score(at: At) -> float:
        values = [t.spectra["paper"][at.epoch] for t in (at.candidate, at.dense)]
        values = [np.maximum(v, _FLOOR / math.log(2)) for v in values]
        if sort:
            values = [-np.sort(-v, axis=-1) for v in values]
        return float(np.linalg.norm(values[0] - values[1]))

    return score


def leading_mean(share: float, *, state: str = "hidden") -> Score:
    """Minus the mean of the leading exponents of the candidate: no dense network is looked at."""

    def score(at: At) -> float:
        own = _spectrum(at, at.candidate, state, at.epoch)
        return -float(_part(own, share).mean())

    return score


def _loss(at: At) -> float:
    return float(at.candidate.val_nll[at.epoch - 1])


def _averaged_loss(at: At) -> float:
    return float(at.candidate.val_averaged[at.epoch - 1])


def _training_loss(at: At) -> float:
    return float(at.candidate.train_nll[at.epoch - 1])


def _churn(at: At) -> float:
    """Minus the mean churn of the updates so far: those that rewire more come first."""
    return -float(at.candidate.churn[1 : at.epoch].mean()) if at.epoch > 1 else 0.0


def _death_rate(at: At) -> float:
    return -float(at.controls["death_rate"])


DISTANCE, LEADING = "hidden 100%", "hidden 30%"
LOSS = "loss, averaged"
COMBINED = f"rank sum of {DISTANCE} and {LOSS}"

SCORES: dict[str, Score] = {
    **{f"hidden {share:.0%}": ls(share) for share in SHARES},
    **{f"hidden last {share:.0%}": ls(-share) for share in (0.3, 0.5)},
    **{f"full {share:.0%}": ls(share, state="full") for share in SHARES},
    "hidden 30%, averaged weights": ls(0.3, state="averaged"),
    "hidden 100%, averaged weights": ls(1.0, state="averaged"),
    "paper's recipe": paper(sort=False),
    "paper's recipe, sorted": paper(sort=True),
    "hidden 30%, final dense": ls(0.3, reference="final"),
    "hidden 100%, final dense": ls(1.0, reference="final"),
    "hidden 30%, dense of the same loss": ls(0.3, reference="same-loss"),
    "hidden 100%, dense of the same loss": ls(1.0, reference="same-loss"),
    "hidden 30%, debiased": debiased(0.3),
    "hidden 100%, debiased": debiased(1.0),
    **{f"hidden 100%, {n} steps": ls(1.0, length=n) for n in (35, 500)},
    "mean of the leading 30%": leading_mean(0.3),
    "mean of the leading 10%": leading_mean(0.1),
    "mean of all": leading_mean(1.0),
    "mean of all, averaged weights": leading_mean(1.0, state="averaged"),
    "loss": _loss,
    LOSS: _averaged_loss,
    "training loss": _training_loss,
    "churn": _churn,
    "death rate": _death_rate,
}


class Scored(NamedTuple):
    """Scores and finals of a study's candidates at an epoch.

    Attributes:
      names: of the candidates, [n].
      scores: score -> [seeds, n].
      final: validation perplexity at the end of training, [seeds, n].
      test: test perplexity of the same, [seeds, n].
    """

    names: list[str]
    scores: dict[str, np.ndarray]
    final: np.ndarray
    test: np.ndarray

    def part(self, kept: Sequence[int]) -> "Scored":
        """Of some candidates only; the rank sum is that among all."""
        index = list(kept)
        return Scored(
            [self.names[i] for i in index],
            {label: values[:, index] for label, values in self.scores.items()},
            self.final[:, index],
            self.test[:, index],
        )


def at_points(table: Table, epoch: int) -> list[list[At]]:
    """Every candidate with every seed after an epoch, [seeds][n]."""
    study = table.settings["study"]
    return [
        [
            At(
                candidate=table.trajectories[name, seed],
                dense=table.trajectories["dense", seed],
                epoch=epoch,
                lengths=tuple(study["lengths"]),
                full_lengths=tuple(study["full_lengths"]),
                controls=table.settings["networks"][name],
            )
            for name in table.candidates()
        ]
        for seed in table.seeds()
    ]


def score_table(table: Table, epoch: int) -> Scored:
    """All scores after an epoch, of every candidate with every seed.

    Args:
      table: of the study; candidates that are not trained with all seeds yet are left out.
      epoch: one of those with spectra.
    """
    grid = at_points(table, epoch)
    scores = {
        label: np.array([[score(at) for at in row] for row in grid])
        for label, score in SCORES.items()
        if computable(label, table)
    }
    scores[COMBINED] = _ranks(scores[DISTANCE]) + _ranks(scores[LOSS])
    final = np.array([[at.candidate.final() for at in row] for row in grid])
    test = np.array([[at.candidate.final_test() for at in row] for row in grid])
    return Scored(table.candidates(), scores, final, test)


def computable(label: str, table: Table) -> bool:
    """Whether a study has the spectra that a score reads."""
    study = table.settings["study"]
    if label.startswith("full"):
        return bool(study["full_lengths"])
    steps = [int(word) for word in label.split() if word.isdecimal()]
    return all(length in study["lengths"] for length in steps)


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks within each row, from 0."""
    return values.argsort(axis=-1, kind="stable").argsort(axis=-1, kind="stable").astype(float)
