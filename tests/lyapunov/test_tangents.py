import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsh_jax.cells import lstm_update
from lsh_jax.lyapunov import lyapunov_spectrum
from lsh_jax.lyapunov.tangents import LSTM_TANGENTS, lstm_full_tangent, lstm_hidden_tangent

HIDDEN = 5


def layer(seed, hidden=HIDDEN, num_steps=30, gain=1.0, dtype=np.float64):
    """Recurrent weights [H, 4H], drives [T, 4H] and a state, of the size of a trained LSTM's."""
    generator = np.random.default_rng(seed)
    U = gain * generator.normal(size=(hidden, 4 * hidden)) / math.sqrt(hidden)
    drive = generator.normal(size=(num_steps, 4 * hidden))
    h, c = generator.uniform(-1, 1, (2, hidden))
    return [jnp.asarray(x, dtype) for x in (U, drive, h, c)]


def spectrum(U, drive, h, c, tangent="jvp", size=2 * HIDDEN, **options):
    """Compiled as a whole, which is faster than step by step; a frame that all types share."""
    frame = np.linalg.qr(np.random.default_rng(9).normal(size=(size, size)))[0]
    frame = frame[:, : options.pop("num_exponents", size)]

    @jax.jit
    def run(U, drive, h, c):
        return lyapunov_spectrum(
            step_fn(U),
            (h, c),
            drive,
            tangent=tangent if tangent == "jvp" else tangent(U),
            q0=frame,
            **options,
        )

    return run(U, drive, h, c)


def step_fn(U):
    return lambda state, x: lstm_update(x + jnp.dot(state[0], U), state)


def pushed(tangent, U, x, state, Q):
    new_state, push = tangent(U)(state, x)
    return new_state, push(Q)


@pytest.mark.parametrize("num_columns", [1, 2 * HIDDEN])
def test_the_full_tangent_is_the_jacobian_of_hidden_state_and_memory(num_columns):
    with jax.enable_x64(True):
        U, drive, h, c = layer(0)

        def flat(joined):
            return jnp.concatenate(step_fn(U)((joined[:HIDDEN], joined[HIDDEN:]), drive[0]))

        jacobian = jax.jit(jax.jacobian(flat))(jnp.concatenate([h, c]))
        Q = np.random.default_rng(1).normal(size=(2 * HIDDEN, num_columns))
        new_state, image = jax.jit(lambda Q: pushed(lstm_full_tangent, U, drive[0], (h, c), Q))(Q)
        np.testing.assert_allclose(image, np.asarray(jacobian) @ Q, atol=1e-13)
        expected = jax.jit(step_fn(U))((h, c), drive[0])
        np.testing.assert_allclose(new_state, expected, atol=1e-15)


def test_the_hidden_tangent_is_the_jacobian_with_the_memory_as_an_outer_drive():
    with jax.enable_x64(True):
        U, drive, h, c = layer(2)
        jacobian = jax.jit(jax.jacobian(lambda h: step_fn(U)((h, c), drive[0])[0]))(h)
        Q = np.eye(HIDDEN)
        new_state, image = jax.jit(lambda Q: pushed(lstm_hidden_tangent, U, drive[0], (h, c), Q))(Q)
        np.testing.assert_allclose(image, jacobian, atol=1e-14)
        expected = jax.jit(step_fn(U))((h, c), drive[0])
        np.testing.assert_allclose(new_state, expected, atol=1e-15)


def test_the_full_spectrum_equals_that_of_automatic_differentiation():
    with jax.enable_x64(True):
        options = {"num_exponents": 4, "burn_in": 5}
        by_jvp = spectrum(*layer(3), **options)
        by_hand = spectrum(*layer(3), tangent=lstm_full_tangent, **options)
        np.testing.assert_allclose(by_hand.exponents, by_jvp.exponents, atol=1e-11)
        np.testing.assert_allclose(by_hand.q, by_jvp.q, atol=1e-10)


def test_the_log_determinant_of_an_lstm_has_a_closed_form_at_every_step():
    # Subtracting diag(dh'/dc') times the rows of c from those of h leaves [diag(dh'/da_o) U_o, 0]
    # over [A, diag f], so only U_o enters:
    # ln |det J| = ln |det U_o| + sum_j [ln f_j + ln |tanh c'_j| + ln o_j (1 - o_j)].
    with jax.enable_x64(True):
        U, drive, h, c = layer(4)
        result = spectrum(U, drive, h, c, tangent=lstm_full_tangent)
        U, drive, h, c = (np.asarray(x) for x in (U, drive, h, c))
        expected = []
        for x in drive:
            i, f, g, o = np.split(x + h @ U, 4)
            i, f, o = (1 / (1 + np.exp(-a)) for a in (i, f, o))
            c = f * c + i * np.tanh(g)
            h = o * np.tanh(c)
            units = np.log(f) + np.log(np.abs(np.tanh(c))) + np.log(o * (1 - o))
            expected.append(units.sum() + np.linalg.slogdet(U[:, 3 * HIDDEN :])[1])
        # Steps where some c' is near 0 are nearly singular: 6e-10 was met over long runs.
        np.testing.assert_allclose(result.local_exponents.sum(axis=1), expected, atol=1e-8)


def test_without_recurrent_weights_the_memory_decays_by_its_forget_gates():
    with jax.enable_x64(True):
        U, drive, h, c = layer(5, num_steps=400)
        drive = 0.5 * np.asarray(drive)
        drive[:, HIDDEN : 2 * HIDDEN] += np.linspace(-4, 4, HIDDEN)  # apart, to converge fast
        result = spectrum(0 * U, drive, h, c, tangent=lstm_full_tangent, burn_in=200)
        forget = -np.log1p(np.exp(-drive[200:, HIDDEN : 2 * HIDDEN]))
        expected = np.sort(forget.mean(axis=0))[::-1]
        # The frame turns by at most one radian in all after the burn-in: O(1 / T).
        np.testing.assert_allclose(result.exponents[:HIDDEN], expected, atol=0.01)
        assert (result.exponents[HIDDEN:] < -30).all()


@pytest.mark.parametrize(("state", "rows"), [("full", 2), ("hidden", 1)])
def test_the_tangents_agree_in_float32_and_float64(state, rows):
    # Measured over seeds: rms about 1e-4, the last exponents being the worst.
    spectra = []
    for dtype in (np.float32, np.float64):
        with jax.enable_x64(dtype == np.float64):
            arrays = layer(6, hidden=12, num_steps=60, dtype=dtype)
            result = spectrum(*arrays, tangent=LSTM_TANGENTS[state], size=rows * 12)
            spectra.append(np.asarray(result.exponents))
    assert np.sqrt(np.mean((spectra[0] - spectra[1]) ** 2)) < 1e-3
