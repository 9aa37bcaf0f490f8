"""Laws of a hundred updates, for configurations and trees drawn by chance."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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

NUM_UPDATES = 100
HALF = jnp.bfloat16
# By number of the tree: shapes and dtypes. "dense" is not prunable.
TREES = [
    {"row": ((1, 6), HALF), "other": ((1, 6), HALF), "vector": ((5,), None), "dense": ((3,), None)},
    {"cube": ((2, 3, 4), None), "a": ((5, 4), None), "b": ((5, 4), HALF), "c": ((5, 4), None)},
    {"one": ((1, 1), None), "empty": ((0, 3), None), "x": ((9, 2), None), "y": ((9, 2), None)},
    {f"{i}": ((i % 3 + 2, 8), None) for i in range(12)} | {"dense": ((2, 2), None)},
]


def prunable(path, leaf):
    del leaf
    return path != ("dense",)


def gates(path, leaf):
    del path
    return "ab" if leaf.ndim > 1 and leaf.shape[-1] % 2 == 0 else ""


UPDATER = dynamic_sparsity(
    prunable, gates=gates, densities=lambda path, leaf: 0.3 + 0.1 * leaf.ndim, track_signs=True
)


@functools.cache
def parameters(tree):
    rng = np.random.default_rng(tree)
    return {
        name: jnp.asarray(rng.normal(size=shape), jnp.float32).astype(dtype or jnp.float32)
        for name, (shape, dtype) in TREES[tree].items()
    }


@jax.jit
def observe(own, params):
    """A run of updates: counts of every leaf [T + 1, L], and whether the laws were kept."""
    start = UPDATER.init(jax.random.key(0), params, own)
    names = [name for name in params if prunable((name,), None)]

    def live(masks):
        return jnp.stack([jnp.sum(masks[name], dtype=jnp.int32) for name in names])

    def noise(key):
        keys = jax.random.split(key, len(params))
        pairs = zip(params.items(), keys, strict=True)
        return {name: jax.random.normal(k, x.shape, x.dtype) for (name, x), k in pairs}

    def advance(carry, key):
        params, state, union = carry
        step, slopes, speeds = map(noise, jax.random.split(key, 3))
        params = apply_masks(jax.tree.map(lambda x, s: x + s / 4, params, step), state.masks)
        params, state, info = UPDATER.update(
            key, state, params, own, gradients=slopes, momentum=speeds
        )
        union = jax.tree.map(jnp.logical_or, union, state.masks)
        pairs = [(params[name], state.masks[name]) for name in names]
        laws = {
            "dead weights are zero": [jnp.all(jnp.where(m, 0, x) == 0) for x, m in pairs],
            "all are finite": [jnp.all(jnp.isfinite(x)) for x, _ in pairs],
            "explored is the union": [jnp.all(state.explored[n] == union[n]) for n in names],
            "churn is a share": [(info.churn >= 0) & (info.churn <= 1)],
            "as many grow as die": [info.num_removed == info.num_grown],
        }
        laws = {law: jnp.all(jnp.stack(kept)) for law, kept in laws.items()}
        return (params, state, union), (live(state.masks), laws)

    first = (apply_masks(params, start.masks), start, start.masks)
    keys = jax.random.split(jax.random.key(1), NUM_UPDATES)
    _, (counts, laws) = jax.lax.scan(advance, first, keys)
    return jnp.concatenate([live(start.masks)[None], counts]), laws


configs = st.builds(
    SparsityConfig,
    sparsity=st.sampled_from((0.0, 0.3, 0.67, 0.95, 0.999)),
    init=st.sampled_from(choices(SparseInit)),
    init_sampling=st.sampled_from(choices(Sampling)),
    death=st.sampled_from(choices(Death)),
    growth=st.sampled_from(choices(Growth)),
    redistribution=st.sampled_from(choices(Redistribution)),
    death_rate=st.one_of(st.sampled_from((0.0, 0.5, 1.0)), st.floats(0, 1)),
    threshold_init=st.sampled_from((0.0, 1e-3, 1.0)),
    exclude_dropped=st.booleans(),
    schedule=st.sampled_from(choices(Schedule)),
    stop_fraction=st.sampled_from((1.0, 0.5)),
    horizon=st.sampled_from((1, 50, 1000)),
)


def check(tree, config):
    counts, laws = jax.device_get(observe(controls(config), parameters(tree)))
    assert [law for law, kept in laws.items() if not kept.all()] == []
    leaves = sorted(TREES[tree].items())  # as JAX orders a dict
    sizes = [math.prod(shape) for name, (shape, _) in leaves if prunable((name,), None)]
    assert ((counts >= 0) & (counts <= np.array(sizes))).all()
    assert (counts.sum(1) == counts[0].sum()).all()
    if config.init_sampling == "exact" and config.init != "given":
        assert counts[0].sum() == round((1 - config.sparsity) * sum(sizes))
    if config.redistribution == "none":
        assert (counts == counts[0]).all()


@settings(max_examples=15, deadline=None, derandomize=True)
@given(config=configs)
def test_a_hundred_updates_keep_the_laws(config):
    check(0, config)


@pytest.mark.slow
@pytest.mark.parametrize("tree", range(len(TREES)))
@settings(max_examples=150, deadline=None)
@given(config=configs)
def test_a_hundred_updates_keep_the_laws_on_every_tree(tree, config):
    check(tree, config)
