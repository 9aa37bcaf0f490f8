"""Maps with exact or published spectra, over many initial states at once.

Reference values of the chaotic ones: means over 64 states with 1e5 steps each, in float64, and the
spread sd of one run. The tolerance is 4 sd / sqrt(states), with sd scaled to the length of ours.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsh_jax.lyapunov import lyapunov_spectrum


@functools.partial(jax.jit, static_argnames=("step_fn", "num_steps", "burn_in"))
def spectra(step_fn, states, num_steps, burn_in):
    """Exponents of every initial state, [num_states, K]."""
    return jax.vmap(
        lambda state: (
            lyapunov_spectrum(step_fn, state, num_steps=num_steps, burn_in=burn_in).exponents
        )
    )(states)


def allowed(sd, num_steps, num_states):
    return 4 * sd * math.sqrt(1e5 / num_steps / num_states)


def logistic(x, _):
    return 4 * x * (1 - x)


def ikeda(z, _):
    x, y = z
    angle = 0.4 - 6 / (1 + x**2 + y**2)
    c, s = jnp.cos(angle), jnp.sin(angle)
    return 1 + 0.9 * (x * c - y * s), 0.9 * (x * s + y * c)


def standard(z, _):
    x, p = z
    p = jnp.mod(p + 10 * jnp.sin(x), 2 * math.pi)
    return jnp.mod(x + p, 2 * math.pi), p


RING_SIZE, RING_COUPLING = 8, 0.3


def bernoulli_ring(x, _):
    """Coupled doubling maps: x_i' is the mean of 2 x mod 1 over i (0.7) and its neighbours."""
    doubled = jnp.mod(2 * x, 1.0)
    neighbours = (jnp.roll(doubled, 1) + jnp.roll(doubled, -1)) / 2
    return (1 - RING_COUPLING) * doubled + RING_COUPLING * neighbours


def test_the_logistic_map_at_4_has_the_entropy_of_a_coin():
    with jax.enable_x64(True):
        states = jnp.asarray(np.random.default_rng(0).uniform(0.1, 0.9, (8, 1)))
        exponents = spectra(logistic, states, 4000, 100)
        # Corrections at the ends fall as 1 / T here: sd 1.2e-5 at 1e5 steps is 3e-4 at 4000.
        np.testing.assert_allclose(exponents.mean(), math.log(2), atol=4 * 3e-4 / math.sqrt(8))


def test_the_ikeda_map_has_the_published_exponents_and_an_exact_sum():
    with jax.enable_x64(True):
        states = tuple(jnp.asarray(np.random.default_rng(1).uniform(0, 0.5, (2, 32))))
        exponents = spectra(ikeda, states, 4000, 200)
        # The map contracts areas by 0.9^2 everywhere.
        np.testing.assert_allclose(exponents.sum(axis=1), 2 * math.log(0.9), atol=1e-12)
        mean = exponents.mean(axis=0)
        np.testing.assert_allclose(mean, [0.507893, -0.718614], atol=allowed(0.002, 4000, 32))


def test_exponents_of_the_standard_map_come_in_pairs():
    with jax.enable_x64(True):
        states = tuple(jnp.asarray(np.random.default_rng(2).uniform(0, 2 * math.pi, (2, 32))))
        exponents = spectra(standard, states, 2000, 50)
        np.testing.assert_allclose(exponents.sum(axis=1), 0, atol=1e-12)
        tolerance = allowed(0.0028, 2000, 32)
        np.testing.assert_allclose(exponents[:, 0].mean(), 1.6209, atol=tolerance)
        assert abs(exponents[:, 0].mean() - math.log(5)) < 0.02 + tolerance  # ln(K / 2) for large K


def test_a_ring_of_doubling_maps_has_the_exponents_of_its_circulant_matrix():
    # J is constant, and symmetric: ln 2 + ln |1 - e + e cos(2 pi j / n)|, in pairs but for two.
    modes = 2 * np.pi * np.arange(RING_SIZE) / RING_SIZE
    exact = math.log(2) + np.log(np.abs(1 - RING_COUPLING + RING_COUPLING * np.cos(modes)))
    with jax.enable_x64(True):
        states = jnp.asarray(np.random.default_rng(3).uniform(0, 1, (1, RING_SIZE)))
        exponents = spectra(bernoulli_ring, states, 100, 400)[0]
        # The frame has turned within exp(-400 * 0.09), the smallest gap, of its limit.
        np.testing.assert_allclose(exponents, np.sort(exact)[::-1], atol=1e-10)
    np.testing.assert_allclose(
        exponents,
        [0.693147, 0.601177, 0.601177, 0.336472, 0.336472, -0.024563, -0.024563, -0.223144],
        atol=1e-6,
    )


@pytest.mark.parametrize("rate", [1.5, 2.5])
def test_the_logistic_map_at_a_fixed_point_contracts_at_its_slope(rate):
    with jax.enable_x64(True):
        result = jax.jit(
            lambda x: lyapunov_spectrum(
                lambda x, _: rate * x * (1 - x), x, num_steps=20, burn_in=100
            )
        )(jnp.array([0.3]))
        # f'(x*) = 2 - r at x* = 1 - 1 / r.
        np.testing.assert_allclose(result.exponents, [math.log(abs(2 - rate))], atol=1e-9)
