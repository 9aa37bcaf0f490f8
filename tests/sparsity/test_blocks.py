import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
import worlds

from lsh_jax.config import ConfigError, Death, Growth, SparsityConfig, choices
from lsh_jax.sparsity import controls, dynamic_sparsity, preset
from lsh_jax.sparsity.blocks import Pattern, fill_blocks, parse_pattern

KEY = jax.random.key(0)
SHAPE = (8, 6)
DATA = worlds.make_data({"W": np.zeros(SHAPE), "b": np.zeros(6)})
PATTERNS = ["2:4", pytest.param("1:4", marks=pytest.mark.slow)]


def of_blocks(mask, size):
    """Live weights of each block along the last axis but one."""
    return np.asarray(mask).reshape(-1, size, mask.shape[-1]).sum(1)


@functools.cache
def runs(granularity):
    """Every death with every growth, and what just died excluded or not."""
    updater = dynamic_sparsity(
        gates=lambda path, leaf: "ab", track_signs=True, granularity=granularity
    )
    live, size = map(int, granularity.split(":"))
    configs = [
        SparsityConfig(
            1 - live / size,
            death=death,
            growth=growth,
            death_rate=0.6,
            exclude_dropped=exclude,
            threshold_init=0.3 * exclude,
        )
        for death, growth, exclude in itertools.product(
            choices(Death), choices(Growth), (False, True)
        )
    ]
    own = worlds.stack(list(map(controls, configs)))
    start = jax.jit(jax.vmap(updater.init, (None, None, 0)))
    advance = functools.partial(worlds.advance, updater=updater)
    many = jax.jit(jax.vmap(advance, (None, 0, 0, 0, None, None, None)))
    return configs, *worlds.run(start, many, own, data=DATA)


@pytest.mark.slow
@pytest.mark.parametrize("granularity", PATTERNS)
def test_every_block_is_exact_through_updates_with_every_death_and_growth(granularity):
    live, size = map(int, granularity.split(":"))
    changed = 0
    for config, first, history in worlds.one_by_one(*runs(granularity)):
        masks = [first.masks["W"], *(state.masks["W"] for _, _, state, _ in history)]
        assert all((of_blocks(mask, size) == live).all() for mask in masks), config
        for _, params, state, info in history:
            assert not params["W"][~state.masks["W"]].any()
            assert state.masks["b"].all()
            changed += int(info.grown["W"].sum())
    assert changed > 100


@pytest.mark.slow
@pytest.mark.parametrize("granularity", PATTERNS)
def test_blocks_agree_with_plain_numpy(granularity):
    fixed = {
        "num_gates": [2],
        "densities": [0.5],
        "pattern": tuple(map(int, granularity.split(":"))),
    }
    worlds.assert_agree(*runs(granularity), data=DATA, **fixed)


@pytest.mark.parametrize("shape", [(8, 3), (2, 4, 5)])
@pytest.mark.parametrize("pattern", [Pattern(2, 4), Pattern(1, 4), Pattern(1, 2)])
def test_blocks_are_filled_with_the_largest_keys_ties_to_the_first(shape, pattern):
    rng = np.random.default_rng(0)
    fill = jax.jit(fill_blocks, static_argnums=0)
    for _ in range(5):
        keys = rng.integers(0, 4, shape).astype(np.uint32)
        # At most N in a block: one of N:M, thinned out.
        full = reference._fill(pattern, np.zeros(shape, bool), rng.random(shape))
        kept = full & (rng.random(shape) < 0.5)
        expected = reference._fill(pattern, kept, keys.astype(np.int64))
        np.testing.assert_array_equal(fill(pattern, keys, kept), expected)


def test_a_block_by_hand():
    # Two live in four, one of which is kept: of 5, 7 and 7 the first 7 joins it.
    keys = jnp.array([[5], [9], [7], [7]], jnp.uint32)
    kept = jnp.array([[0], [1], [0], [0]], bool)
    np.testing.assert_array_equal(fill_blocks(Pattern(2, 4), keys, kept), [[0], [1], [1], [0]])


def test_patterns_are_read():
    assert parse_pattern("2:4") == Pattern(2, 4) and parse_pattern("1:16") == Pattern(1, 16)
    assert parse_pattern("leaf") is None and parse_pattern("gate") is None


@pytest.mark.parametrize(
    "wrong", ["", "4:2", "4:4", "0:4", "2:4:8", "a:b", "-1:4", "24", "2:", "2.0:4"]
)
def test_what_is_no_pattern_is_refused(wrong):
    with pytest.raises(ConfigError, match=r"`granularity` must be leaf, gate or N:M"):
        dynamic_sparsity(granularity=wrong)


@pytest.mark.parametrize("shape", [(6, 8), (5,)])
def test_leaves_that_cannot_be_cut_into_blocks_are_refused(shape):
    updater = dynamic_sparsity(lambda path, leaf: True, granularity="2:4")
    with pytest.raises(ConfigError, match=r"2:4 needs leaves whose last axis but one.*at W"):
        updater.init(KEY, {"W": jnp.ones(shape)}, controls(SparsityConfig(0.5)))


@pytest.mark.parametrize(
    ("control", "value"),
    [
        ("sparsity", 0.67),
        ("sparsity", 0.0),
        ("init", "er"),
        ("init", "given"),
        ("init_sampling", "bernoulli"),
        ("redistribution", "magnitude"),
        ("redistribution", "none_authors"),
        ("sparsity_schedule", "cubic"),
    ],
)
def test_controls_that_ask_for_other_counts_are_refused(control, value):
    updater = dynamic_sparsity(granularity="2:4", densities=lambda path, leaf: 0.5)
    good = controls(SparsityConfig(0.5))
    bad = controls(SparsityConfig(**({"sparsity": 0.5} | {control: value})))
    params = {"W": jnp.ones(SHAPE)}
    state = jax.eval_shape(updater.init, KEY, params, good)
    for own in (bad, worlds.stack([good, bad])):
        with pytest.raises(ConfigError, match=f"`{control}` must be .* with granularity=2:4"):
            updater.init(KEY, params, own)
        with pytest.raises(ConfigError, match=f"`{control}` must be"):
            updater.update(KEY, state, params, own)


def test_one_shot_pruning_keeps_the_largest_two_of_every_four():
    trained = {"W": jax.random.normal(KEY, (8, 3))}
    own = controls(preset("one_shot", sparsity=0.5))
    mask = np.asarray(dynamic_sparsity(granularity="2:4").init(KEY, trained, own).masks["W"])
    blocks = abs(np.asarray(trained["W"])).reshape(2, 4, 3)
    expected = np.argsort(np.argsort(-blocks, axis=1), axis=1) < 2
    np.testing.assert_array_equal(mask, expected.reshape(8, 3))
