"""Charts as data: short, whole, and unable to break out of the page."""

import json
import math
import re
import shutil
from importlib import resources

import numpy as np
import pytest

from lsh_jax.report import series, write_report
from lsh_jax.report.charts import Chart, Frame, Line, to_json
from lsh_jax.report.evidence import spectra_section
from lsh_jax.report.run import read_run
from lsh_jax.search.ledger import Ledger

HOSTILE = "</script><!-- <script> & \u2028 \ud800 \x00 ]]>"


def chart(*lines, **options):
    return Chart("title", "x", "y", [Frame("all", list(lines))], **options)


def test_no_text_can_end_the_element_that_holds_it():
    text = to_json([chart(Line(HOSTILE, HOSTILE, "dense", [1], [2.0]))._replace(title=HOSTILE)])
    assert text.isascii() and not set(text) & set("<>&")
    (read,) = json.loads(text)["charts"]
    assert read["title"] == read["frames"][0]["lines"][0]["name"] == HOSTILE


def test_numbers_have_five_digits_and_what_is_none_is_null():
    line = Line("a", "a", "dense", [1, 2, 3], [1 / 3, math.nan, 12345678.0], [1e-9, math.inf, 0])
    text = to_json([chart(line)])
    assert '"y":[0.33333,null,12346000]' in text and '"error":[1e-09,null,0]' in text
    assert json.loads(text)["charts"][0]["grids"] == [[1, 2, 3]]


def test_places_and_names_that_lines_share_are_told_once():
    lines = [Line(f"trial {n}", "others", "other", [1, 2], [n, n]) for n in range(3)]
    (read,) = json.loads(to_json([chart(*lines, Line("w", "w", "winner", [1], [0]))]))["charts"]
    assert read["grids"] == [[1, 2], [1]] and read["groups"] == [
        ["others", "other"],
        ["w", "winner"],
    ]
    assert [line["grid"] for line in read["frames"][0]["lines"]] == [0, 0, 0, 1]


def test_spectra_have_a_frame_an_epoch_with_the_dense_network_in_each(finished):
    run = read_run(finished)
    (first, *_) = series.spectra_charts(run)
    assert [frame.name for frame in first.frames] == [f"epoch {epoch}" for epoch in range(1, 6)]
    for epoch, frame in enumerate(first.frames, start=1):
        assert frame.lines[-1].name == "dense"
        for line in frame.lines:
            trial = line.name.removeprefix("trial ")
            np.testing.assert_array_equal(line.y, run.spectra[trial, epoch][0])


def test_exponents_are_drawn_down_to_the_floor_of_the_distance_and_told_whole(finished):
    run = read_run(finished)
    assert "are drawn there" not in str(spectra_section(run))
    key = "dense", run.first_epoch
    deep = run.spectra[key].copy()
    deep[:, -1] = -90.0
    run = run._replace(spectra={**run.spectra, key: deep})
    (first, *_) = json.loads(to_json(list(series.spectra_charts(run))))["charts"]
    assert first["floor"] == -15
    assert min(y for frame in first["frames"] for line in frame["lines"] for y in line["y"]) == -90
    section = str(spectra_section(run))
    assert "Exponents below \N{MINUS SIGN}15 are drawn there" in section
    assert "\N{MINUS SIGN}80" not in section  # no label along the axis of a still picture


def test_curves_hold_what_the_ledger_holds(finished):
    run = read_run(finished)
    drawn = {line.name: line for line in series.measure_chart(run).frames[0].lines}
    ledger = Ledger(finished / "trials.jsonl")
    for trial in run.candidates:
        known = [r for r in ledger.history(trial) if r.val_perplexity is not None]
        assert list(drawn[f"trial {trial}"].y) == [r.val_perplexity for r in known]
        failed = ledger.history(trial)[-1].status == "failed"
        assert drawn[f"trial {trial}"].failed == failed


@pytest.mark.parametrize("exponents", [3, 30, 900])
def test_very_many_spectra_are_thinned_and_the_least_of_them_left_out(
    finished, monkeypatch, exponents
):
    run = read_run(finished)
    spectra = {key: -np.arange(2.0 * exponents).reshape(2, -1) for key in run.spectra}
    monkeypatch.setattr(series, "_MOST_NUMBERS", 900)
    charts = list(series.spectra_charts(run._replace(spectra=spectra)))
    lines = [line for chart in charts for frame in chart.frames for line in frame.lines]
    assert sum(len(line.y) for line in lines) <= 1.2 * 900
    names = {line.name for line in lines}
    assert {"dense", f"trial {run.winner}"} <= names
    for line in lines:
        assert line.x[-1] == 1.0  # the last exponent is kept


def test_the_page_holds_one_script_and_a_policy_that_lets_in_no_other(finished, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    write_report(run)
    page = (run / "report.html").read_text()
    (policy,) = re.findall('Content-Security-Policy" content="([^"]*)"', page)
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-")
    assert page.count("<script") == 2 and "unsafe-eval" not in page
    assert not re.search(r"innerHTML = [^\"]|outerHTML|insertAdjacentHTML|fetch\(|\son\w+=", page)


def luminance(colour):
    """Of a colour such as #1b2530, by the formula of WCAG 2."""
    values = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


@pytest.mark.parametrize("theme", [0, 1])
def test_curves_stand_out_from_their_card_in_both_themes(theme):
    style = resources.files("lsh_jax.report").joinpath("palette.css").read_text()
    colours = dict(
        re.findall(r"--([\w-]+): (#\w{6})", re.findall(r":root \{(.*?)\}", style, re.S)[theme])
    )
    for look in ("ink", "seed", "winner", "finalist", "other", "baseline", "noise", "chosen"):
        low, high = sorted(luminance(colours[name]) for name in (look, "card"))
        assert (high + 0.05) / (low + 0.05) >= 3, look
