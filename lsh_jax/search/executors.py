"""Where epochs are trained. An executor has the one method `submit(job) -> Future`.

What it computes never depends on where: a job is a pure function of the task, of its own fields
and of the checkpoints in the run directory.
"""

import functools
import math
import pathlib
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, NamedTuple, Protocol

from lsh_jax.config import ConfigError
from lsh_jax.search.epoch import Guard, LiveStates, no_guard, run_epoch
from lsh_jax.search.groups import OnSegment, run_epoch_together
from lsh_jax.search.ledger import TrialId
from lsh_jax.search.run_directory import differences
from lsh_jax.search.task import Task
from lsh_jax.search.trial import Candidate, Measurement, TaskFailure

MakeTask = Callable[[], Task]  # one that can be pickled: a module's function, or a partial of one


class Job(NamedTuple):
    """An epoch of a candidate, or of several side by side: all that a worker has to know."""

    run: pathlib.Path  # where the checkpoints are
    candidates: tuple[Candidate, ...]
    epoch: int  # to be made, from 1
    fingerprint: str  # of the search's task
    time_limit: float = math.inf  # seconds that training may take for each candidate


class Executor(Protocol):
    """What the search needs of one.

    Attributes:
      workers: jobs that it runs at a time.
    """

    @property
    def workers(self) -> int:
        """Jobs that run at a time."""
        ...

    def submit(self, job: Job, on_segment: OnSegment | None = None) -> "Future[list[Measurement]]":
        """Starts a job.

        Args:
          job: what to do.
          on_segment: called with a trial and the number of its segments done, where that is known:
            workers elsewhere are silent until the end.

        Returns:
          The future of a measurement for each candidate; or of a `TaskFailure` where several
          candidates cannot be trained side by side.
        """
        ...

    def stop(self) -> None:
        """Asks the jobs that run to end after the segment under way, by `Interrupted`."""
        ...


def perform(
    task: Task,
    job: Job,
    live: LiveStates,
    on_segment: OnSegment,
    guard: Guard = no_guard,
) -> list[Measurement]:
    """Does a job in this process.

    Args:
      task: the search's.
      job: what to do.
      live: states in memory, see `run_epoch`.
      on_segment: called with the trial and the number of its segments done.
      guard: see `run_epoch`.

    Returns:
      A measurement for each candidate.

    Raises:
      ConfigError: when the task is not the one that the job is of.
      TaskFailure: when several candidates cannot be trained side by side.
      Interrupted: when a stop has been asked for.
    """
    if job.fingerprint != task.fingerprint():
        found = "; ".join(differences(job.fingerprint, task.fingerprint()))
        raise ConfigError(
            f"`executor` must give its workers the task of the search; these differ: {found}."
        )
    where = job.epoch, live
    limits: dict[str, Any] = {"time_limit": job.time_limit, "guard": guard}
    if len(job.candidates) > 1:
        return run_epoch_together(task, job.run, job.candidates, *where, on_segment, **limits)
    (candidate,) = job.candidates
    own = functools.partial(on_segment, candidate.trial)
    return [run_epoch(task, job.run, candidate, *where, own, **limits)]


class SerialExecutor:
    """Does each job in this process when it is submitted."""

    workers = 1

    def __init__(self, task: Task) -> None:
        """Holds the task.

        Args:
          task: the search's.
        """
        self._task = task
        self._live: LiveStates = {}

    def submit(self, job: Job, on_segment: OnSegment | None = None) -> "Future[list[Measurement]]":
        """Does the job; what it raises reaches the caller at once, but for a `TaskFailure`."""
        future: Future[list[Measurement]] = Future()
        try:
            future.set_result(perform(self._task, job, self._live, on_segment or ignore))
            return future
        except TaskFailure as failure:
            reason = str(failure)
        # Out of the handler: in there the failure holds on to the memory it was raised over.
        future.set_exception(TaskFailure(reason))
        return future

    def stop(self) -> None:
        """Nothing runs between the calls of `submit`."""


def ignore(trial: TrialId, done: int) -> None:
    """Listens to segments, and tells nobody."""
    del trial, done
