"""Trains candidates through the ledger: what it holds already is not trained again."""

import collections
import contextlib
import dataclasses
import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import NamedTuple

from lsh_jax.config import SearchConfig
from lsh_jax.search import stopping
from lsh_jax.search.dense import DenseReference, OnEvent, early_end, has_passed
from lsh_jax.search.executors import Executor, Job
from lsh_jax.search.ledger import Ledger, LedgerError, Record, TrialId, best_epoch, has_ended
from lsh_jax.search.population import Population
from lsh_jax.search.run_directory import keep_checkpoints, remove_segments, save_spectra
from lsh_jax.search.scores import alike, distance, reference_epoch, score
from lsh_jax.search.task import Task
from lsh_jax.search.trial import (
    Candidate,
    Measurement,
    TaskFailure,
    make_record,
    recorded_controls,
)

_PATIENCE = 0.5  # seconds between looks at whether a stop has been asked for


class Search(NamedTuple):
    """What every step of the search works with.

    Attributes:
      task: what is trained.
      config: how it is searched.
      run: the directory.
      ledger: of that directory.
      dense: what candidates are compared with; None while the dense network itself is tuned:
        then every candidate is dense, and the validation nll is its score.
      executor: where epochs run.
      population: how many candidates train side by side.
      least_epochs: that a network trains for, whatever the task's patience.
      time_limit: seconds that an epoch of a candidate may train.
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
    time_limit: float
    on_event: OnEvent
    keep_all: bool

    def tell(self, text: str) -> None:
        """Tells the listener what a person should know."""
        self.on_event("notice", {"text": text})


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
    waiting = collections.deque(c for c in candidates if _goes_on(search, c, epochs, patience))
    ready: collections.deque[list[Candidate]] = collections.deque()  # groups between two epochs
    running: dict[Future[list[Measurement]], _Epoch] = {}  # in the order of submission
    interrupted: stopping.Interrupted | None = None

    def close(future: Future[list[Measurement]], epoch: _Epoch) -> None:
        for candidate, measured in zip(epoch.due, future.result(), strict=True):
            _close(search, candidate, epoch.number, search_round, measured, patience)

    try:
        while ready or waiting or running:
            stops = interrupted is not None or stopping.asked()
            while (ready or waiting) and len(running) < search.executor.workers and not stops:
                size = min(search.population.size, len(waiting))
                group = ready.popleft() if ready else [waiting.popleft() for _ in range(size)]
                _start(search, running, group)
            if not running:
                break
            for future in _done(search, running, stop=stops):
                epoch, failure = running.pop(future), future.exception()
                if isinstance(failure, stopping.Interrupted):
                    interrupted = failure
                elif isinstance(failure, TaskFailure):
                    waiting.extendleft(reversed(_separate(search, epoch, str(failure))))
                else:
                    close(future, epoch)
                    group = [c for c in epoch.group if _goes_on(search, c, epochs, patience)]
                    if group:
                        ready.append(group)
    except BaseException:  # Ctrl-C too: workers write beside whatever comes next
        if not stopping.asked():  # asked twice, it is not to be waited for
            _wind_down(search, running, close)
        raise
    stopping.check()
    if interrupted is not None:
        raise interrupted


def _goes_on(search: Search, candidate: Candidate, epochs: int, patience: int) -> bool:
    """Whether there is an epoch to train."""
    history = search.ledger.history(candidate.trial)
    if len(history) >= epochs or (history and history[-1].status == "failed"):
        return False
    return not has_ended(history, patience, search.least_epochs)


class _Epoch(NamedTuple):
    """What runs as one job."""

    group: list[Candidate]  # that go on side by side
    due: list[Candidate]  # those of them that are behind the others, and train this epoch
    number: int


def _start(
    search: Search, running: dict[Future[list[Measurement]], _Epoch], group: list[Candidate]
) -> None:
    """Starts the next epoch of a group, all of which go on."""
    done = {c.trial: len(search.ledger.history(c.trial)) for c in group}
    number = min(done.values()) + 1
    due = [candidate for candidate in group if done[candidate.trial] == number - 1]
    for candidate in due:
        values = {"trial": candidate.trial, "epoch": number}
        search.on_event("started", values | {"controls": recorded_controls(candidate)})

    def on_segment(trial: TrialId, done: int) -> None:
        search.on_event("segment", {"trial": trial, "epoch": number, "done": done})

    job = Job(search.run, tuple(due), number, search.task.fingerprint(), search.time_limit)
    running[search.executor.submit(job, on_segment)] = _Epoch(group, due, number)


def _done(
    search: Search, running: Mapping[Future[list[Measurement]], _Epoch], *, stop: bool
) -> list[Future[list[Measurement]]]:
    """Waits for jobs to end, which are asked to if `stop`; those that did, in their order."""
    while True:
        if stop or stopping.asked():
            search.executor.stop()
        ended, _ = wait(running, timeout=_PATIENCE, return_when=FIRST_COMPLETED)
        if ended:
            return [future for future in running if future in ended]


def _wind_down(
    search: Search,
    running: dict[Future[list[Measurement]], _Epoch],
    close: Callable[[Future[list[Measurement]], _Epoch], None],
) -> None:
    """Lets the jobs end that run beside one that failed, for they write too, and records them."""
    while running:
        for future in _done(search, running, stop=True):
            epoch = running.pop(future)
            if future.exception() is None:
                with contextlib.suppress(OSError):  # of the disk, of which has been told
                    close(future, epoch)


def _separate(search: Search, epoch: _Epoch, reason: str) -> list[Candidate]:
    """A group that cannot train side by side: its candidates go on one by one, as do all others."""
    search.population.size = 1
    count = len(epoch.due)
    text = f"{count} candidates side by side failed ({reason}): they go on one by one"
    search.on_event("notice", {"text": text})
    return epoch.group


def _close(
    search: Search,
    candidate: Candidate,
    epoch: int,
    search_round: int,
    measured: Measurement,
    patience: int,
) -> None:
    """Scores an epoch and writes it into the ledger."""
    for text in measured.notices:
        search.on_event("notice", {"text": text})
    record = make_record(candidate, epoch, search_round, measured)
    if measured.failure is None:
        record = _scored(search, record, measured)
    record_line(search, record)
    history = search.ledger.history(candidate.trial)
    if record.status == "failed":
        return
    remove_segments(search.run, candidate.trial)
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
