"""Means and norms of floats that do not depend on the order of summation.

Float sums depend on their order, which `vmap` and sharding may change. So magnitudes are cut to
24 bits below the largest exponent, by shifts of their own mantissa, and integers are summed: the
same bits in any order. Numbers that are not finite count as zero.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from lsh_jax.sparsity.proportion import mul_div
from lsh_jax.sparsity.selection import INFINITY, magnitude_keys
from lsh_jax.types import Array

_MANTISSA = 23  # stored bits of a float32's fraction; its exponent field stands above them
_BIAS = 127
_SQUARED = 16  # leading bits that are squared, so that a square has 32


class Total(NamedTuple):
    """The sum of |x| over n entries of a leaf, `(high 2^32 + low) 2^(exponent - 150)`."""

    high: Array  # uint32 scalar
    low: Array  # uint32 scalar
    exponent: Array  # the field of the leaf's largest entry, uint32 scalar


def nothing() -> Total:
    """The sum of no entries; a function, since an array made on import would start the backend."""
    return Total(jnp.uint32(0), jnp.uint32(0), jnp.uint32(1))


def total_magnitude(x: Array, chosen: Array) -> Total:
    """Sum of |x| over the entries that are chosen."""
    values, top = _fixed_point(x, chosen)
    return Total(*_wide_sum(values), top)


def mean_shares(totals: Total, numbers: Array) -> Array:
    """The mean |x| of L leaves as integers on one scale.

    Args:
      totals: of [L] entries each.
      numbers: of entries that were summed, int32 [L]; the mean of none is zero.

    Returns:
      int32 [L], sum below 2^31.
    """
    means, _ = mul_div(totals.low, jnp.int32(1), jnp.maximum(numbers, 1), totals.high)
    top = jnp.max(jnp.where(means > 0, totals.exponent, 0), initial=0)
    below = jnp.minimum(jnp.maximum(top, totals.exponent) - totals.exponent, 31)
    spare_bits = max((means.shape[0] - 1).bit_length() - 31 + _MANTISSA + 1, 0)
    return ((means >> below) >> spare_bits).astype(jnp.int32)


def inverse_norm(x: Array, chosen: Array) -> Array:
    """1 / the L2 norm of the chosen entries, to 16 bits; 1 if it is zero. A float32 scalar."""
    values, top = _fixed_point(x, chosen)
    leading = values >> (_MANTISSA + 1 - _SQUARED)
    high, low = _wide_sum(leading * leading)
    square = high.astype(jnp.float32) * jnp.float32(2**32) + low.astype(jnp.float32)
    # A leading digit is worth 2^(exponent - bias - 15) of the number it was cut from.
    exponent = top.astype(jnp.int32) - (_BIAS + _SQUARED - 1)
    inverse = jnp.ldexp(1 / jnp.sqrt(jnp.maximum(square, 1)), -exponent)
    return jnp.where((square > 0) & jnp.isfinite(inverse), inverse, jnp.float32(1))


def _fixed_point(x: Array, chosen: Array) -> tuple[Array, Array]:
    """|x| of the chosen as multiples of the last place of the largest, and its exponent field."""
    keys = magnitude_keys(x)
    keys = jnp.where(chosen & (keys < INFINITY), keys, 0)
    top = jnp.maximum(jnp.max(keys, initial=0) >> _MANTISSA, 1)
    exponent = keys >> _MANTISSA
    implicit = (exponent > 0).astype(jnp.uint32) << _MANTISSA  # subnormals have no leading one
    mantissa = (keys & jnp.uint32(2**_MANTISSA - 1)) | implicit
    shift = top - jnp.maximum(exponent, 1)
    return mantissa >> jnp.minimum(shift, 31), top


def _wide_sum(x: Array) -> tuple[Array, Array]:
    """Exact sum of uint32 numbers as (high, low) words: 64-bit addition without 64-bit types."""

    def add(a: tuple[Array, Array], b: tuple[Array, Array]) -> tuple[Array, Array]:
        low = a[1] + b[1]
        return a[0] + b[0] + (low < a[1]).astype(jnp.uint32), low

    zero = jnp.uint32(0)
    high, low = jax.lax.reduce((jnp.zeros_like(x), x), (zero, zero), add, tuple(range(x.ndim)))
    return high, low
