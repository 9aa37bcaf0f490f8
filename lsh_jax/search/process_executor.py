"""Worker processes on this machine."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from typing import Any

from lsh_jax.config import ConfigError
from lsh_jax.search import stopping
from lsh_jax.search.executors import Job, MakeTask
from lsh_jax.search.trial import Measurement
from lsh_jax.search.worker import make_worker, portable
from lsh_jax.search.worker_pool import Worker, WorkerDied, WorkerPool


class ProcessExecutor(WorkerPool):
    """Worker processes on this machine.

    They are started by `spawn`, so that a script that uses them needs the usual
    `if __name__ == "__main__":`.
    """

    def __init__(
        self,
        make_task: MakeTask,
        workers: int,
        *,
        retries: int = 2,
        environments: Sequence[Mapping[str, str]] = ({},),
    ) -> None:
        """Starts no process yet.

        Args:
          make_task: makes the search's task in a worker; a function of a module, or a
            `functools.partial` of one.
          workers: processes.
          retries: of a job whose worker died.
          environments: variables for the workers, by turns.

        Raises:
          ConfigError: when `make_task` cannot be sent to another process.
        """
        try:
            ForkingPickler.dumps(make_task)
        except Exception as error:  # of as many classes as there are things that cannot be sent
            raise ConfigError(
                f"`make_task` must be a function of a module, which a process can import, got "
                f"{make_task!r}: {error}. Give it a name at the top of a file."
            ) from None

        def start(number: int) -> Worker:
            return _Process(make_task, environments[number % len(environments)])

        super().__init__(start, workers, retries=retries)


class _Process:
    """A worker process and the pipe to it."""

    def __init__(self, make_task: MakeTask, environment: Mapping[str, str]) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, make_task, dict(environment)), daemon=True
        )
        self._process.start()
        theirs.close()

    def begin(self) -> None:
        self._receive()

    def is_alive(self) -> bool:
        return self._process.is_alive()

    def run(self, job: Job) -> list[Measurement]:
        try:
            self._pipe.send(job)
        except OSError:
            raise WorkerDied(self._how_it_ended()) from None
        return self._receive()

    def stop(self) -> None:
        self._signal(signal.SIGINT)

    def kill(self) -> None:
        self._process.kill()

    def _signal(self, number: int) -> None:
        if self._process.pid is not None and self._process.is_alive():
            os.kill(self._process.pid, number)

    def _receive(self) -> Any:
        """What the worker answers; what it raised is raised here."""
        wait([self._pipe, self._process.sentinel])
        try:
            value, error = self._pipe.recv()
        except (EOFError, OSError):
            raise WorkerDied(self._how_it_ended()) from None
        if error is not None:
            raise error
        return value

    def _how_it_ended(self) -> str:
        self._process.join()
        code = self._process.exitcode or 0
        if code >= 0:
            return f"ended with status {code}"
        known = {int(number): number.name for number in signal.Signals}
        name = known.get(-code, f"signal {-code}")
        return f"was killed by {name}{', as for want of memory' * (name == 'SIGKILL')}"


def _serve(pipe: Connection, make_task: MakeTask, environment: Mapping[str, str]) -> None:
    """The life of a worker process: a task, then job after job."""
    os.environ.update(environment)
    for number in (signal.SIGINT, signal.SIGTERM):  # which may be sent to the whole group
        signal.signal(number, lambda number, frame: stopping.ask(number))
    threading.Thread(target=_end_with_the_driver, daemon=True).start()
    try:
        do = make_worker(make_task)
    except Exception as error:  # a task is the user's: what it raises is told by the driver
        pipe.send((None, portable(error)))
        return
    pipe.send((None, None))
    while True:
        try:
            job = pipe.recv()
        except EOFError:
            return
        pipe.send(do(job))


def _end_with_the_driver() -> None:
    """Ends this process when the driver has gone, so that nobody writes beside its successor."""
    driver = multiprocessing.parent_process()
    if driver is not None:
        wait([driver.sentinel])
        os._exit(1)
