"""Searches in processes of their own, which are killed, starved and interrupted."""

import dataclasses
import pathlib
import subprocess
import sys
import types

import pytest

from lsh_jax.search.ledger import Ledger

SCRIPT = pathlib.Path(__file__).parent / "search_process.py"


def start(out, executor="serial", **options):
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), str(out), executor],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def finish(out, executor="serial"):
    """Runs a search to its end, from where it is."""
    process = start(out, executor)
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr
    return stdout


def lines(run):
    """The ledger in the order of trials, without wall times."""
    records = Ledger(pathlib.Path(run) / "trials.jsonl").records()
    records = sorted(records, key=lambda record: (str(record.trial), record.epoch))
    return [dataclasses.replace(record, wall_s=None) for record in records]


def outcome(run):
    """All that a search leaves but for times: ledger, spectra, winner."""
    files = ("spectra.npz", "spectra_std_error.npz", "model/weights.npy")
    result = (run / "result.json").read_text().split('"compilations"')[0]
    return [lines(run), result, *((run / name).read_bytes() for name in files)]


@pytest.fixture(scope="session")
def searches():
    """How to start, finish and compare searches."""
    return types.SimpleNamespace(start=start, finish=finish, lines=lines, outcome=outcome)


@pytest.fixture(scope="session")
def straight(tmp_path_factory):
    """What a search leaves that nothing happened to."""
    run = tmp_path_factory.mktemp("straight") / "run"
    told = finish(run)
    return types.SimpleNamespace(outcome=outcome(run), num_events=told.count("\n"), run=run)
