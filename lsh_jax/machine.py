"""What is asked of the machine: its cores, and that one process at a time writes a folder."""

import contextlib
import importlib.metadata
import os
import pathlib
import platform
import shutil
from collections.abc import Iterator
from typing import IO, Any

try:
    import fcntl
except ImportError:  # not a POSIX system: there, write a folder from one process only
    fcntl = None  # type: ignore[assignment]


class InUseError(RuntimeError):
    """A folder that another process is writing; the message says which."""


def visible_cores() -> str:
    """The cores that XLA may use: `NPROC` if it is set, else those this process may run on."""
    return os.environ.get("NPROC") or str(available_cores())


def available_cores() -> int:
    """The cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def free_bytes(path: pathlib.Path) -> int:
    """Bytes that are free on the disk of a path, which need not be there yet."""
    there = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    return shutil.disk_usage(there).free


def describe_environment() -> str:
    """The versions that results may depend on, and the devices that JAX finds, as text."""
    import jax

    names = ("jax", "jaxlib", "flax", "optax", "numpy", "hyperopt", "orbax-checkpoint")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    devices = ", ".join(str(device) for device in jax.devices())
    return (
        f"Python {platform.python_version()} on {platform.system()} {platform.machine()}, "
        f"{visible_cores()} cores\n{versions}\ndevices: {devices}"
    )


@contextlib.contextmanager
def exclusive(file: IO[Any]) -> Iterator[None]:
    """Keeps other processes that ask for the same from an open file in the block."""
    if fcntl is None:
        yield
        return
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


def is_locked(folder: pathlib.Path) -> bool:
    """Whether a process holds a folder by `locked`; the lock's file is left as it is.

    Where the system has no such locks, nobody is known to hold anything.
    """
    path = folder / ".lock"
    if fcntl is None or not path.is_file():
        return False
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


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
