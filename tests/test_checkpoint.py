import functools
import json
import shutil
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsh_jax.checkpoint import (
    CheckpointError,
    remove_checkpoint,
    restore_checkpoint,
    save_checkpoint,
    write_json,
)
from lsh_jax.config import ModelConfig, SparsityConfig, TrainConfig
from lsh_jax.data.batching import Windows
from lsh_jax.language_models import make_language_model
from lsh_jax.sparsity import controls, dynamic_sparsity
from lsh_jax.training import TrainState, init_train_state, train_segment
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


@pytest.fixture(scope="module")
def written(state, tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoints") / "deep" / "3"
    save_checkpoint(path, state)
    return path


@pytest.fixture
def path(written, tmp_path):
    """A copy of the checkpoint, to be damaged."""
    shutil.copytree(written.parent, tmp_path / "run")
    return tmp_path / "run" / written.name


def manifest_of(path):
    return path.with_name(path.name + ".json")


def flip(file, position):
    data = bytearray(file.read_bytes())
    data[position] ^= 1
    file.write_bytes(bytes(data))


def test_a_training_state_comes_back_bit_for_bit_and_trains_on_alike(state, written):
    kinds = {str(leaf.dtype) for leaf in jax.tree.leaves(state)}
    assert kinds == {"float32", "int32", "bool", "key<fry>"}
    back = restore_checkpoint(written, state)
    assert isinstance(back, TrainState)
    assert bits(back) == bits(state)
    on, back_on = (train(one, HYPER, WINDOWS, jax.random.key(2)) for one in (state, back))
    assert bits(on) == bits(back_on)


def test_the_template_may_be_of_shapes_only(state, written):
    template = jax.eval_shape(lambda: state)
    assert bits(restore_checkpoint(written, template)) == bits(state)


def test_numbers_that_are_not_numbers_come_back_too(tmp_path):
    odd = {"x": jnp.array([np.nan, np.inf, -0.0, 1e-45])}
    save_checkpoint(tmp_path / "odd", odd)
    assert bits(restore_checkpoint(tmp_path / "odd", odd)) == bits(odd)


@pytest.mark.parametrize("part", [0.0, 0.5, 1.0])
def test_a_flipped_bit_in_any_file_is_noticed(state, path, part):
    files = [file for file in path.rglob("*") if file.is_file() and file.stat().st_size]
    assert len(files) > 3
    for file in files:
        position = round(part * (file.stat().st_size - 1))
        flip(file, position)
        with pytest.raises(CheckpointError, match=str(path)):
            restore_checkpoint(path, state)
        flip(file, position)
    assert bits(restore_checkpoint(path, state)) == bits(state)


def test_a_flipped_bit_in_the_manifest_is_noticed_or_harmless(state, path):
    size = manifest_of(path).stat().st_size
    for position in range(0, size, size // 40):
        flip(manifest_of(path), position)
        try:
            assert bits(restore_checkpoint(path, state)) == bits(state)
        except CheckpointError as error:
            assert str(path) in str(error)
        flip(manifest_of(path), position)


def test_a_truncated_a_missing_and_a_foreign_file_are_noticed(state, path):
    for file in [file for file in path.rglob("*") if file.is_file() and file.stat().st_size]:
        data = file.read_bytes()
        file.write_bytes(data[:-1])
        with pytest.raises(CheckpointError, match=str(path)):
            restore_checkpoint(path, state)
        file.unlink()
        with pytest.raises(CheckpointError, match=str(path)):
            restore_checkpoint(path, state)
        file.write_bytes(data)
    (path / "more").write_text("")
    with pytest.raises(CheckpointError, match="damaged"):
        restore_checkpoint(path, state)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "{}", '{"sha256": {}}', "\x00"])
def test_a_damaged_manifest_is_noticed(state, path, text):
    manifest_of(path).write_text(text)
    with pytest.raises(CheckpointError, match=str(path)):
        restore_checkpoint(path, state)


def test_a_missing_checkpoint_and_one_without_its_manifest_are_refused(state, path):
    with pytest.raises(CheckpointError, match="elsewhere"):
        restore_checkpoint(path / "elsewhere", state)
    manifest_of(path).unlink()  # written last: this one was cut short
    with pytest.raises(CheckpointError, match=f"no complete checkpoint at {path}"):
        restore_checkpoint(path, state)
    shutil.rmtree(path)
    with pytest.raises(CheckpointError, match=str(path)):
        restore_checkpoint(path, state)


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state._replace(num_segments=np.float32(0)),  # another dtype
        lambda state: state._replace(topology_key=jax.random.key(1, impl="rbg")),
        lambda state: state._replace(num_segments=np.zeros(2, np.int32)),  # another shape
        lambda state: state._replace(opt_state=np.zeros(3)),  # more
        lambda state: state._replace(carry=()),  # fewer
    ],
)
def test_a_template_of_another_state_is_refused_not_converted(state, written, change):
    with pytest.raises(CheckpointError, match=str(written)):
        restore_checkpoint(written, change(state))


def test_a_checkpoint_is_replaced_and_removed_as_a_whole(tmp_path):
    path, other = tmp_path / "1", tmp_path / "10"
    first, second = {"a": jnp.arange(3)}, {"a": jnp.arange(4.0), "b": jax.random.key(1)}
    save_checkpoint(path, first)
    save_checkpoint(other, first)
    save_checkpoint(path, second)
    assert bits(restore_checkpoint(path, second)) == bits(second)
    with pytest.raises(CheckpointError):
        restore_checkpoint(path, first)
    remove_checkpoint(path)
    assert {file.name for file in tmp_path.iterdir()} == {"10", "10.json"}
    remove_checkpoint(path)  # once more is no error
    assert bits(restore_checkpoint(other, first)) == bits(first)


def test_json_is_written_whole_and_strict(tmp_path):
    path = tmp_path / "new" / "a.json"
    write_json(path, {"word": "日本", "n": 1})
    assert json.loads(path.read_text(encoding="utf-8")) == {"word": "日本", "n": 1}
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"n": float("nan")})
    assert json.loads(path.read_text(encoding="utf-8"))["n"] == 1
    assert [file.name for file in path.parent.iterdir()] == ["a.json"]


def test_an_interrupt_waits_for_the_checkpoint_under_way(tmp_path, monkeypatch):
    """Orbax's threads would go on without their event loop, and say so at length."""
    import orbax.checkpoint as ocp

    save = ocp.Checkpointer.save
    finished = []

    def interrupted_save(self, *arguments, **options):
        signal.raise_signal(signal.SIGINT)
        save(self, *arguments, **options)
        finished.append(True)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(ocp.Checkpointer, "save", interrupted_save)
            save_checkpoint(tmp_path / "1", {"w": jnp.ones(3)})
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert finished
    save_checkpoint(tmp_path / "1", {"w": jnp.ones(3)})
    assert restore_checkpoint(tmp_path / "1", {"w": jnp.zeros(3)})["w"].sum() == 3


def assert_no_pickle(folder, at_least):
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert len(files) >= at_least
    for file in files:
        assert file.suffix not in {".pkl", ".pickle", ".npy", ".npz", ".pt", ".msgpack"}
        data = file.read_bytes()
        is_pickle = data[:1] == b"\x80" and data[1:2] in b"\x02\x03\x04\x05" and data[-1:] == b"."
        assert not is_pickle


def test_no_file_is_a_pickle(written):
    assert_no_pickle(written.parent, 5)
