"""Against logits and state dicts of PyTorch (references/make_torch_language_models.py)."""

import json
import os
import pathlib
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from lsh_jax import from_torch, load_model, rnn_lyapunov_spectrum, save_model
from lsh_jax.config import ConfigError, ModelConfig

SCRIPT = pathlib.Path(__file__).resolve().parents[1] / "experiments" / "hypersearch.py"
FILE = pathlib.Path(__file__).parent / "references" / "torch_language_models.json"
REFERENCES = json.loads(FILE.read_text())
TOKENS = np.array(REFERENCES.pop("tokens"), np.int32)  # [T, B]
V = 11
WORDS = (*(f"w{index}" for index in range(V - 2)), "<eos>", "<unk>")
SHAPE = {"vocab_size": V, "embed_size": 3, "hidden_size": 4, "num_layers": 2}
CONFIGS = {
    "lstm": ModelConfig("lstm", **SHAPE, two_biases=True),
    "gru": ModelConfig("gru", **SHAPE, two_biases=True),
    "rnn": ModelConfig("tanh", **SHAPE, two_biases=True),
    "gru without biases": ModelConfig("gru", **SHAPE),
    "tied lstm": ModelConfig("lstm", **{**SHAPE, "embed_size": 4}, tied=True, two_biases=True),
    "unequal lstm": ModelConfig(
        "lstm", **{**SHAPE, "hidden_size": 5}, layer_sizes=(5, 4), two_biases=True
    ),
}


def entries(name="lstm"):
    return {key: np.array(value) for key, value in REFERENCES[name]["state_dict"].items()}


def renamed(name, *replacements):
    """Entries of a reference with parts of their names replaced."""
    state_dict = {}
    for key, value in entries(name).items():
        for old, new in replacements:
            key = re.sub(old, new, key)
        state_dict[key] = value
    return state_dict


def logits(saved, tokens=TOKENS):
    apply = jax.jit(saved.model.apply)
    return apply(saved.params, tokens, saved.model.init_carry(tokens.shape[1]))[0]


def same(saved, other):
    assert saved.model.config == other.model.config
    jax.tree.map(np.testing.assert_array_equal, saved.params, other.params)


@pytest.mark.parametrize("name", REFERENCES)
def test_the_logits_are_those_of_torch_and_the_config_says_what_the_model_is(name):
    saved = from_torch(entries(name), WORDS)
    assert saved.model.config == CONFIGS[name]
    assert saved.vocabulary == WORDS
    shapes = jax.eval_shape(saved.model.init, jax.random.key(0))
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), saved.params) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), shapes
    )
    assert all(jnp.all(mask) for mask in jax.tree.leaves(saved.masks))
    # Against float64; two layers and five steps of values of order 1 in float32.
    np.testing.assert_allclose(logits(saved), REFERENCES[name]["logits"], atol=1e-5)


def test_lists_tuples_and_other_floats_are_taken_as_float32():
    given = REFERENCES["lstm"]["state_dict"]  # nested lists
    same(from_torch(given, list(WORDS)), from_torch(entries(), WORDS))
    for dtype in (np.float16, ml_dtypes.bfloat16):
        low = {name: value.astype(dtype) for name, value in entries().items()}
        saved = from_torch(low, WORDS)
        assert {leaf.dtype for leaf in jax.tree.leaves(saved.params)} == {jnp.dtype("float32")}
        same(saved, from_torch({n: v.astype(np.float32) for n, v in low.items()}, WORDS))


def test_arrays_of_the_caller_stay_as_they_are_and_are_not_shared():
    state_dict = {name: value.astype(np.float32) for name, value in entries("gru").items()}
    before = {name: value.copy() for name, value in state_dict.items()}
    saved = from_torch(state_dict, WORDS)
    for name, value in state_dict.items():
        np.testing.assert_array_equal(value, before[name])
        value[...] = 9
    same(saved, from_torch(before, WORDS))


