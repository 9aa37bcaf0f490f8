"""What is asked of the machine: its cores, and that one process at a time writes a folder."""

import contextlib
import os
import pathlib
import platform
from collections.abc import Iterator

try:
    import fcntl
except ImportError:  # not a POSIX system: there, write a folder from one process only
    fcntl = None  # type: ignore[assignment]


class InUseError(RuntimeError):
    """A folder that another process is writing; the message says which."""


def visible_cores() -> str:
    """The cores that XLA may use: `NPROC` if it is set, else those this process may run on."""
    if "NPROC" in os.environ:
        return os.environ["NPROC"]
    if hasattr(os, "sched_getaffinity"):  # Linux
        return str(len(os.sched_getaffinity(0)))
    return str(os.cpu_count())


@contextlib.contextmanager
def locked(folder: pathlib.Path, *, wait: bool) -> Iterator[None]:
    """Holds a folder for this process; the system lets go of it if the process is killed.

    Args:
      folder: made if missing; the lock is its file `.lock`.
      wait: wait for another process to finish with it instead of refusing.

    Raises:
      InUseError: when another process holds it, with that process's id and host.
      OSError: when the folder cannot be made or written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a+") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                file.seek(0)
                raise InUseError(file.read().strip() or "another process") from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}")
        file.flush()
        yield
