"""Trains candidates through the ledger: what it holds already is not trained again."""

import dataclasses
import functools
import math
import pathlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from lsh_jax.config import SearchConfig
from lsh_jax.search.dense import DenseReference, OnEvent, early_end, has_passed
from lsh_jax.search.executors import Executor
from lsh_jax.search.groups import run_epoch_together
from lsh_jax.search.ledger import Ledger, LedgerError, Record, TrialId, best_epoch, has_ended
from lsh_jax.search.population import Population
from lsh_jax.search.run_directory import keep_checkpoints, save_spectra
from lsh_jax.search.scores import alike, distance, reference_epoch, score
from lsh_jax.search.task import Task
from lsh_jax.search.trial import (
    Candidate,
    LiveStates,
    Measurement,
    TaskFailure,
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
      population: how many candidates train side by side.
      least_epochs: that a network trains for, whatever the task's patience.
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
    population: Population
    least_epochs: int
    live: LiveStates
    on_event: OnEvent
    keep_all: bool


def advance(
    search: Search,
    candidates: Sequence[Candidate],
    epochs: int,
    search_round: int,
    *,
    patience: int = 0,
) -> None:
    """Trains candidates to `epochs` in all, as many side by side as the population has.

    Args:
      search: the search.
      candidates: the networks; what the ledger holds of them is not trained again, and one that it
        says has failed is not trained any more.
      epochs: of each in all.
      search_round: recorded with every epoch.
      patience: as of a task; 0 to train to the end.
    """
    for candidate in candidates:
        history = search.ledger.history(candidate.trial)
        if history and history[0].controls != recorded_controls(candidate):
            raise LedgerError(f"Trial {candidate.trial} has other controls in the ledger than now.")
    waiting = [c for c in candidates if _goes_on(search, c, epochs, patience)]
    while waiting:
        group, waiting = waiting[: search.population.size], waiting[search.population.size :]
        for epoch in range(1, epochs + 1):
            due = [
                candidate
                for candidate in group
                if len(search.ledger.history(candidate.trial)) == epoch - 1
                and _goes_on(search, candidate, epochs, patience)
            ]
            for candidate, measured in _run(search, due, epoch):
                _close(search, candidate, epoch, search_round, measured, patience)


def _goes_on(search: Search, candidate: Candidate, epochs: int, patience: int) -> bool:
    """Whether there is an epoch to train."""
    history = search.ledger.history(candidate.trial)
    if len(history) >= epochs or (history and history[-1].status == "failed"):
        return False
    return not has_ended(history, patience, search.least_epochs)


def _run(
    search: Search, due: Sequence[Candidate], epoch: int
) -> Iterator[tuple[Candidate, Measurement]]:
    """Runs an epoch of candidates: as one group if that can be, else one after another."""

    def on_segment(trial: TrialId, done: int) -> None:
        search.on_event("segment", {"trial": trial, "epoch": epoch, "done": done})

    where = search.task, search.run
    if len(due) > 1 and search.population.size > 1:
        try:
            found = search.executor.submit(
                run_epoch_together, *where, due, epoch, search.live, on_segment
            ).result()
        except TaskFailure as failure:
            reason = str(failure)
        else:
            yield from zip(due, found, strict=True)
            return
        # Out of the handler: in there the failure holds on to the memory it was raised over.
        search.population.size = 1
        text = f"{len(due)} candidates side by side failed ({reason}): they go on one by one"
        search.on_event("notice", {"text": text})
    for candidate in due:
        call = functools.partial(on_segment, candidate.trial)
        future = search.executor.submit(run_epoch, *where, candidate, epoch, search.live, call)
        yield candidate, future.result()


def _close(
    search: Search,
    candidate: Candidate,
    epoch: int,
    search_round: int,
    measured: Measurement,
    patience: int,
) -> None:
    """Scores an epoch and writes it into the ledger."""
    record = make_record(candidate, epoch, search_round, measured)
    if measured.failure is None:
        record = _scored(search, record, measured)
    record_line(search, record)
    history = search.ledger.history(candidate.trial)
    if record.status == "failed":
        return
    if not search.keep_all:
        keep_checkpoints(search.run, candidate.trial, {epoch, best_epoch(history)})
    if has_ended(history, patience, search.least_epochs):
        search.on_event("notice", {"text": early_end(history)})


def _scored(search: Search, record: Record, measured: Measurement) -> Record:
    assert measured.spectra is not None and record.val_nll is not None
    save_spectra(search.run, record.trial, record.epoch, measured.spectra)
    config, dense = search.config, search.dense
    if dense is None:
        return dataclasses.replace(record, score=score(config.metric, record))
    if config.reference == "same-epoch" and has_passed(dense, record.epoch, search.task.patience):
        # There is no such epoch to compare with; nor is anybody cut any more by the score.
        known = config.metric != "ls"
        return dataclasses.replace(record, score=score(config.metric, record)) if known else record
    epoch = reference_epoch(config.reference, record.epoch, record.val_nll, dense.records)
    found = distance(*alike(measured.spectra, dense.spectra[epoch]))
    if not math.isfinite(found.ls_distance):  # squares beyond float32; JSON has no such number
        reason = f"the LS distance is {found.ls_distance}"
        return dataclasses.replace(record, status="failed", reason=reason)
    record = dataclasses.replace(record, **found._asdict())
    return dataclasses.replace(record, score=score(config.metric, record))


def record_line(search: Search, record: Record) -> None:
    """Writes a line of the ledger and tells of it."""
    search.ledger.append(record)
    search.on_event("record", {"record": record})
