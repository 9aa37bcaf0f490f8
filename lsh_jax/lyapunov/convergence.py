"""How far a Lyapunov run has converged: its history, its dead directions, and a verdict."""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from lsh_jax.config import check
from lsh_jax.lyapunov.result import LyapunovResult, interval_lengths
from lsh_jax.types import Array

_DRIFT = 4.0  # standard errors; the halves have few blocks, so that 3 is common by chance


class Convergence(NamedTuple):
    """What a run tells apart, and whether it was stationary; `describe` says it in words.

    Shapes are those of one spectrum; the layers of a language model add their axis before K.
    """

    resolved: Array  # bool [K - 1], whether exponents k and k + 1 are told apart
    gap: Array  # [K - 1], the difference of the two, >= 0
    gap_std_error: Array  # [K - 1]
    max_std_error: Array  # scalar, of all exponents; NaN where any is unknown
    drift: Array  # [K], second half less first half, in standard errors; beyond 4 is a drift
    z: Any  # the standard errors by which a gap had to exceed zero

    def describe(self) -> str:
        """The verdict as one sentence; for a single run, outside of `jit`."""
        return _describe(self)


def running_exponents(result: LyapunovResult) -> Array:
    """What the exponents would have read, had the run ended earlier.

    Means of the local exponents up to each QR, weighted by the time that each covers. Works under
    `jit`; map it over a batch of results with `jax.vmap`.

    Args:
      result: of `lyapunov_spectrum` or a function that returns the same.

    Returns:
      [num_qr, K]; the last row is `result.exponents`.

    Raises:
      ConfigError: (a ValueError) for a batch of results.
    """
    weights, local = _weights(result), result.local_exponents
    return jnp.cumsum(weights * local, axis=0) / jnp.cumsum(weights, axis=0)


def rank_mask(exponents: LyapunovResult | Any, floor: float = -15.0) -> Array:
    """Which directions are live, rather than wiped out by the map at every step.

    Where the tangent map is singular, as it is for a dead unit, the exact exponent is -inf, but a
    generic frame reads about the logarithm of the rounding unit: -16 to -19 nats a step in float32,
    -36 to -39 in float64. A threshold that follows the rounding unit, such as
    R_kk < N * eps * max R, so calls a direction of -20 nats dead in one precision and live in the
    other. This floor is one number, that of `ls_distance`, just above what float32 can tell from a
    singular direction: both precisions agree, and a direction that contracts faster counts as dead.

    Args:
      exponents: a LyapunovResult, or exponents of any shape.
      floor: in the unit of the exponents. -15 is in nats per step: use -21.64 for bits, and divide
        by `dt` where exponents are per time.

    Returns:
      bool, the shape of the exponents: True where they lie above the floor; False for NaN.
    """
    values = exponents.exponents if isinstance(exponents, LyapunovResult) else exponents
    return jnp.asarray(values) > floor


def convergence(result: LyapunovResult, z: float = 2.0) -> Convergence:
    """Judges which exponents a run tells apart, and whether it drifted.

    Neighbouring exponents are correlated, as they share the trajectory, so the error of their gap
    is not that of two independent numbers: it is taken from the block means of the difference of
    their local exponents, floor(sqrt(num_qr)) blocks of consecutive intervals, as the standard
    error of an exponent is. Below 4 intervals the errors of the two are added in squares, as if
    independent. A few rounding units are added, so that equal exponents of a constant map are not
    resolved by their rounding. Works under `jit`; map it over a batch of results with `jax.vmap`.

    The drift compares the halves of the run: a burn-in that was too short shows up there. About
    N(0, 1) for a stationary run; NaN below 16 intervals.

    Args:
      result: of `lyapunov_spectrum` or a function that returns the same.
      z: standard errors by which a gap must exceed zero to count as resolved, > 0.

    Returns:
      A Convergence. A gap whose error is not known is not resolved.

    Raises:
      ConfigError: (a ValueError) for a `z` that is not positive, or a batch of results.
    """
    check(z > 0, "z", "be above 0", z)
    exponents, std_error = jnp.asarray(result.exponents), jnp.asarray(result.std_error)
    rounding = 4 * float(jnp.finfo(exponents.dtype).eps) * (1 + jnp.abs(exponents))
    gap = exponents[..., :-1] - exponents[..., 1:]
    blocks = _block_means(result)
    count = blocks.shape[0]
    if count >= 2:
        difference = blocks[..., :-1] - blocks[..., 1:]
        gap_error = difference.std(axis=0, ddof=1) / math.sqrt(count)
    else:
        gap_error = jnp.hypot(std_error[..., :-1], std_error[..., 1:])
    gap_error = jnp.hypot(gap_error, rounding[..., 1:] + rounding[..., :-1])
    return Convergence(
        resolved=gap > z * gap_error,
        gap=gap,
        gap_std_error=gap_error,
        max_std_error=std_error.max(),
        drift=_drift(blocks, rounding),
        z=z,
    )


