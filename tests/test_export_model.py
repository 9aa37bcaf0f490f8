"""A saved model in other formats: every file gives back the model, and other tools can read it."""

import functools
import json
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from lsh_jax import (
    ConfigError,
    ModelConfig,
    apply_masks,
    export_csr,
    export_npz,
    export_torch,
    from_torch,
    load_csr,
    load_npz,
    load_torch,
    make_language_model,
    save_model,
    to_torch,
)
from lsh_jax.csr_model import csr_carry, csr_step, read_csr
from lsh_jax.export_model import FORMATS, difference, export_model, main
from lsh_jax.saved_model import SavedModel, load_tensors, save_tensors

V = 11
SHAPE = {"vocab_size": V, "embed_size": 4, "hidden_size": 5, "num_layers": 2}
CONFIGS = {
    "lstm": ModelConfig("lstm", **SHAPE),
    "gru": ModelConfig("gru", **SHAPE, two_biases=True),
    "tanh": ModelConfig("tanh", **SHAPE, layer_sizes=(3, 5)),
    "unequal lstm": ModelConfig("lstm", **SHAPE, layer_sizes=(5, 3)),
    "tied gru": ModelConfig("gru", V, 5, 5, 2, tied=True),
    "rhn": ModelConfig("rhn", V, 5, 5, 1, depth=3, tied=True),
    "uncoupled rhn": ModelConfig("rhn", V, 4, 5, 2, depth=2, coupled=False),
}
OF_TORCH = [name for name, config in CONFIGS.items() if config.cell != "rhn"]
WORDS = ("<unk>", "word", "naïve", "日本", '"\\\n', "🦎", "a", "b", "<eos>")  # of 9 of 11 rows
TOKENS = np.random.default_rng(1).integers(V, size=(7, 1)).astype(np.int32)


@functools.cache
def pruned(name):
    """A model with half of its weights pruned, zeros of both signs that live, and biases."""
    model = make_language_model(CONFIGS[name])
    rng = np.random.default_rng(0)

    def draw(leaf):
        values = rng.normal(size=leaf.shape).astype(np.float32)
        values.flat[:2] = 0.0, -0.0
        return values

    def choose(leaf):
        return (leaf.ndim < 2) | (rng.random(leaf.shape) < 0.5) | (leaf == 0)

    params = jax.tree.map(draw, jax.eval_shape(model.init, jax.random.key(0)))
    masks = jax.tree.map(choose, params)
    params = jax.tree.map(lambda leaf, mask: np.where(mask, leaf, np.float32(0)), params, masks)
    return SavedModel(model, params, masks, WORDS)


def dense(name):
    saved = pruned(name)
    return saved._replace(masks=jax.tree.map(lambda leaf: np.ones(leaf.shape, bool), saved.params))


def logits(saved, tokens=TOKENS):
    return jax.jit(saved.model.apply)(saved.params, tokens, saved.model.init_carry(1))[0]


def bits(tree):
    return jax.tree.map(lambda leaf: (str(leaf.dtype), np.asarray(leaf).tobytes()), tree)


def same(found, saved):
    """Whether all of two models is the same, the sign of zeros and zeros that live included."""
    assert found.model.config == saved.model.config
    assert found.vocabulary == saved.vocabulary
    assert bits(found.params) == bits(saved.params)
    assert bits(found.masks) == bits(saved.masks)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize(("write", "read"), [(export_npz, load_npz), (export_csr, load_csr)])
def test_an_archive_gives_back_values_masks_and_words_bit_for_bit(name, write, read, tmp_path):
    for saved in (pruned(name), dense(name)):
        write(tmp_path / "archive", saved)
        found = read(tmp_path / "archive")
        same(found, saved)
        np.testing.assert_array_equal(logits(found), logits(saved))
    assert [path.name for path in tmp_path.iterdir()] == ["archive"]


def test_numpy_and_scipy_alone_read_the_archives(tmp_path):
    code = """
import json, sys, numpy, scipy.sparse
file = numpy.load("model.npz", allow_pickle=False)
header = json.loads(bytes(file["header"]))
assert header["config"]["cell"] == "lstm" and header["vocabulary"][2] == "naïve"
U = file["layers_0/U"]
file = numpy.load("model.csr.npz", allow_pickle=False)
parts = (file["layers_0/U/" + part] for part in ("data", "indices", "indptr"))
matrix = scipy.sparse.csr_array(tuple(parts), shape=file["layers_0/U/shape"])
assert (matrix.toarray() == U.T).all() and matrix.nnz == (U != 0).sum() + 2
assert not {"jax", "lsh_jax"} & set(sys.modules)
"""
    export_npz(tmp_path / "model.npz", pruned("lstm"))
    export_csr(tmp_path / "model.csr.npz", pruned("lstm"))
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)


