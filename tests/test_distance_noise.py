import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsh_jax.distance import ls_distance
from lsh_jax.distance_noise import debiased_squared_distance, distance_gap_z

LAYERS, SIZE, DRAWS = 2, 6, 4000
GAPS = 2.0 * np.arange(SIZE)[::-1] - 9  # neighbours so far apart that noise does not sort them


def spectra(seed, shift=0.3):
    """A spectrum and what it is compared with: differences of about `shift`."""
    a, b = GAPS + np.random.default_rng(seed).normal(0, shift, (2, LAYERS, SIZE))
    return a, b


def noisy(seed, spectrum, std_error):
    noise = np.random.default_rng(seed).normal(size=(DRAWS, LAYERS, SIZE))
    return jnp.asarray(spectrum + noise * std_error, jnp.float32)


def test_the_debiased_squared_distance_equals_a_value_derived_by_hand():
    a, error_a = np.array([-3.0, 4.0]), np.array([0.1, 0.3])
    b, error_b = np.array([1.0, -7.0]), np.array([0.4, 0.2])
    # Sorted: differences 3 and 4, errors 0.3 with 0.4 and 0.1 with 0.2.
    debiased = debiased_squared_distance(a, error_a, b, error_b)
    np.testing.assert_allclose(debiased, 25 - 0.25 - 0.05, rtol=1e-6)
    weighted = debiased_squared_distance(a, error_a, b, error_b, weights=[2.0, 0.0])
    np.testing.assert_allclose(weighted, 2 * (9 - 0.25), rtol=1e-6)
    # What lies on the floor has no error.
    floored = debiased_squared_distance(a, error_a, b, error_b, floor=-5.0)
    np.testing.assert_allclose(floored, 9 - 0.25 + 4 - 0.01, rtol=1e-6)
    assert float(debiased_squared_distance(a, error_a, a, error_a)) < 0


def test_the_bias_of_noise_is_removed():
    error_a, error_b = np.random.default_rng(1).uniform(0.05, 0.3, (2, LAYERS, SIZE))

    @jax.jit
    @jax.vmap
    def squared(x, y):
        return ls_distance(x, y) ** 2, debiased_squared_distance(x, error_a, y, error_b)

    for shift in (0.0, 0.3):
        a, b = spectra(0, shift)
        plain, debiased = squared(noisy(2, a, error_a), noisy(3, b, error_b))
        standard_error = np.std(debiased) / math.sqrt(DRAWS)
        exact = np.sum((a - b) ** 2)
        assert abs(np.mean(debiased) - exact) < 4 * standard_error
        assert abs(np.mean(plain) - exact) > 20 * standard_error


def test_the_score_of_a_gap_is_calibrated_whatever_the_errors_of_the_candidates():
    # Two candidates equally far from the reference, one of them estimated five times as well.
    reference, candidate = spectra(4)
    mirrored = 2 * reference - candidate
    errors = 0.25, 0.05, 0.1

    @jax.jit
    @jax.vmap
    def score(a, b, r):
        flat = [jnp.full((LAYERS, SIZE), error) for error in errors]
        z = distance_gap_z(a, flat[0], b, flat[1], r, flat[2])
        return z, ls_distance(a, r) - ls_distance(b, r)

    z, plain = score(
        noisy(5, candidate, errors[0]),
        noisy(6, mirrored, errors[1]),
        noisy(7, reference, errors[2]),
    )
    assert abs(np.mean(z)) < 0.15  # errs towards 0 where noise happens to enlarge the distance
    assert 0.7 < np.std(z) < 1.05
    # The plain gap calls the noisier candidate farther in most draws.
    assert np.mean(np.asarray(plain) > 0) > 0.7


def test_the_score_of_a_gap_changes_its_sign_with_the_order_of_the_candidates():
    reference, near = spectra(8, 0.1)
    _, far = spectra(9, 1.5)
    error = np.full((LAYERS, SIZE), 0.1)
    score = jax.jit(functools.partial(distance_gap_z, share=0.5))
    forth = score(far, error, near, error, reference, error)
    back = score(near, error, far, error, reference, error)
    assert float(forth) > 2
    np.testing.assert_allclose(forth, -back, rtol=1e-5)


def test_without_noise_a_gap_is_certain():
    a, b, zero = np.array([2.0, 0.0]), np.array([1.0, 0.0]), np.zeros(2)
    assert float(distance_gap_z(a, zero, b, zero, zero, zero)) == math.inf
    assert float(distance_gap_z(a, zero, a, zero, b, zero)) == 0
    # (4 - 1) / sqrt(4 * 4 * 0.1^2): only the first difference has an error.
    z = distance_gap_z(a, np.array([0.1, 0.0]), b, zero, zero, zero)
    np.testing.assert_allclose(z, (3 - 0.01) / 0.4, rtol=1e-6)


def test_gradients_agree_with_finite_differences():
    with jax.enable_x64(True):
        a, b, direction = np.random.default_rng(10).normal(size=(3, LAYERS, SIZE))
        error = np.full((LAYERS, SIZE), 0.1)

        def both(x):
            gap = distance_gap_z(x, error, b, error, b + 1, error)
            return debiased_squared_distance(x, error, b, error) + gap

        value = jax.jit(both)
        slope = jnp.vdot(jax.jit(jax.grad(both))(a), direction)
        step = 1e-6 * direction
        np.testing.assert_allclose(slope, (value(a + step) - value(a - step)) / 2e-6, atol=1e-7)


def test_shapes_that_do_not_match_are_refused():
    one, two = np.ones(3), np.ones(2)
    with pytest.raises(
        ValueError, match=r"`reference` must have the layer lengths of `std_error_r"
    ):
        distance_gap_z(one, one, one, one, one, two)
    with pytest.raises(ValueError, match=r"`a` must have the layer lengths of `reference`"):
        distance_gap_z(one, one, one, one, two, two)
    with pytest.raises(ValueError, match=r"`a` must have the layer lengths of `b`"):
        debiased_squared_distance(one, one, two, two)
