"""How a command runs: its exit status, what it says when it fails, and its run directory."""

import contextlib
import dataclasses
import itertools
import pathlib
import re
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from lsh_jax.checkpoint import CheckpointError
from lsh_jax.cli.flags import expand_users, with_flags
from lsh_jax.config import ConfigError
from lsh_jax.presets import TrainingSettings
from lsh_jax.search.dense import SearchError
from lsh_jax.search.ledger import LedgerError

_BAD_INPUT, _FAILED = 2, 1  # exit statuses
_KILLED = 128  # and the number of the signal, as shells have it
_RUNS = pathlib.Path("runs")


class Command(NamedTuple):
    """A command as functions of its settings, a frozen dataclass."""

    parse: Callable[[Sequence[str]], Any]
    """Reads the flags."""
    act: Callable[[Any], int]
    """Does the work; returns the exit status."""
    directory: Callable[[Any], pathlib.Path] | None = None
    """Names the run directory, which `act` then finds in `out`; None for a command without one."""


def run_command(command: Command, arguments: Sequence[str] | None) -> int:
    """Runs a command and says on stderr what went wrong.

    Args:
      command: the command.
      arguments: without the program's name; those of the process if not given.

    Returns:
      The exit status: 0 done, 1 failed, 2 bad input, 130 interrupted, 143 terminated.
    """
    out: pathlib.Path | None = None
    kind: type = TrainingSettings
    try:
        settings = expand_users(command.parse(sys.argv[1:] if arguments is None else arguments))
        kind = type(settings)
        if command.directory is not None:
            out = command.directory(settings)
            settings = dataclasses.replace(settings, out=str(out))
        return command.act(settings)
    except ConfigError as error:
        print(f"error: {with_flags(str(error), kind)}", file=sys.stderr)
        return _BAD_INPUT
    except (SearchError, LedgerError, CheckpointError, OSError) as error:
        print(f"failed: {error}", file=sys.stderr)
        return _FAILED
    except KeyboardInterrupt as stop:
        begun = out is not None and (out / "config.json").is_file()
        how = f"the same command with --resume --out={out} goes on from here"
        print(f"\ninterrupted; {how if begun else 'nothing was begun'}", file=sys.stderr)
        return _KILLED + getattr(stop, "number", signal.SIGINT)
    finally:
        if out is not None and out.parent == _RUNS:
            with contextlib.suppress(OSError):  # what was made and holds nothing
                out.rmdir()
                _RUNS.rmdir()


def run_directory(settings: TrainingSettings, kind: str = "") -> pathlib.Path:
    """--out, or a new one that tells when and what; to resume, the newest of the preset and seed.

    Args:
      settings: of the command.
      kind: stands in the name before the preset, as "dense-".

    Raises:
      ConfigError: when there is no run to resume.
    """
    if settings.out is not None:
        return pathlib.Path(settings.out)
    suffix = f"{kind}{settings.preset}-{settings.seed}"
    if not settings.resume:
        name = f"{time.strftime('%Y%m%d-%H%M%S')}-{suffix}"
        for own in itertools.chain([name], (f"{name}.{count}" for count in itertools.count(2))):
            with contextlib.suppress(FileExistsError):  # of a run that was started this second
                (_RUNS / own).mkdir(parents=True)
                return _RUNS / own
    runs = [
        path
        for path in _RUNS.glob("*")
        if re.fullmatch(rf"\d{{8}}-\d{{6}}-{suffix}(\.\d+)?", path.name)
    ]
    if not runs:
        raise ConfigError(
            f"`resume` must find a run of this preset and seed in {str(_RUNS)!r}, got none: name "
            "it with --out."
        )
    return max(runs, key=lambda path: (path.name[:15], int(path.suffix[1:] or 1)))
