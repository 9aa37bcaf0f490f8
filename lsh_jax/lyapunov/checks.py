"""What the entry points of this package refuse, before a run and after it."""

import math
import numbers
from typing import Any

import jax
import jax.numpy as jnp

from lsh_jax.config import ConfigError, check
from lsh_jax.types import Array


def check_count(name: str, value: Any) -> None:
    """Raises unless a value is a whole number."""
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    check(whole, name, "be a whole number", value)


def check_key(key: Any) -> None:
    """Raises unless a value is a key of `jax.random`, typed or an old `PRNGKey`, or None."""
    dtype, shape = getattr(key, "dtype", None), getattr(key, "shape", None)
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    old = dtype == jnp.uint32 and shape == (2,)
    check(key is None or typed or old, "key", "be a key, such as jax.random.key(0)", key)


def refuse_collapse(rates: Array, logs: Array, qr_every: int) -> Array:
    """Drops exponents that rounding has swallowed in an interval: an error, or NaN in a trace.

    Args:
      rates: growth per step, [num_qr, K].
      logs: growth over the interval, [num_qr, K].
      qr_every: as the reader gave it.
    """
    limit = -0.75 * math.log(jnp.finfo(rates.dtype).eps)  # 12 nats in float32, 27 in float64
    spread = jnp.max(logs.max(axis=1, keepdims=True) - logs, axis=0)
    if not isinstance(spread, jax.core.Tracer) and float(spread.max()) > limit:
        raise ConfigError(
            f"`qr_every` must keep the growths of the columns over an interval within {limit:.0f} "
            f"nats of each other in {rates.dtype}, got {qr_every} steps, in which the columns "
            'collapsed: take qr="lu", which stands any spread, or fewer steps, fewer exponents, or '
            "float64."
        )
    return jnp.where((spread > limit)[None, :], jnp.nan, rates)


def refuse_breakdown(exponents: Array) -> None:
    """Raises where Cholesky found no factor; what is traced cannot be looked at, and stays NaN."""
    if not isinstance(exponents, jax.core.Tracer) and not bool(jnp.isfinite(exponents).all()):
        raise ConfigError(
            '`qr` must suit the condition of the deviation vectors, got "cholesky" and exponents '
            'that are not finite: take qr="householder", or fewer exponents.'
        )
