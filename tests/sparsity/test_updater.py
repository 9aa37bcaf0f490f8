import dataclasses
import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsh_jax.config import (
    ConfigError,
    Death,
    Growth,
    Redistribution,
    Schedule,
    SparseInit,
    SparsityConfig,
    choices,
)
from lsh_jax.sparsity import apply_masks, controls, count_live, dynamic_sparsity
from lsh_jax.sparsity.allocation import initial_counts

UPDATER = dynamic_sparsity()
init, update = jax.jit(UPDATER.init), jax.jit(UPDATER.update)
SHAPES = [(9, 5), (6, 12), (30, 4)]  # of the prunable leaves, in leaf order
NUM_WEIGHTS = sum(map(math.prod, SHAPES))  # 237
NUM_UPDATES = 3
DEFAULT = SparsityConfig()


def normal_like(tree, seed):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), tree)


# Neither a model nor one container: a dict of a list, a tuple and a dict, with a bias.
EMPTY = {
    "cells": [np.zeros((9, 5)), {"U": np.zeros((6, 12)), "b": np.zeros(12)}],
    "out": (np.zeros((30, 4)),),
}
PARAMS, GRADIENTS = normal_like(EMPTY, 0), normal_like(EMPTY, 1)
STEPS = [jax.tree.map(lambda x: x / 4, normal_like(EMPTY, 2 + i)) for i in range(NUM_UPDATES)]


def prunable_of(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree) if leaf.ndim >= 2]


def live_per_leaf(masks):
    return [int(np.sum(mask)) for mask in prunable_of(masks)]


@jax.jit
def take_step(params, step, masks):
    moved = jax.tree.map(lambda x, y: x + jnp.broadcast_to(y, x.shape), params, step)
    return apply_masks(moved, masks)


def train(start, advance, params, config_controls, steps=STEPS):
    """One update after each step of "training"; a list of (params, state, info)."""
    state = start(jax.random.key(5), params, config_controls)
    params = apply_masks(params, state.masks)
    history = []
    for i, step in enumerate(steps):
        params = take_step(params, step, state.masks)
        key = jax.random.fold_in(jax.random.key(6), i)
        params, state, info = advance(key, state, params, config_controls, gradients=GRADIENTS)
        history.append((params, state, info))
    return history


def grid():
    """Every combination of rules at three rates; the schedule and the density change along."""
    rules = itertools.product(
        choices(SparseInit), choices(Death), choices(Growth), choices(Redistribution)
    )
    others = itertools.cycle(itertools.product((0.67, 0.2, 0.95), choices(Schedule)))
    return [
        SparsityConfig(sparsity, *rule, death_rate=rate, schedule=schedule, horizon=NUM_UPDATES)
        for rule, rate in itertools.product(rules, (0.05, 0.5, 1.0))
        for sparsity, schedule in (next(others),)
    ]


@pytest.fixture(scope="module")
def grid_runs():
    """All candidates of the grid, one after the other, with one compiled update."""
    before = update._cache_size()
    runs = [(config, train(init, update, PARAMS, controls(config))) for config in grid()]
    assert update._cache_size() == before + 1
    return runs


def test_the_total_is_exact_for_every_combination_of_rules(grid_runs):
    for config, history in grid_runs:
        num_live = round((1 - config.sparsity) * NUM_WEIGHTS)
        for _, state, info in history:
            assert sum(live_per_leaf(state.masks)) == num_live, config
            assert int(info.num_removed) == int(info.num_grown) <= num_live
        assert int(state.num_updates) == NUM_UPDATES


@jax.jit
def count_at_start(mode, density):
    return initial_counts(mode, density, SHAPES)


def test_every_leaf_keeps_its_count_without_redistribution(grid_runs):
    for config, history in grid_runs:
        if config.redistribution == "none":
            c = controls(config)
            wanted = count_at_start(c.init, c.density).tolist()
            for _, state, _ in history:
                assert live_per_leaf(state.masks) == wanted, config


