"""One epoch of one network: train, evaluate, take the spectrum, checkpoint.

The unit of work that executors run. What happened is handed back to the driver, which alone
writes the ledger; only checkpoints are written here.
"""

import contextlib
import math
import pathlib
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lsh_jax.checkpoint import (
    CheckpointError,
    DamagedCheckpointError,
    quarantine_checkpoint,
    restore_checkpoint,
    save_checkpoint,
)
from lsh_jax.config import check
from lsh_jax.search import stopping
from lsh_jax.search.ledger import TrialId
from lsh_jax.search.run_directory import CORRUPT, checkpoint_path
from lsh_jax.search.scores import Spectra, Spectrum
from lsh_jax.search.segments import Progress, SegmentKeeper
from lsh_jax.search.task import Task, TaskState, TrainInfo
from lsh_jax.search.trial import DENSE, Candidate, Measurement, TaskFailure, attempt, own_hyper
from lsh_jax.sparsity import SparsityState
from lsh_jax.sparsity import controls as make_controls
from lsh_jax.sparsity.counting import topology_shares, topology_statistics
from lsh_jax.types import Masks

OnSegment = Callable[[int], None]  # called with the number of segments done in the epoch
LiveStates = dict[TrialId, tuple[int, TaskState]]  # the state last trained, and its epoch
Tell = Callable[[str], None]  # called with what a person should know
Guard = Callable[[float], AbstractContextManager[None]]  # called with seconds


def no_guard(seconds: float) -> AbstractContextManager[None]:
    """Guards against nothing."""
    del seconds
    return contextlib.nullcontext()


def run_epoch(
    task: Task,
    run: pathlib.Path,
    candidate: Candidate,
    epoch: int,
    live: LiveStates,
    on_segment: OnSegment,
    *,
    time_limit: float = math.inf,
    guard: Guard = no_guard,
) -> Measurement:
    """Trains a candidate from its checkpoint of `epoch - 1` to one of `epoch`.

    Args:
      task: the task.
      run: directory of the checkpoints.
      candidate: the network.
      epoch: the epoch to make, from 1.
      live: states still in memory, used in place of a checkpoint; holds the new one afterwards.
      on_segment: called after every segment.
      time_limit: seconds that training and measuring may take.
      guard: `guard(time_limit)` stands around both.

    Returns:
      The measurement. A NaN, an infinity, an exception of the task or too long a time is a failure
      with its reason; errors in reading or writing checkpoints are raised.

    Raises:
      Interrupted: when a stop has been asked for; what was trained is in a checkpoint.
    """
    stopping.check()
    started = time.perf_counter()
    notices: list[str] = []
    keeper = SegmentKeeper(run, candidate.trial, epoch)
    try:
        (state,) = take_states(task, run, [candidate], epoch, live, notices.append)
        with guard(time_limit):
            state, measurement = _train_and_measure(
                task, candidate, state, keeper, time_limit, on_segment
            )
        keep(run, candidate, epoch, live, state, measurement)
    except TaskFailure as failure:
        measurement = Measurement(failure=str(failure))
    wall_s = time.perf_counter() - started
    return measurement._replace(wall_s=wall_s, notices=tuple(notices))


