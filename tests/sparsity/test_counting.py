import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsh_jax.config import ConfigError, ModelConfig
from lsh_jax.language_models import leaf_gates, make_language_model, uses_per_token
from lsh_jax.saved_model import save_model
from lsh_jax.sparsity.counting import (
    TopologyStatistics,
    costs,
    counted_leaves,
    part_counts,
    parts_of,
    topology_shares,
    topology_statistics,
)

PAPER_LSTM = ModelConfig("lstm", 10_000, 1500, 1500, 2)
PAPER_RHN = ModelConfig("rhn", 10_000, 830, 830, 1, depth=10, tied=True)


@functools.cache
def leaves_of(config):
    params = jax.eval_shape(make_language_model(config).init, jax.random.key(0))
    return counted_leaves(params, gates=leaf_gates(config), uses=uses_per_token(config))


TINY = {"a": jax.ShapeDtypeStruct((2, 4), jnp.float32), "b": jax.ShapeDtypeStruct((3,), "float32")}


def two_gates(path, leaf):
    return ("x", "y") if path == ("a",) else ()


def test_the_papers_lstm_has_66_million_weights_and_needs_102_mflop_a_token():
    # Table and decoder 15 M each, W and U of two layers 9 M each; the table is looked up.
    own = costs(leaves_of(PAPER_LSTM))
    assert (own.weights, own.live, own.unmasked) == (66_000_000, 66_000_000, 2 * 6000 + 10_000)
    assert own.flops_forward == 2 * (4 * 9_000_000 + 15_000_000) == 102_000_000
    assert own.flops_training_needed == own.flops_training_executed == 306_000_000
    assert own.bytes_stored == 4 * (66_000_000 + 22_000)


def test_the_papers_rhn_counts_its_tied_table_once_and_needs_46_9_mflop_a_token():
    own = costs(leaves_of(PAPER_RHN))
    assert own.weights == 10_000 * 830 + 11 * 830 * 1660 == 23_455_800
    assert own.flops_forward == 2 * 23_455_800 == 46_911_600
    assert own.unmasked == 10 * 1660 + 10_000


@pytest.mark.parametrize(
    ("config", "gates"),
    [
        (ModelConfig("lstm", 7, 3, 4, 2), ["i", "f", "g", "o"]),
        (ModelConfig("gru", 7, 3, 4, 2), ["r", "z", "n"]),
        (ModelConfig("tanh", 7, 3, 4, 2), ["h"]),
        (ModelConfig("rhn", 7, 3, 4, 1, depth=2), ["h", "t"]),
        (ModelConfig("rhn", 7, 3, 4, 1, depth=2, coupled=False), ["h", "t", "c"]),
        (ModelConfig("lstm", 7, 3, 4, 2, layer_sizes=(4, 5)), ["i", "f", "g", "o"]),
    ],
)
def test_the_gates_of_every_matrix_add_up_to_the_leaf(config, gates):
    for leaf in leaves_of(config):
        parts = [part for part in parts_of(leaves_of(config)) if part.leaf == leaf.name]
        if leaf.prunable:
            assert sum(part.weights for part in parts) == leaf.size
            assert [part.gate for part in parts] == (gates if "layers" in leaf.name else [None])
        else:
            assert not parts and leaf.uses == 0


def test_gates_are_counted_where_the_cell_reads_them():
    # Of the last axis, 4 gates of 2 columns, only g lives: columns 4 and 5.
    config = ModelConfig("lstm", 5, 3, 2, 1)
    masks = jax.tree.map(
        lambda shape: jnp.zeros(shape.shape, bool),
        jax.eval_shape(make_language_model(config).init, jax.random.key(0)),
    )
    masks["layers_0"]["U"] = masks["layers_0"]["U"].at[:, 4:6].set(True)
    counts = part_counts(masks, leaves_of(config)).tolist()
    names = [part.name for part in parts_of(leaves_of(config))]
    found = {name: count for name, count in zip(names, counts, strict=True) if count}
    assert found == {"layers_0/U/g": 4}