@pytest.mark.parametrize(
    ("name", "replacements"),
    [
        ("lstm", [("^", "module.")]),
        ("lstm", [("^", "_orig_mod.module.")]),
        ("lstm", [("^", "model.")]),
        ("lstm", [("encoder", "word_embeddings"), ("rnn", "lstm"), ("decoder", "head.linear")]),
        # What AWD-LSTM's weight dropout makes of a layer: the other entries are in the module.
        ("unequal lstm", [("(weight_hh_l0)", r"\1_raw"), (r"(\d\.)(.*_ih)", r"\1module.\2")]),
        ("unequal lstm", [(r"rnns\.0", "lstm9"), (r"rnns\.1", "lstm10")]),
        ("unequal lstm", [("_l0", "")]),  # torch.nn.LSTMCell
        ("lstm", [(r"rnn\.(.*)_l1", r"rnns.1.\1_l0"), (r"rnn\.", "rnns.0.")]),
        ("lstm", [(r"rnn\.", "")]),
        ("tied lstm", [("module.", "")]),
    ],
)  # fmt: skip
def test_parts_are_found_under_other_names(name, replacements):
    state_dict = renamed(name, *replacements)
    assert set(state_dict) != set(entries(name))
    same(from_torch(state_dict, WORDS), from_torch(entries(name), WORDS))


def test_the_order_of_the_entries_has_no_meaning():
    shuffled = dict(reversed(entries("unequal lstm").items()))
    same(from_torch(shuffled, WORDS), from_torch(entries("unequal lstm"), WORDS))


def test_modules_can_be_named_where_their_names_do_not_number_them():
    state_dict = renamed("unequal lstm", (r"rnns\.0", "lower"), (r"rnns\.1", "a_upper"))
    with pytest.raises(ConfigError, match=r"`recurrent` must name .* got none for 'lower', 'a_up"):
        from_torch(state_dict, WORDS)
    saved = from_torch(state_dict, WORDS, recurrent=("lower", "a_upper"))
    same(saved, from_torch(entries("unequal lstm"), WORDS))
    with pytest.raises(ConfigError, match=r"have 4 columns in 'lower.weight_ih_l0', .* \(20, 3\)"):
        from_torch(state_dict, WORDS, recurrent=("a_upper", "lower"))


def square():
    """A model as wide as its embedding, whose two tables differ and have no bias."""
    state_dict = entries("tied lstm")
    del state_dict["module.decoder.bias"]
    rest = {name: value for name, value in state_dict.items() if "coder" not in name}
    table = state_dict["module.encoder.weight"]
    return table, rest


def test_a_bias_or_a_name_tells_the_embedding_from_the_decoder_where_shapes_do_not():
    table, rest = square()
    by_name = from_torch({"emb.weight": table, "out.weight": 2 * table, **rest}, WORDS)
    assert not by_name.model.config.tied
    np.testing.assert_array_equal(by_name.params["decoder"]["W"], 2 * table.T.astype(np.float32))
    biased = {"a.weight": 2 * table, "a.bias": np.ones(V), "b.weight": table, **rest}
    by_bias = from_torch(biased, WORDS)
    np.testing.assert_array_equal(by_bias.params["decoder"]["b"], np.ones(V))
    np.testing.assert_array_equal(
        by_bias.params["embedding"]["table"], by_name.params["embedding"]["table"]
    )


@pytest.mark.parametrize("names", [("a", "b"), ("emb.encoder", "emb.decoder_embedding")])
def test_tables_that_cannot_be_told_apart_must_be_named(names):
    table, rest = square()
    first, second = names
    state_dict = {f"{first}.weight": table, f"{second}.weight": 2 * table, **rest}
    with pytest.raises(ConfigError, match=r"`embedding` and `decoder` must name .* None and None"):
        from_torch(state_dict, WORDS)
    for given in ({"decoder": first}, {"embedding": f"{second}.weight"}):
        saved = from_torch(state_dict, WORDS, **given)
        np.testing.assert_array_equal(saved.params["decoder"]["W"], table.T.astype(np.float32))


def test_equal_tables_are_tied_whatever_they_are_called():
    table, rest = square()
    saved = from_torch({"a.weight": table, "b.weight": table.copy(), **rest}, WORDS)
    assert saved.model.config.tied
    assert set(saved.params["decoder"]) == {"b"}


