"""Pictures in the colours of the page."""

import re

import pytest
from matplotlib.figure import Figure
from searches import cut_short, up_to

from lsh_jax.plots.style import WINNER
from lsh_jax.report import write_comparison
from lsh_jax.report.svg import in_page_colours, to_file


def test_no_picture_of_a_page_has_a_colour_of_its_own(finished, tmp_path):
    other = cut_short(finished, tmp_path / "other", up_to(3))
    write_comparison([finished, other], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    pictures = re.findall(r'<div class="card"><svg .*?</svg></div>', page, re.DOTALL)
    assert len(pictures) > 3
    for picture in pictures:
        assert re.findall(r"#[0-9a-f]{6}\b", picture) == []
        assert "var(--ink)" in picture and "fill: var(--card)" in picture


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            f'<path style="stroke: {WINNER.lower()}; d"/>',
            '<path style="stroke: var(--winner); d"/>',
        ),
        ('<rect fill="#ffffff"/>', '<rect fill="var(--card)"/>'),
        ('<path style="fill: #123456"/>', '<path style="fill: #123456"/>'),
        ("<text>fill: #ffffff</text>", "<text>fill: #ffffff</text>"),
        ('<use xlink:href="#d55e00"/>', '<use xlink:href="#d55e00"/>'),
    ],
)
def test_the_colours_of_the_house_become_variables_between_brackets_alone(before, after):
    assert in_page_colours(before) == after


def test_a_file_is_themed_only_where_all_its_colours_are_known():
    for colour, known in ((WINNER, True), ("#1f77b4", False)):
        figure = Figure()
        figure.add_subplot().plot([1, 2], color=colour)
        text, themed = to_file(figure)
        assert themed == known == ("prefers-color-scheme" in text)
        assert text.startswith("<?xml") and text.rstrip().endswith("</svg>")