def test_a_csr_matrix_is_what_scipy_makes_of_it(tmp_path):
    from scipy import sparse

    saved = pruned("rhn")
    export_csr(tmp_path / "model", saved)
    leaves = read_csr(tmp_path / "model").leaves
    for name, turned in (("R_1", True), ("W", True), ("table", False)):
        layer = "embedding" if name == "table" else "layers_0"
        value, mask = (np.asarray(tree[layer][name]) for tree in (saved.params, saved.masks))
        ones = sparse.csr_array(mask.T if turned else mask)
        found = leaves[f"{layer}/{name}"]
        np.testing.assert_array_equal(found.indices, ones.indices)
        np.testing.assert_array_equal(found.indptr, ones.indptr)
        np.testing.assert_array_equal(found.toarray(), value.T if turned else value)
        assert found.data.dtype == np.float32
        assert found.indices.dtype == found.indptr.dtype == np.int32


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("of", [pruned, dense])
def test_logits_by_live_weights_alone_are_those_of_the_model(name, of, tmp_path):
    saved = of(name)
    export_csr(tmp_path / "model", saved)
    model = read_csr(tmp_path / "model")
    assert model.vocabulary == WORDS
    carry = csr_carry(model)
    exact = logits(saved)
    for token, expected in zip(TOKENS[:, 0], exact[:, 0], strict=True):
        found, carry = csr_step(model, token, carry)
        assert found.dtype == np.float32
        # Sums of some ten products of order 1 in another order, over seven steps.
        np.testing.assert_allclose(found, expected, atol=2e-5)


def test_large_preactivations_do_not_overflow(tmp_path):
    saved = pruned("lstm")
    large = jax.tree.map(lambda leaf: 1e4 * leaf, saved.params)
    export_csr(tmp_path / "model", saved._replace(params=large))
    model = read_csr(tmp_path / "model")
    found, _ = csr_step(model, 3, csr_carry(model))  # warnings are errors
    assert np.isfinite(found).all()


@pytest.mark.parametrize("token", [-1, V])
def test_a_token_that_is_no_row_is_refused(token, tmp_path):
    export_csr(tmp_path / "model", pruned("lstm"))
    model = read_csr(tmp_path / "model")
    with pytest.raises(ConfigError, match=rf"`token` must lie in \[0, 11\), got {token}"):
        csr_step(model, token, csr_carry(model))


@pytest.mark.parametrize("name", OF_TORCH)
def test_a_state_dict_comes_back_from_torch_bit_for_bit(name):
    saved = pruned(name)
    found = from_torch(to_torch(saved.model.config, saved.params), [str(i) for i in range(V)])
    assert bits(found.params) == bits(saved.params)
    assert found.model.config.widths == saved.model.config.widths
    assert found.model.config.tied == saved.model.config.tied


@pytest.mark.parametrize("name", OF_TORCH)
def test_a_file_for_torch_gives_back_masks_and_words_too(name, tmp_path):
    for saved in (pruned(name), dense(name)):
        export_torch(tmp_path / "model.torch.safetensors", saved)
        same(load_torch(tmp_path / "model.torch.safetensors"), saved)
    names = [path.name for path in tmp_path.iterdir()]
    assert names == ["model.torch.safetensors"]  # the masks of the pruned one went


def torch_module(config):
    torch = pytest.importorskip("torch")
    kind = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "tanh": torch.nn.RNN}[config.cell]

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = torch.nn.Embedding(config.vocab_size, config.embed_size)
            if config.layer_sizes:
                below = (config.embed_size, *config.widths)
                pairs = zip(below, config.widths, strict=False)
                self.rnns = torch.nn.ModuleList([kind(*pair) for pair in pairs])
            else:
                self.rnn = kind(config.embed_size, config.hidden_size, config.num_layers)
            self.decoder = torch.nn.Linear(config.widths[-1], config.vocab_size)
            if config.tied:
                self.decoder.weight = self.embedding.weight

        def forward(self, tokens):
            x = self.embedding(tokens)
            for layer in self.rnns if config.layer_sizes else [self.rnn]:
                x, _ = layer(x)
            return self.decoder(x)

    return Model()


