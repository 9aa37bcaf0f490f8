"""Flows with published or exact spectra.

Reference values: means over 64 initial states, float64, and the spread sd of one run of the time
that is named. The tolerance is 4 sd / sqrt(states), with sd scaled to the length of our runs.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from lsh_jax.lyapunov.dimensions import kaplan_yorke_dimension
from lsh_jax.lyapunov.flow import flow_spectrum, rk4_step


def lorenz(state, parameters):
    x, y, z = state
    sigma, rho, beta = parameters
    return sigma * (y - x), x * (rho - z) - y, x * y - beta * z


def roessler(state, _):
    x, y, z = state
    return -y - z, x + 0.2 * y, 0.2 + z * (x - 5.7)


def allowed(sd, reference_time, time, num_states):
    return 4 * np.asarray(sd) * math.sqrt(reference_time / time / num_states)


@functools.partial(jax.jit, static_argnames=("num_steps", "burn_in"))
def lorenz_spectra(states, parameters, num_steps, burn_in):
    """Exponents in bits per unit of time of every initial state, by RK4 with dt = 0.01."""

    def one(state):
        field = functools.partial(lorenz, parameters=parameters)
        return flow_spectrum(
            lambda s, _: field(s),
            state,
            dt=0.01,
            num_steps=num_steps,
            burn_in=burn_in,
            log_base=2,
        ).exponents

    return jax.vmap(one)(states)


def lorenz_states(seed, num_states):
    return tuple(jnp.asarray(np.random.default_rng(seed).normal(0, 5, (3, num_states)) + 15.0))


def test_lorenz_has_the_published_exponents_dimension_and_divergence():
    with jax.enable_x64(True):
        bits = lorenz_spectra(lorenz_states(0, 16), (10.0, 28.0, 8 / 3), 4000, 1000)
        exponents = bits * math.log(2)
        # The divergence -(sigma + 1 + beta) = -13.66667, as the RK4 map of this step has it.
        np.testing.assert_allclose(exponents.sum(axis=1), -13.66656, atol=2e-4)
        mean = exponents.mean(axis=0)
        tolerance = allowed([0.0077, 0.0012, 0.0074], 500, 40, 16)
        # The neutral exponent converges as 1 / T, faster than that of a chaotic one.
        assert (np.abs(mean - np.array([0.9051, 0.0002, -14.5719])) < tolerance).all()
        np.testing.assert_allclose(kaplan_yorke_dimension(mean), 2.062, atol=0.01)


def test_lorenz_of_other_parameters_has_the_published_exponents_in_bits():
    # Wolf et al. (1985): 2.16, 0, -32.4 bits per unit of time. These add up to -30.24, but the
    # divergence is -(16 + 1 + 4) nats = -30.297 bits, so they are right to 0.06; and noise.
    with jax.enable_x64(True):
        bits = lorenz_spectra(lorenz_states(1, 16), (16.0, 45.92, 4.0), 4000, 1000)
        np.testing.assert_allclose(bits.sum(axis=1), -21 / math.log(2), atol=2e-3)
        np.testing.assert_allclose(bits.mean(axis=0), [2.16, 0.0, -32.4], atol=0.1)


def test_roessler_has_the_published_exponents():
    @jax.jit
    def spectra(states):
        return jax.vmap(
            lambda s: flow_spectrum(roessler, s, dt=0.02, num_steps=5000, burn_in=2000).exponents
        )(states)

    with jax.enable_x64(True):
        x, y = np.random.default_rng(2).uniform(-4, 4, (2, 16))
        mean = spectra((jnp.asarray(x), jnp.asarray(y), jnp.zeros(16))).mean(axis=0)
        tolerance = allowed([0.0048, 0.0006, 0.0064], 1000, 100, 16)
        assert (np.abs(mean - np.array([0.0717, 0.0001, -5.4017])) < tolerance).all()


def test_a_random_network_without_self_coupling_contracts_at_its_leak():
    # dx = -x + g W tanh(x) has divergence -N + g sum_i W_ii (1 - tanh(x_i)^2): -N without diagonal.
    size = 8
    W = np.random.default_rng(3).normal(0, size**-0.5, (size, size))
    np.fill_diagonal(W, 0)
    with jax.enable_x64(True):
        W = jnp.asarray(W)
        result = jax.jit(
            lambda x: flow_spectrum(
                lambda x, _: -x + 3 * jnp.dot(W, jnp.tanh(x)), x, dt=0.01, num_steps=300
            )
        )(jnp.asarray(np.random.default_rng(4).normal(size=size)))
        # The error of RK4 is that of its determinant, some dt^4 = 1e-8 per unit of time.
        np.testing.assert_allclose(result.exponents.mean(), -1, atol=1e-5)
        local = result.local_exponents.mean(axis=1)
        np.testing.assert_allclose(local, -1, atol=1e-4)


def test_a_linear_flow_has_the_real_parts_of_its_eigenvalues_in_every_unit():
    A = np.array([[-0.2, 1.0, 0.0], [-1.0, -0.2, 0.0], [0.3, 0.0, -1.5]])
    with jax.enable_x64(True):
        matrix = jnp.asarray(A)
        options = {"dt": math.pi / 50, "num_steps": 1000, "burn_in": 300, "log_base": 2}
        run = functools.partial(flow_spectrum, lambda s, _: jnp.dot(matrix, s), **options)
        bits = jax.jit(run)(jnp.ones(3)).exponents
    nats = np.asarray(bits) * math.log(2)
    # RK4: dt^4 / 120 = 1e-7 at an eigenvalue of size 1, 7 times that at -1.5.
    np.testing.assert_allclose(nats.sum(), np.trace(A), atol=1e-5)
    np.testing.assert_allclose(nats, [-0.2, -0.2, -1.5], atol=2e-3)  # the plane turns: O(1 / T)


def test_the_step_is_of_fourth_order():
    A = np.random.default_rng(5).normal(size=(3, 3))
    with jax.enable_x64(True):

        def error(dt):
            step = rk4_step(lambda s, _: jnp.dot(jnp.asarray(A), s), dt)
            return np.abs(step(jnp.ones(3), None) - scipy.linalg.expm(dt * A) @ np.ones(3)).max()

        # Halving the step divides the error of one step by 2^5.
        assert 28 < error(0.05) / error(0.025) < 36


def test_inputs_are_held_over_a_step_and_drive_the_flow():
    drive = np.random.default_rng(6).normal(size=30).astype(np.float32)

    def by_hand(x, u):
        def f(x):
            return np.tanh(u) - x**3

        k1 = f(x)
        k2 = f(x + 0.05 * k1)
        k3 = f(x + 0.05 * k2)
        return x + 0.1 / 6 * (k1 + 2 * k2 + 2 * k3 + f(x + 0.1 * k3))

    x, rates = 0.5, []
    for u in drive.astype(float):
        slope = (by_hand(x + 1e-6, u) - by_hand(x - 1e-6, u)) / 2e-6
        x = by_hand(x, u)
        rates.append(math.log(slope) / 0.1)
    result = jax.jit(
        lambda u: flow_spectrum(
            lambda s, x: {"x": jnp.tanh(x) - s["x"] ** 3},
            {"x": jnp.array(0.5)},
            u,
            dt=0.1,
            burn_in=10,
        )
    )(drive)
    np.testing.assert_allclose(result.exponents[0], np.mean(rates[10:]), rtol=1e-4)
    np.testing.assert_allclose(result.state["x"], x, rtol=1e-5)
    assert int(result.num_steps) == 20


@pytest.mark.parametrize(
    ("field", "options", "message"),
    [
        (lambda s, _: s, {"dt": 0.0}, r"`dt` must be positive and finite, got 0.0"),
        (lambda s, _: s, {"dt": math.nan}, r"`dt` must be positive and finite, got nan"),
        (lambda s, _: s[:1], {"dt": 0.1}, r"`vector_field` must return a slope like the state"),
        (lambda s, _: (s, s), {"dt": 0.1}, r"`vector_field` must return a slope like the state"),
    ],
)
def test_what_cannot_be_met_is_refused(field, options, message):
    with pytest.raises(ValueError, match=message):
        flow_spectrum(field, jnp.ones(2), num_steps=3, **options)