def test_a_tied_matrix_that_is_there_once_serves_twice():
    whole = from_torch(entries("tied lstm"), WORDS)
    state_dict = entries("tied lstm")
    del state_dict["module.decoder.weight"]
    same(from_torch(state_dict, WORDS), whole)  # decoder.bias tells that there is a decoder
    state_dict = entries("tied lstm")
    del state_dict["module.encoder.weight"]
    with pytest.raises(ConfigError, match="the same one twice if they share a matrix"):
        from_torch(state_dict, WORDS)
    same(from_torch(state_dict, WORDS, embedding="decoder", decoder="decoder"), whole)


def test_biases_that_torch_left_out_are_zeros():
    params = from_torch(entries("gru without biases"), WORDS).params
    biases = [params["decoder"]["b"]]
    biases += [params[layer][name] for layer in ("layers_0", "layers_1") for name in ("b", "b_n")]
    assert [b.shape for b in biases] == [(V,), (12,), (4,), (12,), (4,)]
    assert not any(jnp.any(b) for b in biases)


def test_zeros_of_matrices_are_pruned_weights_if_the_caller_says_so():
    state_dict = entries()
    state_dict["rnn.weight_hh_l1"][3, 1] = 0
    state_dict["decoder.weight"][:5] = 0
    state_dict["decoder.bias"][:] = 0
    dense = from_torch(state_dict, WORDS)
    assert all(jnp.all(mask) for mask in jax.tree.leaves(dense.masks))
    pruned = from_torch(state_dict, WORDS, pruned=True)
    same(pruned, dense)
    assert jax.tree.map(lambda leaf: leaf.dtype, pruned.masks) == jax.tree.map(
        lambda leaf: leaf.dtype, dense.masks
    )
    dead = jax.tree.map(lambda mask: int(mask.size - mask.sum()), pruned.masks)
    assert dead.pop("decoder") == {"W": 5 * 4, "b": 0}
    assert dead.pop("layers_1") == {"W": 0, "U": 1, "b": 0}
    assert not pruned.masks["layers_1"]["U"][1, 3]
    assert not any(jax.tree.leaves(dead))


@pytest.mark.parametrize("pruned", [False, True])
def test_a_model_that_is_saved_is_the_one_that_is_loaded(tmp_path, pruned):
    state_dict = entries("unequal lstm")
    state_dict["rnns.0.weight_hh_l0"][::2] = 0
    saved = from_torch(state_dict, WORDS, pruned=pruned)
    save_model(tmp_path / "model", *saved)
    loaded = load_model(tmp_path / "model")
    same(loaded, saved)
    jax.tree.map(np.testing.assert_array_equal, loaded.masks, saved.masks)
    assert loaded.vocabulary == WORDS


def test_the_exponents_of_its_first_layer_sum_to_the_mean_log_determinant_of_its_jacobian():
    saved = from_torch(entries("gru"), WORDS)
    tokens = jax.random.randint(jax.random.key(0), (20, 2), 0, V)
    result = rnn_lyapunov_spectrum(saved.model, saved.params, tokens, burn_in=5)
    assert result.exponents.shape == (2, 4)
    # By the equations of torch.nn.GRU; layer 0 is driven by the words alone.
    table = saved.params["embedding"]["table"]
    weights = saved.params["layers_0"]

    def step(h, word):
        r, z, n = jnp.split(table[word] @ weights["W"] + weights["b"], 3)
        h_r, h_z, h_n = jnp.split(h @ weights["U"], 3)
        z = jax.nn.sigmoid(z + h_z)
        n = jnp.tanh(n + jax.nn.sigmoid(r + h_r) * (h_n + weights["b_n"]))
        return (1 - z) * n + z * h

    def advance(h, word):
        return step(h, word), jnp.linalg.slogdet(jax.jacobian(step)(h, word))[1]

    @jax.jit
    def log_dets(words):
        return jax.lax.scan(advance, jnp.zeros(4), words)[1]

    expected = np.mean([log_dets(column)[5:].mean() for column in tokens.T])
    np.testing.assert_allclose(result.exponents[0].sum(), expected, rtol=1e-4)


def without(*names):
    return {name: value for name, value in entries().items() if name not in names}


def with_(**changes):
    return {**entries(), **{name.replace("__", "."): value for name, value in changes.items()}}


class OnGPU:
    """As a tensor of torch on a GPU answers numpy."""

    def __array__(self, dtype=None, copy=None):
        raise TypeError("can't convert cuda:0 device type tensor to numpy.\nUse cpu() first.")


