"""One epoch of several networks that train side by side; all else is done one after another.

Evaluation, spectra, checkpoints and failures are a network's own, as in `trial`: the records are
those of `run_epoch`, whatever becomes of the others of the group.
"""

import math
import pathlib
import time
from collections.abc import Callable, Sequence

import jax

from lsh_jax.search import stopping
from lsh_jax.search.epoch import (
    Guard,
    LiveStates,
    added,
    copied_masks,
    diverged,
    keep,
    measure,
    no_guard,
    take_states,
    too_long,
)
from lsh_jax.search.ledger import TrialId
from lsh_jax.search.segments import NOTHING
from lsh_jax.search.task import SideBySide, Task, TaskState, TrainInfo
from lsh_jax.search.trial import Candidate, Measurement, TaskFailure, attempt, own_hyper
from lsh_jax.sparsity import controls as make_controls

OnSegment = Callable[[TrialId, int], None]  # (trial, number of its segments done in the epoch)


def run_epoch_together(
    task: Task,
    run: pathlib.Path,
    candidates: Sequence[Candidate],
    epoch: int,
    live: LiveStates,
    on_segment: OnSegment,
    *,
    time_limit: float = math.inf,
    guard: Guard = no_guard,
) -> list[Measurement]:
    """Trains candidates from their checkpoints of `epoch - 1` to those of `epoch`.

    Args:
      task: the task, one with `side_by_side`.
      run: directory of the checkpoints.
      candidates: the networks.
      epoch: the epoch to make, from 1.
      live: states still in memory, used in place of checkpoints; holds the new ones afterwards.
      on_segment: called for every network after every segment.
      time_limit: seconds that training may take for each network.
      guard: `guard(seconds)` stands around the training of all.

    Returns:
      The measurements, each with an equal share of the seconds of training.

    Raises:
      TaskFailure: when the group cannot be trained as one, for want of memory or time, say. Then
        whatever checkpoints of `epoch` it has written are to be written anew.
      Interrupted: when a stop has been asked for; the epoch is lost.
    """
    assert task.side_by_side is not None
    stopping.check()
    started = time.perf_counter()
    notices: list[str] = []
    try:
        states = take_states(task, run, candidates, epoch, live, notices.append)
    except jax.errors.JaxRuntimeError as error:  # damaged checkpoints are other errors
        raise TaskFailure(str(error).split("\n")[0][:300]) from error
    before = [
        copied_masks(task, candidate, state)
        for candidate, state in zip(candidates, states, strict=True)
    ]
    # Handed over with no reference left here: a stack is as large as what it is made of.
    seconds = time_limit * len(candidates)
    with guard(seconds):
        states, totals, found = _train(
            task, task.side_by_side, candidates, states, seconds, on_segment
        )
    share = (time.perf_counter() - started) / len(candidates)
    for index, candidate in enumerate(candidates):
        started, state, measured = time.perf_counter(), states[index], found[index]
        if measured is None:
            try:
                state, measured = measure(task, state, totals[index], before[index])
            except TaskFailure as failure:
                if "RESOURCE_EXHAUSTED" in str(failure):  # alone it may fit
                    raise
                measured = Measurement(failure=str(failure))
        keep(run, candidate, epoch, live, state, measured)
        wall_s = share + time.perf_counter() - started
        found[index] = measured._replace(wall_s=wall_s, notices=tuple(notices))
        notices.clear()  # told once
    return [measured for measured in found if measured is not None]


def _train(
    task: Task,
    side_by_side: SideBySide,
    candidates: Sequence[Candidate],
    states: list[TaskState],
    time_limit: float,
    on_segment: OnSegment,
) -> tuple[list[TaskState], list[TrainInfo], list[Measurement | None]]:
    """The states after an epoch, what was done, and what failed on the way."""
    controls = [make_controls(candidate.config) for candidate in candidates]
    hypers = [own_hyper(task, candidate) for candidate in candidates]
    group = attempt(side_by_side.stack, states, controls, hypers)
    states.clear()
    totals = [NOTHING] * len(candidates)
    failed: list[Measurement | None] = [None] * len(candidates)
    started = time.perf_counter()
    for segment in range(task.segments_per_epoch):
        stopping.check()
        group, infos = attempt(side_by_side.train, group)
        for index, candidate in enumerate(candidates):
            if failed[index] is None:  # one that failed is trained on, to no end
                totals[index] = added(totals[index], infos[index])
                on_segment(candidate.trial, segment + 1)
                failed[index] = diverged(totals[index])
        if time.perf_counter() - started > time_limit:
            raise TaskFailure(too_long(time_limit / len(candidates)))
        if None not in failed:
            break
    return attempt(side_by_side.unstack, group), totals, failed
