import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lsh_jax.config import ModelConfig
from lsh_jax.language_models import make_language_model
from lsh_jax.optimizers import clipped_sgd
from lsh_jax.sparsity import apply_masks


@jax.jit
def _move(params, grads, learning_rate, clip, weight_decay):
    optimizer = clipped_sgd(learning_rate, clip=clip, weight_decay=weight_decay)
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    return optax.apply_updates(params, updates)


def move(params, grads, learning_rate, clip, weight_decay=0.0):
    """The parameters after one step."""
    params = {name: np.float32(value) for name, value in params.items()}
    grads = {name: np.float32(value) for name, value in grads.items()}
    return _move(params, grads, *np.float32([learning_rate, clip, weight_decay]))


def test_the_trajectory_is_that_of_torch_with_clipping_on_in_some_steps_and_off_in_others():
    # In the reference one bias of each layer is trained, as here: torch's default trains two.
    reference = np.load(pathlib.Path(__file__).parent / "references" / "torch_lstm.npz")
    clipped = reference["norms"] > 0.25
    assert clipped.any() and not clipped.all()
    model = make_language_model(ModelConfig("lstm", 13, 5, 4, 2))
    leaves, treedef = jax.tree.flatten(jax.eval_shape(model.init, jax.random.key(0)))
    pieces = np.split(np.float32(reference["params"]), np.cumsum([leaf.size for leaf in leaves]))
    shaped = [piece.reshape(leaf.shape) for piece, leaf in zip(pieces, leaves, strict=False)]
    params = jax.tree.unflatten(treedef, shaped)
    inputs, targets = reference["tokens"][:-1], reference["tokens"][1:]
    carry = tuple((h, c) for h, c in np.float32(reference["carry"]))
    optimizer = clipped_sgd(1.0, clip=0.25, weight_decay=1e-2)

    @jax.jit
    def step(params, state):
        def loss_fn(params):
            logits, _ = model.apply(params, inputs, carry)
            return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()

        grads = jax.grad(loss_fn)(params)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state, optax.tree.norm(grads)

    state = optimizer.init(params)
    for expected, norm in zip(reference["trajectory"], reference["norms"], strict=True):
        params, state, own_norm = step(params, state)
        vector = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(params)])
        np.testing.assert_allclose(own_norm, norm, rtol=1e-5)
        # Float32, and torch divides by norm + 1e-6, 4e-6 of a step whose norm is 0.25.
        np.testing.assert_allclose(vector, expected, rtol=1e-5, atol=4e-6)


def test_weight_decay_is_added_after_clipping_and_before_the_learning_rate():
    # The gradient 3 is clipped to 1.5, the decay adds 0.1 * 2: 2 - 0.5 * 1.7 = 1.15.
    moved = move({"w": [2.0]}, {"w": [3.0]}, 0.5, clip=1.5, weight_decay=0.1)
    np.testing.assert_allclose(moved["w"], [1.15], rtol=1e-6)


def test_the_norm_is_that_of_all_leaves_together():
    # norm (3, 4) = 5, so that both are divided by 5.
    moved = move({"a": [0.0], "b": [[0.0]]}, {"a": [3.0], "b": [[4.0]]}, 1.0, clip=1.0)
    np.testing.assert_allclose(moved["a"], [-0.6], rtol=1e-6)
    np.testing.assert_allclose(moved["b"], [[-0.8]], rtol=1e-6)


def test_the_gradient_of_dead_weights_counts_in_the_norm():
    # By the dense norm, 5, the live weight moves by 3/5; by the masked one, 3, it would move by 1.
    moved = move({"w": [0.0, 0.0]}, {"w": [3.0, 4.0]}, 1.0, clip=1.0)
    live = apply_masks(moved, {"w": jnp.array([True, False])})
    np.testing.assert_allclose(live["w"], [-0.6, 0.0], rtol=1e-6)


@pytest.mark.parametrize("clip", [5.5, math.inf])
def test_a_short_gradient_is_left_as_it_is(clip):
    moved = move({"w": [1.0, 2.0]}, {"w": [3.0, -4.0]}, 0.5, clip=clip)
    np.testing.assert_array_equal(moved["w"], [-0.5, 4.0])


def test_infinite_clip_leaves_a_long_gradient_too():
    moved = move({"w": [0.0]}, {"w": [1e15]}, 1.0, clip=math.inf)
    np.testing.assert_array_equal(moved["w"], np.float32([-1e15]))


@pytest.mark.parametrize("clip", [0.25, math.inf])
def test_no_gradient_is_no_step(clip):
    moved = move({"w": [1.0, -2.0]}, {"w": [0.0, 0.0]}, 20.0, clip=clip)
    np.testing.assert_array_equal(moved["w"], [1.0, -2.0])


def test_settings_may_be_traced_and_one_program_serves_all():
    step = jax.jit(lambda *arguments: _move(*arguments))  # with a cache of its own
    params, grads = {"w": np.float32([2.0])}, {"w": np.float32([3.0])}
    cases = {
        (0.5, 1.5, 0.1): 1.15,  # as above
        (0.5, math.inf, 0.0): 0.5,  # 2 - 0.5 * 3
        (1.0, 1.0, 1.0): -1.0,  # 2 - (1 + 2)
        (0.0, 1.0, 1.0): 2.0,
    }
    for settings, expected in cases.items():
        moved = step(params, grads, *np.float32(settings))
        np.testing.assert_allclose(moved["w"], [expected], rtol=1e-6)
    assert step._cache_size() == 1


def test_untraced_settings_do_as_well():
    params, grads = {"w": jnp.array([2.0])}, {"w": jnp.array([3.0])}
    optimizer = clipped_sgd(0.5, clip=1.5, weight_decay=0.1)
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    np.testing.assert_allclose(updates["w"], [-0.85], rtol=1e-6)
