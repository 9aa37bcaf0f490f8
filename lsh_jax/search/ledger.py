"""The ledger of a search: an append-only file of JSON lines, one a (trial, epoch), and its truth.

Every line is on disk before the search goes on. A search is resumed by running it again: what the
ledger holds is not trained twice. A last line that was cut short is dropped; anything else that
cannot be read is an error that names its line.
"""

import dataclasses
import json
import math
import os
import pathlib
from typing import Any, Literal

TrialId = int | str  # 0, 1, ... or "dense", "dense-1", ...


class LedgerError(RuntimeError):
    """A ledger that cannot be read."""


@dataclasses.dataclass(frozen=True)
class Record:
    """One line: a trial after one epoch. Numbers are None where they do not apply."""

    trial: TrialId
    epoch: int
    round: int | None
    """0 for the pool, 1, 2, ... for the rounds of halving, one more for the finals; None: dense."""
    controls: dict[str, Any]
    """The candidate's configuration; empty for the dense network."""
    seed: int
    """Of masks and growth; for the dense network, of the run."""
    status: Literal["ok", "failed"] = "ok"
    reason: str | None = None
    score: float | None = None
    """What the search minimises."""
    ls_distance: float | None = None
    ls_std_error: float | None = None
    floored: int | None = None
    """Exponents below the floor of `ls_distance`: dead directions."""
    train_nll: float | None = None
    """Nats per token over the epoch, dropout on."""
    val_nll: float | None = None
    val_perplexity: float | None = None
    averaging: bool = False
    """Whether averaged weights were evaluated."""
    churn: float | None = None
    """Share of the live weights replaced, mean over the epoch's topology updates."""
    nonzeros: int | None = None
    duplicate_of: int | None = None
    """The trial with the same configuration whose result this line repeats."""
    wall_s: float | None = None
    topology: dict[str, Any] | None = None
    """Shares in [0, 1] of a candidate: "density" by part ("layers_0/U/i"), "overlap" with the masks
    of an epoch before, and "explored" of all weights, see `sparsity.counting.topology_shares`."""

    def to_json(self) -> str:
        """The line, without its end; strict JSON."""
        return json.dumps(dataclasses.asdict(self), allow_nan=False)


def perplexity(nll: float) -> float | None:
    """exp(nll), or None where that is not a finite number."""
    return math.exp(nll) if nll < math.log(1e300) else None


class Ledger:
    """The records of a run, in memory and on disk."""

    def __init__(self, path: pathlib.Path) -> None:
        """Reads `path`, all but a last line that was cut short, which goes when one is appended.

        Args:
          path: the file; made with its folder when the first record is appended.

        Raises:
          LedgerError: when a line that is not the last cannot be read.
        """
        self._path = path
        self._whole: int | None = None  # bytes of whole lines, until the first append
        self._records: dict[tuple[TrialId, int], Record] = {}
        if not path.exists():
            return
        content = path.read_bytes()
        whole, _, torn = content.rpartition(b"\n")
        self._whole = len(content) - len(torn)
        for number, line in enumerate(whole.split(b"\n") if whole else [], start=1):
            try:
                record = Record(**json.loads(line))
            except (ValueError, TypeError) as error:
                raise LedgerError(f"{path}, line {number} is not a record: {error}.") from error
            self._records[record.trial, record.epoch] = record

    def append(self, record: Record) -> None:
        """Writes a record and returns once it is on disk."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if self._whole is not None and self._whole < self._path.stat().st_size:
            os.truncate(self._path, self._whole)
        self._whole = None
        with self._path.open("a", encoding="utf-8") as file:
            file.write(record.to_json() + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._records[record.trial, record.epoch] = record

    def get(self, trial: TrialId, epoch: int) -> Record | None:
        """The record of a trial's epoch, if there is one."""
        return self._records.get((trial, epoch))

    def history(self, trial: TrialId) -> list[Record]:
        """The records of a trial, by epoch."""
        own = [record for (name, _), record in self._records.items() if name == trial]
        return sorted(own, key=lambda record: record.epoch)

    def records(self) -> list[Record]:
        """All records in the order of writing."""
        return list(self._records.values())


def best_epoch(history: list[Record]) -> int:
    """The epoch of the lowest validation nll that did not fail; the earlier of equals."""
    scored = [r for r in history if r.status == "ok" and r.val_nll is not None]
    return min(scored, key=lambda r: (r.val_nll, r.epoch)).epoch


def has_ended(history: list[Record], patience: int, least_epochs: int = 0) -> bool:
    """Whether training ends before its last epoch: its best validation nll has grown too old.

    Args:
      history: of a trial that has not failed, by epoch.
      patience: the age in epochs at which it ends; 0 for never.
      least_epochs: that are trained in any case.
    """
    if not history or not patience or history[-1].epoch < least_epochs:
        return False
    return history[-1].epoch - best_epoch(history) >= patience
