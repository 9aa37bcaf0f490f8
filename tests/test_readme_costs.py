"""The README's table of costs is what the presets cost."""

import pathlib
import re

import pytest

from lsh_jax.cli.hypersearch import parse
from lsh_jax.data import load_corpus
from lsh_jax.estimate import epochs_dense, num_prunable, operations, total_epochs
from lsh_jax.flops import search_flops

README = pathlib.Path(__file__).resolve().parents[1] / "README.md"


def rows():
    """{preset: (weights, epochs, operations)} as printed."""
    pattern = r"^\| `([\w-]+)` \| .*?, ([\d,]+) \| ([\d,]+) \| ([\d.]+ [TP]FLOP) \|"
    found = re.findall(pattern, README.read_text(), flags=re.MULTILINE)
    return {name: cells for name, *cells in found}


ROWS = rows()


def test_the_table_has_every_preset_that_searches():
    assert set(ROWS) == {"quick", "small", "small-lstm", "small-rhn", "paper-lstm", "paper-rhn"}


@pytest.mark.parametrize("preset", ROWS)
def test_weights_and_epochs_are_those_of_the_preset(preset):
    settings = parse([f"--preset={preset}", "--data-dir=."])
    weights, epochs, _ = ROWS[preset]
    assert f"{num_prunable(settings):,}" == weights
    assert f"{total_epochs(settings):,}" == epochs


@pytest.mark.parametrize("preset", ["quick", "small"])
def test_operations_are_those_that_a_dry_run_prints(preset):
    assert counted(parse([f"--preset={preset}"])) == ROWS[preset][2]


@pytest.mark.parametrize("preset", ["small-lstm", "small-rhn", "paper-lstm", "paper-rhn"])
def test_operations_on_penn_treebank_are_those_that_a_dry_run_prints(preset, penn_treebank):
    flags = [f"--preset={preset}", "--data=ptb", f"--data-dir={penn_treebank}"]
    assert counted(parse(flags)) == ROWS[preset][2]


def counted(settings):
    corpus = load_corpus(settings.data, settings.data_dir, settings.model.vocab_size)
    dense = epochs_dense(settings)
    count = search_flops(settings, corpus, total_epochs(settings) - dense, dense)
    return operations(count.executed)
