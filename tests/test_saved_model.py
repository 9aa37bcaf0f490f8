import functools
import json
import shutil

import jax
import numpy as np
import pytest
import safetensors.numpy

from lsh_jax.checkpoint import write_json
from lsh_jax.config import ConfigError, ModelConfig, SparsityConfig, TrainConfig
from lsh_jax.data.batching import Windows
from lsh_jax.language_models import make_language_model
from lsh_jax.saved_model import load_model, save_model
from lsh_jax.sparsity import controls, dynamic_sparsity
from lsh_jax.training import init_train_state, train_segment
from lsh_jax.types import Hyper

V, E, H = 7, 3, 5
MODEL = make_language_model(ModelConfig("lstm", V, E, H, 1))
RECIPE = TrainConfig(batch_size=2, segments_per_epoch=2)
VOCABULARY = ("<unk>", "word", "naïve", "Ελλάδα", "日本", '"\\\n', "🦎")
TOKENS = np.random.default_rng(0).integers(V, size=(5, 2)).astype(np.int32)
WINDOWS = Windows(TOKENS[None, :-1], TOKENS[None, 1:], np.ones((1, 4, 2), np.float32))
HYPER = Hyper(*np.float32([1.0, 0.25, 1e-3, 0.1, 0.1, 0.1, 0.1]))

train = jax.jit(functools.partial(train_segment, MODEL, RECIPE))


def is_key(leaf):
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def bits(tree):
    """Structure, types and bytes of a tree."""
    leaves, treedef = jax.tree.flatten(tree)
    return treedef, [
        (str(leaf.dtype), leaf.shape, np.asarray(jax.random.key_data(leaf)).tobytes())
        if is_key(leaf)
        else (str(leaf.dtype), leaf.shape, np.asarray(leaf).tobytes())
        for leaf in leaves
    ]


@pytest.fixture(scope="module")
def state():
    """A training state after a segment: keys, NamedTuples, bools, integers and floats."""

    @jax.jit
    def init(init_key, topology_key):
        own = controls(SparsityConfig(sparsity=0.6))
        return init_train_state(MODEL, dynamic_sparsity(), RECIPE, init_key, topology_key, own)

    start = init(jax.random.key(0), jax.random.key(1))
    return train(start, HYPER, WINDOWS, jax.random.key(2))[0]


def flip(file, position):
    data = bytearray(file.read_bytes())
    data[position] ^= 1
    file.write_bytes(bytes(data))


