"""One tree, one updater and a compiled run of it that the tests of this folder share.

Compiling costs far more than running here, so whatever can be said of one tree is said of this one.
"""

import functools
import itertools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import reference

from lsh_jax.config import (
    Death,
    Growth,
    Redistribution,
    Sampling,
    Schedule,
    SparseInit,
    SparsityConfig,
    choices,
)
from lsh_jax.sparsity import apply_masks, controls, dynamic_sparsity


def normal_like(tree, seed, scale=1.0):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: rng.normal(0, scale, x.shape).astype(np.float32), tree)


# Neither a model nor one container: two leaves of one shape, another of a scale of its own, a bias.
EMPTY = {
    "cells": [{"U": np.zeros((6, 12)), "b": np.zeros(12)}, {"U": np.zeros((6, 12))}],
    "out": (np.zeros((9, 5)),),
}
SHAPES = [(6, 12), (6, 12), (9, 5)]  # of the prunable leaves, in leaf order
NUM_WEIGHTS = sum(map(math.prod, SHAPES))  # 189
GATES = ("i", "f", "g", "o")
NUM_GATES = [4, 4, 1]
DENSITIES = [0.2, 0.2, 0.7]
NUM_STEPS = 4


def gates(path, leaf):
    del leaf
    return GATES if path[-1] == "U" else ()


def densities(path, leaf):
    del leaf
    return 0.2 if path[-1] == "U" else 0.7


UPDATER = dynamic_sparsity(gates=gates, densities=densities, track_signs=True)


class Data(NamedTuple):
    """Parameters and what moves them; with a leading axis of steps, but for the first."""

    params: Any
    steps: Any
    gradients: Any
    momentum: Any


def make_data(empty):
    """Random numbers in the shapes of a tree."""

    def sequence(seed, scale=1.0):
        many = [normal_like(empty, seed + i, scale) for i in range(NUM_STEPS)]
        return jax.tree.map(lambda *x: np.stack(x), *many)

    return Data(normal_like(empty, 0), sequence(100, 0.3), sequence(200), sequence(300))


DATA = make_data(EMPTY)
PARAMS, STEPS, GRADIENTS, MOMENTUM = DATA
PARAMS["out"] = (PARAMS["out"][0] / 3,)


def at(tree, i):
    """What a tree with leading axis holds at i."""
    return jax.tree.map(lambda x: x[i], tree)


def stack(trees):
    return jax.tree.map(lambda *x: jnp.stack(x), *trees)


def prunable_of(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree) if leaf.ndim >= 2]


def live_per_leaf(masks):
    return [int(np.sum(mask)) for mask in prunable_of(masks)]


def advance(key, state, params, own, step, gradients, momentum, updater=UPDATER):
    """One step of "training" and an update: (params before it, params, state, info)."""
    moved = apply_masks(jax.tree.map(jnp.add, params, step), state.masks)
    out = updater.update(key, state, moved, own, gradients=gradients, momentum=momentum)
    return moved, *out


one_init, one_advance = jax.jit(UPDATER.init), jax.jit(advance, static_argnames="updater")
many_init = jax.jit(jax.vmap(UPDATER.init, (None, None, 0)))
many_advance = jax.jit(jax.vmap(advance, (None, 0, 0, 0, None, None, None)))


def key_of(i):
    return jax.random.key(10 + i)


def run(start, advance, own, num_updates=NUM_STEPS, data=DATA):
    """The first state and the history of a run, ((params before, params, state, info), ...)."""
    first = state = start(jax.random.key(5), data.params, own)
    params = jax.tree.map(lambda x, m: jnp.broadcast_to(x, m.shape), data.params, state.masks)
    history = []
    for i in range(num_updates):
        extras = (at(tree, i % NUM_STEPS) for tree in data[1:])
        moved, params, state, info = advance(key_of(i), state, params, own, *extras)
        history.append((moved, params, state, info))
    return jax.device_get(first), jax.device_get(history)