@pytest.mark.parametrize("name", OF_TORCH)
def test_torch_loads_the_file_and_computes_the_same_logits(name, tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file

    saved = pruned(name)
    export_torch(tmp_path / "model.torch.safetensors", saved)
    module = torch_module(saved.model.config)
    module.load_state_dict(load_file(tmp_path / "model.torch.safetensors"), strict=True)
    with torch.no_grad():
        found = module(torch.from_numpy(TOKENS.astype(np.int64))).numpy()
    np.testing.assert_allclose(found, logits(saved), atol=2e-5)
    masks = load_file(tmp_path / "model.torch.masks.safetensors")
    parameters = dict(module.named_parameters())
    for name, mask in masks.items():
        if name in parameters:  # a tied table is one parameter
            assert not parameters[name][~mask].any()
            assert mask.dtype == torch.bool


@pytest.mark.parametrize("name", ["rhn", "uncoupled rhn"])
def test_a_highway_network_is_refused_for_torch_in_one_line(name, tmp_path):
    message = "`cell` must be lstm, gru or tanh for a state dict of PyTorch, .* got 'rhn': export"
    with pytest.raises(ConfigError, match=message):
        to_torch(CONFIGS[name], pruned(name).params)
    with pytest.raises(ConfigError, match=message):
        export_torch(tmp_path / "model", pruned(name))
    assert not list(tmp_path.iterdir())


def test_pruned_biases_are_refused_for_torch_and_kept_elsewhere(tmp_path):
    saved = pruned("lstm")
    masks = jax.tree.map(np.array, saved.masks)
    masks["decoder"]["b"][3] = False
    saved = saved._replace(params=apply_masks(saved.params, masks), masks=masks)
    with pytest.raises(ConfigError, match=r"`saved` must have no pruned biases, .*\['decoder/b'\]"):
        export_torch(tmp_path / "model", saved)
    for write, read in ((export_npz, load_npz), (export_csr, load_csr)):
        write(tmp_path / "model", saved)
        same(read(tmp_path / "model"), saved)


def test_weights_that_masks_exclude_are_written_as_zeros(tmp_path):
    saved = pruned("lstm")
    unmasked = jax.tree.map(
        lambda leaf, mask: np.where(mask, leaf, np.float32(7)), saved.params, saved.masks
    )
    for name, (file, _, write, read) in FORMATS.items():
        write(tmp_path / name / file if name == "safetensors" else tmp_path / file, saved)
        path = tmp_path / name / file if name == "safetensors" else tmp_path / file
        write(path, saved._replace(params=unmasked))
        same(read(path), saved)


def edit(path, change):
    with np.load(path) as file:
        arrays = dict(file)
    change(arrays)
    with path.open("wb") as file:
        np.savez(file, **arrays)


def set_first(name, value):
    return lambda arrays: arrays[name].flat.__setitem__(0, value)


def repeat_a_column(arrays):
    row = int(np.argmax(np.diff(arrays["layers_0/U/indptr"]) > 1))
    first = arrays["layers_0/U/indptr"][row]
    arrays["layers_0/U/indices"][first + 1] = arrays["layers_0/U/indices"][first]


BROKEN = [
    (lambda arrays: arrays.pop("header"), "header"),
    (lambda arrays: arrays.update(header=np.frombuffer(b"[1]", np.uint8)), ""),
    (lambda arrays: arrays.pop("decoder/b"), "decoder/b is missing"),
    (lambda arrays: arrays.pop("layers_0/U/indptr"), "layers_0/U is missing"),
    (
        lambda arrays: arrays.update({"decoder/b": np.zeros(3, np.float32)}),
        "decoder/b does not fit",
    ),
    (lambda arrays: arrays.update({"decoder/b": np.zeros(V)}), "decoder/b does not fit"),
    (set_first("layers_0/U/shape", 21), ""),
    (set_first("layers_0/U/indices", 5), ""),
    (set_first("layers_0/U/indices", -1), ""),
    (set_first("layers_0/U/indptr", 1), ""),
]


@pytest.mark.parametrize(("change", "words"), BROKEN)
@pytest.mark.parametrize("read", [load_csr, read_csr])
def test_an_archive_that_does_not_fit_together_is_refused_in_one_line(
    change, words, read, tmp_path
):
    path = tmp_path / "model.csr.npz"
    export_csr(path, pruned("lstm"))
    edit(path, change)
    refused(path, read, words)


def refused(path, read, words=""):
    with pytest.raises(ConfigError) as caught:
        read(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    assert words in message


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (repeat_a_column, "layers_0/U has two weights in one place"),
        (lambda arrays: arrays.update(more=np.zeros(3)), "leave no place for more"),
    ],
)
def test_an_archive_with_something_left_over_is_refused(change, words, tmp_path):
    export_csr(tmp_path / "model", pruned("lstm"))
    edit(tmp_path / "model", change)
    refused(tmp_path / "model", load_csr, words)


