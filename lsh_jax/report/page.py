"""What a report is made of, and how that becomes one HTML page or one Markdown file.

Blocks hold plain text only; the two renderers escape it, so no text from a run can become markup.
"""

import html
import re
import string
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple


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
    """Pictures side by side under one caption."""

    pictures: list[Picture]
    caption: str


class Code(NamedTuple):
    """Something to paste."""

    text: str


class Details(NamedTuple):
    """Blocks that are folded away."""

    summary: str
    blocks: "list[Block]"


Block = Text | Facts | Table | Pictures | Code | Details


class Section(NamedTuple):
    """A heading with what stands below it."""

    title: str
    blocks: list[Block]


def to_html(title: str, subtitle: str, sections: list[Section], refresh: int | None = None) -> str:
    """One self-contained page: no script, no request to anywhere.

    Args:
      title: of the page.
      subtitle: below it.
      sections: of the page, in their order.
      refresh: seconds after which a browser reads the page again; never if not given.
    """
    links = [f'<a href="#s{n}">{_h(s.title)}</a>' for n, s in enumerate(sections)]
    body = [
        f'<section id="s{number}">\n<h2>{_h(section.title)}</h2>\n'
        + "\n".join(_html_block(block) for block in section.blocks)
        + "\n</section>"
        for number, section in enumerate(sections)
    ]
    return _PAGE.substitute(
        refresh=f'<meta http-equiv="refresh" content="{refresh}">\n' if refresh else "",
        title=_h(title),
        subtitle=_h(subtitle),
        style=_STYLE,
        links="\n".join(links),
        body="\n".join(body),
    )


def to_markdown(title: str, subtitle: str, sections: list[Section]) -> str:
    """The same in Markdown; pictures are named only."""
    parts = [f"# {_m(title)}", _m(subtitle)]
    for section in sections:
        parts += [f"## {_m(section.title)}", *(_markdown_block(block) for block in section.blocks)]
    return "\n\n".join(parts) + "\n"


def _html_block(block: Block) -> str:
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
        '<div class="scroll" tabindex="0">'
        f"<table><thead><tr>{heads}</tr></thead>\n<tbody>{body}</tbody></table></div>"
    )


def _html_facts(facts: Facts) -> str:
    tiles = [f"<div><dt>{_h(name)}</dt><dd>{_h(value)}</dd></div>" for name, value in facts.items]
    return f'<dl class="facts">{"".join(tiles)}</dl>'


def _html_pictures(block: Pictures) -> str:
    cards = "\n".join(f'<div class="card">{picture.svg}</div>' for picture in block.pictures)
    kind = "grid" if len(block.pictures) > 1 else "grid one"
    return (
        f'<figure><div class="{kind}">{cards}</div>\n'
        f"<figcaption>{_h(block.caption)}</figcaption></figure>"
    )


def _html_details(details: Details) -> str:
    inner = "\n".join(_html_block(block) for block in details.blocks)
    return f"<details><summary>{_h(details.summary)}</summary>\n{inner}\n</details>"


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
    return f"Pictures, in report.html: {names}.\n\n{_m(block.caption)}"


def _markdown_text(text: Text) -> str:
    kinds = {"lead": "**{}**", "warning": "> **Warning.** {}", "note": "{}", "plain": "{}"}
    return kinds[text.kind].format(_m(text.text))


_HTML: dict[type, Callable[..., str]] = {
    Text: lambda block: f'<p class="{block.kind}">{_h(block.text)}</p>',
    Facts: _html_facts,
    Table: _html_table,
    Pictures: _html_pictures,
    Code: lambda block: f"<pre><code>{_h(block.text)}</code></pre>",
    Details: _html_details,
}
_MARKDOWN: dict[type, Callable[..., str]] = {
    Text: _markdown_text,
    Facts: lambda block: "\n".join(f"- {_m(name)}: {_m(value)}" for name, value in block.items),
    Table: _markdown_table,
    Pictures: _markdown_pictures,
    Code: lambda block: "\n".join(f"    {line}" for line in block.text.splitlines()),
    Details: lambda block: "\n\n".join(
        [f"### {_m(block.summary)}", *(_markdown_block(inner) for inner in block.blocks)]
    ),
}

