"""Dynamic sparse training of any tree of parameters: one pure update for all rules.

An update removes live weights (`death`), decides how many each leaf gets back
(`redistribution`) and brings as many dead ones to life (`growth`). The total number K of live
weights is fixed by `init` and held exactly. Rules are chosen by integers in `Controls`, so one
compiled program serves every configuration, and `vmap` trains many side by side.
"""

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from lsh_jax.config import ConfigError, SparsityConfig
from lsh_jax.sparsity import allocation, death, growth, redistribution, schedules
from lsh_jax.sparsity.masks import apply_masks, leaves_like, prunable_indices
from lsh_jax.sparsity.selection import count, counts, top_k_mask
from lsh_jax.types import Array, Key, Masks, Params, Predicate


class Controls(NamedTuple):
    """A `SparsityConfig` as arrays, to be traced, or stacked and vmapped.

    Modes are indices into the tables of rules.
    """

    density: Array  # numerator and denominator, int32 [2]
    init: Array  # int32 scalar, as the other modes
    death: Array
    growth: Array
    redistribution: Array
    schedule: Array
    death_rate: Array  # float32 scalar in [0, 1], before the schedule
    horizon: Array  # int32 scalar
    update_every: Array  # epochs, float32 scalar; for the training loop, unused here


def controls(config: SparsityConfig) -> Controls:
    """Turns a configuration into arrays.

    The death rate is read to six decimals; the density as the nearest fraction, see
    `allocation.density_fraction`.
    """
    return Controls(
        density=jnp.array(allocation.density_fraction(config.sparsity), jnp.int32),
        init=_index(allocation.RULES, config.init),
        death=_index(death.RULES, config.death),
        growth=_index(growth.RULES, config.growth),
        redistribution=_index(redistribution.RULES, config.redistribution),
        schedule=_index(schedules.RULES, config.schedule),
        death_rate=jnp.float32(config.death_rate),
        horizon=jnp.int32(min(config.horizon, 2**31 - 1)),
        update_every=jnp.float32(config.update_every),
    )


def _index(rules: Mapping[str, object], name: str) -> Array:
    return jnp.int32(tuple(rules).index(name))


class SparsityInfo(NamedTuple):
    """What an update did."""

    churn: Array  # share of the live weights that were replaced, float32 scalar in [0, 1]
    num_removed: Array  # by death, int32 scalar
    num_grown: Array  # by growth, those that had just died among them: the same number
    grown: Masks  # weights that live now and did not before


class SparsityState(NamedTuple):
    """The topology, and what its rules carry along."""

    masks: Masks  # bool tree like the parameters; all ones where a leaf stays dense
    threshold: Array  # float32 scalar, carried by threshold death; 0 until it is tuned
    num_updates: Array  # int32 scalar, topology updates made so far


class SparsityUpdater(NamedTuple):
    """A pair of pure functions that start and change the topology of a network.

    `init(key, params, controls) -> SparsityState` draws masks with exact counts. It does not
    change the parameters: `apply_masks(params, state.masks)` does.

    `update(key, state, params, controls, *, gradients=None, momentum=None)` returns
    `(params, state, info)`: the parameters with exact zeros where they are dead, the next
    `SparsityState` and a `SparsityInfo`.
      gradients: tree like the parameters, the gradient of the loss by the dense weights (not
        multiplied by the masks). It must be given if any candidate may grow by gradient: where
        the controls are concrete its absence raises, where they are traced nothing can, and
        growth is random instead.
      momentum: tree like the parameters, for rules to come; unused now.

    Both are compiled, once for each structure and shapes of the parameters, and run under the
    caller's `jit` and `vmap`. Same key and inputs, same bits, vmapped or not (with JAX's default
    generator of random numbers; those of `rbg` differ under `vmap`).

    Both raise a ConfigError if no leaf is prunable or a tree does not match the parameters.
    """

    init: Callable[[Key, Params, Controls], SparsityState]
    update: Callable[..., tuple[Params, SparsityState, SparsityInfo]]


