"""The commands that the documents show are commands."""

import ast
import re
import shlex

import pytest
from commands import EXPERIMENTS

from lsh_jax.cli import evaluate, generate, hypersearch, train_dense

PARSERS = {
    "hypersearch.py": hypersearch.parse,
    "train_dense.py": train_dense.parse,
    "evaluate.py": evaluate.parse,
    "generate.py": generate.parse,
}


def shown():
    """(script, its arguments) of every command that stands on a line of its own."""
    texts = [
        path.read_text() for path in (EXPERIMENTS.parent / "README.md", EXPERIMENTS / "README.md")
    ]
    for script in PARSERS:
        texts.append(ast.get_docstring(ast.parse((EXPERIMENTS / script).read_text())))
    pattern = r"^\s*python experiments/(\w+\.py)(.*?)(?:#.*)?$"
    found = re.findall(pattern, "\n".join(texts), flags=re.MULTILINE)
    return [(script, arguments.strip()) for script, arguments in found if script in PARSERS]


def test_every_command_is_shown():
    assert {script for script, _ in shown()} == set(PARSERS)


@pytest.mark.parametrize(("script", "arguments"), shown())
def test_every_flag_that_is_shown_exists(script, arguments):
    PARSERS[script](shlex.split(arguments))


@pytest.mark.parametrize("script", PARSERS)
def test_a_script_is_thin(script):
    assert len((EXPERIMENTS / script).read_text().splitlines()) <= 80
