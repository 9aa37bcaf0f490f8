"""Keeps what is trained of an epoch where epochs take long: checkpoints between segments."""

import json
import math
import pathlib
import shutil
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from lsh_jax.checkpoint import (
    CheckpointError,
    check_checkpoint,
    restore_checkpoint,
    save_checkpoint,
    write_json,
)
from lsh_jax.search.dense import OnEvent
from lsh_jax.search.task import Task, TrainInfo
from lsh_jax.search.trial import NOTHING, added
from lsh_jax.sparsity import Controls
from lsh_jax.training import TrainState
from lsh_jax.types import Hyper

_SECONDS = 300.0  # an interrupt costs so much training at most, or a segment where that is more


class Kept(NamedTuple):
    """A task whose training can be resumed between segments."""

    task: Task
    on_event: OnEvent  # writes the checkpoints, and passes all events on


def keep_segments(
    task: Task, run: pathlib.Path, on_event: OnEvent, *, seconds: float = _SECONDS
) -> Kept:
    """Wraps a language-model task that trains one network by one segment at a time.

    A checkpoint holds the state after a segment, and beside it stand the sums of all segments of
    its epoch. When training starts from the epoch before, the segments that are behind the
    checkpoint are answered from these sums, the last of them with the state: the epoch's record is
    that of an epoch without interruption, but for its wall time.

    Args:
      task: the task; its state is a `TrainState`.
      run: the run directory, which must be of this very task.
      on_event: what is told of segments and records otherwise.
      seconds: from one checkpoint to the next, at least.

    Returns:
      The wrapped task and listener, to be used together.
    """
    folder = run / "checkpoints" / "segments"
    first, infos = _read(folder)  # segments before the epoch, and what those of it did
    behind = first + len(infos)  # segments that need no training
    answered, latest, written = 0, None, time.monotonic()

    def train(
        state: TrainState, controls: Controls, hyper: Hyper, num_segments: int
    ) -> tuple[TrainState, TrainInfo]:
        nonlocal first, infos, answered, latest
        done = int(state.num_segments) + answered
        if first <= done < behind:
            answered += 1
            if done + 1 == behind:
                answered, state = 0, restore_checkpoint(folder / str(behind), state)
            return state, infos[done - first]
        if done % task.segments_per_epoch == 0:
            first, infos = done, []
        state, info = task.train(state, controls, hyper, num_segments)
        infos, latest = [*infos, added(NOTHING, info)], state
        return state, info

    def listener(kind: str, values: Mapping[str, Any]) -> None:
        nonlocal latest, written
        if kind == "segment" and latest is None:  # answered: nothing was trained to tell of
            return
        due = kind == "segment" and time.monotonic() - written >= seconds
        if due and latest is not None and math.isfinite(infos[-1].nll_sum):
            _write(folder, latest, first, infos)
            written = time.monotonic()
        if kind == "record":
            shutil.rmtree(folder, ignore_errors=True)
        latest = None
        on_event(kind, values)

    return Kept(task._replace(train=train), listener)


def _read(folder: pathlib.Path) -> tuple[int, list[TrainInfo]]:
    """Segments before the epoch that a checkpoint is of, and its own so far.

    None without a whole checkpoint: then the epoch starts anew.
    """
    try:
        kept = json.loads((folder / "segments.json").read_text())
        first, infos = int(kept["first"]), [TrainInfo(*values) for values in kept["infos"]]
        check_checkpoint(folder / str(first + len(infos)))
    except (OSError, ValueError, KeyError, TypeError, CheckpointError):
        return 0, []
    return first, infos


def _write(folder: pathlib.Path, state: TrainState, first: int, infos: list[TrainInfo]) -> None:
    """The new checkpoint stands before the old one goes."""
    done = first + len(infos)
    save_checkpoint(folder / str(done), state)
    write_json(folder / "segments.json", {"first": first, "infos": infos})
    for path in folder.iterdir():
        if path.name.removesuffix(".json") not in (str(done), "segments"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
