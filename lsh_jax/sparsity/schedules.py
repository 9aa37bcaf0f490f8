"""How the death rate, and the number of live weights, change over the topology updates.

Rates are integers in billionths and the cosine is an integer series, so that a rate, and with it
every count of removed weights, is the same number whether runs are vmapped or not, and on every
backend; a float cosine differs in its last bit, which is enough to move a ceiling by one.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from lsh_jax.sparsity.proportion import PARTS, mul_div, part_of
from lsh_jax.types import Array

# (1 + cos(pi x)) / 2 = 1 - sum_k (-1)^(k+1) c_k (2 x)^(2k); the next term is below 1e-8 at x = 1/2.
_SERIES = tuple(
    round(PARTS * math.pi ** (2 * k) / (2 * math.factorial(2 * k) * 4**k)) for k in range(1, 7)
)


def cosine(progress: Array) -> Array:
    """Half a cosine, (1 + cos(pi x)) / 2, as Selfish-RNN, sparse_learning and RigL."""
    late = 2 * progress > PARTS
    twice = 2 * jnp.where(late, PARTS - progress, progress)  # the curve is odd about x = 1/2
    square = part_of(twice, twice)
    series = jnp.array(_SERIES[::-1], jnp.int32)

    def add_term(k: Array, tail: Array) -> Array:
        return part_of(square, series[k] - tail)

    tail = jax.lax.fori_loop(0, len(_SERIES), add_term, jnp.int32(0))
    return jnp.where(late, tail, PARTS - tail)


def linear(progress: Array) -> Array:
    """1 - x, as sparse_learning; the "linear" of the authors' code is geometric and unused."""
    return PARTS - progress


def constant(progress: Array) -> Array:
    """1 throughout."""
    return jnp.full_like(progress, PARTS)


RULES: dict[str, Callable[[Array], Array]] = {
    "cosine": cosine,
    "linear": linear,
    "constant": constant,
}


def progress(num_updates: Array, horizon: Array) -> Array:
    """How far the schedules have run, in billionths, int32.

    Args:
      num_updates: int32 scalar, 1 for the first update.
      horizon: int32 scalar >= 1, the update from which on it is 1.
    """
    return mul_div(jnp.int32(PARTS), jnp.minimum(num_updates, horizon), horizon)[0].astype(
        jnp.int32
    )


def scheduled_rate(mode: Array, rate: Array, floor: Array, progress: Array) -> Array:
    """Gives the death rate of an update: floor + (rate - floor) times the rule's curve.

    Args:
      mode: int32 scalar, index into `RULES`.
      rate: float32 scalar in [0, 1], at the start; read to six decimals, since a float32 holds no
        more, so that 0.4 is 4/10 and the ceiling of 0.4 x 10 is 4.
      floor: float32 scalar in [0, 1], where the rate ends; a rate below it stays as it is rather
        than rise.
      progress: billionths, int32 scalar.

    Returns:
      The rate in billionths, int32.
    """
    start = billionths(rate)
    end = jnp.minimum(start, billionths(floor))
    curve = jax.lax.select_n(mode, *[rule(progress) for rule in RULES.values()])
    return end + part_of(start - end, curve)


def billionths(rate: Array) -> Array:
    """Reads a float32 in [0, 1] to six decimals, as an int32."""
    return 1000 * jnp.round(rate * 1e6).astype(jnp.int32)


def cubic_count(total: Array, dense: Array | int, progress: Array) -> Array:
    """Live weights on the way from dense to `total` (Zhu & Gupta 2017, section 3).

    total + (dense - total) (1 - x)^3, the cube and the product rounded down.

    Args:
      total: int32 scalar, at the end.
      dense: int32 scalar, at the start.
      progress: billionths, int32 scalar.
    """
    left = PARTS - progress
    excess = jnp.asarray(dense, jnp.int32) - total
    cube = jax.lax.fori_loop(0, 3, lambda _, part: part_of(part, left), jnp.int32(PARTS))
    return total + part_of(excess, cube)
