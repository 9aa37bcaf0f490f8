"""The PyTorch programs that the library is measured against compute what they should."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import flops  # noqa: E402
import torch_baselines  # noqa: E402
from cases import TORCH, Case  # noqa: E402

_STEPS, _BATCH, _H, _LAYERS = 5, 2, 4, 2


def _params(num_layers=_LAYERS, hidden_size=_H):
    generator = np.random.default_rng(0)
    width, params = 3, {"embedding": {"table": generator.normal(size=(7, 3))}}
    for number in range(num_layers):
        params[f"layers_{number}"] = {
            "W": generator.normal(size=(width, 4 * hidden_size)),
            "U": generator.normal(size=(hidden_size, 4 * hidden_size)),
            "b": generator.normal(size=4 * hidden_size),
        }
        width = hidden_size
    tokens = generator.integers(0, 7, (_STEPS, _BATCH))
    return params, tokens


def _stack_step(params, x, h, c):
    """The next h and c of all layers, [layers, H] each; complex h give derivatives by h."""

    def sigmoid(a):
        return 1 / (1 + np.exp(-a))

    new_h, new_c = [], []
    for number in range(len(h)):
        layer = params[f"layers_{number}"]
        i, f, g, o = np.split(x @ layer["W"] + h[number] @ layer["U"] + layer["b"], 4)
        new_c.append(sigmoid(f) * c[number] + sigmoid(i) * np.tanh(g))
        new_h.append(sigmoid(o) * np.tanh(new_c[-1]))
        x = new_h[-1]
    return np.array(new_h), np.array(new_c)


def _numpy_log_growth(params, tokens, frame):
    """log |R_kk| of one column of the batch, J by complex steps: exact to the last digit."""
    num_layers = sum(name.startswith("layers_") for name in params)
    hidden_size = params["layers_0"]["U"].shape[0]
    h = c = np.zeros((num_layers, hidden_size))
    size, tiny, Q, logs = num_layers * hidden_size, 1e-30, frame, []
    for token in tokens:
        x = params["embedding"]["table"][token]
        J = np.empty((size, size))
        for column in range(size):
            nudge = np.zeros(size, complex)
            nudge[column] = 1j * tiny
            nudged, _ = _stack_step(params, x, h + nudge.reshape(h.shape), c)
            J[:, column] = nudged.imag.ravel() / tiny
        h, c = _stack_step(params, x, h, c)
        Q, R = np.linalg.qr(J.T @ Q)
        logs.append(np.log(np.abs(np.diagonal(R))))
    return np.array(logs)


@pytest.mark.parametrize("num_exponents", [2 * _H, 3])
@pytest.mark.parametrize("name", TORCH)
def test_a_baseline_agrees_with_a_plain_numpy_computation(name, num_exponents):
    params, tokens = _params()
    layers, inputs = torch_baselines.load(params, tokens, torch.float64)
    frame = torch_baselines.random_frame(layers, _BATCH, num_exponents)
    logs = torch_baselines.log_growth(name, layers, inputs, frame)
    assert logs.shape == (_STEPS, _BATCH, num_exponents)
    for column in range(_BATCH):
        expected = _numpy_log_growth(params, tokens[:, column], frame[column].numpy())
        np.testing.assert_allclose(logs[:, column], expected, rtol=1e-9, atol=1e-9)


def test_both_baselines_agree_for_three_layers():
    params, tokens = _params(num_layers=3)
    layers, inputs = torch_baselines.load(params, tokens, torch.float64)
    frame = torch_baselines.random_frame(layers, _BATCH, 3 * _H)
    rows, dense = (torch_baselines.log_growth(name, layers, inputs, frame) for name in TORCH)
    np.testing.assert_allclose(rows, dense, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_dense_diagonals_take_the_products_that_are_counted(num_layers):
    # torch counts matrix products by itself: those of the gates, of J, of J^T Q and of the signs.
    from torch.utils.flop_counter import FlopCounterMode

    params, tokens = _params(num_layers)
    params["embedding"]["table"] = np.ones((7, _H))
    params["layers_0"]["W"] = np.ones((_H, 4 * _H))
    layers, inputs = torch_baselines.load(params, tokens, torch.float64)
    frame = torch_baselines.random_frame(layers, _BATCH, 2 * num_layers)
    case = Case(hidden_size=_H, num_layers=num_layers, num_exponents=2, batch=_BATCH)
    counted = flops.torch(case, "torch_dense")
    products = sum(counted[part] for part in ("forward", "build", "products"))
    with FlopCounterMode(display=False) as counter:
        torch_baselines.log_growth("torch_dense", layers, inputs, frame)
    assert counter.get_total_flops() == _STEPS * products


def test_two_layers_take_the_21_dense_products_of_the_authors():
    assert flops.dense_products(2) == 21
