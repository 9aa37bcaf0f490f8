import dataclasses
import functools
import itertools
import math
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lsh_jax.averaging import snt_asgd, start_averaging
from lsh_jax.config import ConfigError, ModelConfig, TrainConfig
from lsh_jax.data.batching import Windows, columns, windows
from lsh_jax.language_models import make_language_model
from lsh_jax.optimizers import clipped_sgd, masked_sgd, momentum_of, reset_slots
from lsh_jax.sparsity import SparsityInfo, SparsityUpdater, apply_masks
from lsh_jax.training import init_train_state, train_segment, update_topology
from lsh_jax.types import Hyper

REFERENCES = pathlib.Path(__file__).parent / "references"


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
    reference = np.load(REFERENCES / "torch_lstm.npz")
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


# --- masked weights and momentum


@functools.partial(jax.jit, static_argnames="momentum")
def masked_step(params, state, grads, masks, settings, momentum=0.0):
    learning_rate, clip, weight_decay = settings
    optimizer = masked_sgd(learning_rate, clip=clip, weight_decay=weight_decay, momentum=momentum)
    updates, state = optimizer.update(grads, state, params, masks=masks)
    return optax.apply_updates(params, updates), state


def masked_start(params, momentum=0.0):
    return masked_sgd(1.0, clip=1.0, momentum=momentum).init(params)


def test_momentum_is_that_of_torch():
    reference = np.load(REFERENCES / "torch_asgd.npz")
    params = {"w": np.float32(reference["params"])}
    state, masks = masked_start(params, 0.9), {"w": np.ones(11, bool)}
    settings = np.float32([0.3, 2.5, 0.05])
    for grads, expected in zip(reference["grads"], reference["momentum"], strict=True):
        params, state = masked_step(
            params, state, {"w": np.float32(grads)}, masks, settings, momentum=0.9
        )
        # Float32 over forty steps, numbers of size 10; torch divides by norm + 1e-6.
        np.testing.assert_allclose(params["w"], expected, rtol=1e-5, atol=4e-5)


def test_a_masked_step_clips_by_the_norm_of_the_dense_gradient():
    # Norm 5 shrinks the gradient 3 to 0.6, the decay adds 0.1 * 2: 2 - 0.5 * 0.8 = 1.6.
    params, grads = {"w": np.float32([2.0, 0.0])}, {"w": np.float32([3.0, 4.0])}
    masks, settings = {"w": np.array([True, False])}, np.float32([0.5, 1.0, 0.1])
    moved, _ = masked_step(params, masked_start(params), grads, masks, settings)
    np.testing.assert_allclose(moved["w"], [1.6, 0.0], rtol=1e-6)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("clip", [1.0, math.inf])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_dead_weights_stay_exactly_zero_whatever_their_gradient(value, clip, momentum):
    params, masks = {"w": np.float32([2.0, 0.0])}, {"w": np.array([True, False])}
    state, settings = masked_start(params, momentum), np.float32([0.5, clip, 0.1])
    for slope in (value, 3.0):  # momentum keeps what is not finite
        grads = {"w": np.float32([1.0, slope])}
        params, state = masked_step(params, state, grads, masks, settings, momentum=momentum)
        assert float(params["w"][1]) == 0.0


def test_momentum_is_dense_and_none_holds_no_array():
    params, masks = {"w": np.float32([2.0, 0.0])}, {"w": np.array([True, False])}
    grads, settings = {"w": np.float32([1.0, -3.0])}, np.float32([0.5, np.inf, 0.0])
    state = masked_start(params)
    assert jax.tree.leaves(state) == []
    assert momentum_of(state) is None
    state = masked_start(params, 0.5)
    for _ in range(2):
        params, state = masked_step(params, state, grads, masks, settings, momentum=0.5)
    np.testing.assert_array_equal(momentum_of(state)["w"], [1.5, -4.5])
    np.testing.assert_array_equal(params["w"], [2.0 - 0.5 * (1.0 + 1.5), 0.0])


