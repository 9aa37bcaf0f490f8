"""Which live weights die at a topology update.

`death_rate` (here rho) is the share of live weights removed: "drop fraction" in RigL and
JaxPruner, "prune rate" in sparse_learning. A rule only says how many weights each leaf loses;
which ones is the same for all: those nearest to zero, ties at the cut dying from the highest
flat index on. Magnitudes are compared as integers, NaN as the largest, so that counts stay exact
in a broken run.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from lsh_jax.sparsity.allocation import ceil_part_of
from lsh_jax.sparsity.selection import count, counts, kth_largest, magnitude_keys, top_k_mask
from lsh_jax.types import Array

_LARGEST = float(jnp.finfo(jnp.float32).max)


class Live(NamedTuple):
    """What a death rule may look at."""

    num_live: Array  # int32 [L]
    rate: Array  # billionths, int32 scalar
    num_under: Array  # live weights with |w| <= threshold, int32 [L]
    num_lowest: Array  # of the ceil(rho K) smallest of all live weights, by leaf, int32 [L]
    is_tuned: Array  # bool scalar: there is a threshold from an earlier update


def magnitude(live: Live) -> Array:
    """ceil(rho a_l) in each leaf; the authors' masks drop all ties at the cut, ours just so many.

    Their rule that spares leaves denser than 0.8 is left out: it tests a statistic that is
    normalised in one place and not in the other, and never acts at the densities of the paper.
    """
    return ceil_part_of(live.num_live, live.rate)


def threshold(live: Live) -> Array:
    """All weights up to a threshold that the leaves share and that follows the target slowly.

    As the authors, and DSR (Mostafa & Wang 2019) with a tolerance of 10 %: the threshold doubles
    after an update that removed less than 98 % of ceil(rho K), halves after one above 102 %.
    Theirs starts at 0.001 and so ignores the death rate for the first 6 to 9 updates; ours
    starts at the exact quantile, and again should that be zero. It stays finite, and no leaf
    can lose more than it has, so every value of it is feasible.
    """
    return jnp.where(live.is_tuned, live.num_under, live.num_lowest)


def global_magnitude(live: Live) -> Array:
    """The ceil(rho K) smallest of all leaves, ties kept in leaf order.

    The authors search a threshold to within 2 % with a step that shrinks for good; ours is exact.
    """
    return live.num_lowest


# SET (Mocanu et al. 2018): as many weights as `magnitude`, half of them the smallest positive
# and half the largest negative ones, as published. The authors' code removes the most negative.
RULES: dict[str, Callable[[Live], Array]] = {
    "magnitude": magnitude,
    "set": magnitude,
    "threshold": threshold,
    "global_magnitude": global_magnitude,
}
_BY_SIGN = tuple(RULES).index("set")
_BY_THRESHOLD = tuple(RULES).index("threshold")


def remove(
    mode: Array, weights: Sequence[Array], live: Sequence[Array], rate: Array, cut: Array
) -> tuple[list[Array], Array, Array]:
    """Removes weights by the rule of `mode`.

    Args:
      mode: int32 scalar, index into `RULES`.
      weights: the prunable leaves.
      live: their masks.
      rate: death rate in billionths, int32 scalar.
      cut: the threshold carried by `threshold`, float32 scalar; 0 before its first update.

    Returns:
      Masks of the weights that are kept; how many each leaf loses, int32 [L]; the threshold for
      the next update, unchanged under other rules.
    """
    keys = [magnitude_keys(leaf) for leaf in weights]
    num_live = counts(live)
    target = ceil_part_of(count(num_live), rate)
    num_lowest, exact_cut = _lowest_across_leaves(keys, live, num_live, target)
    under = [mask & (key <= magnitude_keys(cut)) for key, mask in zip(keys, live, strict=True)]
    stats = Live(num_live, rate, counts(under), num_lowest, is_tuned=cut > 0)
    num_removed = jax.lax.select_n(mode, *[rule(stats) for rule in RULES.values()])
    kept = [
        _keep(leaf, key, mask, num_removed[i], mode == _BY_SIGN)
        for i, (leaf, key, mask) in enumerate(zip(weights, keys, live, strict=True))
    ]
    next_cut = _retune(jnp.where(stats.is_tuned, cut, exact_cut), count(num_removed), target)
    return kept, num_removed, jnp.where(mode == _BY_THRESHOLD, next_cut, cut)


def _lowest_across_leaves(
    keys: Sequence[Array], live: Sequence[Array], num_live: Array, target: Array
) -> tuple[Array, Array]:
    """Where the `target` smallest live weights sit, int32 [L], and the largest |w| among them."""
    num_kept = count(num_live) - target
    cut = kth_largest(keys, live, num_kept + 1)
    pairs = list(zip(keys, live, strict=True))
    above = counts([mask & (key > cut) for key, mask in pairs])
    ties = counts([mask & (key == cut) for key, mask in pairs])
    spare = num_kept - count(above)
    in_earlier_leaves = jnp.cumsum(ties, dtype=jnp.int32) - ties
    kept = above + jnp.clip(spare - in_earlier_leaves, 0, ties)
    value = jax.lax.bitcast_convert_type(
        jnp.minimum(cut, magnitude_keys(jnp.float32(_LARGEST))), jnp.float32
    )
    return num_live - kept, value


def _retune(cut: Array, num_removed: Array, target: Array) -> Array:
    """Doubles or halves the threshold where it missed the target by more than 2 %."""
    slack = target // 50
    doubled = jnp.minimum(2 * cut, _LARGEST)
    cut = jnp.where(num_removed < target - slack, doubled, cut)
    return jnp.where(num_removed > target + slack, cut / 2, cut)


def _keep(weights: Array, keys: Array, live: Array, num_removed: Array, by_sign: Array) -> Array:
    """Mask of what is left when the `num_removed` live weights nearest to zero are gone.

    With `by_sign`, half of them (the odd one too) are weights >= 0, the others negative ones; a
    sign that has too few gives all it has and the other supplies the rest. Without, all weights
    are in the first group.
    """
    negative = live & (weights < 0) & by_sign
    others = live & ~negative
    num_others, num_negative = count(others), count(negative)
    half = jnp.maximum((num_removed + 1) // 2, num_removed - num_negative)
    from_others = jnp.minimum(half, num_others)
    from_negative = num_removed - from_others
    return top_k_mask(keys, others, num_others - from_others) | top_k_mask(
        keys, negative, num_negative - from_negative
    )
