"""Searches on a study's table instead of on a machine: the real proposals, halving and finalists.

What a search would train is looked up. TPE proposes from the whole space, of which the table holds
a random sample: a proposal is answered by the candidate of the table, not yet in the pool, that
agrees with it in most controls, ties by the order of a shuffle.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lsh_jax.config import SearchConfig
from lsh_jax.search import tpe
from lsh_jax.search.space import Assignment, Space
from lsh_jax.search.successive_halving import num_survivors, survivors

Scores = Mapping[int, npt.NDArray[np.float64]]  # epoch -> score of every candidate, [n]


class World(NamedTuple):
    """What a search can find out about one seed of a study.

    Attributes:
      assignments: controls of every candidate, [n].
      finals: validation perplexity at the end of training, [n].
      tests: test perplexity of the same networks, [n].
      final_epochs: of training.
    """

    assignments: Sequence[Assignment]
    finals: npt.NDArray[np.float64]
    tests: npt.NDArray[np.float64]
    final_epochs: int


class Outcome(NamedTuple):
    """What a search found.

    Attributes:
      winner: the candidate with the lowest validation perplexity of those trained to the end.
      test: its test perplexity.
      epochs: that all candidates were trained for, the dense network's not counted.
    """

    winner: int
    test: float
    epochs: int


def fill_pool(
    world: World, first: npt.NDArray[np.float64], config: SearchConfig, space: Space, seed: int
) -> list[int]:
    """The candidates that a search asks for, in the order of asking.

    Args:
      world: what there is to find.
      first: the score of every candidate at `e0`, [n].
      config: `max_evals`, `ask_batch` and `algo` count.
      space: that proposals come from.
      seed: of proposals and ties.

    Returns:
      Numbers of candidates, `max_evals` of them.
    """
    order = np.random.default_rng(seed).permutation(len(world.finals)).tolist()
    history: list[tpe.Observation] = []
    pool: list[int] = []
    while len(pool) < config.max_evals:
        pending = list(history)
        for trial in range(len(pool), min(len(pool) + config.ask_batch, config.max_evals)):
            startup = tpe.num_startup(config.max_evals)
            proposal = tpe.propose(config.algo, space, pending, trial, seed=seed, startup=startup)
            found = _nearest(world, proposal, [i for i in order if i not in pool])
            pool.append(found)
            pending.append(tpe.Observation(trial, world.assignments[found], None))
        for trial in range(len(history), len(pool)):
            own = world.assignments[pool[trial]]
            history.append(tpe.Observation(trial, own, float(first[pool[trial]])))
    return pool


def replay_halving(
    world: World, scores: Scores, pool: Sequence[int], config: SearchConfig
) -> Outcome:
    """Successive halving of a pool, and its finalists to the end.

    Args:
      world: what there is to find.
      scores: that the rounds are cut by, by epoch.
      pool: the candidates that are trained to `e0`.
      config: `e0`, `ei`, `finalists` and `halving` count.

    Returns:
      An Outcome.
    """
    entering, epochs, spent = list(pool), config.e0, len(pool) * config.e0
    while len(entering) > config.finalists:
        kept = num_survivors(len(entering), config.finalists, config.halving, config.eta)
        own = scores[epochs]
        entering = survivors({trial: float(own[trial]) for trial in entering}, kept)
        epochs += config.ei
        spent += len(entering) * config.ei
    return _finish(world, entering, spent + len(entering) * (world.final_epochs - epochs))


def replay_random(world: World, epochs: int, seed: int) -> Outcome:
    """Random candidates trained to the end, as many as an allowance of epochs has room for."""
    order = np.random.default_rng(seed).permutation(len(world.finals)).tolist()
    drawn = order[: max(epochs // world.final_epochs, 1)]
    return _finish(world, drawn, len(drawn) * world.final_epochs)


def _finish(world: World, finalists: Sequence[int], spent: int) -> Outcome:
    finals = np.nan_to_num(world.finals, nan=np.inf)
    winner = min(finalists, key=lambda trial: (finals[trial], trial))
    return Outcome(winner, float(world.tests[winner]), spent)


def _nearest(world: World, proposal: Assignment, free: Sequence[int]) -> int:
    """The free candidate that agrees with the proposal in most controls; the first of equals."""

    def agreement(candidate: int) -> int:
        own = world.assignments[candidate]
        return sum(own.get(name) == value for name, value in proposal.items())

    return max(free, key=agreement)