PAIR = {"trace": np.float32([1.0, 0.0]), "b": {"mu": np.float32([2.0])}}
ADAM_AND_SGD = {"adam": optax.adam(0.1), "sgd": optax.sgd(0.1, momentum=0.9)}


def after_two_steps(optimizer, params=PAIR):
    state = optimizer.init(params)
    for scale in (1.0, 2.0):
        grads = jax.tree.map(lambda leaf, scale=scale: jnp.full_like(leaf, scale), params)
        with jax.numpy_dtype_promotion("standard"):  # optax promotes
            _, state = optimizer.update(grads, state, params)
    return state


# Gradients 1 and 2: the sum is 0.9 + 2. Of Adam m = 0.9 * 0.1 + 0.1 * 2 and
# v = 0.999 * 0.001 + 0.001 * 4, so that m / sqrt(v) is 0.29 / sqrt(0.004999).
SUM, RATIO = 2.9, 0.29 / math.sqrt(0.004999)
MOMENTA = {
    "sgd": (optax.sgd(0.1, momentum=0.9), SUM, SUM),
    "chain": (optax.chain(optax.clip(5.0), optax.sgd(0.1, momentum=0.9)), SUM, SUM),
    "adam": (optax.adam(0.1), RATIO, RATIO),
    "adamw": (optax.adamw(0.1), RATIO, RATIO),
    "amsgrad": (optax.amsgrad(0.1), RATIO, RATIO),
    "injected": (optax.inject_hyperparams(optax.adam)(learning_rate=0.1), RATIO, RATIO),
    "masked": (optax.masked(optax.adam(0.1), {"trace": True, "b": True}), RATIO, RATIO),
    "two": (optax.multi_transform(ADAM_AND_SGD, {"trace": "adam", "b": "sgd"}), RATIO, SUM),
    "turned": (optax.multi_transform(ADAM_AND_SGD, {"trace": "sgd", "b": "adam"}), SUM, RATIO),
}


@pytest.mark.parametrize("name", MOMENTA)
def test_momentum_is_found_wherever_it_stands(name):
    optimizer, first, second = MOMENTA[name]
    momentum = momentum_of(after_two_steps(optimizer))
    assert jax.tree.structure(momentum) == jax.tree.structure(PAIR)
    np.testing.assert_allclose(momentum["trace"], [first] * 2, rtol=1e-5)  # float32
    np.testing.assert_allclose(momentum["b"]["mu"], [second], rtol=1e-5)


@pytest.mark.parametrize(
    "optimizer",
    [
        optax.sgd(0.1),
        optax.rmsprop(0.1),
        snt_asgd(0.1, clip=1.0),
        optax.masked(optax.adam(0.1), {"trace": True, "b": False}),
        optax.multi_transform(
            {"adam": optax.adam(0.1), "sgd": optax.sgd(0.1)}, {"trace": "adam", "b": "sgd"}
        ),
    ],
)
def test_there_is_no_momentum_unless_every_leaf_has_one(optimizer):
    assert momentum_of(optimizer.init(PAIR)) is None


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_the_ratio_of_moments_is_finite_in_half_precision(dtype):
    # Nothing has been gathered: 0 / (0 + 1e-8), and 1e-8 is 0 in float16.
    momentum = momentum_of(optax.adam(0.1).init({"w": jnp.zeros(2, dtype)}))
    np.testing.assert_array_equal(momentum["w"], np.float32([0.0, 0.0]))


@pytest.mark.parametrize("second", [optax.trace(0.9), optax.scale_by_adam()])
def test_two_momenta_of_a_leaf_are_refused_in_a_line(second):
    state = optax.chain(optax.adam(0.1), second).init(PAIR)
    with pytest.raises(ConfigError, match="`opt_state` must keep one momentum of each leaf") as e:
        momentum_of(state)
    assert "\n" not in str(e.value)


