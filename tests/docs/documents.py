"""The blocks of code in the README and in `docs/`, and the marks that say how they are tried."""

import pathlib
import re
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
README = "../README.md"
PAGES = [README, *sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))]
MARKS = {
    "python": ("raises",),
    "sh": ("dry-run", "parsed", "set-up", "fails"),
}
_OPENING = re.compile(
    r"^(?P<indent>\s*)(?P<fence>`{3,}|~{3,})\s*(?P<language>[\w.+-]*)(?P<rest>.*)$"
)
_MARK = re.compile(r"^\s*<!-- (?P<mark>[a-z-]+)(: (?P<value>.+?))? -->\s*$")


class Block(NamedTuple):
    """A block of code.

    Attributes:
      page: its file in `docs/`.
      line: the number of its first line.
      language: what stands behind its opening fence.
      mark: of the comment right before it, or empty.
      value: what the mark says further, or empty.
      code: its lines, without the indent of its fence.
    """

    page: str
    line: int
    language: str
    mark: str
    value: str
    code: str

    @property
    def place(self):
        return f"{'README.md' if self.page == README else f'docs/{self.page}'}:{self.line}"


def blocks(page):
    """The blocks of a page, in order."""
    found, opening, before, code = [], None, "", []
    for number, line in enumerate((DOCS / page).read_text(encoding="utf-8").splitlines(), 1):
        if opening is None:
            opening = _OPENING.match(line)
            if opening:
                first, mark, code = number + 1, _MARK.match(before), []
            before = line if line.strip() else before
        elif line.strip() == opening["fence"]:
            indent = len(opening["indent"])
            text = "".join(f"{own[indent:]}\n" for own in code)
            name, value = (mark["mark"], mark["value"] or "") if mark else ("", "")
            found.append(Block(page, first, opening["language"], name, value, text))
            opening, before = None, ""
        else:
            code.append(line)
    assert opening is None, f"docs/{page}: a fence is not closed"
    return found


def commands(code):
    """The commands of a shell block, continued lines as one, without comments."""
    whole = re.sub(r"\\\n\s*", "", code)
    lines = (re.sub(r"(^|\s)#.*$", "", line).strip() for line in whole.splitlines())
    return [line for line in lines if line]
