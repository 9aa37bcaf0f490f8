"""The command that writes text with a saved model."""

import jax
import numpy as np
import pytest
from commands import run_script

from lsh_jax import ModelConfig, apply_masks, make_language_model, save_model
from lsh_jax.cli.generate import main

WORDS = ("the", "state", "of", "union", "<eos>", "<unk>")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A pruned model of six words, and of two rows more than there are words."""
    network = make_language_model(ModelConfig("gru", 8, 4, 5, 1))
    params = jax.tree.map(lambda leaf: 4 * leaf, network.init(jax.random.key(0)))
    masks = jax.tree.map(lambda leaf: abs(leaf) > 0.3 * (leaf.ndim > 1), params)
    path = tmp_path_factory.mktemp("run") / "model"
    save_model(path, network, apply_masks(params, masks), masks, WORDS)
    return path


@pytest.fixture
def write(model, tmp_path, no_compile_cache, capsys):
    def run(*flags):
        assert main([str(model), f"--cache-dir={tmp_path}", *flags]) == 0
        printed = capsys.readouterr()
        assert printed.err == ""
        device, _, text = printed.out.partition("\n")
        assert device.startswith("Device: ")
        return text.removesuffix("\n")

    return run


def test_samples_are_words_of_the_vocabulary_after_the_prompt(write):
    text = write("--samples=3", "--length=40", "--prompt=the state of", "--temperature=5")
    samples = text.split("Sample ")[1:]
    assert len(set(samples)) == 3
    for number, sample in enumerate(samples):
        assert sample.startswith(f"{number + 1}\nthe state of")
        assert set(sample[1:].split()) <= set(WORDS) - {"<unk>", "<eos>"}
        ends = sample.strip("\n").count("\n") - 1
        assert len(sample.split()) - 1 + ends <= 43


def test_the_unknown_word_is_written_if_asked_for(write):
    flags = "--length=200", "--temperature=50"
    assert "<unk>" not in write(*flags)
    assert "<unk>" in write(*flags, "--unknown")


def test_the_same_seed_writes_the_same_text(write):
    assert write("--seed=1") == write("--seed=1") != write("--seed=2")


def test_without_a_prompt_a_text_starts_as_after_a_line_end(write):
    assert write("--temperature=3") == write("--temperature=3", "--prompt=\n")


def test_words_that_the_model_does_not_know_are_named_in_one_line(write):
    note, *lines = write("--prompt=the senate of rome", "--length=3", "--top-k=2").split("\n")
    assert note == "Note: the model reads as <unk> what it does not know: senate, rome"
    assert lines[0].startswith("the <unk> of <unk>")


def test_a_run_directory_stands_for_its_model(model, write):
    assert main([str(model.parent), "--length=1"]) == 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["no/such/model"], "must be a saved model with a model.json, got 'no/such/model'"),
        (["{model}", "--length=0"], "--length must be at least 1, got 0"),
        (["{model}", "--samples=0"], "--samples must be at least 1, got 0"),
        (["{model}", "--temperature=-1"], "--temperature must be finite and at least 0, got -1"),
        (["{model}", "--top-k=-1"], "--top-k must be 0 (all) or above, got -1"),
        (["{model}", "--top-k=9"], "--top-k must be a whole number from 1 to"),
        (["{model}", "--seed=-1"], "--seed must lie in [0, 2^32), got -1"),
        (["{model}", "--words=3"], "Unrecognized options: --words, 3"),
    ],
)
def test_bad_input_gets_one_clear_message_and_status_2(
    wrong, message, model, tmp_path, capsys, monkeypatch, no_compile_cache
):
    monkeypatch.setenv("COLUMNS", "200")
    arguments = [word.replace("{model}", str(model)) for word in wrong]
    try:
        status = main([*arguments, f"--cache-dir={tmp_path}"])
    except SystemExit as leaving:  # how the parser of the flags refuses
        status = leaving.code
    assert status == 2
    assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_unknown_words_without_a_word_for_them_are_refused(tmp_path, capsys, no_compile_cache):
    network = make_language_model(ModelConfig("tanh", 2, 4, 4, 1))
    params = network.init(jax.random.key(0))
    masks = jax.tree.map(lambda leaf: np.ones(leaf.shape, bool), params)
    save_model(tmp_path, network, params, masks, ["a", "b"])
    assert main([str(tmp_path), "--prompt=a c d"]) == 2
    assert "--prompt must hold words of the model's vocabulary, got c, d" in capsys.readouterr().err
    assert main([str(tmp_path)]) == 2
    assert "has no <eos> to start a line by" in capsys.readouterr().err


@pytest.mark.slow
def test_the_script_runs(model, tmp_path):
    done = run_script("generate.py", model, "--length=5", cache=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) >= 2
