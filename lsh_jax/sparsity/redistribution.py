"""How many of the removed weights each leaf gets back.

A rule gives integer weights; `allocation.apportion` shares the removed weights out in proportion,
none beyond the free places of its leaf, and their sum exactly what was removed. The authors
spread overflow equally over all leaves, round down and correct the drift of the total by a
smoothed term at later updates: with exact counts there is no drift to correct.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from lsh_jax.sparsity.allocation import apportion, mul_div
from lsh_jax.sparsity.selection import count, counts, magnitude_keys
from lsh_jax.types import Array

_MANTISSA = 23  # stored bits of a float32's fraction; its exponent field stands above them
_INFINITY = 0x7F800000  # the bit pattern; those of NaN are larger


class Leaves(NamedTuple):
    """What a redistribution rule may look at, before death unless said otherwise."""

    num_live: Array  # int32 [L]
    num_removed: Array  # by death, int32 [L]
    mean_magnitude: Array  # of live weights, fixed point on one scale, int32 [L]


def none(leaves: Leaves) -> Array:
    """Each leaf gets back what it lost.

    The authors give every leaf the same count if death is by threshold, whatever its size; that
    lets small leaves fill up and is not followed.
    """
    return leaves.num_removed


def magnitude(leaves: Leaves) -> Array:
    """In proportion to the mean |w| of the live weights of a leaf."""
    return leaves.mean_magnitude


def nonzeros(leaves: Leaves) -> Array:
    """In proportion to the live weights of a leaf; the authors' count leaves out small ones."""
    return leaves.num_live


RULES: dict[str, Callable[[Leaves], Array]] = {
    "none": none,
    "magnitude": magnitude,
    "nonzeros": nonzeros,
}


def redistribute(
    mode: Array, weights: Sequence[Array], live: Sequence[Array], num_removed: Array
) -> Array:
    """Shares the removed weights out among the leaves by the rule of `mode`.

    Args:
      mode: int32 scalar, index into `RULES`.
      weights: the prunable leaves.
      live: their masks before death.
      num_removed: by leaf, int32 [L].

    Returns:
      How many weights each leaf grows, int32 [L], of the sum of `num_removed`.
    """
    num_live = counts(live)
    leaves = Leaves(num_live, num_removed, mean_magnitudes(weights, live))
    shares = jax.lax.select_n(mode, *[rule(leaves) for rule in RULES.values()])
    sizes = jnp.array([mask.size for mask in live], jnp.int32)
    return apportion(count(num_removed), shares, sizes - num_live + num_removed)


def mean_magnitudes(weights: Sequence[Array], live: Sequence[Array]) -> Array:
    """Mean |w| over the live weights of each leaf, as integers on one scale.

    Float sums depend on their order, which `vmap` may change. So |w| is cut to 24 bits below
    the largest exponent of all leaves, by shifts of its own mantissa, and integers are summed:
    the same bits in any order. Weights that are not finite count as zero.

    Args:
      weights: the prunable leaves.
      live: their masks.

    Returns:
      int32 [L], sum below 2^31; 0 for a leaf without live weights.
    """
    keys = [
        jnp.where(mask & (key < _INFINITY), key, 0)
        for key, mask in zip(map(magnitude_keys, weights), live, strict=True)
    ]
    top = jnp.max(jnp.stack([jnp.max(key, initial=0) for key in keys])) >> _MANTISSA
    sums = [_wide_sum(_fixed_point(key, top)) for key in keys]
    high, low = (jnp.stack(half) for half in zip(*sums, strict=True))
    means, _ = mul_div(low, jnp.int32(1), jnp.maximum(counts(live), 1), high)
    spare_bits = max((len(keys) - 1).bit_length() - 31 + _MANTISSA + 1, 0)
    return (means >> spare_bits).astype(jnp.int32)


def _fixed_point(keys: Array, top: Array) -> Array:
    """Float32 bit patterns as multiples of the last place of the numbers with exponent `top`."""
    exponent = keys >> _MANTISSA
    implicit = (exponent > 0).astype(jnp.uint32) << _MANTISSA  # subnormals have no leading one
    mantissa = (keys & jnp.uint32(2**_MANTISSA - 1)) | implicit
    shift = jnp.maximum(top, 1) - jnp.maximum(exponent, 1)
    return mantissa >> jnp.minimum(shift, 31)


def _wide_sum(x: Array) -> tuple[Array, Array]:
    """Exact sum of uint32 numbers as (high, low) words: 64-bit addition without 64-bit types."""

    def add(a: tuple[Array, Array], b: tuple[Array, Array]) -> tuple[Array, Array]:
        low = a[1] + b[1]
        return a[0] + b[0] + (low < a[1]).astype(jnp.uint32), low

    zero = jnp.uint32(0)
    high, low = jax.lax.reduce((jnp.zeros_like(x), x), (zero, zero), add, tuple(range(x.ndim)))
    return high, low
