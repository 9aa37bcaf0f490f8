"""What follows from a Lyapunov spectrum alone: the dimension of the attractor and its entropy."""

from typing import Any

import jax.numpy as jnp

from lsh_jax.config import check
from lsh_jax.types import Array


def kaplan_yorke_dimension(exponents: Any, dim: int | None = None) -> Array:
    """The Kaplan-Yorke (Lyapunov) dimension of an attractor (Kaplan & Yorke, 1979).

    With the exponents sorted and j the largest number of them whose sum is not negative, it is
    j + (lambda_1 + ... + lambda_j) / |lambda_{j+1}|: the dimension in which volumes neither grow
    nor shrink. It is the same in every unit, and continuous in the exponents but for lambda_1 = 0,
    where it falls to 0: set a zero exponent that was estimated as slightly negative, as that of a
    limit cycle is in half of all runs, to 0 first. Works under `jit`, `vmap` and `grad`.

    Args:
      exponents: in any order and unit, [..., K], or the result that holds them.
      dim: number of exponents of the system, >= K, where only the leading K are given; None says
        that the K are all there are.

    Returns:
      [...], in [0, K]. 0 where all exponents are negative; K where no sum of leading exponents is
      negative; but NaN where that happens to the leading K of `dim` > K exponents, whose sums
      would become negative later. NaN if an exponent is NaN.

    Raises:
      ConfigError: (a ValueError) for a `dim` below K, without any exponent, or for a tuple of
        arrays.
    """
    values = _spectrum(exponents, dim)
    size = values.shape[-1]
    ordered = jnp.sort(values, axis=-1, descending=True)
    sums = jnp.cumsum(ordered, axis=-1)
    # Sums of falling terms first rise and then fall: those not below zero are the leading ones.
    count = jnp.sum(sums >= 0, axis=-1, keepdims=True)
    last = jnp.take_along_axis(sums, jnp.maximum(count - 1, 0), axis=-1)
    following = jnp.take_along_axis(ordered, jnp.minimum(count, size - 1), axis=-1)
    crossed = (count > 0) & (count < size)
    # Both branches of a `where` are differentiated, so the dangerous one is fed a safe value.
    fraction = jnp.where(crossed, last / jnp.where(crossed, -following, 1), 0)
    whole = jnp.full_like(fraction, size if dim in (None, size) else jnp.nan)
    dimension = jnp.where(count == size, whole, count.astype(values.dtype) + fraction)[..., 0]
    return jnp.where(jnp.isnan(values).any(axis=-1), jnp.nan, dimension)


def ks_entropy(exponents: Any, dim: int | None = None) -> Array:
    """The sum of the positive exponents: an upper bound of the Kolmogorov-Sinai entropy.

    Ruelle's inequality; by Pesin's identity it is the entropy itself where the invariant measure
    is smooth along the unstable directions.

    Args:
      exponents: in any order, [..., K], or the result that holds them.
      dim: as in `kaplan_yorke_dimension`.

    Returns:
      [...], >= 0, in the unit of the exponents, nats or bits, per step or per time. NaN where the
      leading K of `dim` > K exponents are all positive, so that some may be missing, or where an
      exponent is NaN.

    Raises:
      ConfigError: (a ValueError) for a `dim` below K, without any exponent, or for a tuple of
        arrays.
    """
    values = _spectrum(exponents, dim)
    total = jnp.sum(jnp.where(values < 0, 0, values), axis=-1)
    if dim in (None, values.shape[-1]):
        return total
    return jnp.where((values > 0).all(axis=-1), jnp.nan, total)


def _spectrum(exponents: Any, dim: int | None) -> Array:
    own = getattr(exponents, "exponents", exponents)  # of a LyapunovResult or a DrivenSpectrum
    # Exponents with their errors would count as two spectra, and layers may differ in length.
    several = isinstance(own, tuple) and any(jnp.ndim(part) for part in own)
    alone = "be exponents alone, e.g. the first of (exponents, std_error), or one layer"
    check(not several, "exponents", alone, "a tuple")
    values = jnp.asarray(own)
    values = values if jnp.issubdtype(values.dtype, jnp.floating) else values.astype(float)
    check(values.ndim > 0 and values.size > 0, "exponents", "be [..., K], K >= 1", values.shape)
    size = values.shape[-1]
    check(dim is None or dim >= size, "dim", f"be at least the {size} exponents given", dim)
    return values
