"""Every public name stands once in the reference, and every command says its flags there."""

import collections
import dataclasses
import importlib
import re

import command_reference  # of docs/hooks
import pytest
from documents import DOCS, ROOT

from lsh_jax.cli.flags import read_flags
from lsh_jax.presets import PRESETS, Settings

PACKAGES = ("lsh_jax", "lsh_jax.lyapunov", "lsh_jax.sparsity", "lsh_jax.plots", "lsh_jax.report")
REFERENCE = "\n".join(path.read_text() for path in (DOCS / "reference").glob("*.md"))
NAMED = re.findall(r"^::: ([\w.]+)$", REFERENCE, flags=re.MULTILINE)


def value_of(name):
    """What a dotted name stands for, a module or something in one."""
    module, _, last = name.rpartition(".")
    parent = importlib.import_module(module)
    return getattr(parent, last, None) or importlib.import_module(name)


def identity(name):
    """What tells what a name stands for from anything else, however it is reached."""
    value = value_of(name)
    plain = isinstance(value, (int, float, str))  # equal numbers may be one object
    return name if plain else id(value)


def test_every_public_name_stands_in_the_reference_once():
    counts = collections.Counter(map(identity, NAMED))
    public = [f"{p}.{name}" for p in PACKAGES for name in importlib.import_module(p).__all__]
    assert {name: counts[identity(name)] for name in public if counts[identity(name)] != 1} == {}
    assert [name for name in NAMED if counts[identity(name)] > 1] == []


@pytest.mark.parametrize("name", NAMED)
def test_what_the_reference_names_is_there(name):
    value_of(name)


@pytest.fixture(scope="module")
def search_flags():
    text = command_reference.on_page_markdown("<!-- flags: search -->")
    return re.findall(r"^`(--[\w.-]+)`\{: #search-", text, flags=re.MULTILINE)


def test_the_flags_of_the_search_are_all_there(search_flags):
    settings = PRESETS["quick"]
    leaves = sum(
        len(dataclasses.fields(value)) if dataclasses.is_dataclass(value) else 1
        for value in (getattr(settings, field.name) for field in dataclasses.fields(settings))
    )
    assert len(search_flags) == len(set(search_flags)) == leaves


def test_the_program_knows_every_flag_of_the_page(search_flags, capsys):
    with pytest.raises(SystemExit) as ended:
        read_flags(["--help"], Settings(), "hypersearch.py")
    assert ended.value.code == 0
    shown = set(re.findall(r"--[\w.-]+", capsys.readouterr().out))
    assert set(search_flags) <= shown


def test_every_command_has_its_flags_on_the_page():
    page = (DOCS / "reference" / "command.md").read_text()
    assert set(re.findall(r"<!-- flags: (\w+) -->", page)) == set(command_reference.COMMANDS)


def test_the_tests_that_the_promises_name_are_there():
    page = (DOCS / "promises.md").read_text()
    promised = re.findall(r"^- \*\*.*?\*\*, `(tests/[\w/]+\.py)`: (.*)$", page, flags=re.MULTILINE)
    assert len(promised) > 10
    for path, named in promised:
        source = (ROOT / path).read_text()
        for test in re.findall(r"`(test_\w+)`", named):
            assert f"def {test}(" in source, f"{path}: {test}"
