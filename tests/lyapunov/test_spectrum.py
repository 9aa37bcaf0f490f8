"""Spectra with exact or published values. References: see the comment of each test."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import polygamma, psi

from lsh_jax.lyapunov import lyapunov_spectrum


def linear_step(state, matrix):
    return jnp.dot(matrix, state)


def still_tangent(state, matrix):
    """The tangent of a linear map whose state does not matter, and so may stay where it is."""
    return state, lambda Q: jnp.dot(matrix, Q)


def gaussian_products(seed, num_steps, size):
    scale = size**-0.5
    return np.random.default_rng(seed).normal(0, scale, (num_steps, size, size)).astype(np.float32)


def gaussian_exponents(size):
    """Newman (1986), entries N(0, 1/N); and the variance of one step (Forrester, 1501.05702)."""
    freedom = np.arange(size, 0, -1) / 2
    return (math.log(2 / size) + psi(freedom)) / 2, polygamma(1, freedom) / 4


@pytest.mark.parametrize("rates", [(1.1, 0.8), (0.9, 0.5, 0.1)])
def test_spectrum_of_a_diagonal_map_is_the_log_of_its_diagonal(rates):
    a = jnp.array(rates)
    result = lyapunov_spectrum(lambda s, _: a * s, jnp.ones_like(a), num_steps=50, burn_in=50)
    # The frame has turned within (0.8 / 1.1)^50 = 1e-7 of its limit; the rest is float32.
    np.testing.assert_allclose(result.exponents, np.log(rates), rtol=1e-4)
    assert result.num_steps == 50


def test_spectrum_of_a_triangular_map_is_the_log_of_its_diagonal():
    matrix = jnp.array([[0.5, 2.0, -1.0], [0.0, -1.5, 0.7], [0.0, 0.0, 0.1]])
    result = lyapunov_spectrum(
        lambda s, _: jnp.dot(matrix, s), jnp.ones(3), num_steps=40, burn_in=40
    )
    np.testing.assert_allclose(result.exponents, np.log([1.5, 0.5, 0.1]), atol=1e-5)


def test_arnold_cat_map_is_exact_after_the_burn_in():
    matrix = jnp.array([[2.0, 1.0], [1.0, 1.0]])
    result = lyapunov_spectrum(
        lambda s, _: jnp.mod(jnp.dot(matrix, s), 1.0),
        jnp.array([0.2, 0.3]),
        num_steps=100,
        burn_in=50,
    )
    golden = math.log((3 + math.sqrt(5)) / 2)
    # R_22 = 0.38 is left of entries near 2 after a cancellation: some 1e-7 / 0.38 a step.
    np.testing.assert_allclose(result.exponents, [golden, -golden], atol=2e-6)


def test_henon_map_has_the_published_exponents_and_an_exact_sum():
    # Sprott: 0.41922, -1.62319. One run of 1e5 steps has sd 0.0011, so 0.0078 at 2000 steps and
    # 0.0014 for the mean of 32 initial states; four of them are allowed.
    def step(state, _):
        x, y = state
        return 1 - 1.4 * x**2 + y, 0.3 * x

    def run(x):
        return lyapunov_spectrum(step, (x, x), num_steps=2000, burn_in=100).exponents

    starts = jax.random.uniform(jax.random.key(0), (32,), minval=-0.1, maxval=0.1)
    exponents = jax.jit(jax.vmap(run))(starts)
    np.testing.assert_allclose(exponents.mean(axis=0), [0.41922, -1.62319], atol=4 * 0.0014)
    np.testing.assert_allclose(exponents.sum(axis=1), math.log(0.3), atol=1e-5)


@pytest.mark.parametrize(
    ("size", "num_exponents", "num_steps", "options"),
    [
        (8, 8, 4000, {}),
        (8, 8, 4000, {"qr": "solve"}),
        (8, 8, 4000, {"qr": "lu", "qr_every": 20}),
        (32, 5, 2000, {}),
        (32, 4, 2000, {"qr": "cholesky"}),
    ],
)
def test_gaussian_products_have_newmans_exponents(size, num_exponents, num_steps, options):
    # From the first step on, R_kk is sigma chi_{N - k + 1}, independent over k and t: the sample
    # mean is distributed as known, so z-scores replace a tolerance.
    result = lyapunov_spectrum(
        linear_step,
        jnp.zeros(size),
        gaussian_products(0, num_steps, size),
        num_exponents=num_exponents,
        **options,
    )
    exact, variance = gaussian_exponents(size)
    sd = np.sqrt(variance / num_steps)[:num_exponents]
    z = (result.exponents - exact[:num_exponents]) / sd
    assert np.abs(z).max() < 4.5
    # The standard error from 16 waves has itself a spread of 18 %: four are allowed.
    np.testing.assert_allclose(result.std_error, sd, rtol=0.72)


def test_all_exponents_of_a_larger_gaussian_product_pass_the_z_test():
    result = lyapunov_spectrum(
        linear_step, jnp.zeros(32), gaussian_products(1, 1000, 32), tangent=still_tangent
    )
    exact, variance = gaussian_exponents(32)
    z = (result.exponents - exact) / np.sqrt(variance / 1000)
    assert np.abs(z).max() < 4.5
    assert 0.6 < np.sqrt(np.mean(z**2)) < 1.5


def test_the_standard_error_is_calibrated_on_correlated_steps():
    # Scalar map x' = exp(a_t) x with a_t from an AR(1) process, coefficient 0.6: errors that
    # took the steps for independent would be sqrt(1.6 / 0.4) = 2 times too small. 256 runs of 16
    # waves: the rms z-score is that of Student's t, sqrt(16 / 14) * (1 +- 0.05).
    num_runs, num_steps = 256, 900
    noise = np.random.default_rng(2).normal(size=(num_steps, num_runs)).astype(np.float32)
    drive = np.zeros_like(noise)
    drive[0] = noise[0] / 0.8
    for t in range(1, num_steps):
        drive[t] = 0.6 * drive[t - 1] + noise[t]

    def run(rates):
        result = lyapunov_spectrum(lambda s, a: jnp.exp(a) * s, jnp.array(0.0), rates)
        return result.exponents[0], result.std_error[0]

    exponents, errors = jax.jit(jax.vmap(run, in_axes=1))(drive)
    rms = np.sqrt(np.mean((exponents / errors) ** 2))
    assert 0.85 < rms < 1.3


def test_the_standard_error_of_an_oscillation_is_that_of_its_ends():
    # The rates of a bounded oscillation telescope: their mean over T steps errs by its ends alone,
    # as 1 / T. Here log|x| = sin(w t) + a random walk of sd 0.01 a step, from random phases: the
    # sum over T has the variance of two values of the sine, 1, and T * 0.01^2 = 0.2. Means of
    # blocks would report 6 times too much.
    num_runs, num_steps = 256, 2000
    generator = np.random.default_rng(4)
    phase = generator.uniform(0, 2 * np.pi, num_runs)
    heights = np.sin(0.7 * np.arange(num_steps + 1)[:, None] + phase)
    rates = np.diff(heights, axis=0) + 0.01 * generator.normal(size=(num_steps, num_runs))
    rates = rates.astype(np.float32)

    def run(rates):
        result = lyapunov_spectrum(lambda s, a: jnp.exp(a) * s, jnp.array(0.0), rates)
        return result.exponents[0], result.std_error[0]

    exponents, errors = jax.jit(jax.vmap(run, in_axes=1))(rates)
    ratio = np.sqrt(np.mean(np.square(errors))) / np.std(exponents)
    assert 0.8 < ratio < 2


def test_the_standard_error_is_nan_where_too_few_steps_were_averaged():
    a = jnp.array([0.9, 0.5])
    result = lyapunov_spectrum(lambda s, _: a * s, jnp.ones(2), num_steps=3)
    assert np.isnan(result.std_error).all()
    assert np.isfinite(result.exponents).all()


def test_the_jacobians_are_multiplied_in_the_order_of_time():
    # ln |eig(C B A)| / 3, made with numpy; the reversed product A B C has 0.501, 0.501, -0.374,
    # -0.374 and the same sum, and a period of two could not tell them apart.
    with jax.enable_x64(True):
        A, B, C = np.random.default_rng(0).normal(size=(3, 4, 4))
        exact = np.sort(np.log(np.abs(np.linalg.eigvals(C @ B @ A))) / 3)[::-1]
        inputs = np.stack([A, B, C] * 200)
        result = lyapunov_spectrum(
            linear_step, jnp.zeros(4), inputs, burn_in=300, tangent=still_tangent
        )
        np.testing.assert_allclose(exact, [0.9173, 0.0781, -0.3092, -0.4332], atol=1e-4)
        np.testing.assert_allclose(result.exponents, exact, atol=1e-9)


def test_a_direction_that_dies_reads_a_large_negative_number():
    a = jnp.array([0.9, 0.0, 0.5])
    result = lyapunov_spectrum(lambda s, _: a * s, jnp.ones(3), num_steps=20, burn_in=20)
    np.testing.assert_allclose(result.exponents[:2], np.log([0.9, 0.5]), atol=1e-4)
    assert -90 < result.exponents[2] < -15
