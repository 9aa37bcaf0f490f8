"""Biases that stand for the sum of two, against PyTorch, which keeps both."""

import dataclasses
import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lsh_jax.averaging import snt_asgd, start_averaging
from lsh_jax.config import ModelConfig, TrainConfig
from lsh_jax.data.batching import Windows
from lsh_jax.language_models import bias_copies, make_language_model
from lsh_jax.optimizers import clipped_sgd, masked_sgd
from lsh_jax.sparsity import SparsityState
from lsh_jax.training import TrainState, train_segment
from lsh_jax.types import Hyper

V, E, H, T, B = 7, 3, 4, 5, 2  # as in references/make_torch_two_biases.py, as are the settings
CONFIGS = {
    "lstm": ModelConfig("lstm", V, E, H, 2, two_biases=True),
    "gru": ModelConfig("gru", V, E, H, 1, two_biases=True),
}
RECIPE = TrainConfig(batch_size=B, bptt=T, segments_per_epoch=1)
HYPER = Hyper(*np.float32([2.0, 0.325, 0.05, 0, 0, 0, 0]))
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def reference():
    return np.load(pathlib.Path(__file__).parent / "references" / "torch_two_biases.npz")


def by_paths(reference, prefix):
    """The arrays of the reference below a prefix, by the paths of the parameters."""
    names = [name for name in reference.files if name.startswith(prefix)]
    return {tuple(name.removeprefix(prefix).split("/")): reference[name] for name in names}


def paths_of(tree):
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {tuple(entry.key for entry in path): np.asarray(leaf) for path, leaf in leaves}


def distance(config, reference, recipe):
    """Of the parameters after three windows from those of torch, the largest, of every leaf; and
    how far the latter have moved."""
    model = make_language_model(config)
    start, end = (by_paths(reference, f"{part}/{config.cell}/") for part in ("start", "end"))
    shapes = jax.eval_shape(model.init, KEY)
    params = jax.tree_util.tree_map_with_path(
        lambda path, _: np.float32(start[tuple(entry.key for entry in path)]), shapes
    )
    masks = jax.tree.map(lambda leaf: np.ones(leaf.shape, bool), params)
    opt_state = masked_sgd(0.0, clip=1.0).init(params)
    if recipe.averaging == "nt-asgd":
        opt_state = start_averaging(snt_asgd(0.0, clip=1.0).init(params), params, masks)
    state = TrainState(
        params=params,
        opt_state=opt_state,
        sparsity=SparsityState(masks, masks, np.float32(0), np.int32(0), None),
        carry=model.init_carry(B),
        num_segments=np.int32(0),
        topology_key=KEY,
        averaging=np.bool_(False),
        val_nlls=np.full(6, np.inf, np.float32),
    )
    arrays = (np.int32(reference[name]) for name in ("inputs", "targets"))
    windows = Windows(*arrays, np.ones((3, T, B), np.float32))
    train = jax.jit(functools.partial(train_segment, model, recipe))
    found = paths_of(train(state, HYPER, windows, KEY)[0].params)
    assert set(found) == set(end)
    apart = max(np.max(np.abs(found[path] - end[path])) for path in end)
    return apart, min(np.max(np.abs(end[path] - start[path])) for path in end)


@pytest.mark.parametrize(("cell", "averaging"), [("lstm", "none"), ("gru", "nt-asgd")])
def test_training_from_summed_biases_is_that_of_torch_with_both(reference, cell, averaging):
    assert np.max(reference[f"norms/{cell}"]) > HYPER.clip  # some windows are clipped
    recipe = dataclasses.replace(RECIPE, averaging=averaging)
    apart, moved = distance(CONFIGS[cell], reference, recipe)
    assert apart < 1e-5  # float32; torch divides by norm + 1e-6, three times
    assert moved > 0.01


def test_one_bias_moves_less_and_so_departs_from_torch(reference):
    assert np.min(reference["norms/lstm"]) < HYPER.clip  # and some are not
    config = dataclasses.replace(CONFIGS["gru"], two_biases=False)
    apart, _ = distance(config, reference, RECIPE)
    assert apart > 1e-3


def copies_of(config):
    of = bias_copies(config)
    shapes = jax.eval_shape(make_language_model(config).init, KEY)
    tree = jax.tree_util.tree_map_with_path(
        lambda path, leaf: np.broadcast_to(
            of(tuple(entry.key for entry in path), leaf), leaf.shape
        ),
        shapes,
    )
    return paths_of(tree)


