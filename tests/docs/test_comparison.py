"""Every cell of the comparison has evidence of the kinds that it claims, which can be found."""

import pathlib
import re
import tomllib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "comparison.md").read_text(encoding="utf-8")
MEASURED = "\n".join(
    (ROOT / folder / "README.md").read_text(encoding="utf-8")
    for folder in ("benchmarks", "experiments")
)
BY_HAND = PAGE.split("\n## Tried by hand\n")[1]
MARKS = "ᵗᵐʰˢᵈ"
TESTS = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")
LINKS = re.compile(r"\((https?://[^)\s]+)\)|<(https?://[^>\s]+)>")
PINNED = re.compile(r"https://github\.com/[\w.-]+/[\w.-]+/(?:blob|tree)/[0-9a-f]{40}(?:/\S+)?")


def table():
    """Header and rows of the table: the number, the question, then a cell for each tool."""
    (text,) = re.findall(r"<!-- table: comparison -->\n\n(.*?)\n\n<!-- end -->", PAGE, re.DOTALL)
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    return lines[0], lines[2:]


def sections():
    """{number: (title, {tool: (marks, evidence)})} of what follows the table."""
    found = {}
    evidence = PAGE.split("\n## The evidence\n")[1].split("\n## Tried by hand\n")[0]
    for number, title, text in re.findall(
        r"^### (\d+)\. ([^\n]+)\n\n(.*?)(?=^### |\Z)", evidence, re.DOTALL | re.MULTILINE
    ):
        entries = re.findall(rf"^- \*\*([^*]+)\*\* ([{MARKS}]+): (.+)$", text, re.MULTILINE)
        assert len(entries) == len(re.findall(r"^- ", text, re.MULTILINE)), f"row {number}"
        assert number not in found
        found[number] = title, {tool: (marks, words) for tool, marks, words in entries}
    return found


HEADER, ROWS = table()
SECTIONS = sections()
ENTRIES = [
    pytest.param(number, marks, words, id=f"{number}-{tool}")
    for number, (_, entries) in SECTIONS.items()
    for tool, (marks, words) in entries.items()
]


def marked(mark):
    return [param for param in ENTRIES if mark in param.values[1]]


def links(words):
    return [plain or bracketed for plain, bracketed in LINKS.findall(words)]


def test_every_row_has_its_section():
    assert len(ROWS) >= 10
    titles = {number: title for number, (title, _) in SECTIONS.items()}
    assert {row[0]: row[1].lower() for row in ROWS} == {n: t.lower() for n, t in titles.items()}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_every_cell_but_a_dash_has_evidence_of_the_kinds_that_it_claims(row):
    assert len(row) == len(HEADER)
    claimed = {}
    for tool, cell in zip(HEADER[2:], row[2:], strict=True):
        if cell != "-":
            claim = re.fullmatch(rf".+ ([{MARKS}]+)", cell)
            assert claim, f"{tool}: {cell!r} does not say what it rests on"
            claimed[tool] = claim[1]
    assert {tool: marks for tool, (marks, _) in SECTIONS[row[0]][1].items()} == claimed


def test_we_are_behind_in_some_rows():
    behind = [row for row in ROWS if "**" in "".join(row[3:]) and "**" not in row[2]]
    assert len(behind) >= 4


@pytest.mark.parametrize(("number", "marks", "words"), marked("ᵗ"))
def test_what_a_test_holds_names_tests_that_exist(number, marks, words):
    named = TESTS.findall(words)
    assert named or number == "14"  # where all tests are meant
    for path, test in named:
        source = (ROOT / path).read_text(encoding="utf-8")
        assert not test or re.search(rf"^def {test}\(", source, re.MULTILINE), f"{path}::{test}"


@pytest.mark.parametrize(("number", "marks", "words"), marked("ᵐ"))
def test_what_was_measured_has_its_command_and_its_numbers(number, marks, words):
    assert re.search(r"`(benchmarks|experiments)/\w+\.py`", words)
    text = re.sub(r"\[[^\]]*\]\([^)]*\)|`[^`]*`", " ", words)
    numbers = re.findall(r"\d[\d,]*(?:\.\d+)*(?: x \d+| of \d+)?", text)
    assert numbers
    for found in numbers:
        there = re.search(rf"(?<![\d.,]){re.escape(found)}(?![\d]|[.,]\d)", MEASURED)
        assert there, f"{found} stands in no table of ours"


@pytest.mark.parametrize(("number", "marks", "words"), marked("ʰ"))
def test_what_was_tried_by_hand_is_told_at_the_end(number, marks, words):
    headed = re.findall(r"^\*\*[^*]+\*\* \(([\d, ]+)\)", BY_HAND, re.MULTILINE)
    assert number in ", ".join(headed).split(", ")


@pytest.mark.parametrize(("number", "marks", "words"), marked("ˢ"))
def test_what_was_read_has_a_link_to_a_commit(number, marks, words):
    assert any(PINNED.fullmatch(link) for link in links(words))


@pytest.mark.parametrize(("number", "marks", "words"), marked("ᵈ"))
def test_what_is_documented_has_an_address(number, marks, words):
    assert links(words)


def test_links_to_github_name_a_commit():
    found = [link for link in links(PAGE) if "github.com" in link]
    assert found
    assert [link for link in found if not PINNED.fullmatch(link)] == []


def test_files_of_this_repository_that_are_named_exist():
    named = re.findall(r"`((?:benchmarks|experiments|docs|lsh_jax)/[\w/]+\.\w+)`", PAGE)
    named += ["LICENSE", "pyproject.toml", "constraints.txt", ".ci/run"]
    assert all(f"`{path}`" in PAGE for path in named)
    assert [path for path in named if not (ROOT / path).is_file()] == []


def test_there_are_as_many_tests_as_the_page_says():
    (said,) = re.findall(r"more than ([\d,]+) test functions", PAGE)
    count = sum(
        len(re.findall(r"^def test_", path.read_text(encoding="utf-8"), re.MULTILINE))
        for path in (ROOT / "tests").rglob("test_*.py")
    )
    assert count > int(said.replace(",", ""))


def test_the_licence_is_the_one_that_the_page_says():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    ours = next(row[2] for row in ROWS if row[0] == "15")
    assert ours.startswith(f"{project['license']};")
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")[:200]


def test_the_readme_shows_the_same_table():
    (text,) = re.findall(r"<!-- table: comparison -->\n\n(.*?)\n\n<!-- end -->", PAGE, re.DOTALL)
    assert text in (ROOT / "README.md").read_text(encoding="utf-8")
