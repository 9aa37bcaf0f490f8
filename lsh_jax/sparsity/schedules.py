"""How the death rate falls over the topology updates.

Rates are integers in billionths and the cosine is an integer series, so that a rate, and with it
every count of removed weights, is the same number whether runs are vmapped or not, and on every
backend; a float cosine differs in its last bit, which is enough to move a ceiling by one.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from lsh_jax.sparsity.allocation import PARTS, mul_div, part_of
from lsh_jax.types import Array

FLOOR = PARTS // 200  # 0.005, where the authors' cosine ends

# (1 + cos(pi x)) / 2 = 1 - sum_k (-1)^(k+1) c_k (2 x)^(2k); the next term is below 1e-8 at x = 1/2.
_SERIES = tuple(
    round(PARTS * math.pi ** (2 * k) / (2 * math.factorial(2 * k) * 4**k)) for k in range(1, 7)
)


def cosine(rate: Array, progress: Array) -> Array:
    """Falls from `rate` to 0.005 along half a cosine: 0.005 + (rate - 0.005)(1 + cos(pi x)) / 2.

    As Selfish-RNN and sparse_learning (RigL's ends at 0). A rate below 0.005 stays as it is
    rather than rise.
    """
    floor = jnp.minimum(rate, FLOOR)
    return floor + part_of(rate - floor, _half_cosine(progress))


def constant(rate: Array, progress: Array) -> Array:
    """Stays at `rate`."""
    del progress
    return rate


RULES: dict[str, Callable[[Array, Array], Array]] = {"cosine": cosine, "constant": constant}


def scheduled_rate(mode: Array, rate: Array, num_updates: Array, horizon: Array) -> Array:
    """Gives the death rate of an update.

    Args:
      mode: int32 scalar, index into `RULES`.
      rate: float32 scalar in [0, 1]; read to six decimals, since a float32 holds no more, so
        that 0.4 is 4/10 and the ceiling of 0.4 x 10 is 4.
      num_updates: int32 scalar, 1 for the first update.
      horizon: int32 scalar >= 1, the update from which progress x is 1.

    Returns:
      The rate in billionths, int32.
    """
    start = 1000 * jnp.round(rate * 1e6).astype(jnp.int32)
    progress, _ = mul_div(jnp.int32(PARTS), jnp.minimum(num_updates, horizon), horizon)
    rates = [rule(start, progress.astype(jnp.int32)) for rule in RULES.values()]
    return jax.lax.select_n(mode, *rates)


def _half_cosine(progress: Array) -> Array:
    """(1 + cos(pi x)) / 2 for x in [0, 1], both in billionths."""
    late = 2 * progress > PARTS
    twice = 2 * jnp.where(late, PARTS - progress, progress)  # the curve is odd about x = 1/2
    square = part_of(twice, twice)
    tail = jnp.int32(0)
    for coefficient in reversed(_SERIES):
        tail = part_of(square, coefficient - tail)
    return jnp.where(late, tail, PARTS - tail)
