"""What a recipe adds to training: decay, averaging, locked dropout."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsh_jax.checkpoint import restore_checkpoint, save_checkpoint
from lsh_jax.config import ModelConfig, SparsityConfig, TrainConfig
from lsh_jax.data.batching import Windows
from lsh_jax.language_models import make_language_model
from lsh_jax.losses import weighted_nll
from lsh_jax.sparsity import SparsityState, controls, dynamic_sparsity
from lsh_jax.training import (
    TrainState,
    end_epoch,
    evaluated_params,
    init_train_state,
    is_averaged,
    train_segment,
    update_topology,
    without_averages,
)
from lsh_jax.types import Hyper

V, T, B = 7, 3, 2
RECIPE = TrainConfig(
    batch_size=B,
    bptt=T,
    segments_per_epoch=2,
    averaging="nt-asgd",
    nonmonotone=1,
    locked_dropout=True,
    decay=1.15,
    decay_after=14,
)
MODEL = make_language_model(ModelConfig("tanh", V, 4, 5, 1))
UPDATER = dynamic_sparsity()
CONTROLS = controls(SparsityConfig(sparsity=0.5, death_rate=0.5))
KEY = jax.random.key(3)
PLAIN = Hyper(*np.float32([0.7, 0.3, 0.01, 0, 0, 0, 0]))  # no dropout
TOKENS = np.random.default_rng(0).integers(V, size=(T + 1, B)).astype(np.int32)
WINDOW = Windows(TOKENS[:-1], TOKENS[1:], np.ones((T, B), np.float32))
SEGMENT = Windows(*(array[None] for array in WINDOW))  # of one window: one step

segment = functools.partial(train_segment, MODEL, RECIPE)
train = jax.jit(segment, static_argnames="averaging")
update = jax.jit(functools.partial(update_topology, MODEL, UPDATER, RECIPE))
evaluated = jax.jit(evaluated_params)
averaged = jax.jit(is_averaged)


@pytest.fixture(scope="module")
def state():
    """As `init_train_state` makes it, with half of the matrices' weights dead, in no time."""
    init = functools.partial(init_train_state, MODEL, UPDATER, RECIPE)
    shapes = jax.eval_shape(init, KEY, KEY, CONTROLS)
    rng = np.random.default_rng(1)

    def mask(leaf):
        return rng.permutation(leaf.size).reshape(leaf.shape) % 2 == 0 if leaf.ndim > 1 else True

    masks = jax.tree.map(lambda leaf: np.broadcast_to(mask(leaf), leaf.shape), shapes.params)
    params = jax.tree.map(
        lambda leaf, mask: np.float32(mask * rng.uniform(-0.4, 0.4, leaf.shape)),
        shapes.params,
        masks,
    )
    steps = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.int32), params)
    made = shapes._replace(
        params=params,
        opt_state=shapes.opt_state._replace(averages=params, steps=steps),
        sparsity=SparsityState(masks, masks, np.float32(0), np.int32(0), None),
        carry=MODEL.init_carry(B),
        num_segments=np.int32(0),
        topology_key=KEY,
        averaging=np.bool_(False),
        val_nlls=np.full(2, np.inf, np.float32),
    )
    made = jax.tree.map(jnp.asarray, made)
    assert jax.tree.map(jnp.shape, made) == jax.tree.map(jnp.shape, shapes)
    return made


@pytest.fixture(scope="module")
def averaging(state):
    """After three steps that average, and two that did not."""
    for step in range(5):
        if step == 2:
            state = state._replace(averaging=jnp.bool_(True))
        state, *_ = train(state, PLAIN, SEGMENT, KEY, averaging=step >= 2)
    return state


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def at(state, num_segments):
    return state._replace(num_segments=jnp.int32(num_segments))


# --- the step size


@pytest.mark.parametrize(("epoch", "decays"), [(1, 0), (2, 0), (14, 0), (15, 1), (16, 2), (55, 41)])
def test_the_step_size_falls_after_the_epochs_that_the_recipe_names(state, epoch, decays):
    # Zaremba et al. (2014): 14 epochs at the first rate, divided by 1.15 after each from then on.
    start = flat(state.params)
    first = flat(train(at(state, 0), PLAIN, SEGMENT, KEY)[0].params) - start
    for within in range(RECIPE.segments_per_epoch):
        number = (epoch - 1) * RECIPE.segments_per_epoch + within
        moved = flat(train(at(state, number), PLAIN, SEGMENT, KEY)[0].params) - start
        np.testing.assert_allclose(moved, first / 1.15**decays, rtol=1e-3, atol=1e-6)
    assert np.max(np.abs(first)) > 0.01


