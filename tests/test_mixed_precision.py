import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsh_jax.config import ModelConfig, SparsityConfig, TrainConfig
from lsh_jax.data.batching import Windows
from lsh_jax.language_models import make_language_model
from lsh_jax.losses import weighted_nll
from lsh_jax.mixed_precision import make_dot
from lsh_jax.sparsity import controls, dynamic_sparsity
from lsh_jax.training import evaluate_windows, init_train_state, train_segment
from lsh_jax.types import Hyper

V, T, B = 7, 5, 4
MODELS = {
    "lstm": make_language_model(ModelConfig("lstm", V, 8, 8, 1)),
    "tied rhn": make_language_model(
        ModelConfig("rhn", V, 8, 8, 2, depth=2, coupled=False, tied=True)
    ),
}
RECIPE = TrainConfig(batch_size=B, bptt=T, segments_per_epoch=1, precision="bfloat16")
HYPER = Hyper(*np.float32([5.0, 0.5, 1e-5, 0, 0, 0, 0]))
KEY = jax.random.key(0)


def low(array):
    return np.asarray(array).astype(jnp.bfloat16).astype(np.float64)


def test_a_product_is_that_of_rounded_factors_summed_in_float32_and_so_are_its_gradients():
    rng = np.random.default_rng(0)
    a, b, d = (rng.normal(size=s).astype(np.float32) for s in ((3, 2, 40), (40, 5), (3, 2, 5)))
    product, pull = jax.vjp(make_dot("bfloat16"), a, b)
    of_a, of_b = pull(jnp.asarray(d))
    assert product.dtype == of_a.dtype == of_b.dtype == np.float32
    # Sums of 40 exact products of order 1 in float32; rounding them to bfloat16 would err by 1e-2.
    np.testing.assert_allclose(product, low(a) @ low(b), atol=1e-5)
    np.testing.assert_allclose(of_a, low(d) @ low(b).T, atol=1e-5)
    np.testing.assert_allclose(of_b, np.einsum("tbn,tbm->nm", low(a), low(d)), atol=1e-5)
    assert np.max(np.abs(product - a @ b)) > 1e-3  # the test can tell
    np.testing.assert_allclose(make_dot("float32")(a, b), a @ b, atol=1e-5)


def loss(model, precision, params, tokens):
    logits, carry = model.apply(params, tokens[:-1], model.init_carry(B), precision=precision)
    assert {leaf.dtype for leaf in jax.tree.leaves((logits, carry))} == {jnp.dtype("float32")}
    return weighted_nll(logits, tokens[1:], jnp.ones((T, B))) / (T * B)


def example(name):
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(MODELS[name].init, KEY)
    params = jax.tree.map(lambda leaf: np.float32(0.5 * rng.normal(size=leaf.shape)), shapes)
    return params, rng.integers(V, size=(T + 1, B)).astype(np.int32)


def lowered(name, precision):
    program = jax.jit(jax.grad(functools.partial(loss, MODELS[name], precision)))
    return program.lower(*example(name)).as_text()


def products(text):
    """The types of the factors and of the result of every product."""
    found = [line for line in text.splitlines() if "dot_general" in line]
    types = [re.findall(r"tensor<(?:\d+x)*(\w+)>", line.rpartition(" : ")[2]) for line in found]
    return [tuple(of_one) for of_one in types]


@pytest.mark.parametrize(("name", "num_products"), [("lstm", 9), ("tied rhn", 21)])
def test_every_product_forward_and_backward_takes_bfloat16_and_gives_float32(name, num_products):
    # Each matrix enters three: forward, and by either factor. An RHN has W, R_0 and R_1.
    found = products(text := lowered(name, "bfloat16"))
    assert found == [("bf16", "bf16", "f32")] * num_products
    assert "f64" not in text
    plain = lowered(name, "float32")
    assert products(plain) == [("f32", "f32", "f32")] * num_products
    assert "bf16" not in plain


@pytest.mark.parametrize("name", ["lstm", pytest.param("tied rhn", marks=pytest.mark.slow)])
def test_gradients_are_those_of_float32_but_for_the_rounding(name):
    found, expected = (
        jax.jit(jax.grad(functools.partial(loss, MODELS[name], precision)))(*example(name))
        for precision in ("bfloat16", "float32")
    )
    for own, exact in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert own.dtype == np.float32
        error = np.linalg.norm(np.asarray(own) - np.asarray(exact)) / np.linalg.norm(exact)
        assert 1e-6 < error < 0.03  # a number of bfloat16 is right to 2^-9 = 0.2 %


TOKENS = np.tile(np.arange(5, dtype=np.int32), 13)[: 16 * B].reshape(B, 16).T  # of period 5
DATA = Windows(
    TOKENS[:-1].reshape(3, T, B), TOKENS[1:].reshape(3, T, B), np.ones((3, T, B), np.float32)
)
train = jax.jit(functools.partial(train_segment, MODELS["lstm"], RECIPE))


def init():
    own = controls(SparsityConfig(sparsity=0.3))
    return init_train_state(MODELS["lstm"], dynamic_sparsity(), RECIPE, KEY, KEY, own)


def test_a_recipe_in_bfloat16_has_such_products_alone_and_carries_on_float32():
    state = jax.eval_shape(init)
    program = train.lower(state, HYPER, DATA, KEY)
    assert set(products(program.as_text())) == {("bf16", "bf16", "f32")}
    assert "f64" not in program.as_text()
    types = [leaf.dtype for leaf in jax.tree.leaves(state)]
    assert [leaf.dtype for leaf in jax.tree.leaves(program.out_info[0])] == types
    assert jnp.bfloat16 not in types


@pytest.mark.slow
def test_training_in_bfloat16_learns():
    state, nlls = jax.jit(init)(), []
    for _ in range(40):
        state, nll, num_tokens = train(state, HYPER, DATA, KEY)
        nlls.append(float(nll) / float(num_tokens))
    assert nlls[0] > 1  # log 7 = 1.95 at the very start
    assert nlls[-1] < 0.1
    assert train._cache_size() == 1


def test_evaluation_is_float32():
    params, tokens = example("lstm")
    data = Windows(tokens[None, :-1], tokens[None, 1:], np.ones((1, T, B), np.float32))
    evaluate = jax.jit(functools.partial(evaluate_windows, MODELS["lstm"]))
    text = evaluate.lower(params, data).as_text()
    assert set(products(text)) == {("f32", "f32", "f32")}
    assert "bf16" not in text
