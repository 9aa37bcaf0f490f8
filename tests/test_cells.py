import functools
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsh_jax.cells import CELLS, lstm_update
from lsh_jax.config import ModelConfig
from lsh_jax.layers import run_layer

E, H, T, B = 3, 4, 5, 2
VARIANTS = {  # cell, depth, coupled
    "lstm": ("lstm", 1, True),
    "gru": ("gru", 1, True),
    "tanh": ("tanh", 1, True),
    "rhn": ("rhn", 1, True),
    "deep rhn": ("rhn", 3, True),
    "uncoupled rhn": ("rhn", 1, False),
    "deep uncoupled rhn": ("rhn", 3, False),
}
layer = functools.partial(jax.jit, static_argnums=0)(
    lambda name, params, inputs, carry: run_layer(CELLS[name], params, inputs, carry)
)


def module(variant, hidden=H):
    name, depth, coupled = VARIANTS[variant]
    return CELLS[name].module(hidden, ModelConfig(cell=name, depth=depth, coupled=coupled))


def init(variant, inputs=E, hidden=H):
    carry = CELLS[VARIANTS[variant][0]].init_carry((hidden,))
    return module(variant, hidden).init(jax.random.key(0), carry, jnp.zeros(inputs))["params"]


def shapes_of(variant):
    return dict(jax.eval_shape(functools.partial(init, variant)))


def initial(variant, inputs=E, hidden=H):
    return jax.jit(functools.partial(init, variant, inputs, hidden))()


def example(variant, *leading):
    """Parameters with biases everywhere that no two agree in, inputs and a carry."""
    rng = np.random.default_rng(1)
    carry = CELLS[VARIANTS[variant][0]].init_carry((*leading, H))

    def draw(leaf):
        return rng.normal(size=leaf.shape).astype(np.float32)

    params = jax.tree.map(draw, shapes_of(variant))
    return params, draw(np.zeros((T, *leading, E))), jax.tree.map(draw, carry)


def close(tree, other, **tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), tree, other)


def test_one_step_of_an_lstm_has_the_values_of_the_equations_with_gates_in_the_order_i_f_g_o():
    # sigmoid(log 3) = 3/4, sigmoid(-log 3) = 1/4, tanh(log 2) = 3/5, sigmoid(0) = 1/2, so
    # c' = 1/4 * 1/5 + 3/4 * 3/5 = 1/2 and h' = tanh(1/2) / 2. Any two gates swapped give another c'
    # or h'. The old h does not enter.
    preactivation = jnp.array([math.log(3), -math.log(3), math.log(2), 0.0])
    h, c = lstm_update(preactivation, (jnp.array([9.0]), jnp.array([0.2])))
    np.testing.assert_allclose(c, [0.5], rtol=1e-6)
    np.testing.assert_allclose(h, [math.tanh(0.5) / 2], rtol=1e-6)


@pytest.mark.parametrize("name", ["gru", "tanh"])
def test_outputs_and_gradients_are_those_of_torch(name):
    file = np.load(pathlib.Path(__file__).parent / "references" / "torch_cells.npz")
    leaves = ("W", "U", "b", "b_n") if name == "gru" else ("W", "U", "b")
    params, grads = (
        {leaf: np.float32(file[f"{name}/{prefix}{leaf}"]) for leaf in leaves}
        for prefix in ("", "grad_")
    )

    @functools.partial(jax.grad, has_aux=True)
    def summed(params):
        inputs, carry = np.float32(file["inputs"]), np.float32(file["carry"])
        outputs, _ = run_layer(CELLS[name], params, inputs, carry)
        return jnp.sum(outputs**2), outputs

    our_grads, outputs = jax.jit(summed)(params)
    # Against float64: five steps of values of order 1, each rounded to 6e-8 of its size.
    np.testing.assert_allclose(outputs, file[f"{name}/outputs"], atol=1e-6)
    close(our_grads, grads, rtol=1e-5, atol=2e-6)


def rhn_by_the_paper(params, inputs, s, depth, coupled):
    """The equations of section 4 of Zilly et al., one example, gate by gate, in float64."""
    outputs = []
    for x in inputs:
        for d in range(depth):
            gates = {}
            for position, gate in enumerate("htc"[: 2 if coupled else 3]):
                block = slice(position * H, (position + 1) * H)
                total = params[f"b_{d}" if d else "b"][block] + s @ params[f"R_{d}"][:, block]
                total = total + (x @ params["W"][:, block] if d == 0 else 0)
                gates[gate] = np.tanh(total) if gate == "h" else 1 / (1 + np.exp(-total))
            keep = 1 - gates["t"] if coupled else gates["c"]
            s = gates["h"] * gates["t"] + s * keep
        outputs.append(s)
    return np.array(outputs)


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name.endswith("rhn")])
def test_an_rhn_has_the_values_of_the_equations_of_its_paper_with_all_biases(variant):
    params, inputs, s = example(variant)
    outputs, last = layer("rhn", params, inputs, s)
    wide = jax.tree.map(np.float64, (params, inputs, s))
    expected = rhn_by_the_paper(*wide, *VARIANTS[variant][1:])
    np.testing.assert_allclose(outputs, expected, atol=2e-6)
    np.testing.assert_array_equal(last, outputs[-1])


