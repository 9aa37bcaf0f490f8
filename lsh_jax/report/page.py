"""What a report is made of, and how that becomes one HTML page or one Markdown file.

Blocks hold plain text only; the two renderers escape it, so no text from a run can become markup.
"""

import base64
import hashlib
import html
import re
import string
from collections.abc import Callable, Sequence
from importlib import resources
from typing import Literal, NamedTuple

from lsh_jax.report.charts import Chart, to_json
from lsh_jax.report.svg import in_page_colours


class Text(NamedTuple):
    """A paragraph."""

    text: str
    kind: Literal["plain", "lead", "warning", "note"] = "plain"


class Facts(NamedTuple):
    """A few figures to see at a glance: (what, how much)."""

    items: list[tuple[str, str]]


class Table(NamedTuple):
    """A table; columns whose name starts with `#` (which is not shown) are numeric."""

    columns: Sequence[str]
    rows: list[list[str]]
    marks: Sequence[str] = ()
    """CSS class of each row; none where empty."""


class Picture(NamedTuple):
    """An inline SVG element and what it shows."""

    svg: str
    alt: str


class Pictures(NamedTuple):
    """Pictures side by side under one caption, and charts that a script shows in their place."""

    pictures: list[Picture]
    caption: str
    charts: Sequence[Chart] = ()


class Image(NamedTuple):
    """A picture from a file, in which a browser runs no script and from which it asks nothing."""

    source: str
    """A data URL."""
    path: str
    """From the page, of letters that mean nothing in Markdown."""
    alt: str
    caption: str
    paper: bool
    """Whether it wants a light ground."""


class Code(NamedTuple):
    """Something to paste."""

    text: str


class Details(NamedTuple):
    """Blocks that are folded away."""

    summary: str
    blocks: "list[Block]"


_SCRIPTS = ("charts.js", "tables.js", "choices.js", "page.js")

Block = Text | Facts | Table | Pictures | Image | Code | Details


class Section(NamedTuple):
    """A heading with what stands below it."""

    title: str
    blocks: list[Block]


def to_html(title: str, subtitle: str, sections: list[Section], refresh: int | None = None) -> str:
    """One self-contained page: one script, whose absence costs no content, and no request.

    Args:
      title: of the page.
      subtitle: below it.
      sections: of the page, in their order.
      refresh: seconds after which a browser reads the page again; never if not given.
    """
    links = [f'<a href="#s{n}">{_h(s.title)}</a>' for n, s in enumerate(sections)]
    charts: list[Chart] = []
    body = [
        f'<section id="s{number}">\n<h2>{_h(section.title)}</h2>\n'
        + "\n".join(_html_block(block, charts) for block in section.blocks)
        + "\n</section>"
        for number, section in enumerate(sections)
    ]
    script = "\n".join(map(_asset, _SCRIPTS))
    return _PAGE.substitute(
        refresh=_REFRESH.format(refresh) if refresh else "",
        reread=f' data-refresh="{refresh}"' if refresh else "",
        hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        title=_h(title),
        subtitle=_h(subtitle),
        style=_asset("palette.css") + _asset("page.css"),
        links="\n".join(links),
        body="\n".join(body),
        data=to_json(charts),
        script=script,
    )


def _asset(name: str) -> str:
    """A file of this package; a line ends with one character, or the hash would not hold."""
    text = resources.files("lsh_jax.report").joinpath(name).read_text(encoding="utf-8")
    return text.replace("\r\n", "\n")


def to_markdown(title: str, subtitle: str, sections: list[Section]) -> str:
    """The same in Markdown; pictures are named only."""
    parts = [f"# {_m(title)}", _m(subtitle)]
    for section in sections:
        parts += [f"## {_m(section.title)}", *(_markdown_block(block) for block in section.blocks)]
    return "\n\n".join(parts) + "\n"


def _html_block(block: Block, charts: list[Chart]) -> str:
    """The block; its charts are put with those of the page."""
    if isinstance(block, Pictures):
        return _html_pictures(block, charts)
    if isinstance(block, Details):
        inner = "\n".join(_html_block(own, charts) for own in block.blocks)
        return f"<details><summary>{_h(block.summary)}</summary>\n{inner}\n</details>"
    return _HTML[type(block)](block)


def _markdown_block(block: Block) -> str:
    return _MARKDOWN[type(block)](block)


def _h(text: str) -> str:
    return html.escape(text)


