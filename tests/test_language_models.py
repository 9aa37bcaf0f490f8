import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lsh_jax.config import ModelConfig
from lsh_jax.language_models import layer_names, make_language_model
from lsh_jax.types import Hyper

CONFIG = ModelConfig(vocab_size=13, embed_size=5, hidden_size=4, num_layers=2)
MODEL = make_language_model(CONFIG)
RATES = ("dropout_embed", "dropout_input", "dropout_hidden", "dropout_output")
KEY = jax.random.key(0)
NUM_KEYS = 1000


@pytest.fixture(scope="module")
def reference():
    """What nn.Embedding, nn.LSTM and nn.Linear gave: see references/make_torch_lstm.py."""
    return np.load(pathlib.Path(__file__).parent / "references" / "torch_lstm.npz")


def unpack(vector):
    leaves, treedef = jax.tree.flatten(jax.eval_shape(MODEL.init, KEY))
    pieces = np.split(np.float32(vector), np.cumsum([leaf.size for leaf in leaves])[:-1])
    return treedef.unflatten(
        [x.reshape(leaf.shape) for x, leaf in zip(pieces, leaves, strict=True)]
    )


def pack(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def example(reference):
    tokens = reference["tokens"]
    carry = tuple((h, c) for h, c in np.float32(reference["carry"]))
    return unpack(reference["params"]), tokens[:-1], tokens[1:], carry


def hyper(**rates):
    settings = dict.fromkeys(Hyper._fields, 0.0) | rates
    return Hyper(**{name: np.float32(value) for name, value in settings.items()})


def drawn(model):
    """Parameters of order 1 with no leaf at zero, in no time."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(model.init, KEY)
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)


def equal(tree, other):
    return all(map(np.array_equal, jax.tree.leaves(tree), jax.tree.leaves(other)))


apply = jax.jit(MODEL.apply)


@jax.jit
def drop(params, inputs, carry, seed, rates):
    """Logits and carry with dropout, for NUM_KEYS keys at once: one program for this file."""

    def one(key):
        return MODEL.apply(params, inputs, carry, key=key, dropout=rates)

    return jax.vmap(one)(jax.random.split(jax.random.key(seed), NUM_KEYS))


# Against numbers in float64, computed here in float32: values of order 1 through six steps, two
# layers and sums of up to 13 terms, each rounded to 6e-8 of its size.
FLOAT32 = {"rtol": 1e-5, "atol": 2e-6}


def test_logits_and_carry_are_those_of_torch(reference):
    params, inputs, _, carry = example(reference)
    logits, new_carry = apply(params, inputs, carry)
    np.testing.assert_allclose(logits, reference["logits"], **FLOAT32)
    np.testing.assert_allclose(np.array(new_carry), reference["new_carry"], **FLOAT32)


def test_the_loss_and_its_gradients_are_those_of_torch(reference):
    params, inputs, targets, carry = example(reference)

    def loss_fn(params):
        logits, _ = MODEL.apply(params, inputs, carry)
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, targets))

    loss, grads = jax.jit(jax.value_and_grad(loss_fn))(params)
    np.testing.assert_allclose(loss, reference["loss"], rtol=1e-6)
    np.testing.assert_allclose(pack(grads), reference["grads"], **FLOAT32)


@pytest.mark.parametrize("num_layers", [1, 3])
def test_the_parameters_are_the_documented_tree(num_layers):
    vocab, embed, hidden = 11, 3, 5
    config = ModelConfig("lstm", vocab, embed, hidden, num_layers)
    params = jax.eval_shape(make_language_model(config).init, KEY)
    expected = {"embedding": {"table": (vocab, embed)}}
    for layer in range(num_layers):
        width = embed if layer == 0 else hidden
        expected[f"layers_{layer}"] = {
            "W": (width, 4 * hidden),
            "U": (hidden, 4 * hidden),
            "b": (4 * hidden,),
        }
    expected["decoder"] = {"W": (hidden, vocab), "b": (vocab,)}
    assert jax.tree.map(lambda leaf: leaf.shape, params) == expected
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    assert type(params) is dict
    assert {type(leaves) for leaves in params.values()} == {dict}
    assert layer_names(config) == tuple(name for name in expected if name.startswith("layers"))


TIED_RHN = ModelConfig("rhn", 11, 5, 4, 2, depth=2, coupled=False, tied=True, layer_sizes=(3, 5))


def test_layers_may_differ_in_width_and_a_tied_table_stands_once():
    model = make_language_model(TIED_RHN)
    shapes = jax.tree.map(lambda leaf: leaf.shape, jax.eval_shape(model.init, KEY))
    assert shapes == {
        "embedding": {"table": (11, 5)},
        "layers_0": {"W": (5, 9), "R_0": (3, 9), "R_1": (3, 9), "b": (9,), "b_1": (9,)},
        "layers_1": {"W": (3, 15), "R_0": (5, 15), "R_1": (5, 15), "b": (15,), "b_1": (15,)},
        "decoder": {"b": (11,)},
    }
    assert jax.tree.map(jnp.shape, model.init_carry(7)) == ((7, 3), (7, 5))
    carry = make_language_model(ModelConfig("lstm", 11, 5, 4, 2, layer_sizes=(3, 2))).init_carry(7)
    assert jax.tree.map(jnp.shape, carry) == (((7, 3), (7, 3)), ((7, 2), (7, 2)))


def test_a_tied_decoder_multiplies_by_the_table_of_the_embedding():
    tied, untied = map(make_language_model, (TIED_RHN, dataclasses.replace(TIED_RHN, tied=False)))
    params = drawn(tied)
    tokens = np.arange(6, dtype=np.int32).reshape(3, 2)
    logits, carry = jax.jit(tied.apply)(params, tokens, tied.init_carry(2))
    params["decoder"]["W"] = params["embedding"]["table"].T
    expected, _ = jax.jit(untied.apply)(params, tokens, untied.init_carry(2))
    np.testing.assert_allclose(logits, expected, atol=1e-6)
    assert [leaf.shape for leaf in carry] == [(2, 3), (2, 5)]


def test_gradients_reach_every_parameter_of_every_layer():
    model = make_language_model(TIED_RHN)
    tokens = np.arange(9, dtype=np.int32).reshape(3, 3)

    def loss_fn(params):
        logits, _ = model.apply(params, tokens, model.init_carry(3))
        return jnp.mean(logits**2)

    grads = jax.jit(jax.grad(loss_fn))(drawn(model))
    for leaf in jax.tree.leaves(grads):
        assert np.isfinite(leaf).all()
        assert np.count_nonzero(leaf) > 0.8 * np.size(leaf)  # two words of the table are not read


wide_init = jax.jit(make_language_model(ModelConfig("lstm", 200, 50, 40, 1)).init)


def test_the_initial_embedding_and_decoder_are_those_of_the_word_language_model_scripts():
    params = wide_init(KEY)
    for matrix in (params["embedding"]["table"], params["decoder"]["W"]):  # U(-0.1, 0.1)
        assert np.max(np.abs(matrix)) <= 0.1
        np.testing.assert_allclose(np.std(matrix), 0.1 / np.sqrt(3), rtol=0.05)
    np.testing.assert_array_equal(params["decoder"]["b"], np.zeros(200, np.float32))


def test_weights_come_from_the_key_alone_and_differ_from_leaf_to_leaf():
    first, again, other = (wide_init(jax.random.key(seed)) for seed in (3, 3, 4))
    assert equal(first, again)
    drawn = [leaf for tree in (first, other) for leaf in jax.tree.leaves(tree) if np.any(leaf)]
    for scale in (10 / 2, np.sqrt(40) / 2):  # to U(-1/2, 1/2), where equal bits are equal numbers
        firsts = [float(np.ravel(leaf)[0] * scale) for leaf in drawn]
        assert len(set(firsts)) == len(drawn) == 10


def test_the_first_carry_is_zero_for_every_layer_and_column():
    carry = MODEL.init_carry(3)
    assert jax.tree.map(jnp.shape, carry) == (((3, 4), (3, 4)), ((3, 4), (3, 4)))
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(carry))


def test_a_prediction_sees_its_own_column_up_to_its_own_token(reference):
    params, inputs, _, carry = example(reference)
    logits, _ = apply(params, inputs, carry)
    changed = inputs.copy()
    changed[3, 1] = (changed[3, 1] + 1) % 13
    others, _ = apply(params, changed, carry)
    differs = np.any(np.not_equal(logits, others), axis=-1)  # [T, B]
    expected = np.zeros((6, 3), bool)
    expected[3:, 1] = True
    np.testing.assert_array_equal(differs, expected)


def test_the_carry_joins_two_windows(reference):
    params, inputs, _, carry = example(reference)
    whole, _ = apply(params, inputs, carry)
    first, carry = apply(params, inputs[:3], carry)
    second, _ = apply(params, inputs[3:], carry)
    np.testing.assert_allclose(np.concatenate([first, second]), whole, **FLOAT32)


def test_dropout_at_rate_zero_is_no_dropout(reference):
    params, inputs, _, carry = example(reference)
    logits, new_carry = drop(params, inputs, carry, 0, hyper())
    expected, expected_carry = apply(params, inputs, carry)
    np.testing.assert_allclose(logits[0], expected, **FLOAT32)
    np.testing.assert_allclose(np.array(new_carry)[:, :, 0], np.array(expected_carry), **FLOAT32)
    assert np.all(np.array(logits) == logits[:1])  # whatever the key


def test_there_is_no_dropout_without_a_key(reference):
    params, inputs, _, carry = example(reference)
    rates = hyper(**dict.fromkeys(RATES, 0.5))
    without, _ = apply(params, inputs, carry)
    np.testing.assert_array_equal(apply(params, inputs, carry, dropout=rates)[0], without)
    np.testing.assert_array_equal(apply(params, inputs, carry, key=KEY)[0], without)


@pytest.mark.parametrize("rate", RATES)
def test_dropout_comes_from_its_key_alone(reference, rate):
    params, inputs, _, carry = example(reference)

    def logits(seed):
        return drop(params, inputs, carry, seed, hyper(**{rate: 0.5}))[0]

    first = logits(1)
    np.testing.assert_array_equal(first, logits(1))
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first[0], logits(2)[0])


@pytest.mark.parametrize("rate", RATES)
def test_dropout_keeps_the_mean_of_what_it_drops(reference, rate):
    # What a dropout acts on enters the logits in a straight line if it is small. Then its share
    # in the logits is on average what it is without dropout; without the factor 1 / (1 - rate)
    # it would be 0.4.
    params, inputs, _, carry = example(reference)
    leaves, name = {
        "dropout_embed": (params["embedding"], "table"),
        "dropout_input": (params["embedding"], "table"),
        "dropout_hidden": (params["layers_1"], "W"),
        "dropout_output": (params["decoder"], "W"),
    }[rate]
    leaves[name] *= np.float32(0.02)
    samples = np.float64(drop(params, inputs, carry, 0, hyper(**{rate: 0.6}))[0])
    expected = np.float64(apply(params, inputs, carry)[0])
    leaves[name] *= 0
    nothing = np.float64(apply(params, inputs, carry)[0])
    effect = (expected - nothing).ravel()
    shares = (samples - nothing).reshape(NUM_KEYS, -1) @ effect / (effect @ effect)
    std_error = shares.std() / np.sqrt(NUM_KEYS)
    assert std_error < 0.05
    assert abs(shares.mean() - 1) < 4 * std_error


def test_dropout_of_the_embedding_drops_whole_words_wherever_they_stand(reference):
    params, _, _, carry = example(reference)
    inputs = np.add.outer(np.arange(6), np.arange(3)).astype(np.int32) % 3  # [t, b] = t + b mod 3
    table = params["embedding"]["table"]

    def logits_with(scale):
        scaled = {**params, "embedding": {"table": table * np.float32(scale)}}
        return np.asarray(apply(scaled, inputs, carry)[0])

    nothing = logits_with(0)
    samples = np.asarray(drop(params, inputs, carry, 0, hyper(dropout_embed=0.5))[0])
    patterns = set()
    for logits in samples[:12]:
        # Words 0, 1 and 2 come first in columns 0, 1 and 2: which of them are gone shows there.
        kept = ~np.isclose(logits[0], nothing[0], atol=1e-5).all(axis=-1)
        patterns.add(tuple(kept))
        scale = np.zeros((13, 1))
        scale[:3, 0] = kept / 0.5
        np.testing.assert_allclose(logits, logits_with(scale), **FLOAT32)
    assert len(patterns) > 3


def test_dropout_never_touches_the_recurrent_path(reference):
    # Of the last layer only the output that goes up is dropped: its carry stays as it was.
    params, inputs, _, carry = example(reference)
    _, expected = drop(params, inputs, carry, 0, hyper())
    _, new_carry = drop(params, inputs, carry, 0, hyper(dropout_output=0.9))
    assert equal(new_carry, expected)
    # Dropout between the layers leaves the carry of the one below.
    _, new_carry = drop(params, inputs, carry, 0, hyper(dropout_hidden=0.9))
    assert equal(new_carry[0], expected[0])
    assert not equal(new_carry[1], expected[1])


def test_one_program_serves_all_rates(reference):
    params, inputs, _, carry = example(reference)
    for rate in (0.0, 0.2, 0.65):
        drop(params, inputs, carry, 0, hyper(**dict.fromkeys(RATES, rate)))
    assert drop._cache_size() == 1
