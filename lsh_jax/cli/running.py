"""How a command runs: its exit status, what it says when it fails, and its run directory."""

import contextlib
import dataclasses
import itertools
import os
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
from lsh_jax.search.run_directory import LEDGER

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
      The exit status: 0 done, 1 failed, 2 bad input, 130 interrupted, 141 where nobody reads its
      output any more, 143 terminated.
    """
    out: pathlib.Path | None = None
    kind: type = TrainingSettings
    try:
        settings = expand_users(command.parse(sys.argv[1:] if arguments is None else arguments))
        kind = type(settings)
        if command.directory is not None:
            out = command.directory(settings)
            settings = dataclasses.replace(settings, out=str(out))
        status = command.act(settings)
        sys.stdout.flush()  # here, where a reader who has left is no failure
        return status
    except ConfigError as error:
        print(f"error: {with_flags(str(error), kind)}", file=sys.stderr)
        return _BAD_INPUT
    except (SearchError, LedgerError, CheckpointError, OSError) as error:
        if isinstance(error, BrokenPipeError) and _reader_left():
            return _KILLED + signal.SIGPIPE
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


def _reader_left() -> bool:
    """Whether nobody reads stdout any more, as after `| head`; what is still said there is lost."""
    try:
        print(flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


def run_directory(settings: TrainingSettings, kind: str = "") -> pathlib.Path:
    """--out, or a new one that tells when and what; to resume, the one of the preset and seed
    that was last changed, which is printed.

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
    chosen = max(runs, key=_last_change)
    print(
        f"Resuming {chosen}, the last changed of {len(runs)} of this preset and seed in {_RUNS}/; "
        "--out names another"
    )
    return chosen


def _last_change(run: pathlib.Path) -> tuple[float, str, int]:
    """When a run last wrote its ledger, or began; then its name, where they are equal."""
    files = [path for path in (run / LEDGER, run / "config.json", run) if path.exists()]
    return files[0].stat().st_mtime, run.name[:15], int(run.suffix[1:] or 1)


def describe_finished(run: pathlib.Path) -> str:
    """Says of a search that is resumed after its end that it has a result; else nothing."""
    if not (run / "result.json").is_file():
        return ""
    return (
        f"This run is finished: result in {run / 'result.json'}, report at {run / 'report.html'}; "
        "what is on record is gone through again, and the report written anew"
    )
