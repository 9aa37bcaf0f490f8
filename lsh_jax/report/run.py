"""Reads a run directory: everything a report says comes from here."""

import pathlib
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from lsh_jax.config import ConfigError
from lsh_jax.report.values import CONFIG, RECORD, RESULT, Expected, find_fault, load_json
from lsh_jax.search.ledger import Ledger, LedgerError, Record, TrialId
from lsh_jax.search.measure import PERPLEXITY, Measure, read_measure
from lsh_jax.search.run_directory import LEDGER

Arrays = dict[tuple[str, int], np.ndarray]  # by trial and epoch

UNREADABLE = (OSError, ValueError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error)
"""What reading an array raises that is cut short or none."""

_NEEDED = ("dense", "best", "beats_dense", "budget")  # what no report can do without
GIVEN = "given, not trained here"  # of a dense network that was brought along


class Run(NamedTuple):
    """A search.

    Attributes:
      name: of the run directory.
      config: config.json.
      search: its search settings; empty where it has none.
      result: result.json; of a search that is not finished, what is known of it.
      dense: histories of the dense networks, the reference first.
      candidates: histories by trial, without those that repeat another.
      repeats: records of trials that repeat another.
      spectra: exponents [L, K] by trial and epoch.
      std_errors: of the exponents, by the same; empty where the run has none.
      rounds: what happened in each, the pool first.
      winner: its trial; None of a search that is not finished.
      finalists: their trials; none where they are not known yet.
      first_epoch: after which candidates were first scored.
      model_bytes: of the winner's weights on disk; None where they are in another format.
      leader: the trial that is best so far, where there is no winner yet.
      measure: how an nll of it is told.
    """

    name: str
    config: dict[str, Any]
    search: Mapping[str, Any]
    result: dict[str, Any]
    dense: list[list[Record]]
    candidates: dict[int, list[Record]]
    repeats: list[Record]
    spectra: Arrays
    std_errors: Arrays
    rounds: list[dict[str, Any]]
    winner: int | None
    finalists: list[int]
    first_epoch: int
    model_bytes: int | None
    leader: int | None = None
    measure: Measure = PERPLEXITY


def read_run(path: pathlib.Path) -> Run:
    """Reads the run directory of a finished search.

    Raises:
      ConfigError: when it is not one.
      LedgerError: when its ledger cannot be read.
    """
    result = read_json(path, "result.json")
    missing = [name for name in _NEEDED if name not in result]
    if missing:
        raise refusal(path, f"whose result.json lacks {', '.join(missing)}")
    check_values(path, "result.json", result, RESULT)
    config = read_config(path)
    if not (path / LEDGER).is_file():
        raise refusal(path, f"which has no {LEDGER}")
    histories = read_histories(path)
    candidates, repeats = split_repeats(histories)
    search = config.get("search", {})
    rounds = result.get("rounds") or []
    winner = result["best"]["trial"]
    weights = path / "model" / "weights.safetensors"
    return Run(
        name=path.resolve().name,
        config=config,
        search=search,
        result=result,
        dense=[history for name, history in histories.items() if isinstance(name, str)],
        candidates=candidates,
        repeats=[history[-1] for history in repeats],
        spectra=whole_spectra(_read_arrays(path, "spectra.npz")),
        std_errors=_read_arrays(path, "spectra_std_error.npz"),
        rounds=rounds,
        winner=winner,
        finalists=rounds[-1]["survivors"] if rounds else [winner],
        first_epoch=rounds[0]["epochs"] if rounds else search.get("e0", 1),
        model_bytes=weights.stat().st_size if weights.is_file() else None,
        measure=read_measure(result),
    )


def given(run: Run) -> bool:
    """Whether the dense network was brought along: it has one record, of no epoch of this run."""
    return bool(run.dense) and [record.epoch for record in run.dense[0]] == [0]


def outcome(run: Run, history: list[Record]) -> str:
    """How a trial ended, in words, or that it has not ended."""
    last = history[-1]
    if last.trial == run.winner:
        return "winner"
    if last.duplicate_of is not None:
        return f"repeats trial {last.duplicate_of}"
    if last.status == "failed":
        return f"failed in {round_name(run, last.round)}"
    if last.trial in run.finalists:
        return "finalist"
    if run.winner is None and (not run.rounds or last.trial in run.rounds[-1]["survivors"]):
        return "running or waiting"
    return f"cut after {round_name(run, last.round)}"


def round_name(run: Run, number: int | None) -> str:
    """What a report calls a round."""
    if number is None:
        return "an unknown round"
    if number == 0:
        return "the pool"
    final = run.rounds and run.finalists and number >= len(run.rounds)
    return "the finals" if final else f"round {number}"


