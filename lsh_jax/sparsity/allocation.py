"""Whole numbers of weights per leaf: exact proportional shares, and the counts at the start.

Everything is 32-bit integer arithmetic. Floats would lose counts above 2^24, and a float sum
depends on its order, which differs between a vmapped and a single run.
"""

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

import jax
import jax.numpy as jnp

from lsh_jax.sparsity.selection import count
from lsh_jax.types import Array

PARTS = 10**9  # rates inside traced code are integers in billionths: decimals stay exact

Shapes = Sequence[tuple[int, ...]]


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

    def quotas(full: Array) -> tuple[Array, Array]:
        open_weights = jnp.where(full, 0, weights)
        any_weight = jnp.any(open_weights > 0)
        shares = jnp.where(any_weight, open_weights, jnp.where(full, 0, caps))
        left = total - count(jnp.where(full, caps, 0))
        whole, rest = mul_div(left, shares, jnp.maximum(count(shares), 1))
        return whole.astype(jnp.int32), rest

    def exceed(full: Array) -> Array:
        whole, rest = quotas(full)
        return ~full & ((whole > caps) | ((whole == caps) & (rest > 0)))

    def fill(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        full = carry[0] | carry[1]
        return full, exceed(full)

    empty = jnp.zeros(caps.shape, bool)
    full, _ = jax.lax.while_loop(lambda carry: jnp.any(carry[1]), fill, (empty, exceed(empty)))
    whole, rest = quotas(full)
    whole = jnp.where(full, caps, whole)
    # The fractions sum to `spare`, so fewer leaves gain one than have a fraction: no cap breaks.
    spare = total - count(whole)
    return whole + (_descending_rank(rest) < spare).astype(jnp.int32)


def _descending_rank(x: Array) -> Array:
    """Position of each entry in a stable descending order, int32 [L]."""
    index = jnp.arange(x.size)
    earlier = index[:, None] < index[None, :]
    ahead = (x[:, None] > x[None, :]) | ((x[:, None] == x[None, :]) & earlier)
    return jnp.sum(ahead, axis=0, dtype=jnp.int32)


def density_fraction(sparsity: float) -> tuple[int, int]:
    """Reads 1 - sparsity as the nearest fraction with a denominator below 2^31.

    1 - 0.67 is 0.32999999999999996 in floats; the fraction is the 33/100 that was meant, and
    int32 numbers can hold it.
    """
    fraction = Fraction(1 - sparsity).limit_denominator(2**31 - 1)
    return fraction.numerator, fraction.denominator


def num_live_weights(density: Array, num_weights: Array | int) -> Array:
    """Rounds density times number of weights to the nearest integer, halves to the even one.

    Args:
      density: numerator and denominator, int32 [2].
      num_weights: all prunable weights, below 2^31 - 1.

    Returns:
      The number K of live weights that every update keeps, an int32 scalar.
    """
    numerator, denominator = density[0], density[1]
    quotient, rest = mul_div(jnp.asarray(num_weights), numerator, denominator)
    twice, whole = 2 * rest, denominator.astype(jnp.uint32)
    odd = quotient % 2 == 1
    up = (twice > whole) | ((twice == whole) & odd)
    return quotient.astype(jnp.int32) + up.astype(jnp.int32)


def uniform(shapes: Shapes) -> list[int]:
    """Every leaf has the same density: weights n_l."""
    return [math.prod(shape) for shape in shapes]


def er(shapes: Shapes) -> list[int]:
    """Erdős–Rényi (SET, Mocanu et al. 2018): density eps sum(dims) / prod(dims), so sum(dims).

    The authors find eps by trial until the expected count is within 5 of the budget and do not
    cap densities at 1, so that small leaves leave the network sparser than asked; here the
    closed form is shared out exactly by `apportion`, which caps.
    """
    return [sum(shape) for shape in shapes]


RULES: dict[str, Callable[[Shapes], list[int]]] = {"uniform": uniform, "er": er}


def initial_counts(mode: Array, density: Array, shapes: Shapes) -> Array:
    """Shares the live weights out among the leaves at the start.

    The authors draw each mask entry by itself, so that their counts are random (standard
    deviation sqrt(n d (1 - d))); ours are exact, and their sum is K.

    Args:
      mode: int32 scalar, index into `RULES`.
      density: numerator and denominator, int32 [2].
      shapes: of the prunable leaves; nothing of their size is allocated.

    Returns:
      Live weights per leaf, int32 [L].
    """
    weights = jax.lax.select_n(
        mode, *[jnp.array(rule(shapes), jnp.int32) for rule in RULES.values()]
    )
    sizes = jnp.array([math.prod(shape) for shape in shapes], jnp.int32)
    return apportion(num_live_weights(density, sum(map(math.prod, shapes))), weights, sizes)