SHAPES = {
    "lstm": {"W": (E, 4 * H), "U": (H, 4 * H), "b": (4 * H,)},
    "gru": {"W": (E, 3 * H), "U": (H, 3 * H), "b": (3 * H,), "b_n": (H,)},
    "tanh": {"W": (E, H), "U": (H, H), "b": (H,)},
    "rhn": {"W": (E, 2 * H), "R_0": (H, 2 * H), "b": (2 * H,)},
    "deep uncoupled rhn": {
        "W": (E, 3 * H),
        **{f"R_{d}": (H, 3 * H) for d in range(3)},
        **dict.fromkeys(("b", "b_1", "b_2"), (3 * H,)),
    },
}


@pytest.mark.parametrize("variant", SHAPES)
def test_the_parameters_are_the_documented_ones_and_a_step_reads_those_of_the_recurrence(variant):
    leaves = shapes_of(variant)
    assert {name: leaf.shape for name, leaf in leaves.items()} == SHAPES[variant]
    assert {leaf.dtype for leaf in leaves.values()} == {jnp.dtype("float32")}
    recurrent = CELLS[VARIANTS[variant][0]].recurrent(leaves)
    assert set(recurrent) == set(leaves) - {"W", "b"}


def test_the_initial_weights_fill_the_interval_of_torch():
    for leaf in map(np.asarray, jax.tree.leaves(initial("lstm", 64, 64))):  # U(-1/8, 1/8)
        assert np.max(np.abs(leaf)) <= 1 / 8
        assert np.max(leaf) > 0.95 / 8
        assert np.min(leaf) < -0.95 / 8


@pytest.mark.parametrize("variant", ["rhn", "deep uncoupled rhn"])
def test_an_rhn_starts_by_keeping_its_state_at_every_micro_step(variant):
    params = initial(variant)
    for name in set(params) & {"b", "b_1", "b_2"}:
        b_h, b_t, *b_c = np.asarray(params[name]).reshape(-1, H)
        assert 0 < np.max(np.abs(b_h)) <= 1 / math.sqrt(H)
        np.testing.assert_array_equal(b_t, np.full(H, -2))
        for biases in b_c:  # sigmoid(2) = 1 - sigmoid(-2)
            np.testing.assert_array_equal(biases, np.full(H, 2))


@pytest.mark.parametrize("variant", ["lstm", "gru", "tanh", "deep uncoupled rhn"])
def test_the_module_scanned_is_the_layer_and_a_batch_is_its_columns(variant):
    params, inputs, carry = example(variant, B)
    name = VARIANTS[variant][0]
    step = functools.partial(module(variant).apply, {"params": params})
    last, outputs = jax.jit(functools.partial(jax.lax.scan, step))(carry, inputs)
    found = layer(name, params, inputs, carry)
    # The layer multiplies all inputs by W at once: short float32 sums in another order.
    close(found, (outputs, last), atol=2e-6)
    alone = jax.tree.map(lambda leaf: leaf[1], carry)
    close(layer(name, params, inputs[:, 1], alone)[0], outputs[:, 1], atol=2e-6)


def test_the_carry_joins_two_stretches_of_time():
    params, inputs, carry = example("lstm", B)
    whole, whole_last = layer("lstm", params, inputs, carry)
    first, carry = layer("lstm", params, inputs[:2], carry)
    second, last = layer("lstm", params, inputs[2:], carry)
    close(np.concatenate([first, second]), whole, atol=2e-6)
    close(last, whole_last, atol=2e-6)
    np.testing.assert_array_equal(CELLS["lstm"].output(last), second[-1])


@pytest.mark.parametrize(
    ("variant", "biases", "share"),
    [
        ("lstm", {"o": -90}, 0),  # h' = o tanh(c') is 0
        ("gru", {"z": 90}, 1),  # h' = (1 - z) n + z h is h
        ("deep rhn", {"t": -90}, 1),  # s' = h t + s (1 - t) is s
        ("deep uncoupled rhn", {"t": -90, "c": 90}, 1),  # s' = h t + s c is s
    ],
)
def test_gates_stand_in_the_columns_that_their_names_say(variant, biases, share):
    params, inputs, carry = example(variant, B)
    cell = VARIANTS[variant][0]
    for gate, bias in biases.items():
        start = CELLS[cell].gates.index(gate) * H
        for name, leaf in params.items():
            if name != "b_n":
                leaf[..., start : start + H] = 0 if leaf.ndim > 1 else bias
    (first, *_), _ = layer(cell, params, inputs, carry)
    np.testing.assert_allclose(first, share * jax.tree.leaves(carry)[0], atol=1e-6)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_gate_has_a_name(variant):
    name, _, coupled = VARIANTS[variant]
    num_gates = shapes_of(variant)["W"].shape[-1] // H
    assert num_gates == len(CELLS[name].gates) - (name == "rhn" and coupled)
