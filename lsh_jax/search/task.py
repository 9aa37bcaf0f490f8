"""The task protocol: what a search needs to know of a network and its training.

A task is a bundle of functions. The language-model task is one
(`lsh_jax.search.language_model_task`); a user's own network joins a search by building another.
"""

import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from lsh_jax.config import ConfigError, SpaceConfig
from lsh_jax.search.measure import NLL, Measure
from lsh_jax.sparsity import Controls, SparsityState
from lsh_jax.sparsity.counting import CountedLeaves
from lsh_jax.types import Hyper, Key

Split = Literal["validation", "test"]
TaskState = Any  # a pytree of JAX arrays: it is checkpointed as it is


class TrainInfo(NamedTuple):
    """What `Task.train` did; sums, so that calls add up."""

    nll_sum: float  # of the training nll, in nats
    num_tokens: float  # that it is over
    churn_sum: float  # over topology updates: share of the live weights replaced
    num_updates: int  # topology updates made
    nonzeros: int  # live prunable weights after the call


class Topology(NamedTuple):
    """Where a task keeps its masks, and how they are counted."""

    state: Callable[[TaskState], SparsityState]  # where in the state of a task the masks are
    leaves: CountedLeaves  # from `lsh_jax.sparsity.counting.counted_leaves`
    steps_per_epoch: int  # of the optimizer


class SideBySide(NamedTuple):
    """How a task trains several candidates at a time.

    Each becomes what it becomes alone, up to the rounding of floating-point numbers, whatever
    becomes of the others: a NaN stays with the candidate that has it.

    Attributes:
      stack: `stack(states, controls, hypers) -> group`, of candidates that have trained for
        equally many segments; the states may be used up.
      train: `train(group) -> (group, infos)`, one segment of each; the group given is used up.
      unstack: `unstack(group) -> states`, in the order of `stack`; the group is used up.
      num_bytes: `num_bytes(size) -> int`, memory that a device needs for `size` candidates on it.
      num_devices: over which the candidates of a group are spread.
    """

    stack: Callable[[Sequence[TaskState], Sequence[Controls], Sequence[Hyper]], Any]
    train: Callable[[Any], tuple[Any, Sequence[TrainInfo]]]
    unstack: Callable[[Any], list[TaskState]]
    num_bytes: Callable[[int], int]
    num_devices: int = 1


class Task(NamedTuple):
    """A network to prune, as functions.

    Randomness: initial weights, data order and dropout come from the task's own seed, the same
    for the dense network and every candidate; `init`'s key is the candidate's and rules its masks
    and growth only. Every function is deterministic.

    Attributes:
      init: `init(key, controls, hyper) -> state`; `controls` from `lsh_jax.sparsity.controls`.
      train: `train(state, controls, hyper, num_segments) -> (state, TrainInfo)`. A segment is the
        smallest unit between topology updates, progress and checkpoints. A topology update that
        falls on a segment's border is made when the next segment starts: so evaluation and
        spectrum see the weights that were trained, and none follows the last segment.
      evaluate: `evaluate(state, split) -> nll`, nats per token.
      block_nll: `block_nll(state, split) -> (sums [N], counts [N])` of consecutive blocks of the
        split, the same blocks for every state: what the paired bootstrap resamples.
      spectrum: `spectrum(state) -> (exponents, std_error)`, [L, K] each, the exponents to score.
      fingerprint: `fingerprint() -> str`, a hash of everything a cached dense run depends on.
      segments_per_epoch: an epoch is so many segments.
      hyper: the hyperparameters for candidates that do not choose their own.
      with_seed: `with_seed(seed) -> Task`, the same task from another seed.
      save: `save(state, path)`, writes the network for release.
      baseline_nll: nats per token of a predictor that knows little on "validation" and "test"; a
        candidate scored above it has not begun to learn. None where there is no such thing.
      topology: for the counts of weights, FLOPs and bytes and the course of the masks; without it
        a run has none.
      check_space: `check_space(space)` raises a ConfigError for modes that the task cannot serve.
      end_epoch: `end_epoch(state, val_nll) -> state`, called after an epoch is evaluated and before
        its checkpoint is written: where averaging of weights may start, say.
      unaveraged: `unaveraged(state) -> state`, the state whose spectrum is that of the weights
        themselves, where `evaluate`, `block_nll`, `spectrum` and `save` speak of averages; None
        where they speak of the weights.
      patience: training of the dense network and of finalists ends once the best validation nll
        is so many epochs old; 0 for never.
      side_by_side: for several candidates at a time; a task without trains one after another.
      measure: how people are told of an nll, in progress, reports and pictures; the search itself
        goes by the nll.
    """

    init: Callable[[Key, Controls, Hyper], TaskState]
    train: Callable[[TaskState, Controls, Hyper, int], tuple[TaskState, TrainInfo]]
    evaluate: Callable[[TaskState, Split], float]
    block_nll: Callable[[TaskState, Split], tuple[np.ndarray, np.ndarray]]
    spectrum: Callable[[TaskState], tuple[np.ndarray, np.ndarray]]
    fingerprint: Callable[[], str]
    segments_per_epoch: int
    hyper: Hyper
    with_seed: Callable[[int], "Task"]
    save: Callable[[TaskState, pathlib.Path], None]
    baseline_nll: Mapping[str, float] | None = None
    topology: Topology | None = None
    check_space: Callable[[SpaceConfig], None] = lambda space: None
    end_epoch: Callable[[TaskState, float], TaskState] = lambda state, val_nll: state
    unaveraged: Callable[[TaskState], TaskState | None] = lambda state: None
    patience: int = 0
    side_by_side: SideBySide | None = None
    measure: Measure = NLL


def segments_between_updates(update_every: float, segments_per_epoch: int) -> int:
    """Segments from one topology update to the next; 0 for a static topology.

    Raises:
      ConfigError: when updates would fall inside a segment.
    """
    if math.isinf(update_every):
        return 0
    interval = update_every * segments_per_epoch
    # Controls are float32: 0.04 of 25 segments is a little less than 1.
    if round(interval) < 1 or abs(interval - round(interval)) > 1e-4 * interval:
        raise ConfigError(
            f"`update_every` must be a multiple of 1/segments_per_epoch = 1/{segments_per_epoch}, "
            f"got {update_every:g}: choose such a one, or cut an epoch into other segments."
        )
    return round(interval)