def test_dead_weights_are_exact_zeros_and_dense_leaves_stay_dense(grid_runs):
    for _, history in grid_runs:
        for params, state, info in history:
            for param, mask in zip(prunable_of(params), prunable_of(state.masks), strict=True):
                assert not param[~mask].any()
            assert np.all(state.masks["cells"][1]["b"])
            assert not np.any(info.grown["cells"][1]["b"])


init_all = jax.jit(jax.vmap(UPDATER.init, (None, 0, 0)))


@jax.jit
def update_all(key, state, params, stacked, *, gradients):
    one = functools.partial(UPDATER.update, key, gradients=gradients)
    return jax.vmap(one)(state, params, stacked)


@pytest.fixture(scope="module")
def stacked_grid():
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *map(controls, grid()))
    params = jax.tree.map(lambda x: jnp.broadcast_to(x, (len(grid()), *x.shape)), PARAMS)
    return params, stacked


def test_one_vmapped_run_of_all_equals_the_single_runs_bit_for_bit(grid_runs, stacked_grid):
    batch = jax.device_get(train(init_all, update_all, *stacked_grid))
    assert update_all._cache_size() == 1
    for i, (_, history) in enumerate(grid_runs):
        for of_all, of_one in zip(batch, jax.device_get(history), strict=True):
            jax.tree.map(lambda x, y, i=i: np.testing.assert_array_equal(x[i], y), of_all, of_one)


def test_the_totals_stay_exact_over_many_updates(stacked_grid):
    wanted = [round((1 - config.sparsity) * NUM_WEIGHTS) for config in grid()]
    count_all = jax.jit(jax.vmap(count_live))
    for _, state, _ in train(init_all, update_all, *stacked_grid, steps=10 * STEPS):
        np.testing.assert_array_equal(count_all(state.masks), wanted)


def reference_update(key, state, params, gradients, config):
    """One update in plain numpy, with sorts, for magnitude or global death."""
    weights, live = prunable_of(params), prunable_of(state.masks)
    progress = min((int(state.num_updates) + 1) / config.horizon, 1)
    rate = 0.005 + (config.death_rate - 0.005) * (1 + math.cos(math.pi * progress)) / 2
    flat = [(abs(w.flat[i]), l, i) for l, w in enumerate(weights) for i in np.flatnonzero(live[l])]
    flat.sort(key=lambda entry: (entry[0], -entry[1], -entry[2]))
    if config.death == "magnitude":
        by_leaf = [[e for e in flat if e[1] == l] for l in range(len(weights))]
        dead = [e for entries in by_leaf for e in entries[: math.ceil(rate * len(entries))]]
    else:
        dead = flat[: math.ceil(rate * len(flat))]
    kept = [mask.copy() for mask in live]
    for _, l, i in dead:
        kept[l].flat[i] = False
    lost = [int(a.sum() - k.sum()) for a, k in zip(live, kept, strict=True)]
    means = np.array([abs(w)[a].mean() for w, a in zip(weights, live, strict=True)], np.float64)
    shares = {"none": lost, "magnitude": means, "nonzeros": [int(a.sum()) for a in live]}
    quotas = np.array(shares[config.redistribution]) / np.sum(shares[config.redistribution])
    quotas = quotas * len(dead)
    grown = np.floor(quotas + 1e-9).astype(int)
    growth_key = jax.random.fold_in(key, int(state.num_updates) + 1)
    grown[np.argsort(grown - quotas, kind="stable")[: len(dead) - grown.sum()]] += 1
    for l, mask in enumerate(kept):
        assert grown[l] <= (~mask).sum()  # no caps in this reference
        if config.growth == "random":
            bits = jax.random.bits(jax.random.fold_in(growth_key, l), mask.shape, jnp.uint32)
            score = np.asarray(bits).astype(np.float64)
        else:
            score = abs(prunable_of(gradients)[l])
        order = np.argsort(np.where(mask, np.inf, -score), axis=None, kind="stable")
        mask.flat[order[: grown[l]]] = True
    return kept, [np.where(k & a, w, 0) for k, a, w in zip(kept, live, weights, strict=True)]


