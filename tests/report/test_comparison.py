"""The page that puts several searches side by side."""

import json
import random
import re
import shutil

import pytest
from searches import cut_short, search, up_to

from lsh_jax.config import ConfigError
from lsh_jax.report import headline, write_comparison
from lsh_jax.report.__main__ import main
from lsh_jax.report.comparison import name_runs
from lsh_jax.report.formatting import number


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """A search with other settings."""
    return search(tmp_path_factory.mktemp("other") / "run", e0=3, seed=1)


@pytest.fixture
def page(finished, other, tmp_path):
    """What is written of two runs."""
    assert main([str(finished), str(other), f"--out={tmp_path / 'page.html'}"]) == 0
    return (tmp_path / "page.html").read_text()


def charts(page):
    return json.loads(page.partition('id="run">')[2].partition("</script>")[0])["charts"]


def test_runs_are_called_by_as_much_of_their_path_as_tells_them_apart(tmp_path):
    paths = [tmp_path / name for name in ("a/run", "b/run", "b/other")]
    assert name_runs(paths) == ["a/run", "b/run", "b/other"]
    assert name_runs(paths[1:]) == ["run", "other"]
    with pytest.raises(ConfigError, match="given twice"):
        name_runs([tmp_path, tmp_path / "a" / ".."])


def test_headlines_results_and_what_differs_are_told_of_every_run(finished, other, page):
    names = name_runs([finished, other])
    for name, run in zip(names, (finished, other), strict=True):
        result = json.loads((run / "result.json").read_text())
        assert f'<p class="lead">{name}. {headline(result)}</p>' in page
        assert f'<td class="n">{number(result["dense"]["val_perplexity"])}</td>' in page
        assert f'<td class="n">{100 * result["budget"]["ratio"]:.1f} %</td>' in page
    settings = page.partition("Settings that differ</h2>")[2].partition("</table>")[0]
    assert '<th scope="row">search.e0</th><td>2</td><td>3</td>' in settings
    assert "search.max_evals" not in settings


def test_curves_are_those_of_the_winners_and_of_their_dense_networks(finished, other, page):
    names = name_runs([finished, other])
    found = {chart["title"]: chart for chart in charts(page)}
    assert {"Layer 1", "Validation perplexity", "LS distance to dense"} <= set(found)
    lines = found["Validation perplexity"]["frames"][0]["lines"]
    expected = [text for name in names for text in (f"{name}, dense", name)]
    assert [line["name"] for line in lines] == expected


def test_a_run_that_is_not_finished_is_compared_as_far_as_it_goes(finished, other, tmp_path):
    run = cut_short(finished, tmp_path / "run", up_to(2))
    write_comparison([run, other], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "Not finished: 6 candidates on record" in page
    empty = cut_short(finished, tmp_path / "empty", lambda record: False)
    write_comparison([run, empty], tmp_path / "page.html")
    assert "Not finished: 0 candidates on record" in (tmp_path / "page.html").read_text()


def test_the_page_does_not_depend_on_the_order_of_lines(finished, other, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    write_comparison([run, other], tmp_path / "page.html")
    before = (tmp_path / "page.html").read_bytes()
    lines = (run / "trials.jsonl").read_text().splitlines(keepends=True)
    random.Random(0).shuffle(lines)
    (run / "trials.jsonl").write_text("".join(lines))
    write_comparison([run, other], tmp_path / "page.html")
    assert (tmp_path / "page.html").read_bytes() == before


def test_text_of_a_stranger_is_shown_as_text(finished, other, tmp_path):
    run = shutil.copytree(finished, tmp_path / "</script><b>$x$ $_$")
    config = json.loads((run / "config.json").read_text())
    config["search"]["more"] = "</script><script>broken()</script>"
    (run / "config.json").write_text(json.dumps(config))
    write_comparison([run, other], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert page.count("<script") == page.count("</script") == 2
    assert "<b>" not in page and "broken()" in page


def test_what_cannot_be_compared_is_refused_in_one_line(finished, tmp_path, capsys):
    page = tmp_path / "page.html"
    for runs in ([finished, tmp_path / "missing"], [finished, finished]):
        assert main([*map(str, runs), f"--out={page}"]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    with pytest.raises(SystemExit):
        main([str(finished), f"--out={page}"])
    with pytest.raises(ConfigError, match="must not end in"):
        write_comparison([finished, tmp_path], tmp_path / "page.md")
    with pytest.raises(ConfigError, match="two at least, got 1"):
        write_comparison([finished], page)
    assert not page.exists()


def test_the_page_goes_to_the_working_directory_if_not_told_otherwise(
    finished, other, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert main([str(finished), str(other)]) == 0
    assert capsys.readouterr().out == "compare.html\n" and (tmp_path / "compare.html").is_file()
    markdown = (tmp_path / "compare.md").read_text()
    assert markdown.startswith("# Comparison of 2 searches\n")
    for run in (finished, other):
        result = json.loads((run / "result.json").read_text())
        assert number(result["dense"]["test_perplexity"]) in markdown
    titles = [line for line in markdown.splitlines() if line.startswith("## ")]
    page = (tmp_path / "compare.html").read_text()
    assert titles == [f"## {title}" for title in re.findall("<h2>(.*)</h2>", page)]
