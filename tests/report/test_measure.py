"""The report of a task that is no language model: in its own measure, and in no other's words."""

import dataclasses
import json
import re
import shutil

import numpy as np
import pytest
from searches import CONFIG, cut_short, up_to
from toy import make_task

from lsh_jax.report import headline, write_comparison, write_report
from lsh_jax.report.__main__ import main
from lsh_jax.report.formatting import number
from lsh_jax.search.hyperpruning import hyperprune
from lsh_jax.search.ledger import Ledger
from lsh_jax.search.measure import NLL, PERPLEXITY, Measure

RMS = Measure("rms", 0.5, "no-change $")  # which begins a formula in a picture
FOREIGN = re.compile(r"perplex|unigram|ppl|\btext|\btokens?\b", re.IGNORECASE)


@pytest.fixture(scope="module", params=[RMS, NLL], ids=["rms", "nll"])
def own(request, tmp_path_factory):
    """A finished search of a task of that measure."""
    run = tmp_path_factory.mktemp("own") / "run"
    hyperprune(make_task(measure=request.param), CONFIG, out=run)
    write_report(run)
    return run, request.param


def words(run):
    """What a reader is told, on the page and in Markdown, the settings apart."""
    page, markdown = ((run / name).read_text() for name in ("report.html", "report.md"))
    body = page.partition("<nav")[2].partition("<details>")[0]
    labels = re.findall('aria-label="([^"]*)"', body)
    seen = " ".join([re.sub(r"<[^>]*>", " ", body), *labels])
    told = [chart[name] for chart in charts(page) for name in ("title", "x", "y")]
    return [seen, markdown.split("### Settings")[0], " ".join(told)]


def charts(page):
    return json.loads(page.partition('id="run">')[2].partition("</script>")[0])["charts"]


def test_no_word_of_a_language_model_is_said(own):
    run, measure = own
    page, markdown, drawn = words(run)
    assert FOREIGN.findall(page) == FOREIGN.findall(markdown) == FOREIGN.findall(drawn) == []
    assert f"test {measure.name}" in page and f"test {measure.name}" in markdown
    assert "nats per prediction" in page and f"validation {measure.label}" in drawn


def test_numbers_are_those_of_the_ledger_in_the_measure(own):
    run, measure = own
    result = json.loads((run / "result.json").read_text())
    markdown = (run / "report.md").read_text()
    for network in ("best", "dense"):
        values = [number(measure.of(result[network][name])) for name in ("val_nll", "test_nll")]
        assert f"| {' | '.join(values)} |" in markdown
    assert number(measure.of(3.0)) in markdown  # of the baseline
    assert number(measure.of(result["best"]["test_nll"])) in headline(result)
    drawn = {chart["title"]: chart for chart in charts((run / "report.html").read_text())}
    chart = drawn[f"Validation {measure.name}"]
    lines = {line["name"]: line["y"] for line in chart["frames"][0]["lines"]}
    history = Ledger(run / "trials.jsonl").history(result["best"]["trial"])
    own_line = lines[f"trial {result['best']['trial']}"]
    assert own_line == pytest.approx([measure.of(r.val_nll) for r in history], rel=1e-4)
    assert lines[measure.baseline] == pytest.approx([measure.of(3.0)] * 2, rel=1e-4)


def test_an_interval_of_an_rms_error_is_told_of_mean_squared_errors_too(own):
    run, measure = own
    result = json.loads((run / "result.json").read_text())
    result["beats_dense"] |= {"difference": -0.5, "low": -0.75, "high": 0.25}
    # The nll is the mean squared error / (2 scale^2) and a constant; the scale is 0.5.
    squared = "In mean squared error that is -0.2500 (-0.3750 to +0.1250)."
    assert (squared.replace("-", "\N{MINUS SIGN}") in headline(result)) == (measure.kind == "rms")


def test_the_baseline_is_a_setting_where_there_is_one(own, tmp_path):
    run, measure = own
    assert f"| measure.baseline | {measure.baseline} |" in (run / "report.md").read_text()
    shutil.copytree(run, bare := tmp_path / "bare")
    result = json.loads((bare / "result.json").read_text())
    del result["baseline_nll"]
    (bare / "result.json").write_text(json.dumps(result))
    write_report(bare)
    assert "measure.kind" in (bare / "report.md").read_text()
    assert "measure.baseline" not in (bare / "report.md").read_text()