def dynamic_sparsity(prunable: Predicate | None = None) -> SparsityUpdater:
    """Builds the updater for a choice of prunable leaves.

    Args:
      prunable: predicate on (path, leaf), the path a tuple of strings; by default leaves with at
        least two axes, embeddings included. The other leaves stay dense.

    Returns:
      The functions `init` and `update`, described in `SparsityUpdater`.
    """

    def init(key: Key, params: Params, controls: Controls) -> SparsityState:
        return _init(key, params, controls, prunable)

    def update(
        key: Key,
        state: SparsityState,
        params: Params,
        controls: Controls,
        *,
        gradients: Params | None = None,
        momentum: Params | None = None,
    ) -> tuple[Params, SparsityState, SparsityInfo]:
        del momentum
        _check_gradients(controls, gradients)
        return _update(key, state, params, controls, gradients, prunable)

    return SparsityUpdater(init, update)


@functools.partial(jax.jit, static_argnames="prunable")
def _init(
    key: Key, params: Params, controls: Controls, prunable: Predicate | None
) -> SparsityState:
    leaves, treedef = jax.tree.flatten(params)
    chosen = prunable_indices(params, prunable)
    shapes = [leaves[i].shape for i in chosen]
    num_live = allocation.initial_counts(controls.init, controls.density, shapes)
    masks = [jnp.ones(leaf.shape, bool) for leaf in leaves]
    mask_key = jax.random.fold_in(key, 0)
    for l, i in enumerate(chosen):
        scores = jax.random.bits(jax.random.fold_in(mask_key, l), shapes[l], jnp.uint32)
        masks[i] = top_k_mask(scores, masks[i], num_live[l])
    return SparsityState(
        masks=jax.tree.unflatten(treedef, masks),
        threshold=jnp.float32(0),
        num_updates=jnp.int32(0),
    )


@functools.partial(jax.jit, static_argnames="prunable")
def _update(
    key: Key,
    state: SparsityState,
    params: Params,
    controls: Controls,
    gradients: Params | None,
    prunable: Predicate | None,
) -> tuple[Params, SparsityState, SparsityInfo]:
    masks = leaves_like(params, state.masks, "state.masks")
    chosen = prunable_indices(params, prunable)
    weights, live = _pick(jax.tree.leaves(params), chosen), _pick(masks, chosen)
    slopes = leaves_like(params, gradients, "gradients") if gradients is not None else None

    num_updates = state.num_updates + 1
    rate = schedules.scheduled_rate(
        controls.schedule, controls.death_rate, num_updates, controls.horizon
    )
    kept, num_removed, threshold = death.remove(
        controls.death, weights, live, rate, state.threshold
    )
    num_grown = redistribution.redistribute(controls.redistribution, weights, live, num_removed)
    # The number of the update goes in, so that a key used twice, or by `init` too, draws anew:
    # growth by the numbers that drew the mask would bring back what has just died.
    growth_key = jax.random.fold_in(key, num_updates)
    for l, i in enumerate(chosen):
        slope = None if slopes is None else slopes[i]
        leaf = growth.Leaf(jax.random.fold_in(growth_key, l), kept[l], slope)
        masks[i] = growth.grow(controls.growth, leaf, num_grown[l])

    new_masks = jax.tree.unflatten(jax.tree.structure(params), masks)
    grown = jax.tree.map(lambda new, old: new & ~old, new_masks, state.masks)
    num_new = count(counts(jax.tree.leaves(grown))).astype(jnp.float32)
    info = SparsityInfo(
        churn=num_new / jnp.maximum(count(counts(live)), 1).astype(jnp.float32),
        num_removed=count(num_removed),
        num_grown=count(num_grown),
        grown=grown,
    )
    # Only what lived before and lives now has a value: a weight that comes to life starts at
    # zero, even if the caller left something in its place.
    stayed = jax.tree.map(jnp.logical_and, new_masks, state.masks)
    return apply_masks(params, stayed), SparsityState(new_masks, threshold, num_updates), info


def _pick(leaves: list[Array], chosen: tuple[int, ...]) -> list[Array]:
    return [leaves[i] for i in chosen]


def _check_gradients(controls: Controls, gradients: Params | None) -> None:
    """Raises where concrete controls ask for gradients that are not there."""
    if gradients is not None or isinstance(controls.growth, jax.core.Tracer):
        return
    if jnp.any(controls.growth == growth.NEEDS_GRADIENT):
        raise ConfigError("`gradients` must be given for growth by gradient, got None.")
