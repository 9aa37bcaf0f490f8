"""Where dropout acts, against a naive network that is given the same masks."""

import functools

import jax
import numpy as np
import pytest

from lsh_jax.config import ModelConfig
from lsh_jax.language_models import _make_dropout, make_language_model
from lsh_jax.types import Hyper

V, T, B = 13, 4, 3
RATES = {"dropout_embed": 0.2, "dropout_input": 0.3, "dropout_hidden": 0.4, "dropout_output": 0.6}
HYPER = Hyper(*np.float32([1.0, 1.0, 0.0, *RATES.values()]))
KEY = jax.random.key(5)
CONFIGS = {
    "lstm": ModelConfig("lstm", V, 5, 4, 3, layer_sizes=(3, 6, 4)),
    "rhn": ModelConfig("rhn", V, 5, 4, 2, depth=3, coupled=False, layer_sizes=(6, 4)),
}
CASES = [
    ("lstm", False),
    ("rhn", True),
    pytest.param("lstm", True, marks=pytest.mark.slow),
    pytest.param("rhn", False, marks=pytest.mark.slow),
]


KEYS = jax.random.split(KEY, 200)


@functools.cache
def masks_of(cell, locked):
    """Those of all keys at once, [200, ...]: one program a case."""

    def draw(key):
        return _make_dropout(CONFIGS[cell], key, HYPER, (T, B), locked=locked)

    return jax.tree.map(np.asarray, jax.jit(jax.vmap(draw))(KEYS))


def masks_at(cell, locked, index):
    return jax.tree.map(lambda masks: masks[index], masks_of(cell, locked))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm_step(params, x, carry, state_mask):
    assert state_mask is None
    h, c = carry
    i, f, g, o = np.split(x @ params["W"] + h @ params["U"] + params["b"], 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    h = sigmoid(o) * np.tanh(c)
    return h, (h, c)


def rhn_step(params, x, s, state_mask):
    """Every micro-step multiplies the dropped state; what the carry gate keeps is not dropped."""
    for d in range(3):
        total = (s * state_mask) @ params[f"R_{d}"] + params[f"b_{d}" if d else "b"]
        total += x @ params["W"] if d == 0 else 0
        h, t, c = np.split(total, 3, axis=-1)
        s = np.tanh(h) * sigmoid(t) + s * sigmoid(c)
    return s, s


def naive(cell, params, tokens, carry, masks):
    """Logits [T, B, V] and the last carry, in float64, a step and a layer at a time."""
    step = {"lstm": lstm_step, "rhn": rhn_step}[cell]
    carry, logits = list(carry), []
    for t, words in enumerate(tokens):
        x = params["embedding"]["table"][words] * masks.table[words]
        for layer in range(len(carry)):
            mask = masks.inputs[layer]
            x = x * mask[t if len(mask) > 1 else 0]
            own = params[f"layers_{layer}"], x, carry[layer], masks.states[layer]
            x, carry[layer] = step(*own)
        x = x * masks.output[t if len(masks.output) > 1 else 0]
        logits.append(x @ params["decoder"]["W"] + params["decoder"]["b"])
    return np.array(logits), tuple(carry)


def example(cell):
    model = make_language_model(CONFIGS[cell])
    rng = np.random.default_rng(0)

    def draw(leaf):
        return rng.normal(size=leaf.shape).astype(np.float32)

    params = jax.tree.map(draw, jax.eval_shape(model.init, KEY))
    carry = jax.tree.map(draw, jax.eval_shape(lambda: model.init_carry(B)))
    return model, params, rng.integers(V, size=(T, B)).astype(np.int32), carry


@pytest.mark.parametrize(("cell", "locked"), CASES)
def test_dropout_acts_where_a_naive_network_has_it(cell, locked):
    model, params, tokens, carry = example(cell)
    apply = jax.jit(functools.partial(model.apply, locked=locked))
    found = apply(params, tokens, carry, key=KEYS[0], dropout=HYPER)
    wide = jax.tree.map(np.float64, (params, carry, masks_at(cell, locked, 0)))
    expected = naive(cell, wide[0], tokens, wide[1], wide[2])
    # Float32: values of order 1, four steps of up to nine products.
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=2e-5), found, expected
    )


def rates_in(mask):
    """The rate of a mask of 0 and 1 / (1 - rate), and its share of zeros."""
    low, high = np.unique(np.asarray(mask))
    assert low == 0
    return 1 - 1 / high, np.mean(np.asarray(mask) == 0)


@pytest.mark.parametrize(("cell", "locked"), CASES)
def test_every_mask_has_the_rate_and_the_shape_of_its_place(cell, locked):
    masks = masks_of(cell, locked)
    steps, widths = 1 if locked else T, (5, *CONFIGS[cell].widths)
    between = "dropout_input" if cell == "rhn" else "dropout_hidden"
    places = {"dropout_embed": [(masks.table, (V, 1))]}
    places["dropout_output"] = [(masks.output, (steps, B, widths[-1]))]
    places["dropout_input"] = [(masks.inputs[0], (steps, B, 5))]
    higher = [(m, (steps, B, w)) for m, w in zip(masks.inputs[1:], widths[1:-1], strict=True)]
    places.setdefault(between, []).extend(higher)
    if cell == "rhn":
        states = [(m, (B, w)) for m, w in zip(masks.states, widths[1:], strict=True)]
        places["dropout_hidden"] = states
    else:
        assert masks.states == (None,) * 3
    for name, found in places.items():
        for mask, shape in found:
            assert mask.shape == (200, *shape)
            rate, share = rates_in(mask)
            np.testing.assert_allclose(rate, RATES[name], rtol=1e-6)
            np.testing.assert_allclose(share, RATES[name], atol=0.05)  # of 1800 draws at least


def test_locked_masks_are_drawn_anew_for_every_window_column_and_place():
    first, second = (masks_at("rhn", True, index) for index in (0, 1))
    for one, other in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        assert not np.array_equal(one, other)
    for mask in (*first.inputs, *first.states, first.output):
        columns = np.asarray(mask).reshape(-1, B, mask.shape[-1])[0]
        assert len({column.tobytes() for column in columns}) > 1
    of_six = first.inputs[1][0], first.states[0]
    of_four = first.output[0], first.states[1]
    for pair in (of_six, of_four):  # of one shape, drawn apart
        kept = [np.asarray(mask) > 0 for mask in pair]
        assert not np.array_equal(*kept)


def test_the_masks_of_an_lstm_are_drawn_as_runs_from_before_locked_dropout_drew_them():
    # The keys of the words, the input and what lies above every layer, in that order.
    embed_key, *keys = jax.random.split(KEYS[0], 5)
    masks = masks_at("lstm", False, 0)
    rates = RATES["dropout_input"], *[RATES["dropout_hidden"]] * 2, RATES["dropout_output"]
    widths = (5, *CONFIGS["lstm"].widths)
    for mask, key, rate, width in zip(
        (*masks.inputs, masks.output), keys, rates, widths, strict=True
    ):
        kept = jax.random.bernoulli(key, 1 - np.float32(rate), (T, B, width))
        np.testing.assert_array_equal(np.asarray(mask) > 0, kept)
    kept = jax.random.bernoulli(embed_key, 1 - np.float32(RATES["dropout_embed"]), (V, 1))
    np.testing.assert_array_equal(np.asarray(masks.table) > 0, kept)