def take_states(
    task: Task,
    run: pathlib.Path,
    candidates: Sequence[Candidate],
    epoch: int,
    live: LiveStates,
    tell: Tell,
) -> list[TaskState]:
    """The states of candidates before `epoch`, from `live`, which is empty then, or checkpoints."""
    held = [live.get(candidate.trial, (None, None)) for candidate in candidates]
    live.clear()  # a search holds no network in memory besides those that it trains
    return [
        state if at == epoch - 1 else load_state(task, run, candidate, epoch - 1, tell)
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


def load_state(
    task: Task, run: pathlib.Path, candidate: Candidate, epoch: int, tell: Tell
) -> TaskState:
    """The state of a candidate after `epoch` epochs: freshly drawn, or from its checkpoint.

    Damaged checkpoints are moved to `corrupt/`; what is missing is trained again from the nearest
    whole one before it.

    Args:
      task: the task.
      run: directory of the checkpoints.
      candidate: the network.
      epoch: from 0.
      tell: told of damage.

    Returns:
      The state.

    Raises:
      CheckpointError: when a checkpoint is of another state, or what is missing cannot be trained.
      TaskFailure: when the task cannot make the state at epoch 0, or its device has no room for it.
    """
    state, whole, lost = _nearest(task, run, candidate, epoch)
    if lost:
        tell(f"{' '.join(lost.values())} Epochs {whole + 1} to {epoch} are trained again")
    for again in range(whole + 1, epoch + 1):
        state = _train_again(task, run, candidate, state, again)
        if again in lost:
            save_checkpoint(checkpoint_path(run, candidate.trial, again), state)
    return state


def _nearest(
    task: Task, run: pathlib.Path, candidate: Candidate, epoch: int
) -> tuple[TaskState, int, dict[int, str]]:
    """The last state up to `epoch` that can be had, its epoch, and what of those after it is lost:
    `epoch` itself, and what had to be set aside.
    """
    controls = make_controls(candidate.config)
    key = jax.random.key(candidate.seed)
    fresh = attempt(task.init, key, controls, own_hyper(task, candidate))
    _check_leaves(fresh)
    lost: dict[int, str] = {}
    for whole in range(epoch, 0, -1):
        path = checkpoint_path(run, candidate.trial, whole)
        try:
            return _restore(path, fresh), whole, lost
        except DamagedCheckpointError as damage:
            moved = quarantine_checkpoint(path, run / CORRUPT)
            if moved is not None or whole == epoch:
                lost[whole] = f"{damage}{f' It is moved to {moved}.' if moved else ''}"
    return fresh, 0, lost


def _restore(path: pathlib.Path, fresh: TaskState) -> TaskState:
    try:
        return restore_checkpoint(path, fresh)
    except jax.errors.JaxRuntimeError as error:  # the device has no room
        raise TaskFailure(str(error).split("\n")[0][:300]) from error


def _train_again(
    task: Task, run: pathlib.Path, candidate: Candidate, state: TaskState, epoch: int
) -> TaskState:
    """Trains an epoch that is on record."""
    keeper = SegmentKeeper(run, candidate.trial, epoch)
    try:
        state, measured = _train_and_measure(task, candidate, state, keeper, math.inf, _ignore)
    except TaskFailure as failure:
        measured = Measurement(failure=str(failure))
    if measured.failure is not None:
        raise CheckpointError(
            f"Epoch {epoch} of trial {candidate.trial}, whose checkpoint is lost, cannot be "
            f"trained again: {measured.failure}."
        )
    return state


def _ignore(done: int) -> None:
    del done


def _check_leaves(state: TaskState) -> None:
    """Refuses what a checkpoint would hand back as something else, or not at all."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        name = f"state{jax.tree_util.keystr(path)}"
        check(isinstance(leaf, jax.Array), name, "be a JAX array", type(leaf).__name__)
        check(leaf.size > 0, name, "not be empty", leaf.shape)


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
    task: Task,
    candidate: Candidate,
    state: TaskState,
    keeper: SegmentKeeper,
    time_limit: float,
    on_segment: OnSegment,
) -> tuple[TaskState, Measurement]:
    controls, hyper = make_controls(candidate.config), own_hyper(task, candidate)
    before = copied_masks(task, candidate, state)
    state, total, first, seconds = keeper.resume(state)
    started = time.perf_counter() - seconds
    for done in range(first + 1, task.segments_per_epoch + 1):
        state, info = attempt(task.train, state, controls, hyper, 1)
        total = added(total, info)
        on_segment(done)
        failed = diverged(total) or _out_of_time(started, time_limit)
        if failed is not None:
            return state, failed
        if done < task.segments_per_epoch:
            seconds = time.perf_counter() - started
            keeper.after_segment(Progress(state, total, done, seconds))
    state, measured = measure(task, state, total, before)
    return state, _out_of_time(started, time_limit) or measured


def _out_of_time(started: float, time_limit: float) -> Measurement | None:
    if time.perf_counter() - started <= time_limit:
        return None
    return Measurement(failure=too_long(time_limit))


def too_long(time_limit: float) -> str:
    """The reason of a trial that took too long."""
    return f"an epoch took longer than the time limit of {time_limit:g} s"


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
    if not math.isfinite(measured.churn or 0.0):
        return state, measured._replace(failure=f"the churn is {measured.churn}", churn=None)
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