def side_by_side(configs, num_updates=NUM_STEPS):
    """(config, first state, history) of each, run together by the program of `grid`."""
    all_configs = [*configs, *all_rules()[len(configs) :]]
    own = stack(list(map(controls, all_configs)))
    first, history = run(many_init, many_advance, own, num_updates)
    return one_by_one(configs, first, history)


def one_by_one(configs, first, history):
    for c, config in enumerate(configs):
        yield config, at(first, c), [at(entry, c) for entry in history]


def assert_agree(configs, first, history, data=DATA, **fixed):
    """Compares runs side by side with the reference, update by update and bit for bit.

    `fixed` are the fields of `reference.World` that no update changes.
    """
    for config, state, entries in one_by_one(configs, first, history):
        for i, (moved, params, after, info) in enumerate(entries):
            world = reference.World(
                weights=prunable_of(moved),
                masks=prunable_of(state.masks),
                gradients=prunable_of(at(data.gradients, i % NUM_STEPS)),
                momentum=prunable_of(at(data.momentum, i % NUM_STEPS)),
                signs=prunable_of(state.signs),
                threshold=float(state.threshold),
                num_updates=int(state.num_updates),
                **fixed,
            )
            expected = reference.update(10 + i, world, config)
            for got, mask in zip(prunable_of(after.masks), expected.masks, strict=True):
                np.testing.assert_array_equal(got, mask, err_msg=str(config))
            for got, weights in zip(prunable_of(params), expected.weights, strict=True):
                np.testing.assert_array_equal(got, weights, err_msg=str(config))
            assert after.threshold == np.float32(expected.threshold), config
            assert info.num_removed == expected.num_removed, config
            assert info.num_grown == expected.num_grown, config
            state = after


def totals(configs, num_updates):
    """Live weights after each update of candidates side by side, [updates, candidates]."""
    assert len(configs) == len(all_rules())  # the shapes of the compiled program
    own = stack(list(map(controls, configs)))
    state = many_init(jax.random.key(5), PARAMS, own)
    params = jax.tree.map(lambda x, m: jnp.broadcast_to(x, m.shape), PARAMS, state.masks)
    found = []
    for i in range(num_updates):
        extras = (at(tree, i % NUM_STEPS) for tree in (STEPS, GRADIENTS, MOMENTUM))
        _, params, state, _ = many_advance(key_of(i), state, params, own, *extras)
        leaves = jax.tree.leaves(state.masks)
        masks = [np.asarray(leaf) for leaf in leaves if leaf.ndim >= 3]
        found.append(sum(mask.sum((1, 2)) for mask in masks))
    return np.stack(found)


def all_rules():
    """Every combination of death, growth and redistribution, the other settings drawn by chance."""
    rng = np.random.default_rng(0)
    others = {
        "death_rate": (0.0, 0.05, 0.3, 0.6, 1.0),
        "sparsity": (0.67, 0.67, 0.2, 0.95),
        "init": choices(SparseInit),
        "init_sampling": choices(Sampling),
        "schedule": choices(Schedule),
        "exclude_dropped": (False, True),
        "threshold_init": (0.0, 0.0, 0.001, 0.3, 2.0),
        "stop_fraction": (1.0, 1.0, 0.5),
        "sparsity_schedule": ("constant", "constant", "cubic"),
    }
    return [
        SparsityConfig(
            death=death,
            growth=growth,
            redistribution=redistribution,
            horizon=5,
            **{name: values[rng.integers(len(values))] for name, values in others.items()},
        )
        for death, growth, redistribution in itertools.product(
            choices(Death), choices(Growth), choices(Redistribution)
        )
    ]


@functools.cache
def grid():
    """All rules side by side in one compiled program: configs, first state, history."""
    configs = all_rules()
    return configs, *run(many_init, many_advance, stack(map(controls, configs)))


def wanted_total(config, num_updates, masks):
    """Live weights after so many updates, from where it is not drawn by chance."""
    if config.sparsity_schedule == "cubic":
        return reference.cubic_total(config, SHAPES, DENSITIES, num_updates)
    if config.init_sampling == "bernoulli":
        return sum(live_per_leaf(masks))  # at the start
    return reference.final_total(config, SHAPES, DENSITIES)