INFINITE = np.full((11, 3), 1e39)  # of float64
ERRORS = {
    "no mapping": ([1, 2], {}, "`state_dict` must map names to arrays, .*'list'"),
    "a number as name": ({3: np.ones(2)}, {}, "`state_dict` must map names to arrays, got 3"),
    "a nested state dict": (
        {"model": entries(), "epoch": 3},
        {},
        r"arrays of floats, got dict of dtype object of 'model': pass module.state_dict\(\)",
    ),
    "integers": (with_(step=np.array(3)), {}, "floats, got ndarray of dtype int64 of 'step'"),
    "words": (with_(step=np.array("a")), {}, "floats, got ndarray of dtype <U1 of 'step'"),
    "a tensor on a GPU": (
        with_(decoder__bias=OnGPU()),
        {},
        r"got OnGPU of 'decoder.bias' \(can't .* numpy\): pass tensor.detach\(\).cpu\(\)",
    ),
    "a ragged list": (with_(decoder__bias=[[1.0], [1.0, 2.0]]), {}, "got list of 'decoder.bias'"),
    "NaN": (with_(decoder__bias=np.full(V, np.nan)), {}, "finite .* 11 other values in 'decoder.b"),
    "overflow": (with_(encoder__weight=INFINITE), {}, "finite in float32, got 33 other values in"),
    "a weight twice": (
        with_(rnn__weight_hh_l0_raw=np.ones((16, 4))),
        {},
        "once, got 'rnn.weight_hh_l0' and 'rnn.weight_hh_l0_raw': leave out",
    ),
    "masks of torch": (
        renamed("lstm", ("(weight_hh_l0)", r"\1_orig")),
        {},
        "got 'rnn.weight_hh_l0_orig', .* call prune.remove",
    ),
    "weight norm": (
        renamed("lstm", ("(weight_hh_l0)", r"\1_g")),
        {},
        "got 'rnn.weight_hh_l0_g', .* remove_weight_norm",
    ),
    "parametrizations": (
        renamed("lstm", ("weight_hh_l0", "parametrizations.weight_hh_l0.original0")),
        {},
        "`state_dict` must hold the weights themselves, got 'rnn.parametrizations",
    ),
    "no recurrent layer": (
        {name: value for name, value in entries().items() if "rnn" not in name},
        {},
        r"must have a recurrent layer .* got 'encoder.weight', 'decoder.weight', 'decoder.bias'\.",
    ),
    "nothing": ({}, {}, "must have a recurrent layer .* got nothing"),
    "two directions": (
        with_(rnn__weight_ih_l0_reverse=np.ones((16, 3))),
        {},
        "reads forward, got 'rnn.weight_ih_l0_reverse'",
    ),
    "a projection": (
        with_(rnn__weight_hr_l0=np.ones((2, 4))),
        {},
        "without projections, got 'rnn.weight_hr_l0'",
    ),
    "a gap": (
        renamed("lstm", ("_l1", "_l2")),
        {},
        r"have the layers of 'rnn' from l0 on without a gap, got \[0, 2\]",
    ),
    "no weight_ih": (
        without("rnn.weight_ih_l1"),
        {},
        "got none for weight_ih of the layer of 'rnn.weight_hh_l1'",
    ),
    "biases alone": (
        without("rnn.weight_ih_l1", "rnn.weight_hh_l1"),
        {},
        "got none for weight_ih and weight_hh of the layer of 'rnn.bias_ih_l1'",
    ),
    "one bias of two": (without("rnn.bias_hh_l1"), {}, "both or no biases .* none for bias_hh"),
    "a vector as a matrix": (
        with_(rnn__weight_hh_l0=np.ones(16)),
        {},
        r"have a matrix in 'rnn.weight_hh_l0', got \(16,\)",
    ),
    "two gates": (
        with_(rnn__weight_hh_l0=np.ones((8, 4))),
        {},
        r"4 \(LSTM\), 3 \(GRU\) or 1 \(RNN\) times .* in 'rnn.weight_hh_l0', got \(8, 4\)",
    ),
    "rows that are no gates": (with_(rnn__weight_hh_l0=np.ones((15, 4))), {}, r"got \(15, 4\)"),
    "no units": (with_(rnn__weight_hh_l1=np.ones((16, 0))), {}, r"fit .* 'decoder.weight' \(11, 4"),
    "no units at all": (
        {
            "encoder.weight": np.ones((V, 3)),
            "decoder.weight": np.ones((V, 0)),
            "rnn.weight_ih_l0": np.ones((0, 3)),
            "rnn.weight_hh_l0": np.ones((0, 0)),
        },
        {},
        r"in 'rnn.weight_hh_l0', got \(0, 0\)",
    ),
    "layers that do not meet": (
        with_(rnn__weight_ih_l1=np.ones((16, 5))),
        {},
        r"have 4 columns in 'rnn.weight_ih_l1', one for each unit .* got \(16, 5\)",
    ),
    "input rows of other gates": (
        with_(rnn__weight_ih_l1=np.ones((12, 4))),
        {},
        r"shape \(16, 4\) in 'rnn.weight_ih_l1' for a layer of 4 lstm units, got \(12, 4\)",
    ),
    "another cell above": (
        with_(rnn__weight_hh_l1=np.ones((12, 4))),
        {},
        r"shape \(16, 4\) in 'rnn.weight_hh_l1' for a layer of 4 lstm units, got \(12, 4\)",
    ),
    "a short bias": (
        with_(rnn__bias_hh_l0=np.ones(4)),
        {},
        r"shape \(16,\) in 'rnn.bias_hh_l0' for a layer of 4 lstm units, got \(4,\)",
    ),
    "a short first bias": (with_(rnn__bias_ih_l0=np.ones(1)), {}, "in 'rnn.bias_ih_l0' .* got"),
    "a short bias of the decoder": (
        with_(decoder__bias=np.ones(10)),
        {},
        r"shape \(11,\) in 'decoder.bias' for a decoder of 11 words, got \(10,\)",
    ),
    "no decoder": (
        without("decoder.weight", "decoder.bias"),
        {},
        r"an embedding \[V, 3\] and a decoder \[V, 4\] .* got 'encoder.weight' \(11, 3\): name",
    ),
    "a decoder with a bias alone that could not be tied": (
        without("decoder.weight"),
        {},
        r"\[V, 4",
    ),
    "a decoder of another vocabulary": (
        with_(decoder__weight=np.ones((12, 4))),
        {},
        r"'encoder.weight' \(11, 3\), 'decoder.weight' \(12, 4\)",
    ),
    "another layer": (
        with_(norm__weight=np.ones(4), norm__bias=np.ones(4), h0=np.ones(())),
        {},
        r"alone, got besides them 'norm.weight' \(4,\), 'norm.bias' \(4,\), 'h0' \(\): models",
    ),
    "many other entries": (
        with_(**{f"x{index}": np.ones(1) for index in range(10)}),
        {},
        r"'x7' \(1,\) and 2 more: models",
    ),
    "a recurrent module that is not named": (
        with_(other__weight_hh_l0=np.ones((16, 4)), other__weight_ih_l0=np.ones((16, 4))),
        {"recurrent": "rnn"},
        r"besides them 'other.weight_hh_l0' \(16, 4\), 'other.weight_ih_l0' \(16, 4\)",
    ),
    "a cell's name beside a layer's": (
        with_(rnn__weight_hh=np.ones((16, 4))),
        {},
        r"besides them 'rnn.weight_hh_l0' \(16, 4\)",
    ),
    "an unknown recurrent module": (
        entries(),
        {"recurrent": "lstm"},
        r"`recurrent` must name recurrent modules .* \('rnn'\), got 'lstm'",
    ),
    "a recurrent module twice": (entries(), {"recurrent": ("rnn", "rnn")}, "each once .* 'rnn'"),
    "no recurrent modules": (entries(), {"recurrent": ()}, r"`recurrent` must name .* got \(\)"),
    "an unknown embedding": (
        entries(),
        {"embedding": "embed"},
        r"`embedding` must be the name of a module there \('encoder', 'decoder'\), got 'embed'",
    ),
    "an unknown decoder": (entries(), {"decoder": "head"}, "`decoder` must be .* got 'head'"),
    "the wrong tables": (
        entries(),
        {"embedding": "decoder", "decoder": "encoder"},
        r"an embedding \[V, 3\] and a decoder \[V, 4\]",
    ),
    "pruned by a number": (entries(), {"pruned": 0.9}, "`pruned` must be true or false, got 0.9"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_what_is_not_such_a_model_is_refused_with_what_is_wrong(case):
    state_dict, given, message = ERRORS[case]
    with pytest.raises(ConfigError, match=message) as error:
        from_torch(state_dict, WORDS, **given)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (WORDS[:-1], r"name the 11 rows of 'encoder.weight', got 10 words: .* unused ones too"),
        ((*WORDS, "more"), "`vocabulary` must name the 11 rows of 'encoder.weight', got 12 words"),
        (("w1", *WORDS[1:]), r"`vocabulary` must name each word once, got \['w1'\]"),
        ((1, *WORDS[1:]), "`vocabulary` must hold words, got 1"),
        ({word: index for index, word in enumerate(WORDS)}, "the order of their ids, got 'dict'"),
        ("abcdefghijk", "the order of their ids, got 'str'"),
    ],
)
def test_a_vocabulary_that_does_not_name_the_rows_is_refused(words, message):
    with pytest.raises(ConfigError, match=message):
        from_torch(entries(), words)


