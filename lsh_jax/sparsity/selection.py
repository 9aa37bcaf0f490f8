"""Exact choice of the k largest entries for a traced k, with neither a sort nor the host.

Scores are uint32 keys. A bisection on their bits finds the k-th largest in 32 counting passes,
another on the flat index settles ties. Counts are integers, so the result is the mask of a
stable argsort in descending order, bit for bit, on any backend and under `jit` and `vmap`.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from lsh_jax.types import Array


def magnitude_keys(x: Array) -> Array:
    """Returns uint32 keys, the shape of `x`, in the order of |x|; inf is large, NaN the largest.

    The bit pattern of a non-negative float32 grows with its value. Wider floats are rounded to
    float32 first.
    """
    bits = jax.lax.bitcast_convert_type(x.astype(jnp.float32), jnp.uint32)
    return bits & jnp.uint32(0x7FFFFFFF)


def count(x: Array) -> Array:
    """Returns the number of true entries, or the sum of counts, as an int32 scalar.

    A float32 sum would be exact to 2^24 only, and without the dtype x64 would widen the result.
    """
    return jnp.sum(x, dtype=jnp.int32)


def counts(masks: Sequence[Array]) -> Array:
    """Returns the number of true entries of each mask, int32 [L]."""
    return jnp.stack([count(mask) for mask in masks])


def kth_largest(
    keys: Sequence[Array], candidates: Sequence[Array], k: Array, num_bits: int = 32
) -> Array:
    """Finds the k-th largest key among the candidates of all leaves.

    Args:
      keys: uint32 arrays, below 2^num_bits.
      candidates: bool arrays of the same shapes.
      k: int32 scalar; what k <= 0 returns is 2^num_bits - 1.
      num_bits: counting passes.

    Returns:
      The largest uint32 that at least k candidates reach; 0 if there are fewer candidates.
    """

    def add_bit(i: Array, cut: Array) -> Array:
        trial = cut | (jnp.uint32(1) << jnp.uint32(num_bits - 1 - i))
        reach = [count(open_ & (key >= trial)) for key, open_ in zip(keys, candidates, strict=True)]
        return jnp.where(sum(reach) >= k, trial, cut)

    return jax.lax.fori_loop(0, num_bits, add_bit, jnp.uint32(0))


def top_k_mask(keys: Array, candidates: Array, k: Array) -> Array:
    """Marks the k candidates with the largest keys, ties going to the lowest flat index.

    Args:
      keys: uint32, any shape.
      candidates: bool, the same shape.
      k: int32 scalar, 0 <= k <= number of candidates.

    Returns:
      A bool mask with exactly k true entries, all of them candidates.
    """
    cut = kth_largest((keys,), (candidates,), k)
    above = candidates & (keys > cut)
    ties = candidates & (keys == cut)
    # Counted from the end, so that the lowest index is the largest key, and with one bit pattern
    # to spare above all indices, which is the cut that lets no tie in.
    from_end = jnp.arange(keys.size, dtype=jnp.uint32)[::-1].reshape(keys.shape)
    last = kth_largest((from_end,), (ties,), k - count(above), keys.size.bit_length())
    return above | (ties & (from_end >= last))
