"""Keeps what is trained of an epoch: checkpoints between its segments.

They stand beside those of whole epochs, as `<epoch>-<segments done>`, and go when the epoch is
recorded. The sums of the segments stand in their notes, so that an epoch that was interrupted is
recorded as one that was not.
"""

import contextlib
import pathlib
import time
from typing import NamedTuple

from lsh_jax.checkpoint import (
    DamagedCheckpointError,
    read_notes,
    remove_checkpoint,
    restore_checkpoint,
    save_checkpoint,
)
from lsh_jax.search import stopping
from lsh_jax.search.ledger import TrialId
from lsh_jax.search.run_directory import checkpoint_path
from lsh_jax.search.task import TaskState, TrainInfo

INTERVAL = 300.0  # seconds: a process that is killed loses so much training, or a segment if longer
NOTHING = TrainInfo(0.0, 0.0, 0.0, 0, 0)  # trained yet


class Progress(NamedTuple):
    """How far an epoch is."""

    state: TaskState
    total: TrainInfo  # over the segments done
    done: int  # segments
    seconds: float  # that they took


class SegmentKeeper:
    """Writes and reads the checkpoints within one epoch of a trial."""

    def __init__(self, run: pathlib.Path, trial: TrialId, epoch: int) -> None:
        """Writes nothing yet; the first checkpoint is due after `INTERVAL` seconds."""
        self._path = checkpoint_path(run, trial, epoch)
        self._written = time.monotonic()

    def resume(self, state: TaskState) -> Progress:
        """The latest checkpoint within the epoch, or its start.

        Args:
          state: at the start of the epoch; not used up.
        """
        for done, path in sorted(self._kept(), reverse=True):
            with contextlib.suppress(DamagedCheckpointError, KeyError, TypeError, ValueError):
                notes = read_notes(path)
                nll, tokens, churn, updates, nonzeros = map(float, notes["total"])
                total = TrainInfo(nll, tokens, churn, int(updates), int(nonzeros))
                seconds = float(notes["seconds"])
                return Progress(restore_checkpoint(path, state), total, done, seconds)
        return Progress(state, NOTHING, 0, 0.0)

    def after_segment(self, progress: Progress) -> None:
        """Writes a checkpoint if one is due, or if a stop has been asked for.

        Raises:
          Interrupted: after that, when a stop has been asked for.
        """
        if stopping.asked() or time.monotonic() - self._written >= INTERVAL:
            self._write(progress)
            self._written = time.monotonic()
        stopping.check()

    def _write(self, progress: Progress) -> None:
        """The new checkpoint stands before the old ones go."""
        old = [path for done, path in self._kept() if done != progress.done]
        total = progress.total
        notes = {
            "total": [
                float(total.nll_sum),
                float(total.num_tokens),
                float(total.churn_sum),
                int(total.num_updates),
                int(total.nonzeros),
            ],
            "seconds": progress.seconds,
        }
        path = self._path.with_name(f"{self._path.name}-{progress.done}")
        save_checkpoint(path, progress.state, notes)
        for path in old:
            remove_checkpoint(path)

    def _kept(self) -> list[tuple[int, pathlib.Path]]:
        """Segments done, and the checkpoint after them."""
        found = []
        for manifest in self._path.parent.glob(f"{self._path.name}-*.json"):
            done = manifest.stem.rpartition("-")[2]
            if done.isdecimal():
                found.append((int(done), manifest.with_suffix("")))
        return found