def test_momentum_is_that_of_each_candidate_under_vmap():
    states = [after_two_steps(optax.adam(0.1)), optax.adam(0.1).init(PAIR)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    momentum = jax.jit(jax.vmap(momentum_of))(stacked)
    np.testing.assert_allclose(momentum["b"]["mu"], [[RATIO], [0.0]], rtol=1e-5)


@pytest.mark.parametrize("momentum", [-0.1, 1.0, math.nan])
def test_momentum_outside_its_range_is_refused(momentum):
    with pytest.raises(ConfigError, match="`momentum` must lie in"):
        masked_sgd(0.1, clip=1.0, momentum=momentum)


@pytest.mark.parametrize("make", [clipped_sgd, masked_sgd, snt_asgd])
@pytest.mark.parametrize("clip", [0.0, -1.0, math.nan, np.float32(0.0), -np.ones(())])
def test_clipping_to_nothing_is_refused(make, clip):
    with pytest.raises(ConfigError, match="`clip` must be above 0"):
        make(0.1, clip=clip)
    with pytest.raises(ConfigError, match="`clip` must be above 0"):
        clip = jnp.asarray(clip)  # known while others are traced
        jax.jit(lambda: make(0.1, clip=clip).init({}))()


def test_one_program_serves_the_settings_of_masked_sgd():
    compiled = jax.jit(lambda *arguments: masked_step(*arguments))  # with a cache of its own
    params = {"w": np.float32([2.0, 0.0])}
    for index, alive in enumerate(([True, False], [True, True], [False, False])):
        settings = np.float32([0.1 * index, 1.0 + index, 0.01 * index])
        compiled(params, masked_start(params), params, {"w": np.array(alive)}, settings)
    assert compiled._cache_size() == 1


# --- slots at weights that have grown

SHAPES = {"frozen": None, "W": (2, 3), "b": (3,)}
GROWN = {
    "frozen": None,
    "W": np.array([[True, False, False], [False, True, True]]),
    "b": np.zeros(3, bool),
}
LABELS = {"frozen": None, "W": "adam", "b": "sgd"}
OPTIMIZERS = {  # and how many slots a matrix has
    "momentum": (lambda: optax.sgd(0.1, momentum=0.9), 1),
    "masked_sgd": (lambda: masked_sgd(0.1, clip=1.0, momentum=0.9), 1),
    "adam": (lambda: optax.adam(0.1), 2),
    "half precision": (lambda: optax.adam(0.1, mu_dtype=jnp.bfloat16), 2),
    "chain": (lambda: optax.chain(optax.clip_by_global_norm(1.0), optax.amsgrad(0.1)), 3),
    "injected": (lambda: optax.inject_hyperparams(optax.adam)(learning_rate=0.1), 2),
    "masked": (lambda: optax.masked(optax.adam(0.1), {"frozen": None, "W": True, "b": False}), 2),
    "two": (
        lambda: optax.multi_transform(
            {"adam": optax.adam(0.1), "sgd": optax.sgd(0.1, momentum=0.9)}, LABELS
        ),
        2,
    ),
    "accumulated": (lambda: optax.MultiSteps(optax.adam(0.1), every_k_schedule=2), 3),
    "adafactor": (lambda: optax.adafactor(0.1, min_dim_size_to_factor=4), 1),
    "factored": (lambda: optax.adafactor(0.1, min_dim_size_to_factor=2), 0),
    "stateless": (lambda: clipped_sgd(0.1, clip=1.0), 0),
    "snt_asgd": (lambda: snt_asgd(0.1, clip=1.0), 0),
}


def like_params(value):
    return {k: None if n is None else np.full(n, value, np.float32) for k, n in SHAPES.items()}


def filled(tree, first=1):
    """The same tree with all numbers different from zero, and from each other."""
    leaves, treedef = jax.tree.flatten(tree)
    ends = np.cumsum([first, *(np.size(leaf) for leaf in leaves)])
    numbers = [np.arange(size, end) for size, end in itertools.pairwise(ends)]
    shaped = [
        jnp.asarray(number.reshape(np.shape(leaf)), leaf.dtype)
        for number, leaf in zip(numbers, leaves, strict=True)
    ]
    return jax.tree.unflatten(treedef, shaped)


def check_reset(before, after, num_slots, starts=None):
    """What slots start with at the grown weights of as many, everything else as it was."""
    assert jax.tree.structure(after) == jax.tree.structure(before)
    starts = iter(starts or [0] * num_slots)
    num_reset = 0
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        assert (old.dtype, old.shape) == (new.dtype, new.shape)
        old, new = np.float32(old), np.float32(new)
        expected = old
        if old.shape == SHAPES["W"]:
            num_reset += 1
            expected = np.where(GROWN["W"], np.float32(next(starts)), old)
        np.testing.assert_array_equal(new, expected)
    assert num_reset == num_slots


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_slots_of_grown_weights_are_zeroed_and_nothing_else(name):
    make, num_slots = OPTIMIZERS[name]
    before = filled(make().init(like_params(1.0)))
    after = jax.jit(lambda state: reset_slots(make(), state, GROWN))(before)
    check_reset(before, after, num_slots)


STARTS = {  # and what the slots of a matrix start with
    "rprop": (lambda: optax.rprop(0.25), (0.25, 0)),
    "adagrad": (lambda: optax.adagrad(0.1, initial_accumulator_value=0.1), (0.1,)),
    "yogi": (lambda: optax.yogi(0.1), (1e-6, 1e-6)),
    "rmsprop": (lambda: optax.rmsprop(0.1, initial_scale=2.0), (2.0,)),
    "injected": (lambda: optax.inject_hyperparams(optax.rprop)(learning_rate=0.25), (0.25, 0)),
    "masked": (
        lambda: optax.masked(optax.rprop(0.25), LABELS | {"W": True, "b": False}),
        (0.25, 0),
    ),
    "two": (
        lambda: optax.multi_transform(
            {"adam": optax.adagrad(0.1), "sgd": optax.rprop(0.25)}, LABELS
        ),
        (0.1,),
    ),
}


@pytest.mark.parametrize("name", STARTS)
def test_slots_that_do_not_start_at_zero_start_anew(name):
    make, starts = STARTS[name]
    before = filled(make().init(like_params(1.0)))
    after = jax.jit(lambda state: reset_slots(make(), state, GROWN))(before)
    check_reset(before, after, len(starts), starts)


@pytest.mark.parametrize("optimizer", [optax.rprop(0.1), optax.adagrad(0.1), optax.sgd(0.1, 0.9)])
@jax.numpy_dtype_promotion("standard")  # optax promotes
def test_a_grown_weight_moves_as_in_a_new_network(optimizer):
    # Its gradient was of the other sign before, so that Rprop had shrunk the step to its least.
    params = {"w": jnp.array([1.0, 0.0])}
    state, fresh = optimizer.init(params), optimizer.init(params)
    for slope in (1.0, -1.0) * 20:
        _, state = optimizer.update({"w": jnp.array([1.0, slope])}, state, params)
    state = reset_slots(optimizer, state, {"w": jnp.array([False, True])})
    for _ in range(5):
        grads = {"w": jnp.array([1.0, 1.0])}
        moved, state = optimizer.update(grads, state, params)
        expected, fresh = optimizer.update(grads, fresh, params)
        assert moved["w"][1] == expected["w"][1]
    assert moved["w"][1] < -0.01


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_slots_of_half_precision_start_with_what_they_would(dtype):
    params = {"w": jnp.ones(2, dtype)}
    optimizer = optax.rprop(0.1)
    before = filled(optimizer.init(params))
    after = reset_slots(optimizer, before, {"w": np.array([True, False])})
    for old, new, start in zip(
        *map(jax.tree.leaves, (before, after, optimizer.init(params))), strict=True
    ):
        assert new.dtype == dtype
        assert (new[0], new[1]) == (start[0], old[1])


MATRIX = {"W": np.ones((2, 3), np.float32), "b": np.ones(3, np.float32)}
NEW = {"W": np.ones((2, 3), bool), "b": np.zeros(3, bool)}
INFO = SparsityInfo(np.float32(0), np.int32(0), np.int32(0), NEW)
MISTAKES = {  # optimizer, that of the state, grown, what is told
    "l-bfgs": (optax.lbfgs(), None, NEW, "`optimizer` must keep .* got one with ScaleByLBFGSState"),
    "sm3": (optax.sm3(0.1), None, NEW, "`optimizer` must keep .* got one with ScaleBySM3State"),
    "another": (
        optax.sgd(0.1, momentum=0.9),
        optax.adam(0.1),
        NEW,
        "`optimizer` must be the one .* makes TraceState, .* state of ScaleByAdamState",
    ),
    "wrapped": (
        optax.adam(0.1),
        optax.masked(optax.adam(0.1), {"W": True, "b": False}),
        NEW,
        r"makes ScaleByAdamState, EmptyState for a state of MaskedState\(ScaleByAdamState, EmptyS",
    ),
    "info": (optax.adam(0.1), None, INFO, "`grown` must be a bool tree .* in a SparsityInfo: give"),
    "numbers": (optax.adam(0.1), None, MATRIX, "`grown` must be a bool tree .* other types"),
    "part": (
        optax.adam(0.1),
        None,
        {"W": NEW["W"]},
        r"`grown` must be .* dict of shapes \[2, 3\]:",
    ),
    "names": (optax.adam(0.1), None, {"V": NEW["W"], "b": NEW["b"]}, "`grown` must be a bool tree"),
    "shape": (optax.adam(0.1), None, NEW | {"b": np.zeros(2, bool)}, r"`grown` must be .* \[2\]:"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_what_does_not_fit_together_is_told_in_a_line(name):
    optimizer, owner, grown, told = MISTAKES[name]
    state = (owner or optimizer).init(MATRIX)
    with pytest.raises(ConfigError, match=told) as raised:
        reset_slots(optimizer, state, grown)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("chained", [False, True])
def test_averages_and_counts_of_grown_weights_are_zeroed_once_there_are_any(chained):
    optimizer = snt_asgd(0.1, clip=1.0)
    params = like_params(1.0)
    masks = jax.tree.map(lambda leaf: np.ones(leaf.shape, bool), params)
    state = filled(start_averaging(optimizer.init(params), params, masks))
    if chained:
        optimizer = optax.chain(optax.adam(0.1), optimizer, snt_asgd(0.1, clip=1.0))
        state = (filled(optax.adam(0.1).init(params), 50), state, optimizer.init(params)[2])
    check_reset(state, reset_slots(optimizer, state, GROWN), 4 if chained else 2)


@pytest.mark.parametrize("optimizer", [optax.adam(0.1), optax.rprop(0.1)])
def test_slots_are_reset_for_each_of_many_candidates(optimizer):
    states = [filled(optimizer.init(like_params(1.0)), first) for first in (1, 100)]
    grown = [GROWN, jax.tree.map(np.logical_not, GROWN)]
    stacked = [jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees) for trees in (states, grown)]
    many = jax.jit(jax.vmap(functools.partial(reset_slots, optimizer)))(*stacked)
    for i, (state, mask) in enumerate(zip(states, grown, strict=True)):
        one = reset_slots(optimizer, state, mask)
        for a, b in zip(jax.tree.leaves(many), jax.tree.leaves(one), strict=True):
            np.testing.assert_array_equal(a[i], b)


# --- in training

MODEL = make_language_model(ModelConfig("lstm", 7, 4, 5, 1))
TOKENS = np.random.default_rng(0).integers(7, size=26).astype(np.int32)
DATA = windows(columns(TOKENS, 2), 3, 4)  # four segments of one window


class Topology(NamedTuple):
    masks: Any


class Growth(NamedTuple):
    grown: Any
    momentum: Any


def draw_masks(key, params, controls):
    """Half of all weights, biases too."""
    del controls
    return Topology(jax.tree.map(lambda leaf: jax.random.bernoulli(key, 0.5, leaf.shape), params))


def grow_all(key, state, params, controls, *, gradients, momentum):
    """Brings every dead weight to life, and shows the momentum that it was given."""
    del key, controls, gradients
    alive = jax.tree.map(jnp.ones_like, state.masks)
    return params, Topology(alive), Growth(jax.tree.map(jnp.logical_not, state.masks), momentum)


UPDATER = SparsityUpdater(draw_masks, grow_all)
LIGHT = TrainConfig(batch_size=2, segments_per_epoch=4)
HEAVY = dataclasses.replace(LIGHT, momentum=0.9)


def test_training_hands_momentum_from_window_to_window_and_grown_weights_start_without():
    train = jax.jit(functools.partial(train_segment, MODEL, HEAVY))
    segments = [Windows(*(array[i] for array in DATA)) for i in range(2)]
    recipe = dict.fromkeys(Hyper._fields, 0.0) | {"learning_rate": 2.0, "clip": 0.1}
    hyper = Hyper(**{name: np.float32(value) for name, value in recipe.items()})
    key = jax.random.key(0)
    init = functools.partial(init_train_state, MODEL, UPDATER, HEAVY)
    state = jax.jit(init)(key, key, None)
    one, *_ = train(state, hyper, segments[0], key)
    two, *_ = train(one, hyper, segments[1], key)
    # A second time without what the first window left: it lacks nine tenths of that.
    forgetful = one._replace(opt_state=jax.tree.map(np.zeros_like, one.opt_state))
    light, *_ = train(forgetful, hyper, segments[1], key)
    largest = 0.0
    trees = two.params, light.params, momentum_of(one.opt_state), state.sparsity.masks
    for own, without, left, mask in zip(*map(jax.tree.leaves, trees), strict=True):
        extra = 2.0 * 0.9 * np.where(mask, left, 0)
        largest = max(largest, np.max(np.abs(extra)))
        expected = np.asarray(without) - extra
        np.testing.assert_allclose(own, expected, rtol=1e-5, atol=1e-6)  # float32
    assert largest > 1e-2  # the test can tell

    coming = Windows(*(array[0] for array in segments[0]))
    update = jax.jit(functools.partial(update_topology, MODEL, UPDATER, HEAVY))
    new, info = update(two, None, coming)
    trees = momentum_of(two.opt_state), info.momentum, momentum_of(new.opt_state), info.grown
    num_moving = 0
    for old, given, reset, grown in zip(*map(jax.tree.leaves, trees), strict=True):
        np.testing.assert_array_equal(given, old)
        np.testing.assert_array_equal(reset, np.where(grown, 0, old))
        num_moving += np.count_nonzero(np.asarray(old)[grown])
    assert num_moving > 50  # of dead weights: momentum is dense


def test_without_momentum_the_optimizer_has_no_array_in_training_and_growth_is_given_none():
    key, coming = jax.random.key(0), Windows(*(array[0, 0] for array in DATA))
    state = jax.eval_shape(lambda: init_train_state(MODEL, UPDATER, LIGHT, key, key, None))
    assert jax.tree.leaves(state.opt_state) == []
    _, info = jax.eval_shape(
        lambda state: update_topology(MODEL, UPDATER, LIGHT, state, None, coming), state
    )
    assert info.momentum is None