@pytest.mark.parametrize("death", ["magnitude", "global_magnitude"])
@pytest.mark.parametrize("growth", choices(Growth))
@pytest.mark.parametrize("redistribution", choices(Redistribution))
def test_an_update_agrees_with_plain_numpy(death, growth, redistribution):
    config = SparsityConfig(0.6, "er", death, growth, redistribution, 0.5, horizon=10)
    key, state = jax.random.key(1), init(jax.random.key(0), PARAMS, controls(config))
    params = apply_masks(PARAMS, state.masks)
    for step in STEPS[:2]:
        params = take_step(params, step, state.masks)
        masks, weights = reference_update(key, state, params, GRADIENTS, config)
        params, state, _ = update(key, state, params, controls(config), gradients=GRADIENTS)
        for got, expected in zip(prunable_of(state.masks), masks, strict=True):
            np.testing.assert_array_equal(got, expected)
        for got, expected in zip(prunable_of(params), weights, strict=True):
            np.testing.assert_array_equal(got, expected)


def test_an_update_of_one_small_leaf_by_hand():
    # Live 1, -4, 2, -3 (density 4/6, as a mask of our own); rate 1/2 removes 1 and 2. Gradients
    # of the dead in C order: 1 -> 5, 2 -> 0, the last two 7 and 0: grown are 7 and the 5 that
    # belongs to the weight 1, which keeps its value. One of four is new.
    config = SparsityConfig(1 / 3, growth="gradient", death_rate=0.5, schedule="constant")
    params = [jnp.array([[1.0, -4.0, 2.0], [-3.0, 0.0, 0.0]])]
    gradients = [jnp.array([[5.0, 9.0, 0.0], [9.0, -7.0, 0.0]])]
    state = UPDATER.init(jax.random.key(0), params, controls(config))
    assert int(count_live(state.masks)) == 4
    state = state._replace(masks=[jnp.array([[1, 1, 1], [1, 0, 0]], bool)])
    (got,), state, info = UPDATER.update(
        jax.random.key(0), state, params, controls(config), gradients=gradients
    )
    np.testing.assert_array_equal(got, [[1, -4, 0], [-3, 0, 0]])
    np.testing.assert_array_equal(state.masks[0], [[1, 1, 0], [1, 1, 0]])
    np.testing.assert_array_equal(info.grown[0], [[0, 0, 0], [0, 1, 0]])
    assert (int(info.num_removed), int(info.num_grown), float(info.churn)) == (2, 2, 0.25)


@pytest.mark.parametrize(("rate", "churn"), [(0.5, 0.401), (0.7, 0.520), (0.9, 0.624)])
def test_churn_is_less_than_the_death_rate_as_some_of_the_dead_return(rate, churn):
    # rho (1 - rho d / (1 - d + rho d)) at d = 0.33; K = 13,200, five standard deviations.
    config = SparsityConfig(death_rate=rate, schedule="constant")
    params = normal_like([np.zeros((200, 200))], 0)
    key = jax.random.key(1)  # the same for both: their draws must be independent all the same
    state = init(key, params, controls(config))
    _, _, info = update(key, state, params, controls(config))
    assert float(info.churn) == pytest.approx(churn, abs=0.02)


def test_a_dense_network_is_left_alone():
    for death, growth in itertools.product(choices(Death), choices(Growth)):
        config = SparsityConfig(0.0, "er", death, growth, "magnitude", 0.9)
        state = init(jax.random.key(0), PARAMS, controls(config))
        params, after, info = update(
            jax.random.key(1), state, PARAMS, controls(config), gradients=GRADIENTS
        )
        jax.tree.map(np.testing.assert_array_equal, params, PARAMS)
        assert all(np.all(mask) for mask in jax.tree.leaves(after.masks))
        assert float(info.churn) == 0