def _drift(blocks: Array, rounding: Array) -> Array:
    """Difference of the means of the two halves in its standard errors, [K]."""
    half = blocks.shape[0] // 2
    if half < 2:
        return jnp.full_like(rounding, jnp.nan)
    first, second = blocks[:half], blocks[-half:]
    # Within the halves: a drift between them must not hide itself in the variance.
    variance = (first.var(axis=0, ddof=1) + second.var(axis=0, ddof=1)) / half
    return (second.mean(axis=0) - first.mean(axis=0)) / jnp.sqrt(variance + rounding**2)


def _block_means(result: LyapunovResult) -> Array:
    """Time-weighted means of floor(sqrt(num_qr)) blocks of intervals, [num_blocks, K].

    What is left over at the start is not used.
    """
    weights, local = _weights(result), jnp.asarray(result.local_exponents)
    num_blocks = math.isqrt(local.shape[0])
    length = local.shape[0] // num_blocks
    start = local.shape[0] - num_blocks * length

    def totals(values: Array) -> Array:
        return values[start:].reshape(num_blocks, length, *values.shape[1:]).sum(axis=1)

    return totals(weights * local) / totals(weights)


def _weights(result: LyapunovResult) -> Array:
    """Steps that each row of `local_exponents` covers, [num_qr, 1, ...]."""
    local = jnp.asarray(result.local_exponents)
    single = jnp.ndim(result.num_steps) == 0 and local.ndim == jnp.ndim(result.exponents) + 1
    shapes = (local.shape, jnp.shape(result.exponents))
    check(single, "result", "be a single result: map over a batch with `jax.vmap`", shapes)
    lengths = interval_lengths(result.num_steps, result.qr_every, local.shape[0])
    return lengths.astype(local.dtype).reshape(-1, *(1,) * (local.ndim - 1))


def _describe(verdict: Convergence) -> str:
    shape = np.shape(verdict.max_std_error)
    check(shape == (), "verdict", "be that of a single run, not of a batch", shape)
    error, z = float(verdict.max_std_error), float(verdict.z)
    if not math.isfinite(error):
        return (
            "Convergence is not known: there is no standard error (the run has fewer than 4 "
            "averaged intervals, or is not finite)."
        )
    resolved = np.asarray(verdict.resolved)
    parts = [f"the largest standard error of an exponent is {error:.2g}"]
    if resolved.size:
        resolved_part = f"{int(resolved.sum())} of {resolved.size} gaps between neighbours are"
        parts.insert(0, f"{resolved_part} resolved at z = {z:g}")
    if not resolved.all():
        parts.append(_longer(verdict, ~resolved))
    num_drifting = int((np.abs(np.asarray(verdict.drift)) > _DRIFT).sum())
    if num_drifting:
        parts.append(f"{num_drifting} of the exponents drifted, so raise `burn_in`")
    text = "; ".join(parts)
    return text[0].upper() + text[1:] + "."


def _longer(verdict: Convergence, unresolved: np.ndarray) -> str:
    """How much longer a run must be, with errors that fall as 1 / sqrt(T)."""
    gap = np.asarray(verdict.gap, float)[unresolved]
    needed = float(verdict.z) * np.asarray(verdict.gap_std_error, float)[unresolved]
    if not (np.isfinite(gap) & np.isfinite(needed)).all():
        return "the errors of the other gaps are not known"
    factor = float(((needed / np.maximum(gap, 1e-3 * needed)) ** 2).max())
    if factor > 1e4:
        return "to resolve the rest takes more than 10,000 times as long a run, or they are equal"
    return f"to resolve the rest takes a run about {max(factor, 1.1):.2g} times as long"