@pytest.fixture(scope="module")
def text_folder(tmp_path_factory):
    """Sentences of the words of the references, and one other word."""
    folder = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    for name, lines in (("train", 150), ("valid", 40), ("test", 40)):
        starts = rng.integers(9, size=lines)
        text = "".join(f"w{i} w{(i + 1) % 9} w{(i + 3) % 9} other\n" for i in starts)
        (folder / f"{name}.txt").write_text(text)
    return folder


def search(text_folder, model, out):
    flags = (
        "--data=text --reference=final --max-evals=2 --e0=2 --final-epochs=2 "
        "--space.update-every=0.5 --train.batch-size=4 --train.bptt=8 "
        "--train.segments-per-epoch=2 --train.eval-batch-size=4 --spectrum.length=20 "
        "--spectrum.burn-in=5 --spectrum.batch=2"
    ).split()
    flags += [f"--data-dir={text_folder}", f"--dense={model}", f"--out={out}"]
    return subprocess.run(
        [sys.executable, str(SCRIPT), *flags, f"--cache-dir={text_folder / 'cache'}"],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "COLUMNS": "120"},
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lstm", "tied lstm"])
def test_it_serves_a_search_as_its_dense_network(name, text_folder, tmp_path):
    saved = from_torch(entries(name), WORDS)
    save_model(tmp_path / "model", *saved)
    done = search(text_folder, tmp_path / "model", tmp_path / "run")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["dense"]["epochs"] == 0
    text = (text_folder / "test.txt").read_text().replace("\n", " <eos> ").split()
    ids = np.array([WORDS.index(w) if w in WORDS else WORDS.index("<unk>") for w in text])
    columns = ids[: len(ids) // 4 * 4].reshape(4, -1).T  # evaluation reads 4 columns
    predicted = jax.nn.log_softmax(logits(saved, columns[:-1]))
    nll = -np.take_along_axis(np.asarray(predicted), columns[1:, :, None], axis=-1).mean()
    np.testing.assert_allclose(result["dense"]["test_perplexity"], np.exp(nll), rtol=1e-4)
    winner = load_model(tmp_path / "run")
    assert winner.model.config == saved.model.config
    assert winner.vocabulary == WORDS


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "words", "given", "message"),
    [
        ("lstm", (*WORDS[:9], "</s>", "<unk>"), {}, "must have <eos>, which stands at every line"),
        ("lstm", (*WORDS[:10], "rare"), {}, "must have <unk> or every word of the text"),
        ("lstm", WORDS, {"pruned": True}, "--dense must be a dense network, got the pruned one"),
        ("unequal lstm", WORDS, {}, "--model.layer-sizes must be equal in a search"),
    ],
)
def test_what_a_search_cannot_use_ends_in_one_message(
    name, words, given, message, text_folder, tmp_path
):
    state_dict = entries(name)
    if given:
        state_dict["decoder.weight"][:5] = 0
    save_model(tmp_path / "model", *from_torch(state_dict, words, **given))
    done = search(text_folder, tmp_path / "model", tmp_path / "run")
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.count("\n") == 1
    assert message in done.stderr
    assert not (tmp_path / "run").exists()


def test_every_reference_is_tested():
    assert set(REFERENCES) == set(CONFIGS)
