"""Successive halving: who goes on, and how many rounds and epochs that takes.

The rounds of the authors' search (Zheng & Shlizerman, 2025), but continued from checkpoints where
theirs trains every survivor from scratch, and with ties broken by the trial's number where theirs
loses all but one of equal scores.
"""

from collections.abc import Mapping
from typing import NamedTuple

from lsh_jax.config import ConfigError, Halving, SearchConfig
from lsh_jax.search.space import make_space, pool_size, size


class Round(NamedTuple):
    """One round: all that enter it are trained to `epochs` and scored."""

    num_entering: int
    epochs: int  # in all


def num_survivors(num_candidates: int, finalists: int, rule: Halving = "half", eta: int = 3) -> int:
    """How many of `num_candidates` go on: a part of them, but no fewer than the finalists.

    `half` keeps ceil(n/2); `authors` keeps floor(n/2) + 1, as their published run did; `eta` keeps
    ceil(n/eta), as Hyperband does (Li et al., 2018, JMLR 18).
    """
    if rule == "authors":
        kept = num_candidates // 2 + 1
    else:
        kept = -(-num_candidates // (eta if rule == "eta" else 2))
    return min(num_candidates, max(kept, finalists))


def survivors(scores: Mapping[int, float], count: int) -> list[int]:
    """The `count` trials with the lowest scores, best first; ties go to the lower number."""
    return sorted(scores, key=lambda trial: (scores[trial], trial))[:count]


def plan(config: SearchConfig) -> list[Round]:
    """The rounds of a search, the pool first.

    Args:
      config: the search.

    Returns:
      The rounds until the finalists are left and scored; where no trial fails.

    Raises:
      ConfigError: when the rounds need more epochs than `final_epochs`, or never end.
    """
    entering = pool_size(config)
    _check_grid(config, entering)
    epochs = config.e0
    rounds = [Round(entering, epochs)]
    while entering > config.finalists:
        kept = num_survivors(entering, config.finalists, config.halving, config.eta)
        if kept == entering:
            raise ConfigError(
                f"`halving` must shrink the pool, got {config.halving!r}, which keeps {kept} of "
                f"{entering} with finalists={config.finalists}: take half, or more finalists."
            )
        entering, epochs = kept, epochs + config.ei
        rounds.append(Round(entering, epochs))
    if epochs > config.final_epochs:
        raise ConfigError(
            f"`final_epochs` must be at least {epochs}, got {config.final_epochs}: "
            f"{len(rounds)} rounds train for e0={config.e0} and ei={config.ei} epochs. Raise "
            "final_epochs, or lower e0, ei or max_evals."
        )
    return rounds


def _check_grid(config: SearchConfig, pool: int) -> None:
    """A grid is the whole space: part of one would leave out the last choices of all controls."""
    whole = size(make_space(config))
    if config.algo == "grid" and pool < whole:
        raise ConfigError(
            f"`max_evals` must be at least {whole} with algo=grid, the configurations of the "
            f"space, got {config.max_evals}: raise it, or fix controls (--space.CONTROL=a)."
        )


def last_scored_epoch(config: SearchConfig) -> int:
    """The epoch of the last round: that of the dense network must be there, whatever patience says.

    Candidates that fail may end the rounds earlier, never later.
    """
    return plan(config)[-1].epochs


def num_epochs(config: SearchConfig, rounds: list[Round]) -> int:
    """Epochs of all candidates over the rounds and of the finalists to `final_epochs`."""
    last = rounds[-1]
    return screening_epochs(rounds) + last.num_entering * (config.final_epochs - last.epochs)


def screening_epochs(rounds: list[Round]) -> int:
    """Epochs of all candidates over the rounds, until the finalists are found."""
    before = 0
    total = 0
    for entering, epochs in rounds:
        total += entering * (epochs - before)
        before = epochs
    return total
