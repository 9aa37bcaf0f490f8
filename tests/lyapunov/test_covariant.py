import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsh_jax.lyapunov.covariant import covariant_lyapunov_vectors
from lsh_jax.lyapunov.flow import rk4_step

SIZE, SHIFT = 4, 30
WEIGHTS = np.random.default_rng(5).normal(size=(SIZE, SIZE)) * 1.5 / math.sqrt(SIZE)
STEPS = {"num_steps": 60, "burn_in": 200, "backward_burn_in": 200}
TOTAL = sum(STEPS.values())
DRIVE = np.random.default_rng(6).normal(size=(TOTAL + SHIFT, SIZE))


def rnn_step(state, x):
    return jnp.dot(jnp.asarray(WEIGHTS), jnp.tanh(state)) + 0.5 * x


def henon(state, _):
    x, y = state
    return 1 - 1.4 * x**2 + y, 0.3 * x


def compute(step_fn, state, inputs=None, **options):
    """The vectors in float64, as NumPy arrays that may be mixed with others."""
    with jax.enable_x64(True):
        run = functools.partial(covariant_lyapunov_vectors, step_fn, **options)
        state, inputs = jax.tree.map(lambda leaf: jnp.asarray(leaf, float), (state, inputs))
        return jax.tree.map(np.asarray, jax.jit(run)(state, inputs))


@functools.cache
def rnn_vectors():
    """Of two runs along one trajectory, the second of which starts and ends SHIFT steps later."""

    def run(state, inputs):
        return covariant_lyapunov_vectors(rnn_step, state, inputs, **STEPS)

    state = np.zeros(SIZE)
    for x in DRIVE[:SHIFT]:
        state = WEIGHTS @ np.tanh(state) + 0.5 * x
    with jax.enable_x64(True):
        states = jnp.asarray(np.stack([np.zeros(SIZE), state]))
        inputs = jnp.asarray(np.stack([DRIVE[:TOTAL], DRIVE[SHIFT:]]))
        both = jax.tree.map(np.asarray, jax.jit(jax.vmap(run))(states, inputs))
    return [type(both)(*(leaf[i] for leaf in both)) for i in range(2)]


@functools.cache
def rnn_frames():
    """Benettin's frames Q [60, N, N] and log R_kk [60, N] by NumPy, and the states [60, N]."""
    rows, state, Q = [], np.zeros(SIZE), np.eye(SIZE)
    for x in DRIVE[: STEPS["burn_in"] + STEPS["num_steps"]]:
        Q, R = np.linalg.qr(rnn_jacobians(state[None])[0] @ Q)
        state = WEIGHTS @ np.tanh(state) + 0.5 * x
        rows.append((Q, np.log(np.abs(np.diagonal(R))), state))
    return [np.stack(parts) for parts in zip(*rows[STEPS["burn_in"] :], strict=True)]


def rnn_jacobians(states):
    return WEIGHTS * (1 - np.tanh(states) ** 2)[:, None, :]


def test_the_tangent_map_takes_every_vector_to_a_multiple_of_the_next():
    for result in rnn_vectors():
        assert result.vectors.shape == (60, SIZE, SIZE)
        pushed = rnn_jacobians(result.states[:-1]) @ result.vectors[:-1]
        grown = np.exp(result.local_exponents[1:])[:, None, :] * result.vectors[1:]
        # The recursion is exact, whatever the burn-ins: only rounding is left.
        np.testing.assert_allclose(pushed, grown, atol=1e-10)
        np.testing.assert_allclose(np.linalg.norm(result.vectors, axis=1), 1, atol=1e-12)


def test_the_states_are_those_of_the_driven_trajectory():
    np.testing.assert_allclose(rnn_vectors()[0].states, rnn_frames()[2], atol=1e-9)


def test_the_leading_covariant_vector_is_that_of_the_orthonormal_frame():
    cosines = np.abs(np.sum(rnn_vectors()[0].vectors * rnn_frames()[0], axis=1))
    np.testing.assert_allclose(cosines[:, 0], 1, atol=1e-9)
    assert (cosines[:, 1:].mean(axis=0) < 0.99).all()  # the others part from the frame


def test_the_mean_growth_is_that_of_the_frame_but_for_the_ends():
    result, (Q, logs, _) = rnn_vectors()[0], rnn_frames()
    # Both count the same volumes, in coordinates that differ by C_kk = |v_k . q_k|:
    # sum log D = sum log R_kk + log C_kk(before the first step) - log C_kk(last).
    C = np.abs(np.sum(result.vectors * Q, axis=1))
    telescoped = logs[1:].sum(axis=0) + np.log(C[0]) - np.log(C[-1])
    np.testing.assert_allclose(result.local_exponents[1:].sum(axis=0), telescoped, atol=1e-7)
    np.testing.assert_allclose(result.local_exponents.mean(axis=0), result.exponents, atol=1e-12)
    assert (np.diff(result.exponents) <= 0).all()


def test_a_run_that_starts_and_ends_later_finds_the_same_vectors():
    early, late = rnn_vectors()
    np.testing.assert_allclose(early.states[SHIFT:], late.states[:-SHIFT], atol=1e-9)
    cosines = np.abs(np.sum(early.vectors[SHIFT:] * late.vectors[:-SHIFT], axis=1))
    np.testing.assert_allclose(cosines, 1, atol=1e-9)