def all_rounds(run: Run) -> list[dict[str, Any]]:
    """The rounds of halving and, where finalists were trained further, the finals."""
    histories = [run.candidates[trial] for trial in run.finalists if trial in run.candidates]
    last = max((history[-1].epoch for history in histories), default=0)
    if not run.rounds or last <= run.rounds[-1]["epochs"]:
        return run.rounds
    failed = [
        history[-1].trial
        for history in histories
        if history[-1].status == "failed" and history[-1].trial != run.winner
    ]
    finals = {"round": len(run.rounds), "epochs": last, "entered": run.finalists}
    return [*run.rounds, {**finals, "failed": failed, "survivors": [run.winner]}]


def round_bars(run: Run) -> list[tuple[str, int, int, int]]:
    """Of each round what to call it, and how many survived, were cut, and failed."""
    bars = []
    for entry in all_rounds(run):
        entered, kept, failed = entry["entered"], entry["survivors"], entry["failed"]
        name = round_name(run, entry["round"]).removeprefix("the ")
        cut = len(set(entered) - set(kept) - set(failed))
        bars.append((f"{name}, to epoch {entry['epochs']}", len(kept), cut, len(failed)))
    return bars


def at_epoch(run: Run, epoch: int) -> list[Record]:
    """The candidates' records of an epoch."""
    return [r for history in run.candidates.values() for r in history if r.epoch == epoch]


def read_config(path: pathlib.Path) -> dict[str, Any]:
    """Reads and checks the settings of a run.

    Raises:
      ConfigError: when there are none, or some are not what they must be.
    """
    config = read_json(path, "config.json")
    check_values(path, "config.json", config, CONFIG)
    return config


def read_histories(path: pathlib.Path) -> dict[TrialId, list[Record]]:
    """Reads and checks the ledger of a directory, empty where there is none.

    Returns:
      The records of each trial by epoch, dense networks first, whatever the order of the lines.

    Raises:
      LedgerError: when it cannot be read, or holds what a search does not write.
    """
    try:
        records = Ledger(path / LEDGER).records()
    except (TypeError, RecursionError, OverflowError) as error:
        raise LedgerError(f"{path / LEDGER} cannot be read: {error}.") from error
    histories: dict[TrialId, list[Record]] = {}
    for record in records:
        fault = find_fault(vars(record), RECORD)
        if fault is not None:
            place = f"{path / LEDGER}, trial {record.trial!r:.40}, epoch {record.epoch!r:.40}"
            raise LedgerError(f"{place}: {fault}.")
        histories.setdefault(record.trial, []).append(record)
    trials = sorted(histories, key=lambda trial: (isinstance(trial, int), trial))
    return {trial: sorted(histories[trial], key=lambda r: r.epoch) for trial in trials}


def split_repeats(
    histories: Mapping[TrialId, list[Record]],
) -> tuple[dict[int, list[Record]], list[list[Record]]]:
    """The histories of the candidates by trial, and those of trials that repeat another."""
    trials = {trial: h for trial, h in histories.items() if isinstance(trial, int)}
    candidates = {trial: h for trial, h in trials.items() if h[-1].duplicate_of is None}
    return candidates, [h for trial, h in trials.items() if trial not in candidates]


def whole_spectra(spectra: Arrays) -> Arrays:
    """Those that can be drawn: finite, and of as many layers as the dense network."""
    dense = [epoch for trial, epoch in spectra if trial == "dense"]
    layers = len(spectra["dense", max(dense)]) if dense else 0
    return {
        key: exponents
        for key, exponents in spectra.items()
        if exponents.dtype.kind == "f"
        and exponents.ndim == 2
        and len(exponents) == layers
        and exponents.size
        and bool((abs(exponents) < 1e30).all())
    }


def _read_arrays(path: pathlib.Path, name: str) -> Arrays:
    if not (path / name).is_file():
        return {}
    try:
        # No pickles: a stranger's run is safe to open.
        with (path / name).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            keys = [(key, *key.rpartition("/")[::2]) for key in arrays.files]
            return {(trial, int(epoch)): np.atleast_2d(arrays[key]) for key, trial, epoch in keys}
    except UNREADABLE as error:
        raise refusal(path, f"whose {name} cannot be read ({error})") from error


def read_json(path: pathlib.Path, name: str) -> dict[str, Any]:
    """Reads a file of a run that holds a JSON object.

    Raises:
      ConfigError: when there is none.
    """
    try:
        values = load_json((path / name).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise refusal(path, f"which has no {name}") from None
    except (OSError, ValueError) as error:
        raise refusal(path, f"whose {name} cannot be read ({error})") from error
    if not isinstance(values, dict):
        raise refusal(path, f"whose {name} is not a JSON object")
    return values


def check_values(path: pathlib.Path, name: str, values: dict[str, Any], expected: Expected) -> None:
    """Refuses values of a file of a run that are not what they must be.

    Raises:
      ConfigError: that names the first.
    """
    fault = find_fault(values, expected)
    if fault is not None:
        raise refusal(path, f"in whose {name} {fault}")


def refusal(path: pathlib.Path, what: str) -> ConfigError:
    """What is raised where a directory is not that of a search."""
    if not path.exists():
        what = "which does not exist"
    return ConfigError(f"`run` must be the directory of a search, got {str(path)!r}, {what}.")