_STYLE = """
:root { color-scheme: light dark; --page: #fbfcfd; --card: #ffffff; --ink: #1b2530;
  --soft: #566575; --line: #dbe2e9; --accent: #b84c00; --tint: #fdf1e7; --blue: #eaf3f9;
  --warn: #fff6d6; --warn-line: #d9a400; }
@media (prefers-color-scheme: dark) { :root { --page: #14191f; --card: #1c232b; --ink: #e4e9ee;
  --soft: #9fb0c0; --line: #323d48; --accent: #ff9d57; --tint: #3a2818; --blue: #1b2f3d;
  --warn: #3b3313; --warn-line: #d9a400; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 72rem; background: var(--page);
  color: var(--ink); font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans",
  "Liberation Sans", sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; line-height: 1.3; margin: 3rem 0 .75rem; padding-top: .75rem;
  border-top: 1px solid var(--line); }
p { max-width: 48rem; margin: .75rem 0; }
header p, .note, figcaption { color: var(--soft); }
nav { display: flex; flex-wrap: wrap; gap: .25rem 1rem; margin: 1rem 0 0; font-size: .9rem; }
a { color: var(--accent); }
nav a { text-decoration: none; }
nav + main > section:first-child h2 { margin-top: 1.5rem; }
.lead { max-width: none; font-size: 1.2rem; line-height: 1.45; padding: 1rem 1.25rem;
  border-left: .3rem solid var(--accent); background: var(--tint); border-radius: .3rem; }
.warning { max-width: none; padding: .75rem 1.25rem; background: var(--warn);
  border-left: .3rem solid var(--warn-line); border-radius: .3rem; }
.warning::before { content: "Warning. "; font-weight: 700; }
.facts { display: flex; flex-wrap: wrap; gap: .75rem; margin: 1.25rem 0; }
.facts div { min-width: min(9rem, 100%); max-width: 100%; padding: .7rem .9rem;
  background: var(--card); border: 1px solid var(--line);
  border-radius: .5rem; }
dt { font-size: .82rem; color: var(--soft); }
dd { margin: 0; font-size: 1.1rem; font-weight: 600; font-variant-numeric: tabular-nums;
  overflow-wrap: break-word; }
.scroll { overflow-x: auto; margin: 1rem 0; border: 1px solid var(--line); border-radius: .5rem;
  background: var(--card); width: fit-content; max-width: 100%; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .5rem; text-align: left; vertical-align: top; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
td:last-child:not(.n) { white-space: normal; overflow-wrap: anywhere; min-width: 14rem;
  max-width: 26rem; }
tbody tr:last-child > * { border-bottom: 0; }
thead th { vertical-align: bottom; white-space: normal; color: var(--soft); font-weight: 600; }
tbody th { font-weight: 600; }
th:first-child { position: sticky; left: 0; background: var(--card); }
.n { text-align: right; }
tr.winner > :is(th, td) { background: var(--tint); }
tr.finalist > :is(th, td) { background: var(--blue); }
tr.failed, tr.repeat { color: var(--soft); }
figure { margin: 1.25rem 0; }
.grid { display: grid; gap: .9rem;
  grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); }
.grid.one { max-width: 36rem; }
.card { background: #ffffff; border: 1px solid var(--line); border-radius: .5rem;
  padding: .6rem .4rem; }
.card svg { display: block; width: 100%; height: auto; font-family: inherit; }
.card svg * { stroke-linejoin: round; stroke-linecap: butt; }
figcaption { max-width: 52rem; margin-top: .6rem; font-size: .92rem; }
pre { overflow-x: auto; padding: .8rem 1rem; background: var(--card);
  border: 1px solid var(--line); border-radius: .5rem; font-size: .88rem; }
summary { cursor: pointer; font-weight: 600; }
@media print { nav { display: none; } .card, .scroll { break-inside: avoid; } }
"""

_PAGE = string.Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
$refresh<title>$title</title>
<style>$style</style>
</head>
<body>
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
</body>
</html>
""")
