"""Trains candidates through the ledger: what it holds already is not trained again."""

import dataclasses
import math
import pathlib
from typing import NamedTuple

from lsh_jax.config import SearchConfig
from lsh_jax.search.dense import DenseReference, OnEvent
from lsh_jax.search.executors import Executor
from lsh_jax.search.ledger import Ledger, LedgerError, Record, best_epoch
from lsh_jax.search.run_directory import keep_checkpoints, save_spectrum
from lsh_jax.search.scores import Spectrum, distance, reference_epoch, score
from lsh_jax.search.task import Task
from lsh_jax.search.trial import (
    Candidate,
    LiveStates,
    Measurement,
    make_record,
    recorded_controls,
    run_epoch,
)


class Search(NamedTuple):
    """What every step of the search works with.

    Attributes:
      task: what is trained.
      config: how it is searched.
      run: the directory.
      ledger: of that directory.
      dense: what candidates are compared with; None while the dense network itself is tuned:
        then every candidate is dense, and the validation nll is its score.
      executor: where an epoch runs.
      live: states in memory.
      on_event: the listener.
      keep_all: keep the checkpoints of losers.
    """

    task: Task
    config: SearchConfig
    run: pathlib.Path
    ledger: Ledger
    dense: DenseReference | None
    executor: Executor
    live: LiveStates
    on_event: OnEvent
    keep_all: bool


def advance(search: Search, candidate: Candidate, epochs: int, search_round: int) -> None:
    """Trains a candidate to `epochs` in all, unless the ledger says that it has failed."""
    history = search.ledger.history(candidate.trial)
    if history and history[0].controls != recorded_controls(candidate):
        raise LedgerError(f"Trial {candidate.trial} has other controls in the ledger than now.")
    for epoch in range(len(history) + 1, epochs + 1):
        if history and history[-1].status == "failed":
            return

        def on_segment(done: int, epoch: int = epoch) -> None:
            search.on_event("segment", {"trial": candidate.trial, "epoch": epoch, "done": done})

        measured: Measurement = search.executor.submit(
            run_epoch, search.task, search.run, candidate, epoch, search.live, on_segment
        ).result()
        record = make_record(candidate, epoch, search_round, measured)
        if measured.failure is None:
            record = _scored(search, record, measured)
        record_line(search, record)
        history.append(record)
        if record.status == "ok" and not search.keep_all:
            keep_checkpoints(search.run, candidate.trial, {epoch, best_epoch(history)})


def _scored(search: Search, record: Record, measured: Measurement) -> Record:
    assert measured.exponents is not None and measured.std_error is not None
    assert record.val_nll is not None
    spectrum = Spectrum(measured.exponents, measured.std_error)
    save_spectrum(search.run, record.trial, record.epoch, *spectrum)
    config, dense = search.config, search.dense
    if dense is None:
        return dataclasses.replace(record, score=score(config.metric, record))
    epoch = reference_epoch(config.reference, record.epoch, record.val_nll, dense.records)
    found = distance(spectrum, dense.spectra[epoch])
    if not math.isfinite(found.ls_distance):  # squares beyond float32; JSON has no such number
        reason = f"the LS distance is {found.ls_distance}"
        return dataclasses.replace(record, status="failed", reason=reason)
    record = dataclasses.replace(record, **found._asdict())
    return dataclasses.replace(record, score=score(config.metric, record))


def record_line(search: Search, record: Record) -> None:
    """Writes a line of the ledger and tells of it."""
    search.ledger.append(record)
    search.on_event("record", {"record": record})