def test_every_bias_that_torch_keeps_twice_counts_twice_and_nothing_else_does():
    expected = {
        "lstm": {"b": [2] * 4 * H},
        "gru": {"b": [2] * 2 * H + [1] * H},  # of n, the second is b_n
        "tanh": {"b": [2] * H},
    }
    for cell, doubled in expected.items():
        config = ModelConfig(cell, V, E, H, 2, two_biases=True)
        for path, copies in copies_of(config).items():
            own = doubled.get(path[-1], 1) if path[0].startswith("layers") else 1
            np.testing.assert_array_equal(copies, np.broadcast_to(own, copies.shape))
        plain = copies_of(dataclasses.replace(config, two_biases=False))
        assert {int(copies.max()) for copies in plain.values()} == {1}


@functools.partial(jax.jit, static_argnames="counted")
def stepped(params, grads, clip, counted):
    copies = {"w": 1, "b": jnp.array([2, 1, 3])} if counted else None
    optimizer = clipped_sgd(1.0, clip=clip, weight_decay=0.1, momentum=0.5, copies=copies)
    state = optimizer.init(params)
    for _ in range(2):
        updates, state = optimizer.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    return params


@pytest.mark.parametrize("clip", [0.5, np.inf])
def test_copies_move_as_their_addends_would_together(clip):
    w, b, slope = (
        np.float32([0.3, -2.0]),
        np.float32([0.6, 1.0, -0.9]),
        np.float32([0.2, -0.4, 0.1]),
    )
    shares = [np.float32([0.5, 1, 1 / 3]), np.float32([0.5, 0, 1 / 3]), np.float32([0, 0, 1 / 3])]
    addends = {f"b{i}": b * share for i, share in enumerate(shares)}
    slopes = {f"b{i}": np.where(share > 0, slope, 0) for i, share in enumerate(shares)}
    alone = stepped({"w": w, "b": b}, {"w": 0.1 * w, "b": slope}, clip, counted=True)
    split = stepped({"w": w, **addends}, {"w": 0.1 * w, **slopes}, clip, counted=False)
    np.testing.assert_allclose(alone["w"], split["w"], rtol=1e-6)
    np.testing.assert_allclose(alone["b"], sum(split[name] for name in addends), rtol=1e-5)


def initial(cell, **settings):
    config = ModelConfig(cell, 30, 100, 100, 1, **settings)
    return jax.jit(make_language_model(config).init)(KEY)


def test_biases_start_as_sums_of_two_uniforms_but_that_of_n():
    # Of U(-1, 1) the standard deviation is 1 / sqrt(3) = 0.58, of the sum of two sqrt(2 / 3), 0.82.
    params, plain = (initial("gru", two_biases=both)["layers_0"] for both in (True, False))
    single = 10 * np.asarray(plain["b"])
    summed = 10 * np.asarray(params["b"])
    assert np.max(np.abs(single)) <= 1
    assert 1.6 < np.max(np.abs(summed)) <= 2
    np.testing.assert_allclose(np.std(summed[:200]), np.sqrt(2 / 3), rtol=0.15)
    np.testing.assert_allclose(np.std(single[:200]), np.sqrt(1 / 3), rtol=0.15)
    added = (summed - single)[:200]
    assert abs(np.corrcoef(added, single[:200])[0, 1]) < 0.2  # two draws, not one doubled
    np.testing.assert_array_equal(summed[200:], single[200:])
    for name in ("W", "U", "b_n"):
        np.testing.assert_array_equal(params[name], plain[name])


def test_a_bound_holds_for_every_weight_and_is_filled():
    for path, leaf in paths_of(initial("lstm", init_bound=0.04, two_biases=True)).items():
        if path == ("decoder", "b"):
            np.testing.assert_array_equal(leaf, 0)
            continue
        num_summed = 2 if path[-1] == "b" else 1
        assert 0.036 * num_summed < np.max(np.abs(leaf)) <= 0.04 * num_summed
        np.testing.assert_allclose(np.std(leaf), 0.04 * np.sqrt(num_summed / 3), rtol=0.15)


@pytest.mark.parametrize("start", [0.0, 1.5])
def test_the_biases_of_the_transform_gate_start_where_the_setting_says(start):
    params = initial("rhn", transform_bias=start, depth=2, coupled=False)["layers_0"]
    for name in ("b", "b_1"):
        h, t, c = np.split(np.asarray(params[name]), 3)
        assert 0.09 < np.max(np.abs(h)) <= 0.1
        if start:
            np.testing.assert_array_equal(t, np.float32(start))
            np.testing.assert_array_equal(c, np.float32(-start))
        else:
            for drawn in (t, c):
                assert 0.09 < np.max(np.abs(drawn)) <= 0.1
                assert len(set(drawn.tolist())) == 100
