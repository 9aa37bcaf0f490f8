"""What the noise of estimated spectra does to their distance, and scores that allow for it."""

import jax.numpy as jnp

from lsh_jax.distance import Spectrum, compared_with_errors
from lsh_jax.types import Array


def debiased_squared_distance(
    a: Spectrum,
    std_error_a: Spectrum,
    b: Spectrum,
    std_error_b: Spectrum,
    *,
    sort: bool = True,
    share: float = 1.0,
    floor: float = -15.0,
    weights: Spectrum | None = None,
) -> Array:
    """The squared l2 distance less what the errors of estimation add to it on average.

    Noise makes every distance longer: E d^2 is the true d^2 plus sum(se_a^2 + se_b^2), so a noisy
    spectrum looks far away. The difference is unbiased for independent errors, and so may be
    negative where the spectra agree; take it as it is for ranking, and do not cut it at 0 before
    averaging. Errors that the two spectra share (the same tokens) cancel in d, and subtracting them
    goes too far, equally for every candidate that shares them. Sorting exponents that lie within
    their errors of each other takes out some of the noise first: then it goes too far as well.

    Args:
      a: a spectrum, [K], [L, K] or a tuple of [K] arrays.
      std_error_a: the standard errors of `a`, of the same shape and in the same order.
      b: the other spectrum, of the shape of `a`.
      std_error_b: its standard errors.
      sort: as in `ls_distance`; the errors follow their exponents.
      share: as in `ls_distance`.
      floor: as in `ls_distance`; what lies on it has no error.
      weights: as in `ls_distance`.

    Returns:
      A scalar of either sign, in the squared unit of the spectra.

    Raises:
      ConfigError: (a ValueError) for shapes that do not match or a share outside (0, 1].
    """
    named = {"a": (a, std_error_a), "b": (b, std_error_b)}
    values, errors, w = compared_with_errors(named, sort, share, floor, weights)
    noise = errors[0] ** 2 + errors[1] ** 2
    return jnp.sum(w * ((values[0] - values[1]) ** 2 - noise))


def distance_gap_z(
    a: Spectrum,
    std_error_a: Spectrum,
    b: Spectrum,
    std_error_b: Spectrum,
    reference: Spectrum,
    std_error_reference: Spectrum,
    *,
    sort: bool = True,
    share: float = 1.0,
    floor: float = -15.0,
    weights: Spectrum | None = None,
) -> Array:
    """By how many standard errors `a` lies farther from the reference than `b` does.

    The gap is that of the debiased squared distances G = d_a^2 - d_b^2. The noise of the reference
    is common to both: with p = a - r and q = b - r, the variance of G is estimated by
    4 sum(p^2 se_a^2 + q^2 se_b^2 + (p - q)^2 se_r^2). As noise enlarges p and q too, that exceeds
    the true one on average, by the second order: the score errs towards 0. Cut between two
    candidates only where it is beyond 2 or so. Independent errors are assumed, and errors that
    candidates share (the same tokens) make it err towards 0 as well.

    Args:
      a: a candidate's spectrum, [K], [L, K] or a tuple of [K] arrays.
      std_error_a: the standard errors of `a`, of the same shape and in the same order.
      b: another candidate's spectrum.
      std_error_b: its standard errors.
      reference: the spectrum that both are compared with.
      std_error_reference: its standard errors.
      sort: as in `ls_distance`; the errors follow their exponents.
      share: as in `ls_distance`.
      floor: as in `ls_distance`; what lies on it has no error.
      weights: as in `ls_distance`.

    Returns:
      A scalar, positive where `b` is the nearer one; 0 where neither gap nor error is above 0.

    Raises:
      ConfigError: (a ValueError) for shapes that do not match or a share outside (0, 1].
    """
    named = {
        "a": (a, std_error_a),
        "b": (b, std_error_b),
        "reference": (reference, std_error_reference),
    }
    values, errors, w = compared_with_errors(named, sort, share, floor, weights)
    p, q = values[0] - values[2], values[1] - values[2]
    square_a, square_b, square_r = (error**2 for error in errors)
    gap = jnp.sum(w * (p**2 - square_a - q**2 + square_b))
    first_order = p**2 * square_a + q**2 * square_b + (p - q) ** 2 * square_r
    variance = 4 * jnp.sum(w**2 * first_order)
    certain = (gap == 0) & (variance == 0)
    return gap / jnp.sqrt(jnp.where(certain, 1, variance))