def test_vectors_of_a_constant_map_are_its_eigenvectors_and_a_dead_one_spoils_no_other():
    values = np.array([1.1, -0.9, 0.5, 0.0])
    S = np.array([[1.0, 0.8, 0.1, 0], [0.0, 1.0, -0.7, 0.3], [0.2, 0, 1.0, 0], [0, -0.4, 0, 1.0]])
    A = S @ np.diag(values) @ np.linalg.inv(S)

    def tangent(state, _):
        return state, lambda Q: jnp.dot(jnp.asarray(A), Q)

    steps = {"num_steps": 2, "burn_in": 200, "backward_burn_in": 200}
    result = compute(None, np.ones(4), tangent=tangent, **steps)
    assert result.vectors.shape == (2, 4, 4)
    np.testing.assert_array_equal(result.states, 1)  # that tangent leaves the state where it is
    # (0.9 / 1.1)^200 = 4e-18: what is left is rounding.
    np.testing.assert_allclose(result.exponents[:3], np.log(np.abs(values[:3])), atol=1e-10)
    cosines = np.abs(np.sum(result.vectors * (S / np.linalg.norm(S, axis=0)), axis=1))
    np.testing.assert_allclose(cosines[:, :3], 1, atol=1e-10)
    assert result.exponents[3] < -15
    assert np.isfinite(result.vectors).all()
    # None of these directions is normal to another, as those of the frame are.
    assert np.abs(result.vectors[0].T @ result.vectors[0] - np.eye(4)).max() > 0.1
    # Within two steps the dead one falls below what float64 holds: it says so, and it alone.
    longer = compute(None, np.ones(4), tangent=tangent, **steps, qr_every=2)
    assert np.isnan(longer.exponents).tolist() == [False, False, False, True]
    np.testing.assert_array_equal(np.isnan(longer.vectors[0, 0]), [False, False, False, True])
    np.testing.assert_allclose(longer.exponents[:3], result.exponents[:3], atol=1e-10)


def test_henon_vectors_are_covariant_transverse_on_average():
    steps = {"num_steps": 400, "burn_in": 100, "backward_burn_in": 100}
    result = compute(henon, (0.1, 0.1), **steps)
    x, vectors, local = result.states[0], result.vectors, result.local_exponents
    J = np.zeros((400, 2, 2))
    J[:, 0, 0], J[:, 0, 1], J[:, 1, 0] = -2.8 * x, 1, 0.3
    pushed = J[:-1] @ vectors[:-1]
    np.testing.assert_allclose(
        np.abs(pushed), np.abs(np.exp(local[1:])[:, None, :] * vectors[1:]), atol=1e-9
    )
    # |sin| of the angle is never 0 in a finite run, but near-tangencies make it small: the Henon
    # attractor is not uniformly hyperbolic. Areas: sin' = 0.3 sin / (growth of both).
    sines = np.abs(np.linalg.det(vectors))
    np.testing.assert_allclose(sines[1:], 0.3 * sines[:-1] / np.exp(local[1:].sum(axis=1)), 1e-8)
    assert 0 < sines.min() < 0.1
    assert sines.max() > 0.9
    np.testing.assert_allclose(result.exponents, [0.4192, -1.6232], atol=4 * 0.0011 * 16)


def test_a_flow_has_its_velocity_as_neutral_vector():
    def lorenz(state, _):
        x, y, z = state
        return 10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z

    step = rk4_step(lambda state, x: jnp.stack(lorenz(state, x)), 0.01)
    options = {"num_steps": 200, "burn_in": 2000, "backward_burn_in": 1000, "num_exponents": 2}
    result = compute(step, np.array([1.0, 2.0, 25.0]), qr_every=5, dt=0.01, **options)
    assert result.vectors.shape == (40, 3, 2)
    velocity = np.stack(lorenz(result.states.T, None), axis=1)
    velocity = velocity / np.linalg.norm(velocity, axis=1, keepdims=True)
    cosines = np.abs(np.sum(velocity * result.vectors[:, :, 1], axis=1))
    # exp(-0.9 * 10), as long as the backward burn-in of 10 units of time leaves of the first one.
    np.testing.assert_allclose(cosines, 1, atol=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_steps": 0}, r"`num_steps` must be at least 1, got 0"),
        ({"burn_in": -1}, r"`burn_in` must be at least 0, got -1"),
        ({"backward_burn_in": -1}, r"`backward_burn_in` must be at least 0, got -1"),
        ({"qr_every": 0}, r"`qr_every` must be at least 1, got 0"),
        ({"qr_every": 3}, r"`num_steps` must be a multiple of `qr_every`=3, got 4"),
        ({"backward_burn_in": 3, "qr_every": 2}, r"`backward_burn_in` must be a multiple of"),
        (
            {"inputs": np.ones(7)},
            r"`inputs` must have burn_in \+ num_steps \+ backward_burn_in = 8",
        ),
        ({"num_exponents": 3}, r"`num_exponents` must lie in \[1, 2\], got 3"),
        ({"qr": "lu"}, r"lu"),
    ],
)
def test_what_cannot_be_met_is_refused(options, message):
    options = {"num_steps": 4, "burn_in": 2, "backward_burn_in": 2, **options}
    inputs = options.pop("inputs", None)
    with pytest.raises(ValueError, match=message):
        covariant_lyapunov_vectors(lambda s, _: s, jnp.ones(2), inputs, **options)