@pytest.mark.parametrize("name", ["npz", "csr", "torch"])
def test_a_missing_a_cut_and_a_meaningless_file_are_refused_in_one_line(name, tmp_path):
    file, _, write, read = FORMATS[name]
    path = tmp_path / file
    refused(path, read)
    write(path, pruned("lstm"))
    data = path.read_bytes()
    for broken in (data[:-30], data[: len(data) // 2], b"", b"\x80\x04nothing"):
        path.write_bytes(broken)
        refused(path, read)


def test_one_layout_is_not_read_as_the_other(tmp_path):
    export_npz(tmp_path / "model", dense("lstm"))
    refused(tmp_path / "model", load_csr, "its format is (1, 'dense'), this reads (1, 'csr')")
    refused(tmp_path / "model", read_csr, "its format is")


def test_a_pickle_is_never_read(tmp_path):
    with (tmp_path / "model").open("wb") as file:
        np.savez(file, header=np.array([print], object))
    refused(tmp_path / "model", load_npz)


def test_masks_for_torch_that_are_gone_or_damaged_are_refused(tmp_path):
    path, masks = tmp_path / "model.torch.safetensors", tmp_path / "model.torch.masks.safetensors"
    export_torch(path, pruned("lstm"))
    tensors = load_tensors(masks)
    save_tensors(masks, {**tensors, "rnn.weight_hh_l0": np.ones((3, 3), bool)})
    refused(path, load_torch, "the mask of rnn.weight_hh_l0 does not fit its sizes")
    del tensors["rnn.weight_hh_l0"]
    save_tensors(masks, tensors)
    refused(path, load_torch, "rnn.weight_hh_l0")
    masks.unlink()
    refused(path, load_torch)


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "model"
    save_model(path, *pruned("lstm"))
    return path


def test_every_difference_between_two_models_is_found():
    saved = pruned("lstm")
    assert difference(saved, saved) is None
    assert difference(saved, saved._replace(vocabulary=WORDS[:3])) == "its words"
    assert difference(saved, pruned("gru")) == "its sizes"
    params, masks = (jax.tree.map(np.array, tree) for tree in (saved.params, saved.masks))
    masks["layers_1"]["U"][2, 2] ^= True
    assert difference(saved, saved._replace(masks=masks)) == "the mask of layers_1/U"
    params["decoder"]["b"][0] = -params["decoder"]["b"][0]
    assert difference(saved, saved._replace(params=params)) == "the values of decoder/b"


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_that_differs_once_it_is_read_is_a_failure(name, tmp_path, monkeypatch):
    broken = FORMATS[name]._replace(read=lambda path: dense("lstm"))
    monkeypatch.setitem(FORMATS, name, broken)
    with pytest.raises(OSError, match="read again it differs in the mask of"):
        export_model(pruned("lstm"), name, tmp_path)


def test_the_command_writes_every_format_and_says_how_large_it_is(model_path, tmp_path, capsys):
    out = tmp_path / "exported"
    assert main([str(model_path.parent), f"--out={out}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == list(FORMATS)
    for line, (name, pattern, _, read) in zip(lines, FORMATS.values(), strict=True):
        total = sum(path.stat().st_size for path in out.glob(pattern))
        assert f"{out / name}, {total:,} bytes; read again: the same bits" in line
        same(read(out / name), pruned("lstm"))
    every = {path for pattern in FORMATS.values() for path in out.glob(pattern.files)}
    assert every == {path for path in out.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["no/such/model", "--out={out}"], "must be a saved model with a model.json"),
        (["{model}", "--out={model}"], "--out must be a new or empty directory"),
        (["{model}", "--out={out}", "--to=npz,onnx"], "--to must be one of npz, csr, torch, safe"),
        (["{model}", "--out={out}", "--to="], "--to must be one of npz, csr, torch, safetensors"),
    ],
)
def test_bad_input_gets_one_clear_line_and_status_2(flags, message, model_path, tmp_path, capsys):
    places = {"model": model_path, "out": tmp_path / "out"}
    assert main([flag.format(**places) for flag in flags]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_highway_network_is_written_in_all_other_formats(tmp_path, capsys):
    save_model(tmp_path / "model", *pruned("rhn"))
    assert main([str(tmp_path / "model"), f"--out={tmp_path / 'all'}"]) == 0
    assert {line.partition(":")[0] for line in capsys.readouterr().out.splitlines()} == {
        *FORMATS
    } - {"torch"}
    assert main([str(tmp_path / "model"), f"--out={tmp_path / 'x'}", "--to=npz,torch"]) == 2
    assert "has no recurrent highway network" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_the_header_of_a_file_for_torch_holds_the_words(tmp_path):
    from safetensors import safe_open

    export_torch(pathlib.Path(tmp_path / "model.safetensors"), pruned("lstm"))
    with safe_open(tmp_path / "model.safetensors", "np") as file:
        header = json.loads(file.metadata()["lsh_jax"])
    assert tuple(header["vocabulary"]) == WORDS
    assert header["config"]["cell"] == "lstm"
