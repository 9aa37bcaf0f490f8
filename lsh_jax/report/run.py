"""Reads a finished run directory: everything a report says comes from here."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from lsh_jax.config import ConfigError
from lsh_jax.search.ledger import Ledger, Record, TrialId

_NEEDED = ("dense", "best", "beats_dense", "budget")  # what no report can do without
GIVEN = "given, not trained here"  # of a dense network that was brought along


class Run(NamedTuple):
    """A finished search.

    Attributes:
      name: of the run directory.
      config: config.json.
      search: its search settings; empty where it has none.
      result: result.json.
      dense: histories of the dense networks, the reference first.
      candidates: histories by trial, without those that repeat another.
      repeats: records of trials that repeat another.
      spectra: exponents [L, K] by trial and epoch.
      std_errors: of the exponents, by the same; empty where the run has none.
      rounds: what happened in each, the pool first.
      winner: its trial.
      finalists: their trials.
      first_epoch: after which candidates were first scored.
      model_bytes: of the winner's weights on disk; None where they are in another format.
    """

    name: str
    config: dict[str, Any]
    search: Mapping[str, Any]
    result: dict[str, Any]
    dense: list[list[Record]]
    candidates: dict[int, list[Record]]
    repeats: list[Record]
    spectra: dict[tuple[str, int], np.ndarray]
    std_errors: dict[tuple[str, int], np.ndarray]
    rounds: list[dict[str, Any]]
    winner: int
    finalists: list[int]
    first_epoch: int
    model_bytes: int | None


def read_run(path: pathlib.Path) -> Run:
    """Reads the run directory of a finished search.

    Raises:
      ConfigError: when it is not one.
      LedgerError: when its ledger cannot be read.
    """
    result = _read_json(path, "result.json")
    missing = [name for name in _NEEDED if name not in result]
    if missing:
        raise _refusal(path, f"whose result.json lacks {', '.join(missing)}")
    config = _read_json(path, "config.json")
    if not (path / "trials.jsonl").is_file():
        raise _refusal(path, "which has no trials.jsonl")
    histories = _histories(Ledger(path / "trials.jsonl"))
    trials = {trial: h for trial, h in histories.items() if isinstance(trial, int)}
    repeats = [h[-1] for h in trials.values() if h[-1].duplicate_of is not None]
    search = config.get("search", {})
    rounds = result.get("rounds") or []
    winner = result["best"]["trial"]
    weights = path / "model" / "weights.safetensors"
    return Run(
        name=path.resolve().name,
        config=config,
        search=search,
        result=result,
        dense=[histories[name] for name in sorted(n for n in histories if isinstance(n, str))],
        candidates={trial: h for trial, h in trials.items() if h[-1].duplicate_of is None},
        repeats=repeats,
        spectra=_spectra(path / "spectra.npz"),
        std_errors=_spectra(path / "spectra_std_error.npz"),
        rounds=rounds,
        winner=winner,
        finalists=rounds[-1]["survivors"] if rounds else [winner],
        first_epoch=rounds[0]["epochs"] if rounds else search.get("e0", 1),
        model_bytes=weights.stat().st_size if weights.is_file() else None,
    )


def given(run: Run) -> bool:
    """Whether the dense network was brought along: it has one record, of no epoch of this run."""
    return bool(run.dense) and [record.epoch for record in run.dense[0]] == [0]


def outcome(run: Run, history: list[Record]) -> str:
    """How a trial ended, in words: winner, finalist, cut, failed or a repetition."""
    last = history[-1]
    if last.trial == run.winner:
        return "winner"
    if last.duplicate_of is not None:
        return f"repeats trial {last.duplicate_of}"
    if last.status == "failed":
        return f"failed in {round_name(run, last.round)}"
    if last.trial in run.finalists:
        return "finalist"
    return f"cut after {round_name(run, last.round)}"


def round_name(run: Run, number: int | None) -> str:
    """What a report calls a round."""
    if number is None:
        return "an unknown round"
    if number == 0:
        return "the pool"
    return "the finals" if run.rounds and number >= len(run.rounds) else f"round {number}"


def at_epoch(run: Run, epoch: int) -> list[Record]:
    """The candidates' records of an epoch."""
    return [r for history in run.candidates.values() for r in history if r.epoch == epoch]


def _histories(ledger: Ledger) -> dict[TrialId, list[Record]]:
    histories: dict[TrialId, list[Record]] = {}
    for record in ledger.records():
        histories.setdefault(record.trial, []).append(record)
    return {
        trial: sorted(history, key=lambda record: record.epoch)
        for trial, history in histories.items()
    }


def _spectra(path: pathlib.Path) -> dict[tuple[str, int], np.ndarray]:
    if not path.is_file():
        return {}
    with np.load(path, allow_pickle=False) as arrays:  # a stranger's run is safe to open
        keys = [(key, *key.rpartition("/")[::2]) for key in arrays.files]
        return {(trial, int(epoch)): np.atleast_2d(arrays[key]) for key, trial, epoch in keys}


def _read_json(path: pathlib.Path, name: str) -> dict[str, Any]:
    try:
        values = json.loads((path / name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise _refusal(path, f"which has no {name}") from None
    except (OSError, ValueError) as error:
        raise _refusal(path, f"whose {name} cannot be read ({error})") from error
    if not isinstance(values, dict):
        raise _refusal(path, f"whose {name} is not a JSON object")
    return values


def _refusal(path: pathlib.Path, what: str) -> ConfigError:
    return ConfigError(
        f"`run` must be the directory of a finished search, got {str(path)!r}, {what}. "
        "If the search was interrupted, continue it with --resume."
    )