@pytest.mark.parametrize(
    ("growth", "steps", "needed", "executed"),
    [
        ("random", 4, 3 * 10, 3 * 16 * 5 // 4),
        ("random_gates", 4, 3 * 10, 60),
        ("gradient", 4, 31, 60),  # (3 x 10 x 4 + 2 x 10 + 16) / 5 = 156 / 5 = 31.2
        ("gradient", 0, 30, 48),
        ("momentum", 4, 2 * 10 + 16, 60),
        ("momentum", 0, 30, 48),
    ],
)
def test_training_needs_the_dense_gradient_where_growth_ranks_by_it(
    growth, steps, needed, executed
):
    # Forward: 2 x 5 live = 10 of 2 x 8 = 16; the vector is added, not multiplied.
    leaves = counted_leaves(TINY, gates=two_gates)
    own = costs(leaves, [1, 4], growth=growth, steps_between_updates=steps)
    assert (own.flops_forward, own.live, own.weights, own.unmasked) == (10, 5, 8, 3)
    assert (own.flops_training_needed, own.flops_training_executed) == (needed, executed)


def test_a_matrix_that_each_token_reads_twice_costs_twice():
    leaves = counted_leaves(TINY, uses=lambda path, leaf: 2 if path == ("a",) else 0)
    assert costs(leaves).flops_forward == 2 * 8 * 2


def test_bytes_are_those_of_values_and_bits_or_of_values_columns_and_rows():
    leaves = counted_leaves(TINY, gates=two_gates)
    own = costs(leaves, [1, 4])
    assert own.bytes_stored == 5 * 4 + 1 + 3 * 4  # 8 bits, and the vector whole
    assert own.bytes_csr == 5 * (4 + 4) + (2 + 1) * 4 + 3 * 4


def test_flops_above_32_bits_are_exact():
    wide = {"a": jax.ShapeDtypeStruct((2**15, 2**15), jnp.float32)}
    assert costs(counted_leaves(wide)).flops_training_needed == 6 * 2**30


@pytest.mark.parametrize("density", [1.0, 0.5, 0.1])
def test_stored_bytes_are_those_of_the_file_but_for_its_header(tmp_path, density):
    config = ModelConfig("lstm", 11, 3, 5, 2)
    model = make_language_model(config)
    params = jax.jit(model.init)(jax.random.key(0))
    rng = np.random.default_rng(0)
    masks = jax.tree.map(
        lambda leaf: (
            rng.random(leaf.shape) < density if leaf.ndim > 1 else np.ones(leaf.shape, bool)
        ),
        params,
    )
    save_model(tmp_path, model, params, masks, ("word",))
    content = (tmp_path / "weights.safetensors").read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    own = costs(leaves_of(config), part_counts(masks, leaves_of(config)).tolist())
    assert own.bytes_stored == len(content) - header


def masks_of(*rows):
    return {"a": jnp.array(rows, bool), "b": jnp.ones(3, bool)}


BEFORE = masks_of([1, 1, 0, 0], [1, 0, 0, 1])
NOW = masks_of([1, 0, 0, 0], [1, 1, 1, 0])
EVER = masks_of([1, 1, 1, 0], [1, 1, 1, 1])


def test_density_overlap_and_exploration_are_those_counted_by_hand():
    leaves = counted_leaves(TINY, gates=two_gates)
    statistics = topology_statistics(NOW, BEFORE, EVER, leaves)
    assert [counts.tolist() for counts in statistics] == [[3, 1], [3, 1], [2, 0], [4, 3]]
    shares = topology_shares(statistics, leaves)
    assert shares.density == {"a/x": 0.75, "a/y": 0.25}
    assert shares.overlap == 0.5  # 2 of 4 stayed
    assert shares.explored == 7 / 8


def test_shares_have_six_digits_and_nothing_loses_nothing():
    leaves = counted_leaves({"a": jax.ShapeDtypeStruct((1, 3), jnp.float32)})
    statistics = TopologyStatistics(*(np.array([n], np.int32) for n in (1, 0, 0, 2)))
    shares = topology_shares(statistics, leaves)
    assert shares == ({"a": 0.333333}, 1.0, 0.666667)


def test_statistics_of_a_vmapped_population_are_those_of_each_and_compile_once():
    leaves = counted_leaves(TINY, gates=two_gates)
    trees = [(NOW, BEFORE, EVER), (BEFORE, NOW, EVER)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
    together = jax.jit(jax.vmap(lambda *masks: topology_statistics(*masks, leaves)))(*stacked)
    for index, tree in enumerate(trees):
        alone = topology_statistics(*tree, counted_leaves(TINY, gates=two_gates))
        jax.tree.map(
            lambda all_, one, index=index: np.testing.assert_array_equal(all_[index], one),
            together,
            alone,
        )
    before = topology_statistics._cache_size()
    topology_statistics(*trees[0], counted_leaves(TINY, gates=two_gates))
    assert topology_statistics._cache_size() == before


def test_leaves_that_are_not_pruned_are_counted_whole():
    leaves = counted_leaves(TINY, prunable=lambda path, leaf: path == ("b",))
    own = costs(leaves, [2])
    assert (own.weights, own.live, own.unmasked) == (3, 2, 8)
    assert own.flops_forward == 2 * 8  # of the matrix, dense
    assert math.isclose(topology_shares(topology_statistics(NOW, NOW, NOW, leaves), leaves)[2], 1)


def test_gates_that_do_not_part_a_leaf_evenly_are_refused():
    with pytest.raises(ConfigError, match="`gates` must divide the last axis of a, 4, got 3"):
        counted_leaves(TINY, gates=lambda path, leaf: ("x", "y", "z") if leaf.ndim == 2 else ())