def test_a_broken_trial_keeps_its_counts():
    broken = jax.tree.map(lambda x: np.full_like(x, np.nan), PARAMS)
    for config in grid()[::7]:
        state = init(jax.random.key(0), PARAMS, controls(config))
        _, after, _ = update(jax.random.key(1), state, broken, controls(config), gradients=broken)
        assert sum(live_per_leaf(after.masks)) == sum(live_per_leaf(state.masks))


def test_a_network_with_one_or_no_live_weight_survives_its_updates():
    for sparsity, num_live in ((236 / 237, 1), (0.999, 0)):
        config = SparsityConfig(sparsity, "er", "set", "random", "magnitude", 0.5)
        for params, state, info in train(init, update, PARAMS, controls(config)):
            assert sum(live_per_leaf(state.masks)) == num_live
            assert np.isfinite(float(info.churn))
            assert np.all(np.isfinite(params["out"][0]))


def test_a_grown_weight_starts_at_zero_even_if_params_came_unmasked():
    config = SparsityConfig(0.5, death_rate=1.0, schedule="constant")
    state = init(jax.random.key(0), PARAMS, controls(config))
    params, _, info = update(jax.random.key(1), state, PARAMS, controls(config), gradients=PARAMS)
    for param, grown in zip(prunable_of(params), prunable_of(info.grown), strict=True):
        assert grown.any() and not param[grown].any()


def test_the_same_key_gives_the_same_topology_and_another_key_another():
    c = controls(DEFAULT)
    states = [init(jax.random.key(seed), PARAMS, c) for seed in (0, 0, 1)]
    masks = [np.asarray(state.masks["out"][0]) for state in states]
    assert (masks[0] == masks[1]).all() and (masks[0] != masks[2]).any()
    state = init(jax.random.key(0), PARAMS, c)
    states = [
        update(jax.random.key(seed), state, PARAMS, c, gradients=GRADIENTS)[1] for seed in (0, 0, 1)
    ]
    masks = [np.asarray(state.masks["out"][0]) for state in states]
    assert (masks[0] == masks[1]).all() and (masks[0] != masks[2]).any()


def test_leaves_draw_masks_of_their_own():
    params = 2 * [np.ones((8, 8), np.float32)]
    first, second = jax.device_get(init(jax.random.key(0), params, controls(DEFAULT)).masks)
    assert (first != second).any()


def test_growth_by_gradient_without_gradients_raises_where_the_mode_is_known():
    c = controls(dataclasses.replace(DEFAULT, growth="gradient"))
    state = init(jax.random.key(0), PARAMS, c)
    with pytest.raises(ConfigError, match="`gradients` must be given"):
        UPDATER.update(jax.random.key(0), state, PARAMS, c)


def test_a_predicate_of_the_user_chooses_the_prunable_leaves():
    updater = dynamic_sparsity(lambda path, leaf: path[-1] in ("U", "b"))
    state = updater.init(jax.random.key(0), PARAMS, controls(DEFAULT))
    assert np.all(state.masks["out"][0]) and np.all(state.masks["cells"][0])
    inner = state.masks["cells"][1]
    assert np.sum(inner["U"]) + np.sum(inner["b"]) == round(0.33 * 84)


def test_an_update_keeps_dtypes_with_64_bit_types_switched_on():
    with jax.enable_x64(True):
        params = [np.random.default_rng(0).normal(size=(8, 8))]
        c = controls(SparsityConfig(0.5, death="global_magnitude", redistribution="magnitude"))
        state = UPDATER.init(jax.random.key(0), params, c)
        params, state, info = UPDATER.update(jax.random.key(1), state, params, c)
        assert params[0].dtype == jnp.float64
        assert int(count_live(state.masks)) == 32
        dtypes = {leaf.dtype.name for leaf in jax.tree.leaves((state, info))}
        assert dtypes == {"bool", "int32", "float32"}


def test_the_host_can_read_the_period_of_the_updates():
    for period in (0.25, 1.0, math.inf):
        assert float(controls(SparsityConfig(update_every=period)).update_every) == period
