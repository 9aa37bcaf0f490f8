"""Pictures of one's own in the report."""

import base64
import json
import shutil
import struct
import zlib

import pytest
from matplotlib.figure import Figure

from lsh_jax.config import ConfigError
from lsh_jax.plots.style import DENSE, WINNER, house_style
from lsh_jax.report import add_figure, write_report
from lsh_jax.report.__main__ import main

HOSTILE = '"><script>window.broken = 1</script><img src=x onerror=broken()>](http://x) `$'


@pytest.fixture
def run(finished, tmp_path):
    """A copy without spectra, whose pictures would take the time."""
    return shutil.copytree(finished, tmp_path / "run", ignore=shutil.ignore_patterns("*.npz"))


@house_style
def figure(colour=WINNER):
    made = Figure(figsize=(4, 3))
    axes = made.add_subplot()
    axes.plot([1, 2, 3], [2, 1, 3], color=colour)
    axes.plot([1, 2, 3], [1, 1, 2], color=DENSE)
    axes.set_title("fill: #d55e00")
    return made


def png(width=1):
    """A white pixel, which may say that it is wider."""

    def chunk(kind, data):
        whole = kind + data
        return struct.pack(">I", len(data)) + whole + struct.pack(">I", zlib.crc32(whole))

    head = struct.pack(">IIBBBBB", width, 1, 8, 0, 0, 0, 0)
    parts = [
        (b"IHDR", head),
        (b"IDAT", zlib.compress(b"\0\xff")),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def test_a_figure_is_a_section_of_page_and_markdown_whenever_they_are_written(run):
    add_figure(run, "own", figure(), "My own", "What it shows", "Two\nlines")
    for _ in range(2):
        write_report(run)
        page, markdown = (run / "report.html").read_text(), (run / "report.md").read_text()
        source = base64.b64encode((run / "figures" / "own.svg").read_bytes()).decode()
        assert f'<img alt="What it shows" src="data:image/svg+xml;base64,{source}">' in page
        assert ">My own</h2>" in page and ">My own</a>" in page
        assert "## My own\n\n![What it shows](figures/own.svg)\n\nTwo  \nlines\n" in markdown
        assert page.count("<script") == 2


def test_a_figure_in_the_colours_of_the_house_is_light_or_dark_as_the_page(run):
    add_figure(run, "own", figure(), "Own", "own")
    text = (run / "figures" / "own.svg").read_text()
    assert "prefers-color-scheme: dark" in text and "stroke: var(--winner)" in text
    assert ">fill: #d55e00</text>" in text  # a label is left alone
    assert json.loads((run / "figures" / "own.json").read_text())["paper"] is False
    add_figure(run, "own", figure("#123456"), "Own", "own")
    assert "prefers-color-scheme" not in (run / "figures" / "own.svg").read_text()
    write_report(run)
    assert '<div class="card paper"><img alt="own"' in (run / "report.html").read_text()


def test_pictures_from_files_keep_a_light_ground_and_stand_in_the_order_of_their_names(
    run, tmp_path
):
    (tmp_path / "a.png").write_bytes(png())
    figure().savefig(tmp_path / "b.svg")
    add_figure(run, "z", tmp_path / "a.png", "Pixel", "a white pixel")
    add_figure(run, "b", str(tmp_path / "b.svg"), "Curves", "two curves")
    write_report(run)
    page = (run / "report.html").read_text()
    assert page.index(">Curves</h2>") < page.index(">Pixel</h2>")
    assert page.count('<div class="card paper">') == 2
    assert "data:image/png;base64,iVBORw0KGgo" in page


@pytest.mark.parametrize(
    ("name", "texts", "complaint"),
    [
        ("../own", {}, "`file` must be a file's name"),
        ("own", {"title": ""}, "`title` must be a line of at most 80 letters"),
        ("own", {"title": "two\nlines"}, "`title` must be a line"),
        ("own", {"alt": ""}, "`alt` must be a line of at most 1,000 letters"),
        ("own", {"caption": "x" * 4001}, "`caption` must be text"),
    ],
)
def test_what_cannot_be_shown_is_refused_at_once(run, name, texts, complaint):
    with pytest.raises(ConfigError, match=complaint):
        add_figure(run, name, figure(), **({"title": "Own", "alt": "own"} | texts))
    assert not (run / "figures").exists()


def test_a_picture_that_is_refused_leaves_the_run_as_it_was(run, tmp_path):
    add_figure(run, "own", figure(), "Own", "own")
    before = {path: path.read_bytes() for path in (run / "figures").iterdir()}
    (tmp_path / "text.svg").write_text("no picture")
    (tmp_path / "wide.png").write_bytes(png(width=2**27))
    many = Figure()
    many.add_subplot().scatter(range(50_000), range(50_000))
    for picture, fault in (
        (tmp_path / "text.svg", "is no picture"),
        (tmp_path / "wide.png", "more than 67,108,864 pixels"),
        (tmp_path / "none.png", "is no file"),
        (many, "is larger than 4,194,304 bytes"),
    ):
        with pytest.raises(ConfigError, match=f"`picture` must be a picture, got .*{fault}"):
            add_figure(run, "own", picture, "Own", "own")
    with pytest.raises(ConfigError, match=r"ends in .svg or .png, got .own.jpg"):
        add_figure(run, "own", tmp_path / "own.jpg", "Own", "own")
    assert {path: path.read_bytes() for path in (run / "figures").iterdir()} == before
    write_report(run)


def test_no_run_is_made_by_a_wrong_name(tmp_path):
    with pytest.raises(ConfigError, match=r"which does not exist"):
        add_figure(tmp_path / "typo", "own", figure(), "Own", "own")
    assert not (tmp_path / "typo").exists()


def test_a_picture_in_its_place_may_be_given_a_text(run):
    add_figure(run, "own", figure(), "Own", "own")
    add_figure(run, "own", run / "figures" / "own.svg", "Other", "own")
    write_report(run)
    assert ">Other</h2>" in (run / "report.html").read_text()


def refused(run, capsys):
    assert main([str(run)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_text_of_a_stranger_is_shown_as_text(run):
    add_figure(run, "own", figure(), HOSTILE[:80], HOSTILE, HOSTILE)
    write_report(run)
    page, markdown = (run / "report.html").read_text(), (run / "report.md").read_text()
    assert page.count("<script") == 2 and page.count("<img") == 1
    assert "](http" not in markdown.replace("\\](http", "") and "\\<script\\>" in markdown


def test_a_picture_of_a_stranger_is_an_image_whatever_it_holds(run):
    add_figure(run, "own", figure(), "Own", "own")
    evil = '<svg xmlns="x"><script>broken()</script></svg></figure><script>broken()</script>'
    (run / "figures" / "own.svg").write_text(evil)
    write_report(run)
    page = (run / "report.html").read_text()
    assert page.count("<script") == 2 and "broken" not in page


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda own: own.with_suffix(".json").write_text("[]"), "is not a JSON object"),
        (lambda own: own.with_suffix(".json").write_text("{}"), "`title` is missing"),
        (lambda own: own.unlink(), "is no file of its own"),
        (lambda own: own.write_text("secret"), "is no picture"),
        (lambda own: own.write_text("<!DOCTYPE x [<!ENTITY a 'b'>]><svg/>"), "is no picture"),
        (lambda own: own.write_text("<svg>" + "x" * 2**22), "is larger than 4,194,304 bytes"),
        (lambda own: (own.parent / "A\nb.json").write_text("{}"), "no name of a figure"),
    ],
)
def test_a_damaged_figure_gives_one_clear_line(run, capsys, damage, complaint):
    add_figure(run, "own", figure(), "Own", "own")
    damage(run / "figures" / "own.svg")
    assert complaint in refused(run, capsys)


