"""What a worker of any kind does in its own process: it makes the task, then job after job."""

import contextlib
import faulthandler
import math
import traceback
from collections.abc import Callable, Iterator

from lsh_jax.checkpoint import CheckpointError
from lsh_jax.config import ConfigError
from lsh_jax.search import stopping
from lsh_jax.search.epoch import LiveStates
from lsh_jax.search.executors import Job, MakeTask, ignore, perform
from lsh_jax.search.trial import Measurement, TaskFailure

_GRACE = 1.5  # times the time limit: then a worker that hangs is ended

Answer = tuple[list[Measurement] | None, BaseException | None]  # the measurements, or an error


def make_worker(make_task: MakeTask) -> Callable[[Job], Answer]:
    """What a worker of any kind does in its process.

    Args:
      make_task: makes the task, once.

    Returns:
      A function that does a job and returns what came of it; it raises nothing.
    """
    task = make_task()
    live: LiveStates = {}

    def do(job: Job) -> Answer:
        stopping.forget()
        try:
            return perform(task, job, live, ignore, guard=_ended_after), None
        except (Exception, stopping.Interrupted) as error:  # the driver raises it
            return None, portable(error)

    return do


@contextlib.contextmanager
def _ended_after(seconds: float) -> Iterator[None]:
    """Ends this process, and says where it was, if the block takes too long, even if it hangs."""
    if math.isinf(seconds):
        yield
        return
    faulthandler.dump_traceback_later(_GRACE * seconds, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def portable(error: BaseException) -> BaseException:
    """An error that can be sent from process to process."""
    if isinstance(error, (ConfigError, CheckpointError, TaskFailure, stopping.Interrupted)):
        return error
    if isinstance(error, OSError):
        return OSError(error.errno, error.strerror, error.filename) if error.errno else error
    traceback.print_exception(error)
    return RuntimeError(f"{type(error).__name__}: {error}")
