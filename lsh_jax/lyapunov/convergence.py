"""How far a Lyapunov run has converged: its history, its dead directions, and a verdict."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from lsh_jax.config import check
from lsh_jax.lyapunov.result import LyapunovResult, interval_lengths, std_error_of_mean
from lsh_jax.types import Array

_DRIFT = 5.0  # standard errors, which are rough for half a run: 3 is common by chance


class Convergence(NamedTuple):
    """What a run tells apart, and whether it was stationary; `describe` says it in words.

    Shapes are those of one spectrum; the layers of a language model add their axis before K.

    Attributes:
      resolved: bool [K - 1], whether exponents k and k + 1 are told apart.
      gap: the difference of the two, [K - 1], >= 0.
      gap_std_error: its standard error, [K - 1].
      exponents: [K], as in the result.
      std_error: [K], as in the result.
      drift: second half of the run less the first, in its standard errors, [K]; beyond 5 is a
        drift. NaN below 32 intervals.
      z: the standard errors by which a number must differ from zero.
    """

    resolved: Array
    gap: Array
    gap_std_error: Array
    exponents: Array
    std_error: Array
    drift: Array
    z: Any

    def describe(self) -> str:
        """The verdict as one sentence; for one concrete result, outside of `jit`."""
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
      bool, of the shape of the exponents, True where they lie above the floor; False for NaN.
    """
    values = getattr(exponents, "exponents", exponents)
    layered = isinstance(values, tuple) and any(jnp.ndim(layer) for layer in values)
    check(not layered, "exponents", "be one layer where these differ: `select_layer`", "a tuple")
    return jnp.asarray(values) > floor


def convergence(result: LyapunovResult, z: float = 2.0) -> Convergence:
    """Judges which exponents a run tells apart, and whether it drifted.

    Neighbouring exponents are correlated, as they share the trajectory, so the error of their gap
    is not that of two independent numbers: it is the standard error of the mean difference of
    their local exponents. Below 4 intervals the errors of the two are added in squares, as if
    independent. A few rounding units are added, so that equal exponents of a constant map are not
    resolved by their rounding. Works under `jit`; map it over a batch of results with `jax.vmap`.

    The drift compares the halves of the run: a burn-in that was too short shows up there. NaN below
    32 intervals.

    Args:
      result: of `lyapunov_spectrum` or a function that returns the same.
      z: standard errors by which a gap must exceed zero to count as resolved, > 0.

    Returns:
      A Convergence. A gap whose error is not known is not resolved.

    Raises:
      ConfigError: (a ValueError) for a `z` that is not positive, or a batch of results.
    """
    check(z > 0, "z", "be above 0", z)
    _weights(result)  # refuses what is not a single result
    exponents, std_error = jnp.asarray(result.exponents), jnp.asarray(result.std_error)
    rounding = 4 * float(jnp.finfo(exponents.dtype).eps) * (1 + jnp.abs(exponents))
    gap = exponents[..., :-1] - exponents[..., 1:]
    # The last interval may be a short one, and is left out of the errors.
    local = jnp.asarray(result.local_exponents)
    local = local[:-1] if len(local) > 4 else local
    if len(local) >= 4:
        gap_error = _error_of_mean(local[..., :-1] - local[..., 1:])
    else:
        gap_error = jnp.hypot(std_error[..., :-1], std_error[..., 1:])
    gap_error = jnp.hypot(gap_error, rounding[..., 1:] + rounding[..., :-1])
    return Convergence(
        resolved=gap > z * gap_error,
        gap=gap,
        gap_std_error=gap_error,
        exponents=exponents,
        std_error=std_error,
        drift=_drift(local, rounding),
        z=z,
    )


def _drift(local: Array, rounding: Array) -> Array:
    """Difference of the means of the two halves in its standard errors, [K]."""
    half = len(local) // 2
    if half < 16:
        return jnp.full_like(rounding, jnp.nan)
    first, second = local[:half], local[-half:]
    # Within the halves: a drift between them must not hide itself in the variance.
    variance = _error_of_mean(first) ** 2 + _error_of_mean(second) ** 2
    return (second.mean(axis=0) - first.mean(axis=0)) / jnp.sqrt(variance + rounding**2)


def _error_of_mean(local: Array) -> Array:
    """Standard error of the mean over time of [M, ..., K]."""
    flat = local.reshape(len(local), 1, -1)
    return std_error_of_mean(flat).reshape(local.shape[1:])


def _weights(result: LyapunovResult) -> Array:
    """Steps that each row of `local_exponents` covers, [num_qr, 1, ...]."""
    whole = "be a LyapunovResult (of a cell: `lyapunov_spectrum` along one sequence)"
    check(isinstance(result, LyapunovResult), "result", whole, type(result).__name__)
    layered = isinstance(result.exponents, tuple)
    check(not layered, "result", "be one layer where these differ: `select_layer`", "a tuple")
    local = jnp.asarray(result.local_exponents)
    single = jnp.ndim(result.num_steps) == 0 and local.ndim == jnp.ndim(result.exponents) + 1
    shapes = (local.shape, jnp.shape(result.exponents))
    check(single, "result", "be a single result: map over a batch with `jax.vmap`", shapes)
    lengths = interval_lengths(result.num_steps, result.qr_every, local.shape[0])
    return lengths.astype(local.dtype).reshape(-1, *(1,) * (local.ndim - 1))


def _describe(verdict: Convergence) -> str:
    single = jnp.ndim(verdict.z) == 0
    check(single, "verdict", "be that of a single run: take one by `jax.tree.map`", "a batch")
    z = float(verdict.z)
    finite = np.isfinite(np.asarray(verdict.exponents, float))
    if not finite.all():
        return (
            f"Convergence is not known: {int((~finite).sum())} of {finite.size} exponents are not "
            "finite (the state, the inputs or the parameters may not be, or the run diverged)."
        )
    errors = np.asarray(verdict.std_error, float)
    if not np.isfinite(errors).all():
        return (
            "Convergence is not known: there is no standard error (the run has fewer than 4 "
            "averaged intervals)."
        )
    parts = [_signs(np.asarray(verdict.exponents, float), z * errors)]
    resolved = np.asarray(verdict.resolved)
    if resolved.size:
        count = f"{int(resolved.sum())} of {resolved.size} gaps between neighbours are"
        parts.append(f"{count} resolved at z = {z:g}")
    parts.append(f"the largest standard error of an exponent is {errors.max():.2g}")
    if not resolved.all():
        parts.append(_longer(verdict, ~resolved))
    drift = np.abs(np.asarray(verdict.drift, float))
    if np.isnan(drift).any():
        parts.append("the run is too short to tell a drift")
    elif (drift > _DRIFT).any():
        parts.append(f"{int((drift > _DRIFT).sum())} of the exponents drifted, so raise `burn_in`")
    text = "; ".join(parts)
    return text[0].upper() + text[1:] + "."


def _signs(exponents: np.ndarray, margin: np.ndarray) -> str:
    """How many exponents lie above zero, below it, or cannot be told from it."""
    above, below = int((exponents > margin).sum()), int((exponents < -margin).sum())
    undecided = exponents.size - above - below
    text = f"{above} above 0 and {below} below"
    return text + (f", {undecided} not told from 0" if undecided else "")


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
