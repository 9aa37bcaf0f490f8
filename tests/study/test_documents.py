"""The documents say what the findings hold, and the findings follow from the raw lines."""

import json
import pathlib
import re

import numpy as np
import pytest

from lsh_jax.study.evidence import find, find_setting
from lsh_jax.study.findings import fill, tables
from lsh_jax.study.presets import SCOUTING, STUDIES
from lsh_jax.study.settings import E0
from lsh_jax.study.table import load_table

ROOT = pathlib.Path(__file__).resolve().parents[2]
RESULTS = ROOT / "experiments" / "results"
FINDINGS = json.loads((RESULTS / "findings.json").read_text())


@pytest.mark.parametrize("name", ["README.md", "experiments/README.md"])
def test_every_table_of_a_document_is_made_from_the_findings(name):
    text, found = (ROOT / name).read_text(), tables(FINDINGS, E0)
    assert fill(text, found) == text
    marked = set(re.findall(r"<!-- table: ([\w-]+) -->", text))
    assert marked <= set(found)
    assert marked


@pytest.mark.parametrize("name", ["searches", "live", "published"])
def test_the_findings_hold_the_other_results_as_they_are(name):
    assert FINDINGS[name] == json.loads((RESULTS / f"{name}.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_the_findings_follow_from_the_raw_lines(name):
    # At the epoch that the documents show: all of them take minutes.
    again = json.loads(json.dumps(find(load_table(RESULTS / "studies" / name), [E0])))
    expected = json.loads(json.dumps(FINDINGS["studies"][name]))
    for part in ("all", "learners"):
        if expected[part]:
            own = expected[part]["epochs"]
            expected[part]["epochs"] = {str(E0): own[str(E0)]}
    _assert_close(again, expected)


@pytest.mark.parametrize("name", SCOUTING)
def test_what_is_said_of_scouting_follows_from_its_lines(name):
    again = json.loads(json.dumps(find_setting(load_table(RESULTS / "scouting" / name))))
    _assert_close(again, FINDINGS["scouting"][name])


def _assert_close(found, expected):
    """Equal but for the last digit, which another CPU may round to the other side."""
    assert type(found) is type(expected)
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            _assert_close(found[name], value)
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            _assert_close(one, other)
    elif isinstance(expected, float):
        np.testing.assert_allclose(found, expected, atol=2e-3, rtol=1e-6)
    else:
        assert found == expected
