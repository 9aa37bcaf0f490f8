"""One epoch of one network: train, evaluate, take the spectrum, checkpoint.

The unit of work that executors run. What happened is handed back to the driver, which alone
writes the ledger; only the checkpoint is written here.
"""

import math
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lsh_jax.checkpoint import restore_checkpoint, save_checkpoint
from lsh_jax.config import SparsityConfig, check
from lsh_jax.search.ledger import Record, TrialId, perplexity
from lsh_jax.search.run_directory import checkpoint_path
from lsh_jax.search.scores import Spectra, Spectrum
from lsh_jax.search.task import Task, TaskState, TrainInfo
from lsh_jax.sparsity import SparsityState
from lsh_jax.sparsity import controls as make_controls
from lsh_jax.sparsity.counting import topology_shares, topology_statistics
from lsh_jax.types import Hyper, Masks

OnSegment = Callable[[int], None]  # called with the number of segments done in the epoch
LiveStates = dict[TrialId, tuple[int, TaskState]]  # the state last trained, and its epoch

NOTHING = TrainInfo(0.0, 0.0, 0.0, 0, 0)  # trained yet
DENSE = SparsityConfig(sparsity=0.0, death_rate=0.0, update_every=math.inf)


class Candidate(NamedTuple):
    """What identifies a network of the search."""

    trial: TrialId
    config: SparsityConfig
    seed: int  # of its masks and growth
    hyper: Mapping[str, float] = {}  # the hyperparameters that it does not share with the task


class Measurement(NamedTuple):
    """What one epoch gave."""

    failure: str | None  # why the trial cannot go on; then the rest is what was known by then
    train_nll: float | None = None
    val_nll: float | None = None
    spectra: Spectra | None = None
    churn: float | None = None
    nonzeros: int | None = None
    wall_s: float = 0.0
    topology: dict[str, Any] | None = None  # as in `Record`


def recorded_controls(candidate: Candidate) -> dict[str, Any]:
    """What the ledger says of a candidate: its configuration and its own hyperparameters."""
    methods = {} if candidate.config == DENSE else candidate.config.to_json()
    own = candidate.hyper.items()
    return methods | {name: "inf" if value == math.inf else value for name, value in own}


def own_hyper(task: Task, candidate: Candidate) -> Hyper:
    """The hyperparameters of a candidate: its own, and the task's for the rest."""
    return task.hyper._replace(**candidate.hyper)


def make_record(
    candidate: Candidate, epoch: int, search_round: int | None, measured: Measurement
) -> Record:
    """The ledger's line for an epoch, before it is scored."""
    return Record(
        trial=candidate.trial,
        epoch=epoch,
        round=search_round,
        controls=recorded_controls(candidate),
        seed=candidate.seed,
        status="ok" if measured.failure is None else "failed",
        reason=measured.failure,
        train_nll=measured.train_nll,
        val_nll=measured.val_nll,
        val_perplexity=None if measured.val_nll is None else perplexity(measured.val_nll),
        averaging=measured.spectra is not None and measured.spectra.raw is not None,
        churn=measured.churn,
        nonzeros=measured.nonzeros,
        wall_s=float(f"{measured.wall_s:.3f}"),
        topology=measured.topology,
    )


def load_state(task: Task, run: pathlib.Path, candidate: Candidate, epoch: int) -> TaskState:
    """The state of a candidate after `epoch` epochs: freshly drawn, or from its checkpoint."""
    controls = make_controls(candidate.config)
    state = task.init(jax.random.key(candidate.seed), controls, own_hyper(task, candidate))
    _check_leaves(state)
    if epoch == 0:
        return state
    return restore_checkpoint(checkpoint_path(run, candidate.trial, epoch), state)


def _check_leaves(state: TaskState) -> None:
    """Refuses what a checkpoint would hand back as something else, or not at all."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        name = f"state{jax.tree_util.keystr(path)}"
        check(isinstance(leaf, jax.Array), name, "be a JAX array", type(leaf).__name__)
        check(leaf.size > 0, name, "not be empty", leaf.shape)


def run_epoch(
    task: Task,
    run: pathlib.Path,
    candidate: Candidate,
    epoch: int,
    live: LiveStates,
    on_segment: OnSegment,
) -> Measurement:
    """Trains a candidate from its checkpoint of `epoch - 1` to one of `epoch`.

    Args:
      task: the task.
      run: directory of the checkpoints.
      candidate: the network.
      epoch: the epoch to make, from 1.
      live: states still in memory, used in place of a checkpoint; holds the new one afterwards.
      on_segment: called after every segment.

    Returns:
      The measurement. A NaN, an infinity or an exception of the task is a failure with its reason;
      errors in reading or writing checkpoints are raised.
    """
    started = time.perf_counter()
    (state,) = take_states(task, run, [candidate], epoch, live)
    try:
        state, measurement = _train_and_measure(task, candidate, state, on_segment)
    except TaskFailure as failure:
        measurement = Measurement(failure=str(failure))
    keep(run, candidate, epoch, live, state, measurement)
    return measurement._replace(wall_s=time.perf_counter() - started)


def take_states(
    task: Task,
    run: pathlib.Path,
    candidates: Sequence[Candidate],
    epoch: int,
    live: LiveStates,
) -> list[TaskState]:
    """The states of candidates before `epoch`, from `live`, which is empty then, or checkpoints."""
    held = [live.get(candidate.trial, (None, None)) for candidate in candidates]
    live.clear()  # a search holds no network in memory besides those that it trains
    return [
        state if at == epoch - 1 else load_state(task, run, candidate, epoch - 1)
        for candidate, (at, state) in zip(candidates, held, strict=True)
    ]


def keep(
    run: pathlib.Path,
    candidate: Candidate,
    epoch: int,
    live: LiveStates,
    state: TaskState,
    measured: Measurement,
) -> None:
    """Writes the checkpoint of an epoch that did not fail, and keeps its state in memory."""
    if measured.failure is None:
        save_checkpoint(checkpoint_path(run, candidate.trial, epoch), state)
        live[candidate.trial] = (epoch, state)


class TaskFailure(Exception):
    """What a function of the task has raised."""


def attempt(function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls a function of the task: whatever it raises ends the trial, not the search.

    Raises:
      TaskFailure: in place of it.
    """
    try:
        return function(*arguments)
    except Exception as error:  # a task is the user's: nothing is known of what it may raise
        message = str(error).strip().split("\n")[0][:300]
        raise TaskFailure(f"{type(error).__name__}: {message}") from error


