"""Which live weights die at a topology update.

`death_rate` (here rho) is the share of live weights removed: "drop fraction" in RigL and
JaxPruner, "prune rate" in sparse_learning. A rule says how many weights each leaf loses; which
ones, the `Ranking` of the mode says: mostly those nearest to zero, ties at the cut dying from the
highest flat index on. Magnitudes are compared as integers, NaN as the largest, so that counts
stay exact in a broken run.

Where the number of live weights falls by design, the weights that are taken away for good come on
top: `shrink_l` of a leaf, zero otherwise.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from lsh_jax.sparsity.leaf import Leaf
from lsh_jax.sparsity.modes import is_mode
from lsh_jax.sparsity.proportion import ceil_part_of
from lsh_jax.sparsity.selection import count, magnitude_keys, raised, top_k_mask
from lsh_jax.types import Array

LARGEST = float(jnp.finfo(jnp.float32).max)


class Live(NamedTuple):
    """What a death rule may look at."""

    num_live: Array  # int32 [L]
    shrink: Array  # live weights that no leaf gets back, int32 [L]
    rate: Array  # billionths, int32 scalar
    num_under: Array  # live weights with |w| <= threshold, int32 [L]
    num_flipped: Array  # live weights of another sign than after the last update, int32 [L]
    num_lowest: Array  # of the `target` smallest of all live weights, by leaf, int32 [L]
    is_tuned: Array  # bool scalar: there is a threshold from an earlier update


def magnitude(live: Live) -> Array:
    """ceil(rho a_l) in each leaf; the authors' masks drop all ties at the cut, ours just so many.

    Their rule that spares leaves denser than 0.8 is left out: it tests a statistic that is
    normalised in one place and not in the other, and never acts at the densities of the paper.
    """
    return live.shrink + ceil_part_of(live.num_live - live.shrink, live.rate)


def threshold(live: Live) -> Array:
    """All weights up to a threshold that the leaves share and that follows the target slowly.

    As the authors, and DSR (Mostafa & Wang 2019) with a tolerance of 10 %: the threshold doubles
    after an update that removed less than 98 % of ceil(rho K), halves after one above 102 %.
    Theirs starts at 0.001 and so ignores the death rate for the first 6 to 9 updates; ours
    starts at the exact quantile unless `threshold_init` says otherwise, and again should that be
    zero. It stays finite, and no leaf can lose more than it has, so every value of it is feasible.
    """
    return jnp.where(live.is_tuned, live.num_under, live.num_lowest)


def lowest(live: Live) -> Array:
    """The ceil(rho K) smallest of all leaves, ties kept in leaf order.

    The authors search a threshold to within 2 % with a step that shrinks for good; ours is exact.
    Normalised, a weight is measured by the L2 norm of the live weights of its leaf, as JaxPruner
    does, which is a milder measure for small leaves.
    """
    return live.num_lowest


def sign_flip(live: Live) -> Array:
    """All weights that have changed sign since the last update, whatever the rate.

    DeepR (Bellec et al. 2018, section 3), where a connection dies as its weight crosses zero.
    Its L1 penalty and its noise belong to the optimizer and are not added here.
    """
    return jnp.maximum(live.num_flipped, live.shrink)


RULES: dict[str, Callable[[Live], Array]] = {
    "magnitude": magnitude,
    # As many as `magnitude`, half of them the smallest positive and half the largest negative
    # weights, as published (SET, Mocanu et al. 2018, section 2) ...
    "set": magnitude,
    "set_authors": magnitude,  # ... or the most negative ones, as the authors' code does
    "threshold": threshold,
    "global_magnitude": lowest,
    "global_normalized": lowest,
    "taylor": magnitude,  # ranked by |w g|, the first-order change of the loss (Molchanov 2017)
    "sign_flip": sign_flip,
}


ACROSS_LEAVES = ("threshold", "global_magnitude", "global_normalized")  # need `num_lowest`


def target(live_total: Array, shrink_total: Array, rate: Array) -> Array:
    """Live weights that die if the rule meets the rate exactly, int32 scalar."""
    return shrink_total + ceil_part_of(live_total - shrink_total, rate)


def retuned(cut: Array, num_removed: Array, target: Array) -> Array:
    """Doubles or halves a threshold that missed the target by more than 2 %."""
    slack = target // 50
    doubled = jnp.minimum(2 * cut, LARGEST)
    halved = jnp.where(num_removed > target + slack, cut / 2, cut)
    return jnp.where(num_removed < target - slack, doubled, halved)


def flipped(leaf: Leaf) -> Array:
    """The live weights that have crossed zero since the last update."""
    if leaf.sign is None:
        return jnp.zeros_like(leaf.live)
    sign = leaf.sign.astype(leaf.weights.dtype)
    return leaf.live & (leaf.weights * sign < 0)


def keep(mode: Array, leaf: Leaf, num_removed: Array) -> Array:
    """Mask of what is left of a leaf when `num_removed` weights have died by the rule of `mode`.

    By sign, half of them (the odd one too) are weights >= 0, the others negative ones; a sign
    that has too few gives all it has and the other supplies the rest. In the other modes all
    weights are in the first group.
    """
    keys = _ranking(mode, leaf)
    negative = leaf.live & (leaf.weights < 0) & is_mode(mode, RULES, "set", "set_authors")
    others = leaf.live & ~negative
    num_others, num_negative = count(others), count(negative)
    half = jnp.maximum((num_removed + 1) // 2, num_removed - num_negative)
    from_others = jnp.minimum(half, num_others)
    from_negative = num_removed - from_others

    def select(group: tuple[Array, Array, Array]) -> Array:
        candidates, num_kept, is_turned = group
        return top_k_mask(jnp.where(is_turned, ~keys, keys), candidates, num_kept)

    groups = (
        jnp.stack([others, negative]),
        jnp.stack([num_others - from_others, num_negative - from_negative]),
        jnp.stack([jnp.bool_(False), is_mode(mode, RULES, "set_authors")]),
    )
    return jnp.any(jax.lax.map(select, groups), axis=0)


def _ranking(mode: Array, leaf: Leaf) -> Array:
    """Keys of a leaf's weights, those with the smallest die first; uint32."""
    keys = magnitude_keys(leaf.weights)
    if leaf.gradient is not None:
        change = leaf.weights.astype(jnp.float32) * leaf.gradient.astype(jnp.float32)
        saliency = magnitude_keys(change)
        keys = jnp.where(is_mode(mode, RULES, "taylor"), saliency, keys)
    if leaf.sign is not None:
        spared = ~flipped(leaf) & is_mode(mode, RULES, "sign_flip")
        keys = raised(keys, spared)
    return keys