def _html_table(table: Table) -> str:
    numeric = [' class="n"' if name.startswith("#") else "" for name in table.columns]
    heads = "".join(
        f'<th scope="col"{kind}>{_h(name.removeprefix("#"))}</th>'
        for name, kind in zip(table.columns, numeric, strict=True)
    )
    lines = []
    for number, row in enumerate(table.rows):
        cells = [
            f"<td{kind}>{_h(cell)}</td>" for cell, kind in zip(row[1:], numeric[1:], strict=True)
        ]
        mark = table.marks[number] if table.marks else ""
        opening = f'<tr class="{_h(mark)}">' if mark else "<tr>"
        lines.append(f'{opening}<th scope="row"{numeric[0]}>{_h(row[0])}</th>{"".join(cells)}</tr>')
    body = "\n".join(lines)
    return (
        '<div class="scroll" tabindex="0" role="group" aria-label="Table">'
        f"<table><thead><tr>{heads}</tr></thead>\n<tbody>{body}</tbody></table></div>"
    )


def _html_facts(facts: Facts) -> str:
    tiles = [f"<div><dt>{_h(name)}</dt><dd>{_h(value)}</dd></div>" for name, value in facts.items]
    return f'<dl class="facts">{"".join(tiles)}</dl>'


def _html_pictures(block: Pictures, charts: list[Chart]) -> str:
    cards = "\n".join(f'<div class="card">{in_page_colours(p.svg)}</div>' for p in block.pictures)
    kind = "grid" if len(block.pictures) > 1 else "grid one"
    own = " ".join(str(len(charts) + number) for number in range(len(block.charts)))
    charts += block.charts
    drawn = f' data-charts="{own}"' if own else ""
    return (
        f'<figure{drawn}><div class="{kind}">{cards}</div>\n'
        f"<figcaption>{_h(block.caption)}</figcaption></figure>"
    )


def _html_image(image: Image) -> str:
    kind = "card paper" if image.paper else "card"
    return (
        f'<figure><div class="grid one"><div class="{kind}"><img alt="{_h(image.alt)}" '
        f'src="{_h(image.source)}"></div></div>\n'
        f"<figcaption>{_h(image.caption)}</figcaption></figure>"
    )


def _m(text: str) -> str:
    """Escapes Markdown and the HTML that Markdown lets through."""
    return re.sub(r"([\\`*_\[\]<>|#&])", r"\\\1", " ".join(text.split()))


def _markdown_table(table: Table) -> str:
    lines = [
        [_m(name.removeprefix("#")) for name in table.columns],
        ["---:" if name.startswith("#") else "---" for name in table.columns],
        *([_m(cell) for cell in row] for row in table.rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _markdown_pictures(block: Pictures) -> str:
    names = "; ".join(_m(picture.alt) for picture in block.pictures)
    return f"Pictures, in the page beside this file: {names}.\n\n{_m(block.caption)}"


def _markdown_text(text: Text) -> str:
    kinds = {"lead": "**{}**", "warning": "> **Warning.** {}", "note": "{}", "plain": "{}"}
    return kinds[text.kind].format(_m(text.text))


_HTML: dict[type, Callable[..., str]] = {
    Text: lambda block: f'<p class="{block.kind}">{_h(block.text)}</p>',
    Facts: _html_facts,
    Table: _html_table,
    Image: _html_image,
    Code: lambda block: f"<pre><code>{_h(block.text)}</code></pre>",
}
_MARKDOWN: dict[type, Callable[..., str]] = {
    Text: _markdown_text,
    Facts: lambda block: "\n".join(f"- {_m(name)}: {_m(value)}" for name, value in block.items),
    Table: _markdown_table,
    Pictures: _markdown_pictures,
    Image: lambda block: "\n\n".join(
        [f"![{_m(block.alt)}]({block.path})", "  \n".join(map(_m, block.caption.splitlines()))]
    ),
    Code: lambda block: "\n".join(f"    {line}" for line in block.text.splitlines()),
    Details: lambda block: "\n\n".join(
        [f"### {_m(block.summary)}", *(_markdown_block(inner) for inner in block.blocks)]
    ),
}

_REFRESH = '<noscript><meta http-equiv="refresh" content="{}"></noscript>\n'

_PAGE = string.Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; \
script-src 'sha256-$hash'; img-src data:; base-uri 'none'; form-action 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
$refresh<title>$title</title>
<style>$style</style>
</head>
<body$reread>
<header>
<h1>$title</h1>
<p>$subtitle</p>
</header>
<nav aria-label="Contents">
$links
</nav>
<main>
$body
</main>
<script type="application/json" id="run">$data</script>
<script>$script</script>
</body>
</html>
""")
