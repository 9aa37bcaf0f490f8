"""Puts the toy task of the search and `searches`, which makes run directories with it, on path."""

import json
import pathlib
import sys

import pytest

sys.path.append(str(pathlib.Path(__file__).parents[1] / "report"))
sys.path.append(str(pathlib.Path(__file__).parents[1] / "search"))

from searches import search


@pytest.fixture(scope="session")
def searched(tmp_path_factory):
    """The directory of a finished search, whose records tell the densities of gates."""
    run = search(tmp_path_factory.mktemp("searched") / "run")
    lines = [json.loads(line) for line in (run / "trials.jsonl").read_text().splitlines()]
    for line in lines:
        gates = {"layers_0/U/i": 0.25, "layers_0/U/o": 0.5 / line["epoch"], "decoder/W": 0.3}
        line["topology"] = {"density": gates, "overlap": 1.0, "explored": 0.5}
    (run / "trials.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return run