@pytest.fixture(scope="module")
def released(state, tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "model"
    save_model(path, MODEL, state.params, state.sparsity.masks, VOCABULARY)
    return path


@pytest.fixture
def model_path(released, tmp_path):
    """A copy of the model, to be damaged."""
    shutil.copytree(released, tmp_path / "model")
    return tmp_path / "model"


def test_a_model_comes_back_bit_for_bit_with_masks_and_words(state, released):
    saved = load_model(released)
    assert bits(saved.params) == bits(state.params)
    assert bits(saved.masks) == bits(state.sparsity.masks)
    assert saved.vocabulary == VOCABULARY
    assert saved.model.config == MODEL.config
    tokens = WINDOWS.inputs[0]
    own, loaded = (m.apply(state.params, tokens, m.init_carry(2))[0] for m in (MODEL, saved.model))
    np.testing.assert_array_equal(own, loaded)


def test_a_run_directory_stands_for_the_model_in_it(released):
    assert load_model(str(released.parent)).vocabulary == VOCABULARY


def test_live_zeros_signs_and_wholly_dead_and_wholly_dense_leaves_survive(state, tmp_path):
    params = jax.tree.map(lambda leaf: np.array(leaf), state.params)
    masks = jax.tree.map(lambda leaf: np.array(leaf), state.sparsity.masks)
    params["decoder"]["W"][:] = masks["decoder"]["W"][:] = 0
    masks["layers_0"]["W"][:] = True  # zeros that live
    masks["layers_0"]["U"][0, 0], params["layers_0"]["U"][0, 0] = True, -0.0
    save_model(tmp_path, MODEL, params, masks, VOCABULARY[:2])
    saved = load_model(tmp_path)
    assert bits(saved.params) == bits(params)
    assert bits(saved.masks) == bits(masks)
    assert saved.vocabulary == VOCABULARY[:2]


def test_only_live_values_and_one_bit_a_weight_are_stored(state, released):
    tensors = safetensors.numpy.load_file(released / "weights.safetensors")
    pruned = {"decoder/W": (H, V), "embedding/table": (V, E)}
    pruned |= {"layers_0/W": (E, 4 * H), "layers_0/U": (H, 4 * H)}
    dense = {"decoder/b": (V,), "layers_0/b": (4 * H,)}
    expected = dict(dense)
    for name, shape in pruned.items():
        layer, leaf = name.split("/")
        mask = np.asarray(state.sparsity.masks[layer][leaf])
        expected[f"{name}/values"] = (int(mask.sum()),)
        expected[f"{name}/mask"] = (-(-mask.size // 8),)  # bits, rounded up to bytes
        # By hand: bit i of byte j, the lowest first, is weight 8 j + i in C order.
        packed = tensors[f"{name}/mask"]
        own = [packed[k // 8] >> (k % 8) & 1 for k in range(mask.size)]
        np.testing.assert_array_equal(np.reshape(own, shape), mask)
        values = np.asarray(state.params[layer][leaf]).ravel()[np.flatnonzero(mask)]
        np.testing.assert_array_equal(tensors[f"{name}/values"], values)
    assert {name: array.shape for name, array in tensors.items()} == expected
    live = 4 * sum(int(mask.sum()) for mask in jax.tree.leaves(state.sparsity.masks))
    masks = sum(-(-np.prod(shape) // 8) for shape in pruned.values())
    header = 8 + 1024
    assert live + masks < (released / "weights.safetensors").stat().st_size < live + masks + header


def test_more_words_than_the_model_knows_are_refused(state, tmp_path):
    with pytest.raises(ConfigError, match=r"`vocabulary` .* got 8"):
        save_model(tmp_path, MODEL, state.params, state.sparsity.masks, (*VOCABULARY, "more"))


def refused(path, *words):
    with pytest.raises(ConfigError) as caught:
        load_model(path)
    message = str(caught.value)
    assert "\n" not in message
    for word in (str(path), *words):
        assert word in message
    return message


@pytest.mark.parametrize("name", ["weights.safetensors", "vocabulary.json", "model.json"])
def test_a_missing_a_cut_and_a_meaningless_file_are_refused_in_one_line(model_path, name):
    file = model_path / name
    data = file.read_bytes()
    file.write_bytes(data[:-3])
    refused(model_path, name)
    file.write_bytes(b"\xff\xfe nothing")
    refused(model_path, name)
    file.write_bytes(b"")
    refused(model_path, name)
    file.unlink()
    refused(model_path, name)


def test_a_directory_that_is_none_is_refused(tmp_path):
    refused(tmp_path / "nowhere", "model.json")
    (tmp_path / "model").mkdir()  # of a run on a task of one's own
    (tmp_path / "model" / "params.json").write_text("{}")
    refused(tmp_path, "read them with `load_params`")


def edit_json(file, change):
    values = json.loads(file.read_text(encoding="utf-8"))
    write_json(file, change(values))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda header: [], "model.json"),
        (lambda header: header | {"format": 2}, "format is 2"),
        (lambda header: {"config": header["config"]}, "format"),
        (lambda header: {"format": 1}, "ModelConfig"),
        (lambda header: header | {"config": {"depth": 3}}, "depth"),
        (lambda header: header | {"config": header["config"] | {"hidden_size": "5"}}, "hidden"),
        (lambda header: header | {"config": header["config"] | {"hidden_size": 10**30}}, ""),
    ],
)
def test_a_header_that_cannot_be_meant_is_refused(model_path, change, word):
    edit_json(model_path / "model.json", change)
    assert not refused(model_path, word).endswith("..")


@pytest.mark.parametrize("value", [{}, 3, [1, 2], ["word"] * 8])
def test_a_vocabulary_that_is_no_list_of_that_many_words_is_refused(model_path, value):
    write_json(model_path / "vocabulary.json", value)
    refused(model_path)


@pytest.mark.parametrize("field", ["vocab_size", "embed_size", "hidden_size", "num_layers"])
@pytest.mark.parametrize("step", [-1, 1])
def test_weights_of_other_sizes_are_refused(tmp_path, field, step):
    # Sizes of 8: bits fill their bytes, and one size more or less fits the same number of bytes
    # in no leaf.
    config = ModelConfig("lstm", 8, 4, 4, 2)
    model = make_language_model(config)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    params = jax.tree.map(lambda leaf: np.ones(leaf.shape, np.float32), shapes)
    masks = jax.tree.map(lambda leaf: np.arange(leaf.size).reshape(leaf.shape) % 2 == 0, params)
    save_model(tmp_path, model, params, masks, ["a"])
    load_model(tmp_path)

    def change(header):
        size = header["config"][field] + step
        return header | {"config": header["config"] | {field: size}}

    edit_json(tmp_path / "model.json", change)
    refused(tmp_path)


def edit_tensors(path, change):
    tensors = safetensors.numpy.load_file(path / "weights.safetensors")
    change(tensors)
    safetensors.numpy.save_file(tensors, path / "weights.safetensors")


def drop_last(name):
    return lambda tensors: tensors.update({name: tensors[name][:-1].copy()})


def flip_first_bit(tensors):
    tensors["layers_0/W/mask"][0] ^= 1


def set_a_bit_beyond_the_last_weight(tensors):  # 21 weights, 24 bits: one dies, one is nowhere
    first = int(
        np.flatnonzero(np.unpackbits(tensors["embedding/table/mask"], bitorder="little"))[0]
    )
    tensors["embedding/table/mask"][first // 8] ^= 1 << first % 8
    tensors["embedding/table/mask"][2] |= 0x80


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda tensors: tensors.pop("layers_0/U/values"), "layers_0/U is missing"),
        (lambda tensors: tensors.pop("layers_0/U/mask"), "layers_0/U is missing"),
        (lambda tensors: tensors.pop("decoder/b"), "decoder/b is missing"),
        (lambda tensors: tensors.update({"extra": np.zeros(3)}), "extra"),
        (lambda tensors: tensors.update({"decoder/b": np.zeros(V, np.float64)}), "decoder/b"),
        (lambda tensors: tensors.update({"layers_0/U/values": np.zeros(1, np.float32)}), "/U"),
        (lambda tensors: tensors.update({"layers_0/U/mask": np.zeros(13, np.int32)}), ""),
        (drop_last("decoder/b"), "decoder/b"),
        (drop_last("layers_0/W/values"), "layers_0/W"),
        (drop_last("layers_0/W/mask"), "layers_0/W"),
        (flip_first_bit, "layers_0/W"),
        (set_a_bit_beyond_the_last_weight, "embedding/table"),
    ],
)
def test_weights_that_do_not_fit_together_are_refused(model_path, change, word):
    edit_tensors(model_path, change)
    refused(model_path, word)


def test_a_model_that_was_cut_short_while_it_replaced_another_is_refused(
    state, model_path, monkeypatch
):
    def fail(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(safetensors.numpy, "save_file", fail)
    with pytest.raises(OSError, match="No space"):
        save_model(model_path, MODEL, state.params, state.sparsity.masks, VOCABULARY)
    refused(model_path, "model.json")


def assert_no_pickle(folder, at_least):
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert len(files) >= at_least
    for file in files:
        assert file.suffix not in {".pkl", ".pickle", ".npy", ".npz", ".pt", ".msgpack"}
        data = file.read_bytes()
        is_pickle = data[:1] == b"\x80" and data[1:2] in b"\x02\x03\x04\x05" and data[-1:] == b"."
        assert not is_pickle


def test_no_file_is_a_pickle(released):
    assert_no_pickle(released, 3)