# --- locked dropout


@jax.jit
def nll_by_hand(state, hyper, index):
    key = jax.random.fold_in(KEY, index)
    logits, _ = MODEL.apply(
        state.params, WINDOW.inputs, MODEL.init_carry(B), key=key, dropout=hyper, locked=True
    )
    return weighted_nll(logits, WINDOW.targets, WINDOW.weights)


def test_a_window_is_trained_with_the_locked_masks_of_its_number(state):
    state = state._replace(params=jax.tree.map(lambda leaf: 5 * leaf, state.params))
    hyper = PLAIN._replace(dropout_input=np.float32(0.5), dropout_output=np.float32(0.5))
    found = [float(train(at(state, i), hyper, SEGMENT, KEY)[1]) for i in range(4)]
    expected = [float(nll_by_hand(state, hyper, i)) for i in range(4)]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert len({round(nll, 4) for nll in found}) == 4


# --- the trigger


def triggered(losses, nonmonotone):
    """After each epoch: has one been worse than the best of all but the last few before it?"""
    fired, after = False, []
    for epoch, loss in enumerate(losses):
        old = [other for other in losses[: max(epoch - nonmonotone, 0)] if not math.isnan(other)]
        fired = fired or (bool(old) and loss > min(old))
        after.append(fired)
    return after


@pytest.mark.parametrize("nonmonotone", [0, 1, 5])
def test_averaging_starts_by_the_rule_on_whatever_losses(nonmonotone):
    recipe = TrainConfig(averaging="nt-asgd", nonmonotone=nonmonotone)
    rng = np.random.default_rng(nonmonotone)
    # Small whole numbers, so that there are ties, that fall for a while; some NaN and infinite.
    losses = np.sort(rng.integers(12, size=(300, 14)), axis=1)[:, ::-1] + rng.integers(
        4, size=(300, 14)
    ).astype(np.float32)
    losses[rng.uniform(size=losses.shape) < 0.05] = np.nan
    losses[rng.uniform(size=losses.shape) < 0.03] = np.inf
    fields = dict.fromkeys(TrainState._fields)
    start = TrainState(**fields)._replace(
        averaging=jnp.bool_(False), val_nlls=jnp.full(nonmonotone + 1, jnp.inf)
    )

    def epochs(losses):
        def step(state, loss):
            state = end_epoch(recipe, state, loss)
            return state, state.averaging

        return jax.lax.scan(step, start, losses)[1]

    found = np.asarray(jax.jit(jax.vmap(epochs))(np.float32(losses)))
    expected = np.array([triggered(row, nonmonotone) for row in losses.tolist()])
    np.testing.assert_array_equal(found, expected)
    first = np.argmax(expected, axis=1)[expected.any(axis=1)]
    assert first.min() == nonmonotone + 1  # of epochs from 0
    assert len(set(first.tolist())) > 3  # the test can tell
    assert not expected.all(axis=1).any()


def test_a_recipe_without_averaging_takes_no_notice_of_validation(state):
    recipe = TrainConfig(averaging="none")
    for loss in (1.0, 2.0, 3.0):
        assert end_epoch(recipe, state, loss) is state


# --- averages


