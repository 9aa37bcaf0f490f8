"""Dynamic sparse training of any tree of parameters: one pure update for all rules.

An update removes live weights (`death`), decides how many each leaf gets back
(`redistribution`) and brings as many dead ones to life (`growth`). The total number K of live
weights is fixed by `init` and held exactly, unless it falls by design (`sparsity_schedule`).
Rules are chosen by integers in `Controls`, so one compiled program serves every configuration,
and `vmap` trains many side by side.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from lsh_jax.config import ConfigError, check
from lsh_jax.sparsity import death, growth
from lsh_jax.sparsity.blocks import Pattern, fill_blocks, parse_pattern
from lsh_jax.sparsity.layout import Gates, Layout, Scope, Unit, make_layout
from lsh_jax.sparsity.leaf import Leaf
from lsh_jax.sparsity.masks import apply_masks, leaves_like
from lsh_jax.sparsity.modes import is_mode
from lsh_jax.sparsity.plan import initial_counts, make_plan
from lsh_jax.sparsity.proportion import mul_div
from lsh_jax.sparsity.selection import count, counts, magnitude_keys, top_k_mask
from lsh_jax.sparsity.sharding import REPLICATED, placed_by_xla, specs_of
from lsh_jax.sparsity.traced_controls import MODES, Controls, check_scope, check_update
from lsh_jax.types import Array, Key, Masks, Params, Predicate


class SparsityInfo(NamedTuple):
    """What an update did."""

    churn: Array  # share of the live weights that were replaced, float32 scalar in [0, 1]
    num_removed: Array  # by death, int32 scalar
    num_grown: Array  # by growth, those that had just died among them
    grown: Masks  # weights that live now and did not before


class SparsityState(NamedTuple):
    """The topology, and what its rules carry along."""

    masks: Masks  # bool tree like the parameters; all ones where a leaf stays dense
    explored: Masks  # weights that have ever been live
    threshold: Array  # float32 scalar, carried by threshold death; 0 until it is tuned
    num_updates: Array  # int32 scalar, topology updates made so far
    signs: Params | None  # int8 tree, of the weights after the last update; None if not tracked


class SparsityUpdater(NamedTuple):
    """A pair of pure functions that start and change the topology of a network.

    `init(key, params, controls) -> SparsityState` draws masks with exact counts. It does not
    change the parameters: `apply_masks(params, state.masks)` does. The leaves that the functions
    of `dynamic_sparsity` see may be traced: shapes and types can be read, values cannot.

    `update(key, state, params, controls, *, gradients=None, momentum=None)` returns
    `(params, state, info)`: the parameters with exact zeros where they are dead, the next
    `SparsityState` and a `SparsityInfo`.
      gradients: tree like the parameters, the gradient of the loss by the dense weights (not
        multiplied by the masks), for growth and redistribution by gradient and Taylor death.
      momentum: tree like the parameters, of the optimizer and by the dense weights, for growth
        and redistribution by momentum; of Adam, give m / (sqrt(v) + 1e-8).

    Both raise a ConfigError if no leaf is prunable, if a tree does not match the parameters, and
    if the controls ask for what is not there, so far as they are concrete. Where they are traced
    nothing can be raised: growth is random then, a Taylor score is the magnitude, and shares
    that have no measure follow the free places.

    Both are compiled, once for each structure and shapes of the parameters, and run under the
    caller's `jit` and `vmap`. One key serves all updates: their numbers go into the draws. Same key
    and inputs, same bits, vmapped, sharded or not (with JAX's default generator of random numbers;
    those of `rbg` differ under `vmap`).
    """

    init: Callable[[Key, Params, Controls], SparsityState]
    update: Callable[..., tuple[Params, SparsityState, SparsityInfo]]


def dynamic_sparsity(
    prunable: Predicate | None = None,
    *,
    gates: Gates | None = None,
    granularity: str = "leaf",
    densities: Callable[[tuple[str, ...], Array], float] | None = None,
    track_signs: bool = False,
) -> SparsityUpdater:
    """Builds the updater for a choice of prunable leaves.

    Args:
      prunable: predicate on (path, leaf), the path a tuple of strings; by default leaves with at
        least two axes, embeddings included. The other leaves stay dense.
      gates: from (path, leaf) to the names of the equal gates side by side along its last axis,
        e.g. ("i", "f", "g", "o") for the kernels of an LSTM, () for a leaf without; of a language
        model, `language_models.leaf_gates(config)`.
      granularity: what counts are kept in. `leaf`: gates of a leaf gain and lose weights to each
        other, which is the cell-gate redistribution of Selfish-RNN (Liu et al. 2021, section
        3.2); `gate`: each gate counts as a leaf; `N:M`, e.g. 2:4: every block of M weights along
        the last axis but one has N live ones, whatever the controls say of counts.
      densities: from (path, leaf) to the density in [0, 1] of a leaf, for `init="given"`.
      track_signs: keep the sign of every weight, one byte each, for `death="sign_flip"`.

    Returns:
      The functions `init` and `update`, described in `SparsityUpdater`. They are compiled for
      these arguments: build the updater once.

    Raises:
      ConfigError: if `granularity` is none of those, or `gate` without gates.
    """
    for name, function in (("prunable", prunable), ("gates", gates), ("densities", densities)):
        check(
            function is None or callable(function), name, "be a function of path and leaf", function
        )
    scope = Scope(prunable, gates, granularity, densities, track_signs)
    parse_pattern(granularity)  # refuses what it cannot read
    if granularity == "gate" and gates is None:
        raise ConfigError("`gates` must be given with granularity='gate', got None.")

    def init(key: Key, params: Params, controls: Controls) -> SparsityState:
        _check_key(key)
        check_scope(controls, scope)
        return _init(key, params, controls, scope)

    def update(
        key: Key,
        state: SparsityState,
        params: Params,
        controls: Controls,
        *,
        gradients: Params | None = None,
        momentum: Params | None = None,
    ) -> tuple[Params, SparsityState, SparsityInfo]:
        _check_key(key)
        check(isinstance(state, SparsityState), "state", "be a SparsityState", type(state).__name__)
        check_update(controls, scope, gradients=gradients, momentum=momentum)
        return _update(key, state, params, controls, gradients, momentum, scope)

    return SparsityUpdater(init, update)


def _check_key(key: Key) -> None:
    dtype = getattr(key, "dtype", None)
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    old = dtype == jnp.uint32 and jnp.ndim(key) == 1  # of jax.random.PRNGKey
    check(typed or old, "key", "be a jax.random.key", type(key).__name__)


@functools.partial(jax.jit, static_argnames="scope")
def _init(key: Key, params: Params, controls: Controls, scope: Scope) -> SparsityState:
    specs = _specs_of_state(specs_of(params), scope)
    return placed_by_xla(functools.partial(_draw, scope), params, specs)(key, params, controls)


@functools.partial(jax.jit, static_argnames="scope")
def _update(
    key: Key,
    state: SparsityState,
    params: Params,
    controls: Controls,
    gradients: Params | None,
    momentum: Params | None,
    scope: Scope,
) -> tuple[Params, SparsityState, SparsityInfo]:
    own = specs_of(params)
    info = SparsityInfo(REPLICATED, REPLICATED, REPLICATED, own)
    move = placed_by_xla(
        functools.partial(_move, scope), params, (own, _specs_of_state(own, scope), info)
    )
    return move(key, state, params, controls, gradients, momentum)


def _specs_of_state(own: Params, scope: Scope) -> SparsityState:
    return SparsityState(
        masks=own,
        explored=own,
        threshold=REPLICATED,
        num_updates=REPLICATED,
        signs=own if scope.track_signs else None,
    )


def _draw(scope: Scope, key: Key, params: Params, controls: Controls) -> SparsityState:
    """The topology at the start."""
    layout = make_layout(params, scope)
    num_live = initial_counts(layout, controls)
    mask_key = jax.random.fold_in(key, 0)
    weights = layout.stack(params, params, "params")

    def is_sampled(how: str) -> Array:
        return is_mode(controls.init_sampling, MODES["init_sampling"], how)

    def draw(unit: Unit, index: Array, weights: Array, num_live: Array) -> Array:
        scores = jax.random.bits(jax.random.fold_in(mask_key, index), unit.shape, jnp.uint32)
        scores = jnp.where(is_sampled("magnitude"), magnitude_keys(weights), scores)
        everyone = jnp.ones(unit.shape, bool)
        if scope.pattern is not None:
            return fill_blocks(scope.pattern, scores, ~everyone)
        # Each for itself: live with probability num_live / size, as a fraction of 2^32.
        limit, _ = mul_div(jnp.int32(0), jnp.int32(0), jnp.int32(everyone.size), num_live)
        drawn = (scores < limit) | (num_live == everyone.size)
        chosen = top_k_mask(scores, everyone, num_live)
        return jnp.where(is_sampled("bernoulli"), drawn, chosen)

    dense = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, bool), params)
    masks = layout.merge(dense, layout.map(draw, weights, layout.spread(num_live)))
    return SparsityState(
        masks=masks,
        explored=masks,
        threshold=controls.threshold_init,
        num_updates=jnp.int32(0),
        signs=_signs(apply_masks(params, masks)) if scope.track_signs else None,
    )


def _move(
    scope: Scope,
    key: Key,
    state: SparsityState,
    params: Params,
    controls: Controls,
    gradients: Params | None,
    momentum: Params | None,
) -> tuple[Params, SparsityState, SparsityInfo]:
    """The topology after an update."""
    layout = make_layout(params, scope)
    if scope.track_signs and state.signs is None:
        raise ConfigError("`state.signs` must be kept with track_signs=True, got None.")
    units = _stacked(layout, params, state, gradients, momentum)
    num_updates = state.num_updates + 1
    plan, threshold = make_plan(layout, units, controls, num_updates, state.threshold)
    # The number of the update goes in, so that a key used twice, or by `init` too, draws anew:
    # growth by the numbers that drew the mask would bring back what has just died.
    rewire = functools.partial(
        _rewire,
        key=jax.random.fold_in(key, num_updates),
        controls=controls,
        pattern=scope.pattern,
    )
    stacks = layout.map(
        rewire, units, layout.spread(plan.num_removed), layout.spread(plan.num_grown)
    )
    masks = layout.merge(state.masks, stacks)
    grown = jax.tree.map(lambda new, old: new & ~old, masks, state.masks)
    num_new = count(counts(jax.tree.leaves(grown))).astype(jnp.float32)
    # Only what lived before and lives now has a value: a weight that comes to life starts at
    # zero, even if the caller left something in its place.
    stayed = jax.tree.map(jnp.logical_and, masks, state.masks)
    params = apply_masks(params, stayed)
    state = SparsityState(
        masks=masks,
        explored=jax.tree.map(jnp.logical_or, state.explored, masks),
        threshold=threshold,
        num_updates=num_updates,
        signs=_signs(params) if scope.track_signs else None,
    )
    info = SparsityInfo(
        churn=num_new / jnp.maximum(count(plan.num_live), 1).astype(jnp.float32),
        num_removed=count(plan.num_removed),
        num_grown=count(plan.num_grown),
        grown=grown,
    )
    return params, state, info


def _stacked(
    layout: Layout,
    params: Params,
    state: SparsityState,
    gradients: Params | None,
    momentum: Params | None,
) -> list[Leaf]:
    """The prunable leaves and what goes with them, cut into units and stacked by shape."""
    leaves_like(params, state.explored, "state.explored")
    columns = zip(
        layout.stack(params, params, "params"),
        layout.stack(params, state.masks, "state.masks"),
        layout.stack(params, gradients, "gradients"),
        layout.stack(params, momentum, "momentum"),
        layout.stack(params, state.signs, "state.signs"),
        strict=True,
    )
    return [Leaf(*arrays) for arrays in columns]


def _rewire(
    unit: Unit,
    index: Array,
    leaf: Leaf,
    num_removed: Array,
    num_grown: Array,
    *,
    key: Key,
    controls: Controls,
    pattern: Pattern | None,
) -> Array:
    """The new mask of one unit."""
    kept = death.keep(controls.death, leaf, num_removed)
    place = growth.Place(
        key=jax.random.fold_in(key, index),
        live=leaf.live,
        kept=kept,
        gradient=leaf.gradient,
        momentum=leaf.momentum,
    )
    keys = growth.scores(controls.growth, place, controls.exclude_dropped)
    if pattern is not None:
        return fill_blocks(pattern, keys, kept)
    return growth.grow(controls.growth, kept, keys, num_grown, unit.num_gates)


def _signs(params: Params) -> Params:
    return jax.tree.map(lambda leaf: jnp.sign(leaf.astype(jnp.float32)).astype(jnp.int8), params)
