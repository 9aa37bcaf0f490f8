"""Whole numbers in exact proportion: parts of a number, and shares of a total.

Everything is 32-bit integer arithmetic. Floats would lose counts above 2^24, and a float sum
depends on its order, which differs between a vmapped and a single run.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from lsh_jax.sparsity.selection import count
from lsh_jax.types import Array

PARTS = 10**9  # rates inside traced code are integers in billionths: decimals stay exact


def mul_div(a: Array, b: Array, d: Array, high: Array | int = 0) -> tuple[Array, Array]:
    """Divides the 64-bit number `high 2^32 + a b` by d without 64-bit integers.

    Horner's rule over the 32 bits of `a`, with the remainder kept below d throughout.

    Args:
      a: non-negative integers, any shape that broadcasts with the others.
      b: integers, 0 <= b <= d.
      d: integers, 0 < d < 2^31.
      high: integers, 0 <= high < d (else the quotient would not fit).

    Returns:
      Quotient and remainder, uint32.
    """
    a, b, d, rest = (
        x.astype(jnp.uint32) for x in jnp.broadcast_arrays(*map(jnp.asarray, (a, b, d, high)))
    )

    def reduce(quotient: Array, rest: Array) -> tuple[Array, Array]:
        over = rest >= d
        return quotient + over.astype(jnp.uint32), jnp.where(over, rest - d, rest)

    def take_bit(i: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        quotient, rest = reduce(2 * carry[0], 2 * carry[1])
        bit = (a >> jnp.uint32(31 - i)) & jnp.uint32(1)
        return reduce(quotient, rest + bit * b)

    quotient, rest = jax.lax.fori_loop(0, 32, take_bit, (jnp.zeros_like(a), rest))
    return quotient, rest


def part_of(number: Array, part: Array) -> Array:
    """Returns floor(number part / 10^9), int32, for 0 <= number and 0 <= part <= 10^9."""
    return mul_div(number, part, jnp.int32(PARTS))[0].astype(jnp.int32)


def ceil_part_of(number: Array, part: Array) -> Array:
    """Returns ceil(number part / 10^9), int32, for 0 <= number and 0 <= part <= 10^9."""
    quotient, rest = mul_div(number, part, jnp.int32(PARTS))
    return (quotient + (rest > 0).astype(jnp.uint32)).astype(jnp.int32)


def apportion(total: Array, weights: Array, caps: Array) -> Array:
    """Shares `total` among leaves in proportion to `weights`, none above its cap.

    A leaf whose quota exceeds its cap gets the cap, and the rest is shared among the others in
    proportion to their weights, until all quotas fit: RigL's rule for layers that would be more
    than dense (Evci et al. 2020), and the one by which redistribution passes on its overflow.
    Fractions go to the largest remainders, ties to the first leaf. Where the leaves still open
    have no weight at all, their caps are the weights.

    Args:
      total: int32 scalar, 0 <= total <= sum of caps.
      weights: int32 [L], >= 0, sum below 2^31.
      caps: int32 [L], >= 0, sum below 2^31.

    Returns:
      Counts, int32 [L], 0 <= count <= cap, whose sum is exactly `total`.
    """

    def fill(state: _Filling) -> _Filling:
        full = state.full | state.exceed
        open_weights = jnp.where(full, 0, weights)
        any_weight = jnp.any(open_weights > 0)
        shares = jnp.where(any_weight, open_weights, jnp.where(full, 0, caps))
        left = total - count(jnp.where(full, caps, 0))
        quotient, rest = mul_div(left, shares, jnp.maximum(count(shares), 1))
        whole = quotient.astype(jnp.int32)
        exceed = ~full & ((whole > caps) | ((whole == caps) & (rest > 0)))
        return _Filling(full, exceed, jnp.where(full, caps, whole), rest)

    nobody = jnp.zeros(caps.shape, bool)
    start = _Filling(nobody, nobody, jnp.full_like(caps, -1), jnp.zeros(caps.shape, jnp.uint32))
    filled = jax.lax.while_loop(
        lambda state: jnp.any(state.exceed | (state.whole < 0)), fill, start
    )
    # The fractions sum to `spare`, so fewer leaves gain one than have a fraction: no cap breaks.
    spare = total - count(filled.whole)
    return filled.whole + (_descending_rank(filled.rest) < spare).astype(jnp.int32)


class _Filling(NamedTuple):
    full: Array  # leaves that have their cap
    exceed: Array  # leaves whose quota is above it, full from the next round on
    whole: Array  # quotas rounded down; -1 before the first round
    rest: Array  # remainders


def _descending_rank(x: Array) -> Array:
    """Position of each entry in a stable descending order, int32 [L]."""
    index = jnp.arange(x.size)
    earlier = index[:, None] < index[None, :]
    ahead = (x[:, None] > x[None, :]) | ((x[:, None] == x[None, :]) & earlier)
    return jnp.sum(ahead, axis=0, dtype=jnp.int32)