def test_before_it_averages_a_state_keeps_its_averages_and_is_evaluated_by_its_weights(state):
    after, *_ = train(state, PLAIN, SEGMENT, KEY)
    for kept, now in zip(
        jax.tree.leaves(state.opt_state), jax.tree.leaves(after.opt_state), strict=True
    ):
        np.testing.assert_array_equal(kept, now)
    assert np.any(flat(after.params) != flat(state.params))
    np.testing.assert_array_equal(flat(evaluated(after)), flat(after.params))
    assert not averaged(after)
    # The program that averages leaves it alone too while its own flag is false.
    same, *_ = train(state, PLAIN, SEGMENT, KEY, averaging=True)
    np.testing.assert_allclose(flat(evaluated(same)), flat(after.params), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(flat(same.opt_state.steps), 0)


@pytest.mark.slow
def test_averages_are_the_means_of_what_every_weight_has_lived_through(state):
    """Against a list of each weight's iterates, through two updates of the topology."""
    state = state._replace(averaging=jnp.bool_(True))
    lived = [[] for _ in flat(state.params)]
    lifetimes = set()
    for step in range(9):
        if step in (4, 6):
            before = flat(state.sparsity.masks)
            state, info = update(state, CONTROLS, WINDOW)
            assert flat(info.grown).sum() > 3
            average = flat(evaluated(state))  # grown ones start at zero, dead ones stay there
            np.testing.assert_array_equal(average[~(before & flat(state.sparsity.masks))], 0)
        state, *_ = train(state, PLAIN, SEGMENT, KEY, averaging=True)
        alive = flat(state.sparsity.masks)
        for own, lives, weight in zip(lived, alive, np.float64(flat(state.params)), strict=True):
            own.append(weight) if lives else own.clear()
        expected = [np.mean(own[1:] or own or [0.0]) for own in lived]
        np.testing.assert_allclose(flat(evaluated(state)), expected, rtol=1e-5, atol=1e-6)
        lifetimes |= {len(own) for own in lived}
    assert averaged(state)
    assert {0, 1, 3, 5, 9} <= lifetimes
    assert np.max(np.abs(flat(evaluated(state)) - flat(state.params))) > 1e-3


def test_averages_can_be_put_away_and_start_anew(averaging):
    assert averaged(averaging)
    assert np.any(flat(evaluated(averaging)) != flat(averaging.params))
    bare = without_averages(averaging)
    assert not averaged(bare)
    np.testing.assert_array_equal(flat(evaluated(bare)), flat(averaging.params))
    assert bool(bare.averaging)
    after, *_ = train(bare, PLAIN, SEGMENT, KEY, averaging=True)
    np.testing.assert_array_equal(flat(evaluated(after)), flat(after.params))  # of one iterate
    expected, *_ = train(averaging, PLAIN, SEGMENT, KEY, averaging=True)
    np.testing.assert_array_equal(flat(after.params), flat(expected.params))  # the steps are alike


def test_a_recipe_without_averaging_has_no_averages(state):
    plain = state._replace(opt_state=())
    assert not is_averaged(plain)
    assert without_averages(plain) is plain
    assert evaluated_params(plain) is plain.params


def test_one_of_many_candidates_averages_as_it_does_alone(state, averaging):
    states = [state, averaging, at(without_averages(averaging), 5)]
    states[2] = states[2]._replace(averaging=jnp.bool_(False))
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    many = functools.partial(segment, averaging=True)
    together, *_ = jax.jit(jax.vmap(many, (0, None, None, None)))(stacked, PLAIN, SEGMENT, KEY)
    for index, one in enumerate(states):
        own = jax.tree.map(lambda leaf, i=index: leaf[i], together)
        alone, *_ = train(one, PLAIN, SEGMENT, KEY, averaging=index == 1)
        np.testing.assert_allclose(flat(own.params), flat(alone.params), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(
            flat(evaluated(own)), flat(evaluated(alone)), rtol=1e-5, atol=1e-6
        )
        assert bool(averaged(own)) == bool(own.averaging) == (index == 1)


def test_a_state_that_averages_comes_back_from_its_checkpoint_and_goes_on_alike(
    averaging, tmp_path
):
    averaging = end_epoch(RECIPE, averaging, 1.5)
    save_checkpoint(tmp_path / "state", averaging)
    back = restore_checkpoint(tmp_path / "state", averaging)
    states = [train(one, PLAIN, SEGMENT, KEY, averaging=True)[0] for one in (averaging, back)]
    first, second = (one._replace(topology_key=jax.random.key_data(KEY)) for one in states)
    for one, other in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_array_equal(one, other)
    assert bool(back.averaging)
    np.testing.assert_array_equal(back.val_nlls, [np.inf, 1.5])
    np.testing.assert_array_equal(flat(evaluated(back)), flat(evaluated(averaging)))
