"""Executors of several workers: one thread of the driver looks after each of them.

A worker that dies takes nothing with it but the segments since its last checkpoint: its job is
given to a new one, and only a job that kills several in a row fails.
"""

import queue
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Protocol, Self

from lsh_jax.config import check
from lsh_jax.search import stopping
from lsh_jax.search.dense import SearchError
from lsh_jax.search.epoch import too_long
from lsh_jax.search.executors import Job
from lsh_jax.search.groups import OnSegment
from lsh_jax.search.trial import Measurement, TaskFailure


class WorkerDied(Exception):
    """A worker that ended before its job did; the message says how."""


class Worker(Protocol):
    """One worker: a process somewhere."""

    def begin(self) -> None:
        """Waits until it has made the task.

        Raises:
          WorkerDied: when it has ended.
        """
        ...

    def is_alive(self) -> bool:
        """Whether it is known to have ended, or not."""
        ...

    def run(self, job: Job) -> list[Measurement]:
        """Does a job.

        Raises:
          WorkerDied: when the worker has ended.
        """
        ...

    def stop(self) -> None:
        """Asks it to end its job after the segment under way."""
        ...

    def kill(self) -> None:
        """Ends it at once."""
        ...


class WorkerPool:
    """An executor over workers of any kind. Use it as a context manager: at its end they go."""

    def __init__(self, start: Callable[[int], Worker], workers: int, *, retries: int = 2) -> None:
        """Starts no worker yet.

        Args:
          start: starts the worker of a number below `workers`, and does not wait for it.
          workers: jobs that run at a time.
          retries: of a job whose worker died.

        Raises:
          ConfigError: when a number is out of its range.
        """
        check(workers >= 1, "workers", "be at least 1", workers)
        check(retries >= 0, "retries", "be at least 0", retries)
        self.workers = workers
        self._start = start
        self._retries = retries
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="worker")
        self._numbers: queue.SimpleQueue[int] = queue.SimpleQueue()
        for number in range(workers):
            self._numbers.put(number)
        self._alive: dict[int, Worker] = {}
        self._closed = False

    def submit(self, job: Job, on_segment: OnSegment | None = None) -> "Future[list[Measurement]]":
        """Hands the job to the next worker that is free; nobody is told of its segments.

        Returns:
          The future of a measurement for each candidate, a failure for one whose job has killed
          its workers; of a `TaskFailure` for several side by side that have.
        """
        del on_segment
        return self._threads.submit(self._run, job)

    def stop(self) -> None:
        """Asks the jobs that run to end after the segment under way."""
        for worker in list(self._alive.values()):
            worker.stop()

    def close(self) -> None:
        """Ends all workers at once, whatever they do."""
        self._closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        for worker in list(self._alive.values()):
            worker.kill()
        self._threads.shutdown(wait=True)
        self._alive.clear()

    def __enter__(self) -> Self:
        """The executor."""
        return self

    def __exit__(self, *_: object) -> None:
        """Ends all workers."""
        self.close()

    def _run(self, job: Job) -> list[Measurement]:
        """Does a job on a worker of this thread's own, again where it dies."""
        number = self._numbers.get()
        try:
            return self._attempts(job, number)
        finally:
            self._numbers.put(number)

    def _attempts(self, job: Job, number: int) -> list[Measurement]:
        reason = ""
        for attempt in range(1, self._retries + 2):
            worker = self._worker(number)
            started = time.monotonic()
            try:
                return worker.run(job)
            except WorkerDied as death:
                self._bury(number)
                stopping.check()  # what ended it may have asked for a stop as well
                reason = f"its worker {death}, {attempt} time{'s' * (attempt > 1)}"
            if time.monotonic() - started > job.time_limit * len(job.candidates):
                reason = too_long(job.time_limit)
                break
        if len(job.candidates) > 1:
            raise TaskFailure(reason)
        return [Measurement(failure=reason)]

    def _worker(self, number: int) -> Worker:
        """The worker of a number, begun anew if it has ended; that is no fault of a trial."""
        worker = self._alive.get(number)
        if worker is not None and worker.is_alive():
            return worker
        for attempt in range(self._retries + 1):
            self._check_open()
            self._alive[number] = worker = self._start(number)
            try:
                self._check_open()  # `close` may have looked for workers a moment ago
                worker.begin()
                return worker
            except WorkerDied as death:
                self._bury(number)
                stopping.check()
                if attempt == self._retries:
                    raise SearchError(f"A worker could not be started: it {death}.") from death
        raise AssertionError

    def _bury(self, number: int) -> None:
        """Ends a worker that is taken for dead, for certain: it must not write beside the next."""
        worker = self._alive.pop(number, None)
        if worker is not None:
            worker.kill()
        self._check_open()

    def _check_open(self) -> None:
        if self._closed:
            for worker in list(self._alive.values()):
                worker.kill()
            raise CancelledError
