"""Exact choice of the k largest entries for a traced k, with neither a sort nor the host.

Scores are uint32 keys. A bisection on their bits finds the k-th largest in 32 counting passes,
another on the flat index settles ties; passes that cannot change the result are not made. Counts
are integers, so the result is the mask of a stable argsort in descending order, bit for bit, on
any backend, under `jit`, `vmap` and sharding.
"""

import functools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from lsh_jax.sparsity.sharding import is_explicit
from lsh_jax.types import Array

_SIGN_BIT = 0x80000000
INFINITY = 0x7F800000  # the key of inf; those of NaN are larger


def magnitude_keys(x: Array) -> Array:
    """Returns uint32 keys, the shape of `x`, in the order of |x|; inf is large, NaN the largest.

    The bit pattern of a non-negative float32 grows with its value, and leaves the highest bit
    free. Wider floats are rounded to float32 first.
    """
    bits = jax.lax.bitcast_convert_type(x.astype(jnp.float32), jnp.uint32)
    return bits & jnp.uint32(_SIGN_BIT - 1)


def raised(keys: Array, preferred: Array) -> Array:
    """Sets the highest bit, free in keys of magnitudes, where an entry is preferred to all."""
    return keys | jnp.where(preferred, jnp.uint32(_SIGN_BIT), jnp.uint32(0))


def count(x: Array) -> Array:
    """Returns the number of true entries, or the sum of counts, as an int32 scalar.

    A float32 sum would be exact to 2^24 only, and without the dtype x64 would widen the result.
    """
    return count_along(x, tuple(range(x.ndim)))


def count_along(x: Array, axes: tuple[int, ...]) -> Array:
    """Returns the number of true entries, or the sum of counts, along some axes, as int32."""
    if x.dtype != jnp.bool_ or x.size == 0 or 0 not in axes or is_explicit(x):
        return jnp.sum(x, axis=axes, dtype=jnp.int32)
    return jax.lax.platform_dependent(
        x,
        cpu=functools.partial(_count_in_bytes, axes=axes),
        default=functools.partial(jnp.sum, axis=axes, dtype=jnp.int32),
    )


def _count_in_bytes(x: Array, axes: tuple[int, ...]) -> Array:
    """Counts in bytes over up to 255 rows first.

    XLA's CPU back-end writes the entries out as numbers before it adds them up; bytes are a
    quarter of what int32 would be to write and to read. Other back-ends add as they go.
    """
    rows = max(divisor for divisor in range(1, 256) if x.shape[0] % divisor == 0)
    x = x.reshape(x.shape[0] // rows, rows, *x.shape[1:])
    return jnp.sum(jnp.sum(x, axis=1, dtype=jnp.uint8), axis=axes, dtype=jnp.int32)


def counts(masks: Sequence[Array]) -> Array:
    """Returns the number of true entries of each mask, int32 [L]."""
    return jnp.stack([count(mask) for mask in masks])


def largest_cut(reach: Callable[[Array], Array], k: Array, num_bits: int = 32) -> Array:
    """Finds the largest cut that at least k entries reach, bit by bit.

    Args:
      reach: from a uint32 cut, of the shape of `k`, to the number of entries at or above it,
        int32; it falls as the cut rises and is at least k at 0.
      k: int32, any shape.
      num_bits: counting passes; none is made unless some k is above 0.

    Returns:
      uint32, the shape of `k`; 2^num_bits - 1 where k <= 0.
    """

    def add_bit(i: Array, cut: Array) -> Array:
        trial = cut | (jnp.uint32(1) << jnp.uint32(num_bits - 1 - i))
        return jnp.where(reach(trial) >= k, trial, cut)

    passes = jnp.where(jnp.any(k > 0), num_bits, 0)
    start = jnp.where(k > 0, jnp.uint32(0), jnp.uint32(2**num_bits - 1))
    return jax.lax.fori_loop(0, passes, add_bit, start)


def top_k_mask(keys: Array, candidates: Array, k: Array) -> Array:
    """Marks the k candidates with the largest keys, ties going to the lowest flat index.

    Args:
      keys: uint32, any shape.
      candidates: bool, the same shape.
      k: int32 scalar, 0 <= k <= number of candidates.

    Returns:
      A bool mask with exactly k true entries, all of them candidates.
    """
    return top_k_of_blocks(keys, candidates, k[None])


def top_k_of_blocks(
    keys: Array, candidates: Array, k: Array, pooled: Array | bool = False
) -> Array:
    """Marks the largest candidates of each block, or of all blocks together.

    Args:
      keys: uint32 [..., G n], G blocks side by side along the last axis.
      candidates: bool, the same shape.
      k: int32 [G], how many of each block; if pooled, how many of all, G times the same number.
      pooled: bool scalar, traced or not.

    Returns:
      A bool mask of the same shape, ties going to the lowest flat index.
    """
    num_blocks = k.size

    def tally(mask: Array) -> Array:
        if num_blocks == 1:
            return count(mask)[None]
        of_column = count_along(mask, tuple(range(mask.ndim - 1)))
        of_block = count_along(of_column.reshape(num_blocks, -1), (1,))
        return jnp.where(pooled, count(of_block), of_block)

    def wide(cut: Array) -> Array:
        if num_blocks == 1:
            return cut[0]
        of_column = jnp.repeat(cut, keys.shape[-1] // num_blocks)
        return jnp.expand_dims(of_column, tuple(range(keys.ndim - 1)))

    cut = largest_cut(lambda trial: tally(candidates & (keys >= wide(trial))), k)
    above = candidates & (keys > wide(cut))
    ties = candidates & (keys == wide(cut))
    quota = k - tally(above)
    contested = tally(ties) > quota
    # One bit pattern to spare above all indices, which is the cut that lets no tie in.
    from_end = _index_from_end(keys.shape)
    last = largest_cut(
        lambda trial: tally(ties & (from_end >= wide(trial))),
        jnp.where(contested, quota, 0),
        keys.size.bit_length(),
    )
    last = jnp.where(contested, last, jnp.uint32(0))
    return above | (ties & (from_end >= wide(last)))


def _index_from_end(shape: tuple[int, ...]) -> Array:
    """Flat indices counted from the end, uint32, so that the lowest index is the largest."""
    index = jnp.zeros(shape, jnp.uint32)
    for axis in range(len(shape)):
        stride = math.prod(shape[axis + 1 :])
        index += jnp.uint32(stride) * jax.lax.broadcasted_iota(jnp.uint32, shape, axis)
    return jnp.uint32(max(math.prod(shape) - 1, 0)) - index
