"""The authors' recipe against a straight NumPy port of it, on the whole stack at once."""

import jax
import numpy as np
import pytest

from lsh_jax.config import ModelConfig
from lsh_jax.language_models import make_language_model
from lsh_jax.lyapunov import rnn_lyapunov_spectrum

HIDDEN, LAYERS, STEPS, WARM_UP = 5, 3, 12, 4


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm_step_and_jacobian(layers, hidden, memories, x):
    """One step of the stack, and dh'/dh of all layers together with the memories held, [L H, L H].

    Row block l, column block m: layer l feels layer m < l through its input at the same step.
    """
    size = HIDDEN * len(layers)
    jacobian = np.zeros((size, size))
    below = np.zeros((0, size))  # of the input with respect to all hidden states before the step
    new_hidden, new_memories = [], []
    for index, (params, h, c) in enumerate(zip(layers, hidden, memories, strict=True)):
        i, f, g, o = np.split(x @ params["W"] + h @ params["U"] + params["b"], 4)
        i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
        c_new = f * c + i * g
        slope = o * (1 - np.tanh(c_new) ** 2)
        gates = np.concatenate(
            [
                slope * g * i * (1 - i),
                slope * c * f * (1 - f),
                slope * i * (1 - g**2),
                np.tanh(c_new) * o * (1 - o),
            ]
        )

        def through(weights, gates=gates):
            """dh'/d(what the weights multiply), [H, width]: the sum over the four gates."""
            return sum(np.split((weights * gates).T, 4))

        rows = slice(index * HIDDEN, (index + 1) * HIDDEN)
        jacobian[rows, rows] = through(params["U"])
        if index > 0:
            jacobian[rows] += through(params["W"]) @ below
        below = jacobian[rows]
        x = o * np.tanh(c_new)
        new_hidden.append(x)
        new_memories.append(c_new)
    return new_hidden, new_memories, jacobian


def ported_recipe(layers, embedded):
    """Exponents of one column in bits, unsorted, [L H]."""
    zeros = [np.zeros(HIDDEN) for _ in layers]
    hidden, memories = zeros, zeros
    Q = np.eye(HIDDEN * len(layers))
    for x in embedded[:WARM_UP]:
        hidden, memories, J = lstm_step_and_jacobian(layers, hidden, memories, x)
        Q = J.T @ Q
    Q = np.linalg.qr(Q)[0]
    total = np.zeros(len(Q))
    for x in embedded:  # the text from its start again
        hidden, memories, J = lstm_step_and_jacobian(layers, hidden, memories, x)
        Q, R = np.linalg.qr(J.T @ Q)
        total += np.log2(np.abs(np.diagonal(R)))
    return total / len(embedded)


def test_the_paper_recipe_is_the_port_whose_stack_is_its_layers_one_after_another():
    model = make_language_model(
        ModelConfig(vocab_size=11, embed_size=4, hidden_size=HIDDEN, num_layers=LAYERS)
    )
    with jax.enable_x64(True):
        init = model.init(jax.random.key(0))
        params = jax.tree.map(lambda leaf: 1.5 * np.asarray(leaf, np.float64), init)
        tokens = np.asarray(jax.random.randint(jax.random.key(1), (STEPS, 2), 0, 11))
        result = rnn_lyapunov_spectrum(model, params, tokens, burn_in=WARM_UP, recipe="paper")
        layers = [params[f"layers_{index}"] for index in range(LAYERS)]
        columns = [
            ported_recipe(layers, params["embedding"]["table"][column]) for column in tokens.T
        ]
        assert result.exponents.shape == (LAYERS, HIDDEN)
        np.testing.assert_allclose(result.exponents.ravel(), np.mean(columns, axis=0), atol=1e-10)
        assert result.num_steps == STEPS
        # Not what the product in the order of time gives.
        ours = rnn_lyapunov_spectrum(model, params, tokens, state="hidden", log_base=2.0)
        assert np.abs(np.sort(result.exponents[0])[::-1] - ours.exponents[0]).max() > 1e-3


@pytest.mark.parametrize(
    "cell", ["rhn", *(pytest.param(cell, marks=pytest.mark.slow) for cell in ("gru", "tanh"))]
)
def test_the_paper_recipe_reverses_the_product_but_for_an_rhn(cell):
    model = make_language_model(
        ModelConfig(cell=cell, vocab_size=5, embed_size=3, hidden_size=4, num_layers=1)
    )
    with jax.enable_x64(True):
        params = jax.tree.map(
            lambda x: 2 * np.asarray(x, np.float64), model.init(jax.random.key(0))
        )
        tokens = np.array([[0, 3, 1, 4, 2, 1]]).T
        result = rnn_lyapunov_spectrum(model, params, tokens, burn_in=1, recipe="paper")
        from lsh_jax.cells import CELLS

        rules, weights = CELLS[cell], params["layers_0"]
        s = np.zeros(4)
        Q, total = np.eye(4), 0.0
        for step, token in enumerate([0, 0, 3, 1, 4, 2, 1]):
            drive = rules.project(weights, params["embedding"]["table"][token])

            def advance(s, drive=drive):
                return rules.step(rules.recurrent(weights), s, drive)

            J = np.asarray(jax.jacobian(advance)(s))
            s = advance(s)
            Q, R = np.linalg.qr((J if cell == "rhn" else J.T) @ Q)
            total = total + np.log2(np.abs(np.diagonal(R))) * (step > 0)
        np.testing.assert_allclose(result.exponents[0], total / 6, atol=1e-10)
