import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lsh_jax.losses import weighted_nll
from lsh_jax.mixed_precision import make_dot

T, B, V = 4, 3, 11


def by_optax(logits, targets, weights):
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
    return jnp.sum(losses * weights)


ours, theirs = (jax.jit(jax.value_and_grad(loss)) for loss in (weighted_nll, by_optax))


def example(scale=1.0, dtype=np.float32):
    rng = np.random.default_rng(0)
    logits = (scale * rng.normal(size=(T, B, V))).astype(dtype)
    targets = rng.integers(V, size=(T, B)).astype(np.int32)
    weights = rng.uniform(size=(T, B)).astype(dtype)
    weights[1, 2] = weights[3] = 0
    return logits, targets, weights


@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0])
def test_loss_and_gradient_are_those_of_optax(scale):
    with jax.enable_x64(True):
        arguments = example(scale, np.float64)
        (loss, grad), (expected, expected_grad) = ours(*arguments), theirs(*arguments)
    np.testing.assert_allclose(loss, expected, rtol=1e-13)
    np.testing.assert_allclose(grad, expected_grad, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(
        np.sum(np.asarray(grad), axis=-1), 0, atol=1e-13
    )  # the shares sum to 1


def test_without_a_gradient_the_loss_is_the_same():
    arguments = example()
    np.testing.assert_allclose(jax.jit(weighted_nll)(*arguments), ours(*arguments)[0], rtol=1e-6)


def test_a_word_of_weight_zero_adds_nothing_and_gets_no_gradient():
    logits, targets, weights = example()
    loss, grad = ours(logits, targets, weights)
    np.testing.assert_array_equal(grad[weights == 0], 0)
    assert np.all(np.any(np.asarray(grad)[weights > 0] != 0, axis=-1))
    logits[weights == 0] *= -3
    targets[weights == 0] = 0
    np.testing.assert_array_equal(ours(logits, targets, weights)[0], loss)
    assert float(ours(logits, targets, np.zeros_like(weights))[0]) == 0


@pytest.mark.parametrize("sign", [1, -1])
def test_huge_logits_have_the_loss_that_they_should_and_no_nan(sign):
    # Of one word at +-1e4 among ten zeros: -log softmax is 0 or 1e4, log 10 or 1e4 + log 10.
    logits = np.zeros((1, 2, V), np.float32)
    logits[..., 4] = sign * 1e4
    targets = np.array([[4, 5]], np.int32)
    expected = {1: [0.0, 1e4], -1: [1e4 + np.log(10), np.log(10)]}[sign]
    for column in range(2):
        weights = np.zeros((1, 2), np.float32)
        weights[0, column] = 1
        loss, grad = ours(logits, targets, weights)
        np.testing.assert_allclose(loss, expected[column], rtol=1e-6, atol=1e-6)
        right = np.zeros(V) if sign == 1 else np.full(V, 0.1)
        right[4] = sign == 1
        right[targets[0, column]] -= 1
        np.testing.assert_allclose(grad[0, column], right, atol=1e-6)


def test_a_word_that_is_ruled_out_has_no_share():
    logits, targets, weights = example()
    logits[..., 7], targets[targets == 7] = -np.inf, 0
    loss, grad = ours(logits, targets, weights)
    assert np.isfinite(loss)
    assert np.isfinite(grad).all()
    np.testing.assert_array_equal(grad[..., 7], 0)


def test_the_cotangent_scales_the_gradient_and_none_flows_to_the_weights():
    logits, targets, weights = example()

    def scaled(logits, weights):
        return -3 * weighted_nll(logits, targets, weights)

    of_logits, of_weights = jax.jit(jax.grad(scaled, (0, 1)))(logits, weights)
    np.testing.assert_allclose(of_logits, -3 * ours(logits, targets, weights)[1], rtol=1e-6)
    np.testing.assert_array_equal(of_weights, 0)


def test_candidates_side_by_side_have_the_loss_of_each_alone():
    logits, targets, weights = example()
    stacked = np.stack([logits, 2 * logits])
    losses, grads = jax.jit(jax.vmap(jax.value_and_grad(weighted_nll), (0, None, None)))(
        stacked, targets, weights
    )
    for index in range(2):
        loss, grad = ours(stacked[index], targets, weights)
        np.testing.assert_allclose(losses[index], loss, rtol=1e-6)
        np.testing.assert_allclose(grads[index], grad, rtol=1e-5, atol=1e-7)


def memory(loss):
    """Bytes of temporaries of a decoder and its loss, over those of the logits."""
    steps, batch, units, words = 10, 20, 8, 1000
    dot = make_dot("float32")

    def whole(W, b, x, targets, weights):
        return loss(dot(x, W) + b[None, None, :], targets, weights)

    shapes = (units, words), (words,), (steps, batch, units), (steps, batch), (steps, batch)
    types = (jnp.float32,) * 3 + (jnp.int32, jnp.float32)
    described = map(jax.ShapeDtypeStruct, shapes, types)
    program = jax.jit(jax.value_and_grad(whole, (0, 1, 2))).lower(*described).compile()
    return program.memory_analysis().temp_size_in_bytes / (4 * steps * batch * words)


def by_log_softmax(logits, targets, weights):
    """What keeps the softmax beside the logits."""
    log_shares = jax.nn.log_softmax(logits)
    chosen = jnp.take_along_axis(log_shares, targets[..., None], axis=-1)[..., 0]
    return -jnp.sum(chosen * weights)


def test_nothing_of_the_size_of_the_logits_is_kept_for_the_gradient():
    # XLA for a CPU holds the product and its sum with the bias; the gradient takes the place of
    # that sum. A loss that keeps more needs a third.
    assert memory(weighted_nll) < 2.1
    assert memory(weighted_nll) <= memory(by_optax) * 1.01
    assert memory(by_log_softmax) > 2.5  # the test can tell