def added(total: TrainInfo, info: TrainInfo) -> TrainInfo:
    """The segments so far and one more."""
    return TrainInfo(
        nll_sum=total.nll_sum + float(info.nll_sum),
        num_tokens=total.num_tokens + float(info.num_tokens),
        churn_sum=total.churn_sum + float(info.churn_sum),
        num_updates=total.num_updates + int(info.num_updates),
        nonzeros=int(info.nonzeros),
    )


def diverged(total: TrainInfo) -> Measurement | None:
    """The failure of a network whose training nll is no number any more; None where it is one."""
    if math.isfinite(total.nll_sum):
        return None
    reason = f"the training nll is {total.nll_sum}"
    return Measurement(failure=reason, nonzeros=total.nonzeros)


def _train_and_measure(
    task: Task, candidate: Candidate, state: TaskState, on_segment: OnSegment
) -> tuple[TaskState, Measurement]:
    controls, hyper = make_controls(candidate.config), own_hyper(task, candidate)
    before = copied_masks(task, candidate, state)
    total = NOTHING
    for segment in range(task.segments_per_epoch):
        state, info = attempt(task.train, state, controls, hyper, 1)
        total = added(total, info)
        on_segment(segment + 1)
        failed = diverged(total)
        if failed is not None:
            return state, failed
    return measure(task, state, total, before)


def measure(
    task: Task, state: TaskState, total: TrainInfo, before: Masks | None
) -> tuple[TaskState, Measurement]:
    """Evaluates a network at the end of an epoch, takes its spectra, and ends the epoch.

    Args:
      task: the task.
      state: after the last segment.
      total: of the segments.
      before: the masks at the start of the epoch, from `copied_masks`.

    Returns:
      The state to go on from, and the measurement.

    Raises:
      TaskFailure: when a function of the task raises.
    """
    measured = Measurement(
        failure=None if total.nonzeros else "no live weight is left: lower the sparsity",
        train_nll=total.nll_sum / max(total.num_tokens, 1.0),
        churn=total.churn_sum / max(total.num_updates, 1),
        nonzeros=total.nonzeros,
    )
    val_nll = float(attempt(task.evaluate, state, "validation"))
    if not math.isfinite(val_nll):
        return state, measured._replace(failure=f"the validation nll is {val_nll}")
    spectra = _take_spectra(task, state)
    measured = measured._replace(val_nll=val_nll, spectra=spectra)
    taken = [spectrum.exponents for spectrum in spectra if spectrum is not None]
    if not all(np.isfinite(exponents).all() for exponents in taken):
        return state, measured._replace(failure="the Lyapunov spectrum is not finite")
    measured = measured._replace(topology=_measure_topology(task, before, state))
    return attempt(task.end_epoch, state, val_nll), measured


def _take_spectra(task: Task, state: TaskState) -> Spectra:
    def take(state: TaskState) -> Spectrum:
        return Spectrum(*map(np.asarray, attempt(task.spectrum, state)))

    raw = attempt(task.unaveraged, state)
    return Spectra(take(state), None if raw is None else take(raw))


def copied_masks(task: Task, candidate: Candidate, state: TaskState) -> Masks | None:
    """The masks at the start of an epoch; copied, for a task may donate its state.

    None where there is nothing to measure them for.
    """
    if task.topology is None or candidate.config == DENSE:
        return None
    sparsity: SparsityState = attempt(task.topology.state, state)
    return jax.tree.map(jnp.copy, sparsity.masks)


def _measure_topology(task: Task, before: Masks | None, state: TaskState) -> dict[str, Any] | None:
    if task.topology is None or before is None:
        return None
    sparsity: SparsityState = attempt(task.topology.state, state)
    leaves = task.topology.leaves
    statistics = topology_statistics(sparsity.masks, before, sparsity.explored, leaves)
    return topology_shares(statistics, leaves)._asdict()
