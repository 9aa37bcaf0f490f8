"""Makes a figure a piece of a page."""

import html
import io
import re
import zlib

from matplotlib.figure import Figure

from lsh_jax.plots import house_style


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
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(buffer, format="svg", metadata=nothing)
    opening, _, body = buffer.getvalue().partition("<svg ")[2].partition(">")
    box = re.search(r'viewBox="[^"]*"', opening)
    assert box is not None
    body = re.sub(r"<style.*?</style>", "", body, count=1, flags=re.DOTALL)
    body = re.sub(r"font-family: [^;\"]*;? ?", "", body)
    body = re.sub(r'\bid="|(?<=href=")#|(?<=url\()#', rf"\g<0>{name}-", body)
    body = re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path[0]), body)
    return f'<svg role="img" aria-label="{html.escape(alt)}" {box[0]}>{body.strip()}'
