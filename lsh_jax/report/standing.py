"""How far a search has come that has no result yet, from its settings and its ledgers alone.

Its rounds are found by halving again what is on record. Of dense networks that are still in
training, and of the trials that tune them, the search keeps ledgers of their own.
"""

import dataclasses
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from lsh_jax.config import SearchConfig
from lsh_jax.machine import is_locked
from lsh_jax.report.run import (
    UNREADABLE,
    Arrays,
    Run,
    at_epoch,
    read_config,
    read_histories,
    read_run,
    split_repeats,
    whole_spectra,
)
from lsh_jax.search.ledger import Record
from lsh_jax.search.measure import read_measure
from lsh_jax.search.space import pool_size
from lsh_jax.search.successive_halving import num_survivors, survivors

Histories = Mapping[int, list[Record]]


class Standing(NamedTuple):
    """A search without a result.

    Attributes:
      run: what is on record, as of a finished one.
      settings: of the search; None where they cannot be understood.
      tuning: histories of the trials that tune the dense network.
      running: whether a process is at it.
    """

    run: Run
    settings: SearchConfig | None
    tuning: list[list[Record]]
    running: bool


def is_finished(path: pathlib.Path) -> bool:
    """Whether a run directory has a result."""
    return (path / "result.json").exists()


def read_any(path: pathlib.Path) -> Run:
    """Reads the directory of a search, finished or not.

    Raises:
      ConfigError: when it is none.
      LedgerError: when its ledger cannot be read.
    """
    return read_run(path) if is_finished(path) else read_standing(path).run


def read_standing(path: pathlib.Path) -> Standing:
    """Reads the directory of a search that has no result, which may be written meanwhile.

    Raises:
      ConfigError: when it is none.
      LedgerError: when one of its ledgers cannot be read.
    """
    running = is_locked(path)  # before its ledger, which then is whole if it has stopped
    config = read_config(path)
    search = config.get("search", {})
    settings = _settings(search)
    histories = read_histories(path)
    candidates, repeats = split_repeats(histories)
    dense = [history for name, history in histories.items() if isinstance(name, str)]
    dense = [*dense, *_dense_in_training(path, dense)]
    rounds, finalists = ([], []) if settings is None else replay(settings, candidates)
    run = Run(
        name=path.resolve().name,
        config=config,
        search=search,
        result={name: search[name] for name in ("metric", "algo", "seed") if name in search},
        dense=dense,
        candidates=candidates,
        repeats=[history[-1] for history in repeats],
        spectra=whole_spectra(_read_spectra(path)),
        std_errors=_read_spectra(path, kind=".std_error"),
        rounds=rounds,
        winner=None,
        finalists=finalists,
        first_epoch=_first_epoch(search.get("e0", 1), candidates),
        model_bytes=None,
        measure=read_measure(config),
    )
    leader = next((record.trial for record in ranking(run)), None)
    run = run._replace(leader=leader if isinstance(leader, int) else None)
    return Standing(run, settings, list(read_histories(path / "tuning").values()), running)


def replay(config: SearchConfig, candidates: Histories) -> tuple[list[dict[str, Any]], list[int]]:
    """The rounds that are over, as result.json tells them, and the finalists once they are known.

    Args:
      config: the search.
      candidates: their histories by trial, without trials that repeat another.
    """
    entering, epochs = sorted(candidates), config.e0
    rounds: list[dict[str, Any]] = []
    if not _is_pool_closed(config, candidates):
        return rounds, []
    while all(_is_through(candidates[trial], epochs) for trial in entering):
        scores = {
            trial: record.score
            for trial in entering
            for record in candidates[trial]
            if record.epoch == epochs and record.score is not None
        }
        if not scores:
            break
        count, finished = len(scores), len(scores) <= config.finalists
        if not finished:
            count = num_survivors(count, config.finalists, config.halving, config.eta)
        kept = survivors(scores, count)
        rounds.append(
            {
                "round": len(rounds),
                "epochs": epochs,
                "entered": entering,
                "failed": [trial for trial in entering if trial not in scores],
                "survivors": kept,
            }
        )
        if finished:
            return rounds, kept
        entering, epochs = kept, epochs + config.ei
    return rounds, []


def ranking(run: Run) -> list[Record]:
    """The records by which the candidates were last judged together, best first.

    Finalists are judged by the lowest validation nll of their epochs; the others by their scores at
    the end of the last round, or at the first score while the pool is filled. Candidates that
    failed since are left out.
    """
    if run.finalists:
        alive = [run.candidates[trial] for trial in run.finalists]
        bests = [_best(history) for history in alive if history[-1].status == "ok"]
        return sorted(filter(None, bests), key=lambda record: (record.val_nll, record.trial))
    epoch = run.rounds[-1]["epochs"] if run.rounds else run.first_epoch
    judged = [
        record
        for record in at_epoch(run, epoch)
        if isinstance(record.trial, int)
        and record.score is not None
        and run.candidates[record.trial][-1].status == "ok"
    ]
    return sorted(judged, key=lambda record: (record.score, record.trial))


def _settings(search: Mapping[str, Any]) -> SearchConfig | None:
    try:
        config = SearchConfig.from_json(search)
        pool_size(config)
    except (ValueError, TypeError, OverflowError):  # of another version, or of a stranger
        return None
    return config


def _is_pool_closed(config: SearchConfig, candidates: Histories) -> bool:
    """Whether no candidate is to come: a pool may be closed before it is full."""
    later = any(record.round for history in candidates.values() for record in history)
    return later or len(candidates) >= pool_size(config)


def _is_through(history: list[Record], epochs: int) -> bool:
    return history[-1].epoch >= epochs or history[-1].status == "failed"


def _best(history: list[Record]) -> Record | None:
    judged = [record for record in history if record.val_nll is not None]
    return min(judged, key=lambda record: (record.val_nll, record.epoch), default=None)


def _first_epoch(e0: int, candidates: Histories) -> int:
    """The epoch of the first score, or the last on record where nobody has come so far."""
    return min(e0, max((history[-1].epoch for history in candidates.values()), default=e0))


def _dense_in_training(path: pathlib.Path, known: list[list[Record]]) -> Iterator[list[Record]]:
    """The dense networks that are not in the run's own ledger yet, by their seed."""
    seeds = {history[0].seed for history in known}
    folders = [folder for folder in (path / "dense").glob("*") if folder.name.isdecimal()]
    count = len(known)
    for folder in sorted(folders, key=lambda folder: int(folder.name)):
        history = read_histories(folder).get("dense", [])
        if history and history[0].seed not in seeds:
            name = f"dense-{count}" if count else "dense"
            yield [dataclasses.replace(record, trial=name) for record in history]
            count += 1


def _read_spectra(path: pathlib.Path, kind: str = "") -> Arrays:
    """The exponents, or their standard errors; files that are half written are left out."""
    found = {}
    for file in sorted((path / "spectra").glob("*.npy")):
        name = re.fullmatch(rf"(dense|[0-9]+)-([0-9]{{1,15}}){re.escape(kind)}\.npy", file.name)
        if name is not None and file.is_file():
            try:
                exponents = np.load(file, allow_pickle=False)
            except UNREADABLE:
                continue
            found[name[1], int(name[2])] = np.atleast_2d(exponents)
    return found
