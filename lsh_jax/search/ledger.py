"""The ledger of a search: an append-only file of JSON lines, one a (trial, epoch), and its truth.

Every line is on disk before the search goes on. A search is resumed by running it again: what the
ledger holds is not trained twice. A last line that was cut short is dropped; anything else that
cannot be read is an error that names its line, and so is a second line of one epoch. Lines stand
in the order in which epochs ended: what they say does not depend on it.
"""

import dataclasses
import json
import math
import os
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, Literal, Self

from lsh_jax.machine import exclusive

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

    spectra_digest: str | None = None
    """Of the arrays of exponents and their errors, which stand in files of their own."""

    def to_json(self) -> str:
        """The line, without its end; strict JSON."""
        return json.dumps(dataclasses.asdict(self), allow_nan=False)

    @classmethod
    def from_json(cls, line: str | bytes) -> Self:
        """Reads a line.

        Raises:
          ValueError: when it is none: nothing of it is taken on trust.
        """
        try:
            record = cls(**json.loads(line, parse_constant=_refuse))
            record._check()
        except (TypeError, OverflowError, RecursionError) as error:
            raise ValueError(str(error)) from error
        return record

    def _check(self) -> None:
        """Refuses values of wrong types, and names that could lead out of the run directory."""
        for name, fits in _KINDS.items():
            value = getattr(self, name)
            if not (fits(value) or (value is None and name not in _NEEDED)):
                raise ValueError(f"its {name} is {value!r}")


def _is_trial(value: Any) -> bool:
    return _is_count(value) or (isinstance(value, str) and bool(_DENSE.fullmatch(value)))


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


_DENSE = re.compile(r"dense(-[0-9]+)?")
_NEEDED = ("trial", "epoch", "controls", "seed", "status", "averaging")
_KINDS: Mapping[str, Callable[[Any], bool]] = {
    "trial": _is_trial,
    "status": lambda value: value in ("ok", "failed"),
    "averaging": lambda value: isinstance(value, bool),
    **dict.fromkeys(("epoch", "round", "seed", "floored", "nonzeros", "duplicate_of"), _is_count),
    **dict.fromkeys(("score", "ls_distance", "ls_std_error", "churn", "wall_s"), _is_number),
    **dict.fromkeys(("train_nll", "val_nll", "val_perplexity"), _is_number),
    **dict.fromkeys(("reason", "spectra_digest"), _is_text),
    **dict.fromkeys(("controls", "topology"), _is_object),
}


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


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
          LedgerError: when a line that is not the last cannot be read, or repeats another's epoch.
        """
        self._path = path
        self._records: list[Record] = []
        self._trials: dict[TrialId, dict[int, Record]] = {}
        if not path.exists():
            return
        whole, end, _ = path.read_bytes().rpartition(b"\n")
        for number, line in enumerate(whole.split(b"\n") if end else [], start=1):
            try:
                record = Record.from_json(line)
            except ValueError as error:
                raise LedgerError(f"{path}, line {number} is not a record: {error}.") from error
            if self.get(record.trial, record.epoch) is not None:
                raise LedgerError(
                    f"{path}, line {number} is a second one of trial {record.trial}, epoch "
                    f"{record.epoch}: has another process written here? Remove one of them."
                )
            self._take(record)

    def append(self, record: Record) -> None:
        """Writes a record and returns once it is on disk.

        Raises:
          LedgerError: when there is one of its trial and epoch.
          OSError: when it cannot be written; the ledger is as before.
        """
        if self.get(record.trial, record.epoch) is not None:
            raise LedgerError(f"Trial {record.trial}, epoch {record.epoch} is on record already.")
        line = record.to_json().encode() + b"\n"
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab+") as file, exclusive(file):
            _cut_torn_tail(file)
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        self._take(record)

    def _take(self, record: Record) -> None:
        self._records.append(record)
        self._trials.setdefault(record.trial, {})[record.epoch] = record

    def get(self, trial: TrialId, epoch: int) -> Record | None:
        """The record of a trial's epoch, if there is one."""
        return self._trials.get(trial, {}).get(epoch)

    def history(self, trial: TrialId) -> list[Record]:
        """The records of a trial, by epoch."""
        return [record for _, record in sorted(self._trials.get(trial, {}).items())]

    def records(self) -> list[Record]:
        """All records in the order of writing."""
        return list(self._records)


def _cut_torn_tail(file: BinaryIO) -> None:
    """Cuts off a last line without its end, which nobody was told of."""
    size = file.seek(0, os.SEEK_END)
    if size == 0:
        return
    file.seek(size - 1)
    if file.read(1) != b"\n":
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)


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
