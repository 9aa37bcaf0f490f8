"""All counts of an update, settled before a weight is touched: what each unit loses and gains."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from lsh_jax.sparsity import death, schedules
from lsh_jax.sparsity.allocation import Allocation, allocation
from lsh_jax.sparsity.fixed_point import Total, inverse_norm, mean_shares, nothing, total_magnitude
from lsh_jax.sparsity.layout import Layout
from lsh_jax.sparsity.leaf import Leaf
from lsh_jax.sparsity.modes import is_mode
from lsh_jax.sparsity.proportion import apportion
from lsh_jax.sparsity.redistribution import Leaves, redistribute
from lsh_jax.sparsity.selection import count, largest_cut, magnitude_keys
from lsh_jax.sparsity.traced_controls import MODES, Controls
from lsh_jax.types import Array


class Plan(NamedTuple):
    """Weights of each unit, int32 [L]."""

    num_live: Array  # before
    num_removed: Array
    num_grown: Array


def initial_counts(layout: Layout, controls: Controls) -> Array:
    """Live weights of each unit at the start, int32 [L]."""
    goal = _goal(layout, controls)
    total = jnp.where(_is_falling(controls), count(goal.sizes), goal.total)
    return goal.counts(total)


def make_plan(
    layout: Layout,
    units: Sequence[Leaf],
    controls: Controls,
    num_updates: Array,
    threshold: Array,
) -> tuple[Plan, Array]:
    """Settles the counts of an update.

    Args:
      layout: of L units.
      units: stacked by shape.
      controls: from `sparsity.controls`.
      num_updates: this one too, int32 scalar.
      threshold: of threshold death, float32 scalar; 0 if it has none yet.

    Returns:
      The plan, and the threshold for the next update.
    """
    measures: _Measures = layout.numbers(
        layout.map(lambda unit, index, leaf: _measure(leaf, threshold), units)
    )
    num_live, total = measures.num_live, count(measures.num_live)
    progress = schedules.progress(num_updates, controls.horizon)
    rate = schedules.scheduled_rate(
        controls.schedule, controls.death_rate, controls.rate_floor, progress
    )
    active = ~(controls.freezes & (num_updates > controls.horizon))
    shrink = jnp.where(active, _shrink(layout, controls, num_live, progress), 0)
    target = death.target(total, count(shrink), rate)
    num_lowest, exact_cut = _lowest(layout, units, controls.death, measures, target)

    is_tuned = (threshold > 0) & ~_is_falling(controls)
    live = death.Live(
        num_live=num_live,
        shrink=shrink,
        rate=rate,
        num_under=measures.num_under,
        num_flipped=measures.num_flipped,
        num_lowest=num_lowest,
        is_tuned=is_tuned,
    )
    losses = [rule(live) for rule in death.RULES.values()]
    num_removed = jnp.where(active, jax.lax.select_n(controls.death, *losses), 0)
    by_threshold = is_mode(controls.death, death.RULES, "threshold")
    leaves = Leaves(
        sizes=jnp.array([math.prod(shape) for shape in layout.shapes], jnp.int32),
        num_live=num_live,
        num_removed=num_removed,
        owed=jnp.maximum(num_removed - shrink, 0),
        mean_magnitude=mean_shares(measures.magnitude, num_live),
        mean_gradient=mean_shares(measures.gradient, num_live),
        mean_momentum=mean_shares(measures.momentum, num_live),
        by_threshold=by_threshold,
    )
    num_grown = redistribute(controls.redistribution, leaves, count(shrink))
    tuned = death.retuned(jnp.where(is_tuned, threshold, exact_cut), count(num_removed), target)
    plan = Plan(num_live, num_removed, num_grown)
    return plan, jnp.where(by_threshold & active, tuned, threshold)


class _Measures(NamedTuple):
    """What the rules read of a unit, before death; of all units, [L] each."""

    num_live: Array
    num_under: Array
    num_flipped: Array
    inverse_norm: Array
    magnitude: Total  # sums of sizes of the live weights, and so on
    gradient: Total
    momentum: Total


def _measure(leaf: Leaf, threshold: Array) -> _Measures:
    under = leaf.live & (magnitude_keys(leaf.weights) <= magnitude_keys(threshold))

    def total(x: Array | None) -> Total:
        return nothing() if x is None else total_magnitude(x, leaf.live)

    return _Measures(
        num_live=count(leaf.live),
        num_under=count(under),
        num_flipped=count(death.flipped(leaf)),
        inverse_norm=inverse_norm(leaf.weights, leaf.live),
        magnitude=total(leaf.weights),
        gradient=total(leaf.gradient),
        momentum=total(leaf.momentum),
    )


def _shrink(layout: Layout, controls: Controls, num_live: Array, progress: Array) -> Array:
    """Weights that each unit loses for good, int32 [L]: zeros unless the density falls."""
    goal, total = _goal(layout, controls), count(num_live)
    wanted = schedules.cubic_count(goal.total, count(goal.sizes), progress)
    excess = jnp.maximum(num_live - goal.counts(wanted), 0)
    shrink = jnp.where(_is_falling(controls), jnp.maximum(total - wanted, 0), 0)
    return apportion(shrink, excess, num_live)


def _lowest(
    layout: Layout,
    units: Sequence[Leaf],
    mode: Array,
    measures: _Measures,
    target: Array,
) -> tuple[Array, Array]:
    """Where the `target` smallest of all live weights sit, and the largest of them.

    Returns:
      Weights by unit, int32 [L], ties being kept in the order of the units, and a float32 scalar.
      Both have no meaning, and cost nothing, under death rules that do not look across leaves.
    """
    normalized = is_mode(mode, death.RULES, "global_normalized")
    scale = layout.spread(jnp.where(normalized, measures.inverse_norm, jnp.float32(1)))
    keys = [jax.vmap(_scaled_keys)(u.weights, own) for u, own in zip(units, scale, strict=True)]

    def by_unit(choose: Callable[[Array], Array]) -> Array:
        chosen = [unit.live & choose(key) for unit, key in zip(units, keys, strict=True)]
        of_units: Array = layout.numbers([jax.vmap(count)(mask) for mask in chosen])
        return of_units

    num_kept = count(measures.num_live) - target
    wanted = is_mode(mode, death.RULES, *death.ACROSS_LEAVES)
    cut = largest_cut(
        lambda trial: count(by_unit(lambda key: key >= trial)), jnp.where(wanted, num_kept + 1, 0)
    )
    above, ties = by_unit(lambda key: key > cut), by_unit(lambda key: key == cut)
    spare = num_kept - count(above)
    in_earlier_units = jnp.cumsum(ties, dtype=jnp.int32) - ties
    kept = above + jnp.clip(spare - in_earlier_units, 0, ties)
    finite = jnp.minimum(cut, magnitude_keys(jnp.float32(death.LARGEST)))
    return measures.num_live - kept, jax.lax.bitcast_convert_type(finite, jnp.float32)


def _scaled_keys(weights: Array, scale: Array) -> Array:
    return magnitude_keys(weights.astype(jnp.float32) * scale)


def _goal(layout: Layout, controls: Controls) -> Allocation:
    return allocation(controls.init, controls.density, layout.shapes, layout.densities)


def _is_falling(controls: Controls) -> Array:
    return is_mode(controls.sparsity_schedule, MODES["sparsity_schedule"], "cubic")
