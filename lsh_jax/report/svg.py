"""Makes a figure a piece of a page, or a file of its own, in the colours of the page."""

import html
import io
import re
import zlib
from importlib import resources

from matplotlib.figure import Figure

from lsh_jax.plots import house_style
from lsh_jax.plots.style import BASELINE, CHANCE, DENSE, FAINT, FINALIST, NOISE, OTHER, WINNER

_NOTHING = dict.fromkeys(("Creator", "Date", "Format", "Type"))
_VARIABLES = {
    "#000000": "ink",
    "#ffffff": "card",
    "#445566": "soft",  # of the house style: numbers along axes
    "#667788": "soft",  # and the axes
    DENSE: "ink",
    WINNER: "winner",
    FINALIST: "finalist",
    OTHER: "other",
    BASELINE: "baseline",
    NOISE: "noise",
    CHANCE: "chance",
    FAINT: "line",
}  # colour of the house style -> variable of palette.css
_COLOUR = re.compile(r"((?:fill|stroke)(?:: ?|=\"))(#[0-9a-f]{6})")


@house_style
def to_svg(figure: Figure, alt: str) -> str:
    """An inline <svg> element: no prolog, no date, text in the page's own font.

    Args:
      figure: what to draw.
      alt: what a reader who cannot see it is told; no two pictures of a page may share it, for
        it also keeps their ids apart.

    Returns:
      HTML, the same for the same figure.
    """
    name = f"p{zlib.crc32(alt.encode()):08x}"
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata=_NOTHING)
    opening, _, body = buffer.getvalue().partition("<svg ")[2].partition(">")
    box = re.search(r'viewBox="[^"]*"', opening)
    assert box is not None
    body = re.sub(r"<style.*?</style>", "", body, count=1, flags=re.DOTALL)
    body = re.sub(r"font-family: [^;\"]*;? ?", "", body)
    body = re.sub(r'\bid="|(?<=href=")#|(?<=url\()#', rf"\g<0>{name}-", body)
    body = re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path[0]), body)
    return f'<svg role="img" aria-label="{html.escape(alt)}" {box[0]}>{body.strip()}'


def in_page_colours(svg: str) -> str:
    """The picture with the colours of the house style as variables of palette.css."""
    known = {colour.lower(): name for colour, name in _VARIABLES.items()}

    def variable(match: re.Match[str]) -> str:
        name = known.get(match[2])
        return match[0] if name is None else f"{match[1]}var(--{name})"

    # Between tags there may be any text.
    return re.sub(r"<[^>]*>", lambda tag: _COLOUR.sub(variable, tag[0]), svg)


@house_style
def to_file(figure: Figure) -> tuple[str, bool]:
    """An SVG file, and whether it is light or dark as the reader's system.

    It is where the figure has no other colours than those of the house style.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata=_NOTHING)
    plain = buffer.getvalue()
    themed = in_page_colours(plain)
    if _COLOUR.search("".join(re.findall(r"<[^>]*>", themed))):
        return plain, False
    palette = resources.files("lsh_jax.report").joinpath("palette.css").read_text(encoding="utf-8")
    style = f"<style>{palette} svg {{ fill: var(--ink); }}</style>"
    return re.sub(r"(<svg [^>]*>)", lambda opening: opening[0] + style, themed, count=1), True
