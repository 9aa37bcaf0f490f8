"""A run directory from a stranger: whatever it holds, there is a page or one line that says why."""

import itertools
import json
import shutil

import numpy as np
import pytest
from searches import cut_short, up_to

from lsh_jax.report.__main__ import main
from lsh_jax.report.values import find_fault, is_shallow, load_json

BAD = (
    "null",
    "[]",
    "{}",
    '"x"',
    "-1",
    "1e400",
    "[" * 100 + "]" * 100,
    "[" * 100_000 + "]" * 100_000,
    '"<script>\\ud800 $_$"',
    "1" + "0" * 400,
)

FULL = (pytest.mark.slow, pytest.mark.long)  # every value in every place


def paths(value, path=()):
    """Every place of a JSON value; of a list the first entry stands for all."""
    if path:
        yield path
    entries = value.items() if isinstance(value, dict) else []
    if isinstance(value, list):
        entries = list(enumerate(value))[:1]
    for key, inner in entries:
        yield from paths(inner, (*path, key))


def replaced(value, path, text):
    """The JSON of a value with other JSON in one place."""
    changed = json.loads(json.dumps(value))
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = "@"
    return json.dumps(changed).replace('"@"', text)


def check_command(run, capsys):
    """A page, or exit status 2 with one line; `main` raises nothing."""
    status = main([str(run)])
    error = capsys.readouterr().err
    assert status in (0, 2)
    assert error.count("\n") == (status == 2)
    if status == 0:
        assert (run / "report.html").read_text().count("<script") == 2  # the page's own
    return status, error


@pytest.fixture
def run(finished, tmp_path):
    """A copy without spectra, whose pictures would take the time."""
    return shutil.copytree(finished, tmp_path / "run", ignore=shutil.ignore_patterns("*.npz"))


def cases(value, step):
    """Places and bad values for them: of all pairs every `step`-th."""
    pairs = list(itertools.product(paths(value), BAD))
    return pairs[::step]


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("result.json", 53),
        ("config.json", 83),
        pytest.param("result.json", 1, marks=FULL),
        pytest.param("config.json", 1, marks=FULL),
    ],
)
def test_a_bad_value_of_a_finished_run_gives_a_page_or_one_clear_line(run, capsys, name, step):
    value = json.loads((run / name).read_text())
    for path, bad in cases(value, step):
        (run / name).write_text(replaced(value, path, bad))
        check_command(run, capsys)


@pytest.mark.parametrize("step", [53, pytest.param(1, marks=FULL)])
def test_a_bad_setting_of_an_unfinished_run_gives_a_page_or_one_clear_line(
    finished, tmp_path, capsys, step
):
    run = cut_short(finished, tmp_path / "run", up_to(2))
    shutil.rmtree(run / "spectra")
    value = json.loads((run / "config.json").read_text())
    for path, bad in cases(value, step):
        (run / "config.json").write_text(replaced(value, path, bad))
        check_command(run, capsys)


@pytest.mark.parametrize("step", [53, pytest.param(1, marks=FULL)])
def test_a_bad_value_of_the_ledger_gives_a_page_or_one_clear_line(run, capsys, step):
    lines = (run / "trials.jsonl").read_text().splitlines(keepends=True)
    value = json.loads(lines[-1])
    for path, bad in cases(value, step):
        (run / "trials.jsonl").write_text("".join(lines[:-1]) + replaced(value, path, bad) + "\n")
        check_command(run, capsys)


@pytest.mark.parametrize(
    ("part", "value", "complaint"),
    [
        ("best", {"trial": "x"}, '`best.trial` must be a whole number from 0, got "x"'),
        ("beats_dense", {"difference": None}, "`beats_dense.difference` must be a difference"),
        ("dense", {"val_perplexity": -1}, "`dense.val_perplexity` must be a number from 0 or n"),
    ],
)
def test_the_line_names_the_value_and_the_condition(run, capsys, part, value, complaint):
    result = json.loads((run / "result.json").read_text())
    result[part] |= value
    (run / "result.json").write_text(json.dumps(result))
    status, error = check_command(run, capsys)
    assert status == 2 and complaint in error


def test_spectra_that_are_none_are_left_out_or_refused(finished, tmp_path, capsys):
    run = shutil.copytree(finished, tmp_path / "run")
    with np.load(run / "spectra.npz") as found:
        arrays = dict(found)
    trial = next(name for name in arrays if not name.startswith("dense"))
    bad = (np.nan, np.array(["x"]), np.zeros((0, 3)), np.zeros((3, 3)), np.full((1, 2), np.inf))
    for array in bad:
        np.savez(run / "spectra.npz", **{**arrays, trial: np.asarray(array)})
        assert check_command(run, capsys)[0] == 0
    np.savez(run / "spectra.npz", **arrays, strange=np.zeros((1, 2)))
    assert "spectra.npz cannot be read" in check_command(run, capsys)[1]
    (run / "spectra.npz").write_bytes(b"PK\x03\x04")
    assert "spectra.npz cannot be read" in check_command(run, capsys)[1]


def test_a_report_does_not_write_through_a_link(run, tmp_path, capsys):
    treasure = tmp_path / "treasure"
    treasure.write_text("kept")
    (run / "report.html").symlink_to(treasure)
    assert check_command(run, capsys)[0] == 0
    assert treasure.read_text() == "kept" and not (run / "report.html").is_symlink()


def test_a_finished_run_with_an_empty_ledger_has_a_page(run, capsys):
    (run / "trials.jsonl").write_text("")
    assert check_command(run, capsys)[0] == 0


def test_json_that_is_nested_too_deeply_is_refused():
    assert is_shallow(load_json("[" * 40 + "]" * 40))
    for depth in (41, 100_000):
        with pytest.raises(ValueError, match="nested too deeply"):
            load_json("[" * depth + "]" * depth)


def test_a_fault_is_named_by_its_place():
    expected = {"rounds?": [{"epochs": {}}]}
    assert find_fault({}, expected) is None
    assert find_fault({"rounds": [{"epochs": {}}, {}]}, expected) == (
        "`rounds[1].epochs` is missing"
    )
