"""The command that measures a saved model."""

import json

import jax
import numpy as np
import pytest
from commands import TINY_TRAINING

from lsh_jax import ModelConfig, apply_masks, load_model, make_language_model, save_model
from lsh_jax.cli.evaluate import main, table
from lsh_jax.cli.train_dense import parse as parse_training
from lsh_jax.data import load_corpus
from lsh_jax.search.language_model_task import make_language_model_task
from lsh_jax.search.trial import DENSE
from lsh_jax.sparsity import controls

SPECTRUM = "--spectrum.length=20 --spectrum.burn-in=5 --spectrum.batch=2".split()


@pytest.fixture
def flags(text_folder, cache, no_compile_cache):
    own = [f"--data-dir={text_folder}", f"--cache-dir={cache}"]
    return ["--data=text", *own, "--eval-batch-size=4", *SPECTRUM]


@pytest.fixture
def pruned(tmp_path):
    """Two layers of unequal width in the corpus's words, with every second weight pruned."""
    words = [f"w{index}" for index in range(40)] + ["<eos>"]
    config = ModelConfig("gru", 41, 6, num_layers=2, layer_sizes=(4, 6), tied=True)
    model = make_language_model(config)
    params = model.init(jax.random.key(0))
    masks = jax.tree.map(
        lambda leaf: np.arange(leaf.size).reshape(leaf.shape) % (2 if leaf.ndim > 1 else 1) == 0,
        params,
    )
    save_model(tmp_path / "pruned", model, apply_masks(params, masks), masks, words)
    return tmp_path / "pruned"


def test_a_run_is_measured_as_its_training_measures_it(flags, text_folder, cache, tmp_path, capsys):
    run, out = tmp_path / "run", tmp_path / "measured"
    settings = parse_training(TINY_TRAINING)
    corpus = load_corpus("text", text_folder, settings.model.vocab_size, cache_dir=cache)
    task = make_language_model_task(corpus, settings.model, settings.train, settings.spectrum)
    state = task.init(jax.random.key(0), controls(DENSE), task.hyper)
    task.save(state, run / "model")
    assert main([*flags, str(run), f"--out={out}"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    found = json.loads((out / "evaluation.json").read_text())
    assert set(found["splits"]) == {"validation", "test"}
    for split, score in found["splits"].items():
        assert score["perplexity"] == pytest.approx(np.exp(task.evaluate(state, split)), rel=1e-6)
        assert score["unigram_perplexity"] == pytest.approx(np.exp(task.baseline_nll[split]))
        assert score["tokens"] == 40 * 9  # words of a line and its end
        assert f"{score['perplexity']:.2f}" in printed.out
    exponents, _ = task.spectrum(state)
    np.testing.assert_allclose(np.load(out / "spectrum.npy"), exponents, rtol=1e-5)
    assert {path.name for path in out.iterdir()} == {
        "evaluation.json",
        "spectrum.npy",
        "spectrum.png",
        "spectrum.svg",
    }


def test_a_pruned_model_is_counted_leaf_by_leaf(pruned, flags, tmp_path, capsys):
    where = f"--out={tmp_path / 'out'}"
    assert main([*flags, str(pruned), where, "--spectrum.share=0.3"]) == 0
    found = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    # Table 41 x 6; GRUs from 6 to 4 and from 4 to 6: W and U of each.
    weights = {
        "embedding/table": 246,
        "layers_0/W": 6 * 12,
        "layers_0/U": 4 * 12,
        "layers_1/W": 4 * 18,
        "layers_1/U": 6 * 18,
    }
    live = {leaf["name"]: leaf["live"] for leaf in found["leaves"]}
    assert {name: live[name] for name in weights} == {n: w // 2 for n, w in weights.items()}
    assert found["live_weights"] == found["weights"] // 2 == sum(weights.values()) // 2
    assert found["density"] == 0.5
    assert found["multiply_adds"] == found["live_weights"]  # tied: all of them multiply
    assert found["bytes_on_disk"] == (pruned / "weights.safetensors").stat().st_size
    leaves = jax.tree.leaves(load_model(pruned).params)
    assert found["bytes_in_memory"] == sum(leaf.size for leaf in leaves) * 4
    assert [layer["computed"] for layer in found["spectrum"]] == [2, 2]  # 30 % of 4 and of 6
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["layers_1/U", "6x18", "108", "54", "0.5000"] in rows


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["no/such/model"], "MODEL must be a saved model, or a run directory"),
        (["no/such/model"], "got 'no/such/model', which does not exist."),
        ([], "MODEL"),
        (["{model}", "--eval-batch-size=0"], "--eval-batch-size must be at least 1, got 0"),
        (["{model}", "--eval-batch-size=400"], "--eval-batch-size must leave no column empty"),
        (["{model}", "--spectrum.length=2000"], "--spectrum.length must leave"),
        (["{model}", "--spectrum.share=0"], "`spectrum.share` must lie in (0, 1], got 0"),
        (["{model}", "--max-eval-tokens=-1"], "--max-eval-tokens must be 0 (all) or above"),
        (["{model}", "--data-dir=no/such/folder"], "no/such/folder"),
        (["{model}", "--out={model}"], "--out must be a new or empty directory"),
        (["{model}", "--hidden-size=3"], "Unrecognized options: --hidden-size, 3"),
    ],
)
def test_bad_input_gets_one_clear_message_and_status_2(
    wrong, message, pruned, flags, capsys, monkeypatch
):
    monkeypatch.setenv("COLUMNS", "200")
    arguments = [word.replace("{model}", str(pruned)) for word in wrong]
    try:
        status = main([*flags, *arguments])
    except SystemExit as leaving:  # how the parser of the flags refuses
        status = leaving.code
    assert status == 2
    assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())


@pytest.mark.parametrize(
    ("data", "limit", "told"),
    [
        ("text", 100, True),
        ("text", 360, False),  # as many as there are
        ("text", 0, False),  # all
        ("ptb", 100, False),  # another text
    ],
)
def test_a_run_that_measured_fewer_tokens_is_told_with_both_counts(
    pruned, flags, tmp_path, capsys, data, limit, told
):
    config = {"data": data, "train": {"max_eval_tokens": limit}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert main([*flags, str(pruned)]) == 0
    note = (
        "Note: the run measured on the first 100 of 360 validation tokens and 100 of 360 test "
        "tokens, so its perplexities differ from these; --max-eval-tokens=100 measures on the same."
    )
    printed = capsys.readouterr().out
    assert (note in printed.splitlines()) == told == ("Note" in printed)


def test_a_model_of_other_words_is_refused(pruned, flags, tmp_path, capsys):
    for split in ("train", "valid", "test"):
        (tmp_path / f"{split}.txt").write_text("a b c d e f g\n" * 40)
    assert main([*flags, str(pruned), f"--data-dir={tmp_path}"]) == 2
    assert "7 of its words (a, b, c, ...)" in capsys.readouterr().err


def test_a_table_stands_in_columns():
    assert table(("a", "number"), [("one", "1"), ("twenty", "20")]).split("\n") == [
        "  a       number",
        "  one          1",
        "  twenty      20",
    ]