def test_a_search_on_its_way_is_told_in_the_measure(own, tmp_path):
    run, measure = own
    cut = cut_short(run, tmp_path / "cut", up_to(2))
    write_report(cut)
    for text in words(cut):
        assert FOREIGN.findall(text) == [] and measure.name in text


def test_an_axis_of_an_nll_is_linear_however_wide_it_is(own):
    run, measure = own
    widest = json.loads((run / "trials.jsonl").read_text().splitlines()[0]) | {"val_nll": 200.0}
    lines = (run / "trials.jsonl").read_text().splitlines(keepends=True)
    wide = run.parent / "wide"
    cut_short(run, wide, lambda record: True)
    (wide / "trials.jsonl").write_text(json.dumps(widest) + "\n" + "".join(lines[1:]))
    write_report(wide)
    drawn = {chart["title"]: chart for chart in charts((wide / "report.html").read_text())}
    assert drawn[f"Validation {measure.name}"]["log"][1] == measure.has_ratios


@pytest.mark.parametrize("bad", ['{"kind": "x"}', "null", '{"kind": "rms", "scale": -1}', "[]"])
def test_a_measure_that_is_none_is_refused_in_one_line(own, tmp_path, capsys, bad):
    run = cut_short(own[0], tmp_path / "run", up_to(2))
    config = json.loads((run / "config.json").read_text()) | {"measure": json.loads(bad)}
    (run / "config.json").write_text(json.dumps(config))
    assert main([str(run)]) == 2
    error = capsys.readouterr().err
    assert "`measure" in error and error.count("\n") == 1


def test_runs_of_different_measures_are_not_drawn_on_one_axis(own, finished, tmp_path):
    run, measure = own
    page = tmp_path / "page.html"
    write_comparison([finished, run], page)
    text, markdown = page.read_text(), (tmp_path / "page.md").read_text()
    assert '<p class="warning">The runs have different measures' in text
    assert "> **Warning.** The runs have different measures" in markdown
    titles = [chart["title"] for chart in charts(text)]
    scale = " (scale 0.5)" if measure.kind == "rms" else ""
    assert {"Validation perplexity", f"Validation {measure.name}{scale}"} <= set(titles)
    for chart in charts(text):
        runs = {line["name"].split(",")[0] for line in chart["frames"][0]["lines"]}
        assert len(runs) == (1 if chart["title"].startswith("Validation") else 2)
    assert "#val." not in text and f"val. {measure.short}" in text and "val. ppl" in text


def test_runs_of_one_measure_are_compared_as_before(own, tmp_path):
    run, measure = own
    other = cut_short(run, tmp_path / "other", up_to(3))
    write_comparison([run, other], tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert "different measures" not in text
    assert f"{measure.title} and distance of the winners over the epochs" in text


@pytest.mark.parametrize("measure", [RMS, NLL, PERPLEXITY], ids=["rms", "nll", "perplexity"])
@pytest.mark.parametrize("factor", [-1000.0, 1e200])
def test_a_search_whose_nll_is_far_from_0_has_a_report(tmp_path, factor, measure):
    """exp of it is 0 or no number, and so is that of what winner and dense network differ by."""
    toy = make_task(measure=measure)

    def evaluate(state, split):
        return factor * toy.evaluate(state, split)

    def block_nll(state, split):
        return np.full(8, 10 * evaluate(state, split)), np.full(8, 10.0)

    task = toy._replace(evaluate=evaluate, block_nll=block_nll, baseline_nll=None)
    space = dataclasses.replace(CONFIG.space, death_rate=(0.3,))
    run = tmp_path / "run"
    hyperprune(task, dataclasses.replace(CONFIG, space=space), out=run)
    write_report(run)
    result = json.loads((run / "result.json").read_text())
    assert abs(result["beats_dense"]["difference"]) > 10
    value = number(measure.of(result["best"]["test_nll"]))
    assert f"test {measure.name} {value} against" in (run / "report.html").read_text()
