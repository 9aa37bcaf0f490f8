import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsh_jax.cells import LSTMCell, lstm_layer, lstm_update

E, H, T, B = 3, 4, 5, 2
layer = jax.jit(lstm_layer)


@functools.cache
def cell_params(inputs=E, hidden=H):
    init = jax.jit(LSTMCell(hidden).init)
    carry = (np.zeros(hidden, np.float32), np.zeros(hidden, np.float32))
    return init(jax.random.key(0), carry, np.zeros(inputs, np.float32))


def drive(*leading):
    rng = np.random.default_rng(1)
    inputs = rng.normal(size=(T, *leading, E)).astype(np.float32)
    h, c = rng.normal(size=(2, *leading, H)).astype(np.float32)
    return inputs, (h, c)


def test_one_step_has_the_values_of_the_equations_with_the_gates_in_the_order_i_f_g_o():
    # sigmoid(log 3) = 3/4, sigmoid(-log 3) = 1/4, tanh(log 2) = 3/5, sigmoid(0) = 1/2, so
    # c' = 1/4 * 1/5 + 3/4 * 3/5 = 1/2 and h' = tanh(1/2) / 2. Any two gates swapped give another c'
    # or h'. The old h does not enter.
    preactivation = jnp.array([math.log(3), -math.log(3), math.log(2), 0.0])
    h, c = lstm_update(preactivation, (jnp.array([9.0]), jnp.array([0.2])))
    np.testing.assert_allclose(c, [0.5], rtol=1e-6)
    np.testing.assert_allclose(h, [math.tanh(0.5) / 2], rtol=1e-6)


def test_the_cell_has_one_input_matrix_one_recurrent_matrix_and_one_bias():
    shapes = jax.tree.map(jnp.shape, cell_params())
    assert shapes == {"params": {"W": (E, 4 * H), "U": (H, 4 * H), "b": (4 * H,)}}


def test_the_initial_weights_fill_the_interval_of_torch():
    for leaf in map(np.asarray, jax.tree.leaves(cell_params(64, 64))):  # U(-1/8, 1/8)
        assert np.max(np.abs(leaf)) <= 1 / 8
        assert np.max(leaf) > 0.95 / 8
        assert np.min(leaf) < -0.95 / 8


@pytest.mark.parametrize("leading", [(), (B,)], ids=["one example", "a batch"])
def test_the_cell_scanned_is_the_layer(leading):
    params = cell_params()
    inputs, carry = drive(*leading)
    cell = functools.partial(LSTMCell(H).apply, params)
    last, outputs = jax.jit(functools.partial(jax.lax.scan, cell))(carry, inputs)
    layer_outputs, layer_last = layer(params["params"], inputs, carry)
    assert layer_outputs.shape == (T, *leading, H)
    # The layer multiplies all inputs by W at once: sums of 3 float32 terms in another order.
    np.testing.assert_allclose(layer_outputs, outputs, atol=1e-6)
    for ours, theirs in zip(layer_last, last, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_the_last_output_is_the_last_h():
    inputs, carry = drive(B)
    outputs, (h, _) = layer(cell_params()["params"], inputs, carry)
    np.testing.assert_array_equal(outputs[-1], h)


def test_a_layer_over_a_batch_is_the_layer_over_each_of_its_columns():
    params = cell_params()["params"]
    inputs, (h, c) = drive(B)
    outputs, _ = layer(params, inputs, (h, c))
    for column in range(B):
        alone, _ = layer(params, inputs[:, column], (h[column], c[column]))
        np.testing.assert_allclose(outputs[:, column], alone, atol=1e-6)


def test_the_carry_joins_two_stretches_of_time():
    params = cell_params()["params"]
    inputs, carry = drive(B)
    whole, whole_last = layer(params, inputs, carry)
    first, carry = layer(params, inputs[:2], carry)
    second, last = layer(params, inputs[2:], carry)
    np.testing.assert_allclose(np.concatenate([first, second]), whole, atol=1e-6)
    for ours, theirs in zip(last, whole_last, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