def test_a_file_that_lies_elsewhere_is_not_put_into_the_page(run, tmp_path, capsys):
    add_figure(run, "own", figure(), "Own", "own")
    (run / "figures" / "own.svg").rename(tmp_path / "secret.svg")
    (run / "figures" / "own.svg").symlink_to(tmp_path / "secret.svg")
    assert "is no file of its own" in refused(run, capsys)


def test_words_that_lie_elsewhere_are_not_put_into_the_page(run, tmp_path, capsys):
    add_figure(run, "own", figure(), "Own", "own")
    (run / "figures" / "own.json").rename(tmp_path / "own.json")
    (run / "figures" / "own.json").symlink_to(tmp_path / "own.json")
    assert "own.json is no file of its own" in refused(run, capsys)
    (run / "figures" / "own.json").unlink()
    (run / "figures").rename(tmp_path / "figures")
    (run / "figures").symlink_to(tmp_path / "figures")
    with pytest.raises(ConfigError, match="lie elsewhere"):
        add_figure(run, "new", figure(), "New", "new")


def test_what_another_system_leaves_beside_a_figure_is_passed_over(run):
    add_figure(run, "own", figure(), "Own", "own")
    (run / "figures" / "._own.json").write_bytes(b"\0\5\x16\7")
    write_report(run)
    assert ">Own</h2>" in (run / "report.html").read_text()


def test_a_page_has_room_for_twenty(run, capsys):
    add_figure(run, "own", figure(), "Own", "own")
    for number in range(20):
        if number == 19:
            with pytest.raises(ConfigError, match="room for 20 figures"):
                add_figure(run, "one-more", figure(), "Own", "own")
            add_figure(run, "own", figure(), "Own", "own")
        shutil.copy(run / "figures" / "own.json", run / "figures" / f"{number}.json")
    assert "holds more than 20 figures" in refused(run, capsys)
