"""The page in a browser: charts that tell their values, tables that sort, and none of it needed."""

import json
import re
import shutil

import numpy as np
import pytest
from browser import CHROMIUM, Browser
from matplotlib.image import imread
from searches import cut_short, up_to

from lsh_jax import plots
from lsh_jax.machine import locked
from lsh_jax.report import add_figure, write_comparison, write_report
from lsh_jax.report.formatting import MISSING
from lsh_jax.search.ledger import Ledger

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")

HOSTILE = '</script><script>window.broken = 1</script><!--<img src=x onerror="broken=2">\u2028$page'
SHOWN = "[...document.querySelectorAll('{}')].filter((e) => e.checkVisibility()).length"
COLUMN = "[...{}.tBodies[0].rows].map((row) => row.cells[{}].textContent)"
TABLE = "[...document.querySelectorAll('table')].find((t) => t.textContent.includes('outcome'))"
READOUT = "document.querySelectorAll('.chart')[{}].querySelector('.readout').textContent"

# Text whose contrast with what lies behind it is below 4.5, by the formula of WCAG 2.
FAINT = """(() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (rgb) => rgb.slice(0, 3).map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, n) => sum + v * [0.2126, 0.7152, 0.0722][n], 0);
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = parse(getComputedStyle(e).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const faint = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!own || !element.checkVisibility()) continue;
    const style = getComputedStyle(element);
    const colour = element.closest("svg") ? style.fill : style.color;
    const [a, b] = [light(parse(colour)), light(behind(element))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) faint.push(element.textContent.slice(0, 40));
  }
  return faint;
})()"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def page(finished, tmp_path_factory):
    """The report of a finished search."""
    run = shutil.copytree(finished, tmp_path_factory.mktemp("browser") / "run")
    write_report(run)
    return run / "report.html"


def check_quiet(browser, path):
    """No error, no refusal by the policy, and no request but that for the page."""
    assert not browser.named("Log.entryAdded", "Runtime.exceptionThrown")
    requests = browser.named("Network.requestWillBeSent")
    asked = {request["request"]["url"] for request in requests}
    assert {url for url in asked if not url.startswith("data:")} == {path.as_uri()}


def winner(page):
    return json.loads((page.parent / "result.json").read_text())["best"]["trial"]


def test_charts_are_drawn_without_an_error_or_a_request(browser, page):
    browser.open(page)
    check_quiet(browser, page)
    data = json.loads(browser.run("document.getElementById('run').textContent"))
    assert browser.run(SHOWN.format(".chart")) == len(data["charts"]) >= 4
    assert browser.run(SHOWN.format("figure.drawn > .grid:not(.charts)")) == 0
    assert browser.run(
        "[...document.querySelectorAll('.chart > svg')].every((s) => s.querySelector('.line'))"
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1440])
def test_text_stands_out_and_the_page_fits_its_window(browser, page, scheme, width):
    browser.open(page, width, scheme)
    browser.run("document.querySelectorAll('details').forEach((d) => (d.open = true))")
    assert browser.run(FAINT) == []
    assert browser.run("document.documentElement.scrollWidth") == width
    dark = browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(20, 25, 31)"
    assert dark == (scheme == "dark")


def test_the_slider_shows_another_epoch(browser, page):
    browser.open(page)
    path = "document.querySelector('.chart .line.winner path').getAttribute('d')"
    last = browser.run(path)
    browser.run("document.querySelector('input[type=range]').focus()")
    assert browser.run("document.querySelector('.slider output').textContent") == "epoch 5"
    browser.press("ArrowLeft")
    assert browser.run("document.querySelector('.slider output').textContent") == "epoch 4"
    assert browser.run(path) != last
    browser.press("ArrowRight")
    assert browser.run(path) == last


def test_exponents_below_the_floor_are_drawn_at_it_and_read_as_they_are(
    browser, finished, tmp_path
):
    run = shutil.copytree(finished, tmp_path / "run")
    with np.load(run / "spectra.npz") as arrays:
        spectra = dict(arrays)
    spectra["dense/5"][0, -1] = -90.0
    np.savez(run / "spectra.npz", **spectra)
    write_report(run)
    browser.open(run / "report.html")
    labels = browser.run(
        "[...document.querySelector('.chart').querySelectorAll('.axes text[text-anchor=end]')]"
        ".map((t) => Number(t.textContent.replace('\\u2212', '-')))"
    )
    assert -15 <= min(labels) < -7 and len(labels) >= 3
    browser.run("document.querySelector('.chart > svg').focus()")
    browser.press("ArrowRight")  # the last point of the line on top, the dense network
    assert re.match("dense.* \N{MINUS SIGN}90 ", browser.run(READOUT.format(0)))


@pytest.mark.parametrize("log", ["false", "true"])
def test_an_axis_has_three_to_eight_labels_whatever_its_range(browser, page, log):
    browser.open(page)
    highs = [3.2, 4, 5.5, 7.3, 9.6, *(1 + 0.13 * n for n in range(1, 16))]
    for high in highs:
        assert 3 <= browser.run(f"findTicks([46, {46 * high}], 5, {log}).length") <= 8, high


def test_arrow_keys_read_the_values_of_the_ledger(browser, page):
    browser.open(page)
    chart = browser.run(
        "[...document.querySelectorAll('.chart')].findIndex((c) => "
        "c.querySelector('.chart-title').textContent === 'Validation perplexity')"
    )
    browser.run(f"document.querySelectorAll('.chart > svg')[{chart}].focus()")
    browser.press("ArrowRight")
    seen = set()
    for key in ("ArrowDown", "ArrowLeft", "ArrowLeft", "ArrowDown", "ArrowRight", "ArrowUp"):
        browser.press(key)
        seen.add(browser.run(READOUT.format(chart)))
    assert len(seen) > 3
    ledger = Ledger(page.parent / "trials.jsonl")
    trials = [re.match(r"trial (\d+).* perplexity ([\d.,]+) at epoch (\d+)$", t) for t in seen]
    assert any(trials)
    for trial, value, epoch in (found.groups() for found in trials if found):
        record = ledger.get(int(trial), int(epoch))
        assert float(value.replace(",", "")) == pytest.approx(record.val_perplexity, rel=1e-3)
    browser.press("Escape")
    assert browser.run(READOUT.format(chart)).startswith("Point at a curve")


def test_a_pointer_reads_the_curve_below_it(browser, page):
    browser.open(page)
    browser.run("document.querySelector('.chart').scrollIntoView()")
    x, y = browser.run(
        "(() => { const line = document.querySelector('.chart .line.winner circle');"
        "const box = line.getBoundingClientRect();"
        "return [box.x + box.width / 2, box.y + box.height / 2]; })()"
    )
    browser.point(x, y)
    text = browser.run(READOUT.format(0))
    assert text.startswith(f"trial {winner(page)}, winner: exponent, nats per step ")
    assert text.endswith("at index of the exponent, i/K 1")
    label = browser.run("document.querySelector('.chart .overlay text').textContent")
    assert label.startswith(f"trial {winner(page)}: ")


def test_a_trial_is_highlighted_in_all_charts(browser, page):
    browser.open(page)
    browser.run(
        "(() => { const select = document.querySelector('select');"
        f"select.value = 'trial {winner(page)}'; select.dispatchEvent(new Event('change')); }})()"
    )
    values = browser.run("[...document.querySelectorAll('select')].map((s) => s.value)")
    assert set(values) == {f"trial {winner(page)}"} and len(values) > 1
    assert browser.run(SHOWN.format(".line.chosen")) > 2


def test_a_group_is_hidden_by_its_name_in_the_legend(browser, page):
    browser.open(page)
    lines = SHOWN.format(".chart .line.winner > path")
    before = browser.run(lines)
    button = (
        "[...document.querySelectorAll('.legend button')].find((b) => b.textContent === 'winner')"
    )
    browser.run(f"{button}.focus()")
    browser.press("Enter")
    assert browser.run(f"{button}.getAttribute('aria-pressed')") == "false"
    assert browser.run(lines) == before - 1  # its swatch stays


def test_tables_are_sorted_by_number_with_the_keyboard_and_put_back(browser, page):
    browser.open(page)
    heads = browser.run(f"[...{TABLE}.tHead.rows[0].cells].map((c) => c.textContent)")
    column = heads.index("LS dist. ± s.e.")
    before = browser.run(COLUMN.format(TABLE, column))
    browser.run(f"{TABLE}.tHead.rows[0].cells[{column}].querySelector('button').focus()")
    sort = f"{TABLE}.tHead.rows[0].cells[{column}].getAttribute('aria-sort')"
    for order, sign in (("ascending", 1), ("descending", -1)):
        browser.press("Enter")
        assert browser.run(sort) == order
        cells = browser.run(COLUMN.format(TABLE, column))
        known = [float(cell.split(" ")[0].replace(",", "")) for cell in cells if cell != MISSING]
        assert [sign * value for value in known] == sorted(sign * value for value in known)
        assert all(cell == MISSING for cell in cells[len(known) :]) and sorted(cells) == sorted(
            before
        )
    browser.press("Enter")
    assert browser.run(sort) is None and browser.run(COLUMN.format(TABLE, column)) == before


def test_rows_are_filtered_by_what_they_hold(browser, page):
    browser.open(page)
    browser.run(
        "document.querySelectorAll('details').forEach((d) => (d.open = true));"
        "(() => { const input = document.querySelector('details input[type=search]');"
        "input.value = 'SEARCH max'; input.dispatchEvent(new Event('input')); })()"
    )
    assert browser.run(SHOWN.format("details tbody tr")) == 1
    assert re.match(r"1 of \d+ rows", browser.run("document.querySelector('details output').value"))


def test_the_page_of_a_running_search_is_read_again_with_what_was_chosen(
    browser, finished, tmp_path
):
    run = cut_short(finished, tmp_path / "run", up_to(2))
    with locked(run, wait=False):
        write_report(run)
    page = (run / "report.html").read_text().replace('data-refresh="30"', 'data-refresh="1"')
    (run / "report.html").write_text(page)
    browser.open(run / "report.html")
    browser.run(
        "(() => { window.before = true; const put = (selector, value, kind) => {"
        "const element = document.querySelector(selector); element.value = value;"
        "element.dispatchEvent(new Event(kind, {bubbles: true})); };"
        "put('input[type=range]', 0, 'input'); put('select', 'trial 1', 'change');"
        f"{TABLE}.tHead.rows[0].cells[0].querySelector('button').click(); }})()"
    )
    browser.events.clear()
    while not browser.named("Page.loadEventFired"):
        browser.read()
    assert browser.run("window.before === undefined")
    assert browser.run("document.querySelector('.slider output').textContent") == "epoch 1"
    assert browser.run("document.querySelector('select').value") == "trial 1"
    assert browser.run(f"{TABLE}.tHead.rows[0].cells[0].ariaSort") == "ascending"


def test_a_comparison_is_drawn_and_text_stands_out(browser, finished, tmp_path):
    other = cut_short(finished, tmp_path / "other", up_to(3))
    page = tmp_path / "compare.html"
    write_comparison([finished, other], page)
    for scheme in ("light", "dark"):
        browser.open(page, 360, scheme)
        check_quiet(browser, page)
        assert browser.run(SHOWN.format(".chart")) >= 3 and browser.run(FAINT) == []
        assert browser.run("document.documentElement.scrollWidth") == 360


@pytest.mark.parametrize(
    "how",
    [
        {"script": False},
        {"script": False, "scheme": "dark"},
        {"media": "print", "scheme": "dark"},
    ],
)
def test_without_script_and_on_paper_the_pictures_are_seen(browser, page, how):
    browser.open(page, **how)
    pictures = "[...document.querySelectorAll('.card svg')]"
    assert browser.run(f"{pictures}.every((e) => e.checkVisibility())")
    assert browser.run(f"{pictures}.length") > 4
    assert browser.run(SHOWN.format(".chart")) == browser.run(SHOWN.format(".controls")) == 0
    assert browser.run(FAINT) == []
    dark = how.get("media") != "print" and how.get("scheme") == "dark"
    ground = "getComputedStyle(document.querySelector('.card svg .axes, .card svg path')).fill"
    assert browser.run(ground) == ("rgb(28, 35, 43)" if dark else "rgb(255, 255, 255)")


@pytest.mark.parametrize(
    ("how", "light"),
    [
        ({"scheme": "light"}, True),
        ({"scheme": "dark"}, False),
        ({"scheme": "dark", "media": "print"}, True),
    ],
)
def test_a_figure_of_ones_own_is_as_light_as_the_page(browser, page, tmp_path, how, light):
    run = shutil.copytree(page.parent, tmp_path / "run")
    add_figure(run, "own", plots.plot_budget(70, 24, 192), "Own", "own")
    write_report(run)
    browser.open(run / "report.html", **how)
    check_quiet(browser, run / "report.html")
    assert browser.run("document.querySelector('img').naturalWidth > 100")
    browser.picture(tmp_path / "page.png")
    box = browser.run(
        "(() => { const box = document.querySelector('img').getBoundingClientRect();"
        "return [box.x, box.y].map(Math.round); })()"
    )
    drawn = imread(tmp_path / "page.png")[box[1] + 3, box[0] + 3, :3]
    assert (drawn.mean() > 0.5) == light


def test_text_of_a_stranger_neither_runs_nor_asks_for_anything(browser, page, tmp_path):
    run = shutil.copytree(page.parent, tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    config |= {"preset": HOSTILE, HOSTILE: HOSTILE, "command": [HOSTILE]}
    (run / "config.json").write_text(json.dumps(config))
    lines = [json.loads(line) for line in (run / "trials.jsonl").read_text().splitlines()]
    for line in lines:
        line["controls"] = dict.fromkeys(line["controls"], HOSTILE)
        line["reason"] = HOSTILE if line["status"] == "failed" else None
    (run / "trials.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    add_figure(run, "own", plots.plot_budget(70, 24, 192), HOSTILE[:20], "own", HOSTILE)
    told = json.loads((run / "figures" / "own.json").read_text())
    picture = '<svg xmlns="http://www.w3.org/2000/svg"><script>window.broken = 3</script></svg>'
    (run / "figures" / "own.svg").write_text(picture)
    (run / "figures" / "own.json").write_text(json.dumps(told | {"alt": HOSTILE[:60]}))
    write_report(run)
    browser.open(run / "report.html")
    check_quiet(browser, run / "report.html")
    assert browser.run("window.broken === undefined")
    assert browser.run("document.querySelectorAll('img').length === 1")  # the one that is added
    assert browser.run(SHOWN.format(".chart")) > 3
    assert HOSTILE in browser.run("document.body.textContent")


def test_the_policy_refuses_a_script_that_is_not_the_pages_own(browser, page, tmp_path):
    text = page.read_text().replace("</main>", "</main><script>window.broken = 1</script>")
    (tmp_path / "report.html").write_text(text)
    browser.open(tmp_path / "report.html")
    assert browser.run("window.broken === undefined")
    assert any(
        "Content Security Policy" in e["entry"]["text"] for e in browser.named("Log.entryAdded")
    )
