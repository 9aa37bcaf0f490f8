import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from lsh_jax.cells import CELLS
from lsh_jax.lyapunov import lyapunov_spectrum
from lsh_jax.lyapunov.tangents import TANGENTS, rows_per_unit

HIDDEN = 5
GATES = {"lstm": 4, "gru": 3, "tanh": 1, "rhn": 2, "uncoupled rhn": 3}
DEPTH = 3  # of the RHNs


def layer(variant, seed, hidden=HIDDEN, num_steps=30, dtype=np.float64):
    """Recurrent parameters with biases, drives [T, G] and a carry, of a trained network's size."""
    rng = np.random.default_rng(seed)
    width = GATES[variant] * hidden
    if variant.endswith("rhn"):
        matrices, biases = [f"R_{d}" for d in range(DEPTH)], [f"b_{d}" for d in range(1, DEPTH)]
    else:
        matrices, biases = ["U"], []
    params = {name: rng.normal(size=(hidden, width)) / math.sqrt(hidden) for name in matrices}
    params |= {name: rng.normal(size=width) for name in biases}
    if variant == "gru":
        params["b_n"] = rng.normal(size=hidden)
    drive = rng.normal(size=(num_steps, width))
    cell = CELLS[variant.split()[-1]]
    carry = jax.tree.map(lambda leaf: rng.uniform(-1, 1, leaf.shape), cell.init_carry((hidden,)))
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), (params, drive, carry))


@functools.partial(jax.jit, static_argnames=("name", "burn_in"))
def spectrum(params, drive, carry, q0, name, burn_in=0):
    """All exponents of the full state."""
    step = functools.partial(CELLS[name].step, params)
    return lyapunov_spectrum(
        step,
        carry,
        drive,
        tangent=TANGENTS[name]["full"](params),
        q0=q0,
        burn_in=burn_in,
    )


def frame(size):
    return np.linalg.qr(np.random.default_rng(9).normal(size=(size, size)))[0]


@pytest.mark.parametrize("state", ["full", "hidden"])
@pytest.mark.parametrize("variant", GATES)
def test_a_tangent_is_the_jacobian_by_automatic_differentiation(variant, state):
    name = variant.split()[-1]
    if state == "hidden" and name != "lstm":
        assert TANGENTS[name]["hidden"] is TANGENTS[name]["full"]
        return
    with jax.enable_x64(True):
        params, drive, carry = layer(variant, 0)
        cell = CELLS[name]

        @jax.jit
        def jacobian_and_tangent(params, carry, drive, Q):
            if state == "full":
                flat, unravel = ravel_pytree(carry)

                def step(flat):
                    return ravel_pytree(cell.step(params, unravel(flat), drive))[0]
            else:  # of h, with the memory as an outer drive
                flat = carry[0]

                def step(h):
                    return cell.step(params, (h, carry[1]), drive)[0]

            new_carry, push = TANGENTS[name][state](params)(carry, drive)
            return jax.jacobian(step)(flat), push(Q), new_carry, cell.step(params, carry, drive)

        size = rows_per_unit(name, state) * HIDDEN
        Q = frame(size)[:, :3]
        J, image, new_carry, expected = jacobian_and_tangent(params, carry, drive[0], Q)
        assert J.shape == (size, size)
        np.testing.assert_allclose(image, np.asarray(J) @ Q, atol=1e-13)
        np.testing.assert_allclose(new_carry, expected, atol=1e-15)


def test_every_cell_has_the_tangents_of_both_states_with_two_rows_a_unit_for_an_lstm_in_full():
    assert set(TANGENTS) == set(CELLS)
    rows = {
        (name, state): rows_per_unit(name, state)
        for name, tangents in TANGENTS.items()
        for state in tangents
    }
    assert rows.pop(("lstm", "full")) == 2
    assert rows == {
        ("lstm", "hidden"): 1,
        **{(name, state): 1 for name in ("rhn", "gru", "tanh") for state in ("full", "hidden")},
    }


def test_without_recurrent_weights_the_memory_of_an_lstm_decays_by_its_forget_gates():
    with jax.enable_x64(True):
        params, drive, carry = layer("lstm", 5, num_steps=400)
        drive = 0.5 * np.asarray(drive)
        drive[:, HIDDEN : 2 * HIDDEN] += np.linspace(-4, 4, HIDDEN)  # apart, to converge fast
        params = {"U": 0 * params["U"]}
        result = spectrum(params, drive, carry, frame(2 * HIDDEN), "lstm", burn_in=200)
        forget = -np.log1p(np.exp(-drive[200:, HIDDEN : 2 * HIDDEN]))
        expected = np.sort(forget.mean(axis=0))[::-1]
        # The frame turns by at most one radian in all after the burn-in: O(1 / T).
        np.testing.assert_allclose(result.exponents[:HIDDEN], expected, atol=0.01)
        assert (result.exponents[HIDDEN:] < -30).all()


@pytest.mark.parametrize("variant", ["gru", "rhn", "uncoupled rhn"])
def test_without_recurrent_weights_the_exponents_are_the_mean_logs_of_what_a_unit_keeps(variant):
    # J is diagonal: z of a GRU; of an RHN the product over its micro-steps of 1 - t, or of c.
    # From the identity as first frame nothing has to converge.
    with jax.enable_x64(True):
        params, drive, carry = layer(variant, 6)
        params = {name: 0 * leaf if leaf.ndim == 2 else leaf for name, leaf in params.items()}
        result = spectrum(params, drive, carry, np.eye(HIDDEN), variant.split()[-1])

        def log_kept(preactivation):  # log of the gate, or of 1 - t where c is coupled to t
            gate = np.split(np.asarray(preactivation), GATES[variant], axis=-1)[
                1 if variant == "gru" else -1
            ]
            return -np.log1p(np.exp(gate if variant == "rhn" else -gate))

        kept = sum(
            map(log_kept, [drive, *(params[name] for name in ("b_1", "b_2") if name in params)])
        )
        np.testing.assert_allclose(result.exponents, np.sort(kept.mean(axis=0))[::-1], atol=1e-12)


def test_the_tangent_of_an_lstm_agrees_in_float32_and_float64():
    # Measured over seeds: rms about 1e-4, the last exponents being the worst.
    spectra = []
    for dtype in (np.float32, np.float64):
        with jax.enable_x64(dtype == np.float64):
            arrays = layer("lstm", 6, hidden=12, num_steps=60, dtype=dtype)
            result = spectrum(*arrays, frame(2 * 12).astype(dtype), "lstm")
            spectra.append(np.asarray(result.exponents))
    assert np.sqrt(np.mean((spectra[0] - spectra[1]) ** 2)) < 1e-3
