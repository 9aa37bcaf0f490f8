"""The benchmark of the spectrum runs, prints JSON and goes on where it stopped."""

import dataclasses
import json
import pathlib
import subprocess
import sys

import cases
import flops
import make_tables
import numpy as np
import plot_growth
import pytest

_SCRIPT = pathlib.Path(cases.__file__).with_name("ls_throughput.py")


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """What `--smoke` prints, and the file that it writes."""
    out = tmp_path_factory.mktemp("results") / "smoke.jsonl"
    return _run(out), out


def _run(out):
    command = [sys.executable, str(_SCRIPT), "--smoke", f"--out={out}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.slow
def test_smoke_prints_a_json_line_for_each_case(smoke):
    printed, out = smoke
    records = [json.loads(line) for line in printed.splitlines()]
    assert len(records) == len(cases.suite("smoke"))
    assert out.read_text() == printed
    for record in records:
        for method in ("library", "roofline_qr", "roofline_lu"):
            assert record[method]["median_ms"] >= record[method]["min_ms"] > 0
            assert record[method]["gflop"] > 0
        assert record["environment"]["openblas_threads"]
    # With torch, all three programs found the same mean log |det J|.
    sums = list(records[-1]["sums"].values())
    np.testing.assert_allclose(sums, sums[:1] * len(sums), rtol=1e-4)


@pytest.mark.slow
def test_a_finished_case_is_not_run_again(smoke):
    _, out = smoke
    assert _run(out) == ""


@pytest.mark.slow
def test_tables_fill_their_place_and_no_other(smoke):
    _, out = smoke
    tables = {name: make_tables.table(records) for name, records in make_tables.read([out]).items()}
    text = "a\n<!-- table: smoke -->\nold\n<!-- end -->\nb\n<!-- table: paper -->\n<!-- end -->\n"
    filled = make_tables.insert(text, tables)
    assert "| lstm, hidden | 2 x 8 |" in filled
    assert "old" not in filled
    assert filled.endswith("<!-- end -->\nb\n<!-- table: paper -->\n<!-- end -->\n")
    assert make_tables.insert(filled, tables) == filled


def test_the_plot_writes_the_power_of_each_line():
    records = []
    for case in cases.suite("growth"):
        x = getattr(case, plot_growth._FIELDS[case.sweep])
        power = {"H": 3, "K": 2, "T": 0, "B": 1}[case.sweep]  # T: time per step is constant
        times = {name: {"median_ms": x**power * 1e-3} for name in ("library", "roofline_qr")}
        records.append({"case": dataclasses.asdict(case), **times})
    panels = plot_growth.draw(records).axes
    slopes = [{text.get_text() for text in axes.texts} for axes in panels]
    powers = ("$H^{3.0}$", "$K^{2.0}$", "$T^{1.0}$", "$B^{1.0}$")
    for power, found in zip(powers, slopes, strict=True):
        assert power in found


@pytest.mark.parametrize("name", cases.SUITES)
def test_every_suite_has_distinct_cases_of_valid_sizes(name):
    found = cases.suite(name)
    assert len(set(found)) == len(found)
    assert all(1 <= case.num_exponents <= case.size for case in found)
    assert all(case.suite == name for case in found)


def test_flops_of_a_step_are_those_of_the_paper_by_hand():
    # H = 1500, 2 layers, hidden, all exponents: J Q takes 2 * 2 H^3 = 13.5 G and QR with an
    # explicit Q 2 * 8/3 H^3 = 18 G; an LU every step, 2 * 2/3 H^3 = 4.5 G.
    case = cases.Case(hidden_size=1500, num_exponents=1500, batch=1, length=36)
    every_step = dataclasses.replace(case, qr="householder")
    parts = flops.library(case, flops.executed(every_step, "cpu", num_qr=36))
    np.testing.assert_allclose(parts["products"], 13.5e9)
    np.testing.assert_allclose(parts["factorizations"], 18e9)
    parts = flops.library(case, flops.executed(case, "cpu", num_qr=6))
    np.testing.assert_allclose(parts["factorizations"], 4.5e9 + 18e9 / 6)
    full = dataclasses.replace(case, state="full", num_exponents=3000)  # which is left to solve
    assert flops.executed(full, "cpu", num_qr=36) == {"solve": 1.0}
