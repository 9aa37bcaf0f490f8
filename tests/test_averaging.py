import functools
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsh_jax.averaging import (
    SntAsgdState,
    averaged_params,
    nt_triggered,
    snt_asgd,
    start_averaging,
)
from lsh_jax.config import ConfigError
from lsh_jax.optimizers import masked_sgd, reset_slots
from lsh_jax.sparsity import apply_masks

SETTINGS = np.float32([0.3, 2.5, 0.05])  # learning rate, clip, weight decay; as in the reference


def tree(vector):
    """A matrix [3, 3] and a bias [2] from 11 numbers."""
    vector = np.asarray(vector)
    vector = vector if vector.dtype == bool else np.float32(vector)
    return {"W": vector[:9].reshape(3, 3), "b": vector[9:]}


def flat(params):
    return np.concatenate([np.ravel(params["W"]), np.ravel(params["b"])])


ONES = tree(np.ones(11, bool))


def _step(params, state, grads, masks, averaging, settings):
    learning_rate, clip, weight_decay = settings
    optimizer = snt_asgd(learning_rate, clip=clip, weight_decay=weight_decay)
    updates, state = optimizer.update(grads, state, params, masks=masks, averaging=averaging)
    return jax.tree.map(jnp.add, params, updates), state


step = jax.jit(_step)


def fresh(params):
    return snt_asgd(1.0, clip=1.0).init(params)


def some_masks(seed):
    """Masks of the matrix, a third of it dead; the bias lives."""
    alive = np.random.default_rng(seed).permutation(np.arange(11) < 9)
    return tree(alive | (np.arange(11) >= 9))


def test_without_masks_it_is_asgd_of_torch():
    reference = np.load(pathlib.Path(__file__).parent / "references" / "torch_asgd.npz")
    assert 5 < np.sum(np.linalg.norm(reference["grads"], axis=1) > SETTINGS[1]) < 35
    params = tree(reference["params"])
    state = start_averaging(fresh(params), params, ONES)
    for t in range(40):
        params, state = step(params, state, tree(reference["grads"][t]), ONES, True, SETTINGS)
        # Float32 over forty steps, numbers of size 3; torch divides by norm + 1e-6.
        close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=4e-6)
        close(flat(params), reference["iterates"][t])
        close(flat(averaged_params(state, params, ONES)), reference["averages"][t])
    np.testing.assert_array_equal(flat(state.steps), 40)


def test_a_regrown_weight_averages_only_what_it_has_lived_through_since():
    """Against a list of each weight's iterates, in float64, with masks that change three times."""
    learning_rate, _, weight_decay = np.float64(SETTINGS)
    rng = np.random.default_rng(0)
    weights, history = rng.normal(size=11), [[] for _ in range(11)]
    masks = some_masks(0)
    weights[~flat(masks)] = 0
    params = tree(weights)
    state = start_averaging(fresh(params), params, masks)
    lifetimes = set()
    for t in range(30):
        if t in (7, 8, 19):
            masks = some_masks(t)
            params = apply_masks(params, masks)
        alive, grads = flat(masks), rng.normal(size=11)
        shrunk = grads * min(1.0, SETTINGS[1] / np.linalg.norm(grads))
        weights = alive * (weights - learning_rate * (shrunk + weight_decay * weights))
        for lived, lives, weight in zip(history, alive, weights, strict=True):
            lived.append(weight) if lives else lived.clear()
        expected = [np.mean(lived[1:] or lived or [0.0]) for lived in history]
        params, state = step(params, state, tree(grads), masks, True, SETTINGS)
        average = flat(averaged_params(state, params, masks))
        np.testing.assert_allclose(average, expected, rtol=1e-5, atol=4e-6)  # float32
        np.testing.assert_array_equal(average[~alive], 0)
        np.testing.assert_array_equal(flat(state.averages)[~alive], 0)
        np.testing.assert_array_equal(flat(params)[~alive], 0)
        np.testing.assert_array_equal(flat(state.steps), [len(lived) for lived in history])
        lifetimes |= {len(lived) for lived in history}
    assert {0, 1, 2, 11, 30} < lifetimes  # regrown late, and never dead: the test can tell


def test_the_average_leaves_the_first_iterate_out():
    # Weight 1, gradient 1, rate 0.5: the iterates are 0.5, 0, -0.5, -1.
    free = np.float32([0.5, np.inf, 0.0])  # neither clipped nor decayed
    grads = params = {"w": jnp.ones((1, 1))}
    masks = {"w": jnp.ones((1, 1), bool)}
    state = start_averaging(fresh(params), params, masks)
    averages = []
    for _ in range(4):
        params, state = step(params, state, grads, masks, True, free)
        averages.append(float(averaged_params(state, params, masks)["w"][0, 0]))
    assert averages == [0.5, 0.0, -0.25, -0.5]


def test_before_the_start_it_is_masked_sgd_and_its_state_holds_no_array():
    params, masks = apply_masks(tree(np.arange(11.0)), some_masks(1)), some_masks(1)
    state = fresh(params)
    assert state == SntAsgdState(None, None)
    assert jax.tree.leaves(state) == []
    np.testing.assert_array_equal(flat(averaged_params(state, params, masks)), flat(params))
    moved, after = step(params, state, tree(np.ones(11)), masks, True, SETTINGS)
    assert jax.tree.leaves(after) == []
    sgd = masked_sgd(SETTINGS[0], clip=SETTINGS[1], weight_decay=SETTINGS[2])
    updates, _ = sgd.update(tree(np.ones(11)), sgd.init(params), params, masks=masks)
    # Compiled or not: the last bit.
    np.testing.assert_allclose(flat(moved), flat(params) + flat(updates), rtol=1e-6)


def test_averages_start_from_masked_weights_and_counts_of_zero():
    params, masks = tree(np.arange(1.0, 12.0)), some_masks(2)
    state = start_averaging(fresh(params), params, masks)
    np.testing.assert_array_equal(flat(state.averages), flat(params) * flat(masks))
    np.testing.assert_array_equal(flat(state.steps), 0)
    assert all(leaf.dtype == jnp.int32 for leaf in jax.tree.leaves(state.steps))
    np.testing.assert_array_equal(
        flat(averaged_params(state, params, masks)), flat(params) * flat(masks)
    )


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_averages_of_half_precision_do_not_stand_still(dtype):
    # A thousand iterates, half of them 1 and half 2, the first left out: (499 + 2 * 500) / 999.
    params, masks = {"w": jnp.ones((2,), dtype)}, {"w": np.array([True, True])}
    optimizer = snt_asgd(1.0, clip=math.inf)
    state = start_averaging(optimizer.init(params), params, masks)
    assert state.averages["w"].dtype == jnp.float32

    def to_target(loop, target):
        params, state = loop
        grads = {"w": params["w"] - target}
        updates, state = optimizer.update(grads, state, params, masks=masks)
        return (jax.tree.map(jnp.add, params, updates), state), None

    targets = jnp.repeat(jnp.array([1.0, 2.0], dtype), 500)
    (params, state), _ = jax.lax.scan(to_target, (params, state), targets)
    np.testing.assert_allclose(state.averages["w"], 1499 / 999, rtol=1e-5)  # float32
    average = averaged_params(state, params, masks)["w"]
    assert average.dtype == params["w"].dtype == dtype
    assert average[0] == jnp.asarray(1499 / 999, dtype)
    grown = {"w": np.array([True, False])}
    reset = reset_slots(optimizer, state, grown)
    assert reset.averages["w"].dtype == jnp.float32
    np.testing.assert_array_equal(reset.averages["w"][0], 0)
    np.testing.assert_array_equal(reset.steps["w"], [0, 1000])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_averages_are_zero_where_dead_whatever_the_gradient_there(value):
    masks = some_masks(3)
    params = apply_masks(tree(np.ones(11)), masks)
    state = start_averaging(fresh(params), params, masks)
    for _ in range(4):
        grads = tree(np.where(flat(masks), 0.1, value))
        params, state = step(params, state, grads, masks, True, SETTINGS)
    dead = ~flat(masks)
    np.testing.assert_array_equal(flat(params)[dead], 0)
    np.testing.assert_array_equal(flat(averaged_params(state, params, masks))[dead], 0)


def test_a_weight_that_has_died_since_the_last_step_is_evaluated_as_zero():
    params = tree(np.ones(11))
    state = start_averaging(fresh(params), params, ONES)
    for _ in range(3):
        params, state = step(params, state, tree(np.ones(11)), ONES, True, SETTINGS)
    died = ~flat(some_masks(3))
    average = flat(averaged_params(state, apply_masks(params, some_masks(3)), some_masks(3)))
    assert died.any() and not average[died].any() and average[~died].all()
    assert flat(state.averages)[died].all()  # it is in the state until the next step


def test_candidates_that_start_one_by_one_average_as_they_do_alone():
    fired = [0, 4, 99]  # the first averages from the first step on, the last never
    rng = np.random.default_rng(5)
    grads = [tree(rng.normal(size=11)) for _ in range(12)]
    masks = [[some_masks(seed + 10 * late) for seed in range(3)] for late in (0, 1)]
    alone = [apply_masks(tree(rng.normal(size=11)), mask) for mask in masks[0]]
    own = [fresh(params) for params in alone]
    stacked = stack(alone)
    states = jax.vmap(start_averaging)(fresh(stacked), stacked, stack(masks[0]))
    many = jax.jit(jax.vmap(_step, in_axes=(0, 0, None, 0, 0, None)))
    for t, grad in enumerate(grads):
        current = masks[t >= 8]
        stacked = apply_masks(stacked, stack(current))
        averaging = np.array([t >= start for start in fired])
        stacked, states = many(stacked, states, grad, stack(current), averaging, SETTINGS)
        together = jax.vmap(averaged_params)(states, stacked, stack(current))
        for i, start in enumerate(fired):
            alone[i] = apply_masks(alone[i], current[i])
            if t == start:
                own[i] = start_averaging(own[i], alone[i], current[i])
            alone[i], own[i] = step(alone[i], own[i], grad, current[i], True, SETTINGS)
            mine = flat(jax.tree.map(lambda leaf, i=i: leaf[i], together))
            expected = flat(averaged_params(own[i], alone[i], current[i]))
            np.testing.assert_allclose(mine, expected, rtol=1e-6, atol=1e-6)  # another program
            counts = flat(jax.tree.map(lambda leaf, i=i: leaf[i], states.steps))
            if t < start:
                np.testing.assert_array_equal(counts, 0)
            else:
                np.testing.assert_array_equal(counts, flat(own[i].steps))
    assert not np.allclose(
        flat(averaged_params(own[1], alone[1], current[1])), flat(alone[1]), atol=1e-2
    )


def stack(trees):
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def test_one_program_serves_all_settings_masks_and_flags():
    compiled = jax.jit(lambda *arguments: _step(*arguments))  # with a cache of its own
    params = grads = tree(np.ones(11))
    state = start_averaging(fresh(params), params, ONES)
    for seed, averaging in enumerate([True, False, True]):
        settings = np.float32([0.1 * seed, 1.0 + seed, 0.01 * seed])
        masks = some_masks(seed)
        params, state = compiled(
            apply_masks(params, masks), state, grads, masks, np.bool_(averaging), settings
        )
    assert compiled._cache_size() == 1


# --- the trigger

LOSSES = [9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0]
TABLE = [
    # losses, how many, this one, n, does it fire?
    (LOSSES, 0, 99.0, 5, False),  # nothing to compare with
    (LOSSES, 5, 99.0, 5, False),  # all five are among the last five: after epoch 6, never
    (LOSSES, 6, 9.5, 5, True),  # after epoch 7: against 9
    (LOSSES, 6, 9.0, 5, False),  # not worse, the same
    (LOSSES, 6, 8.5, 5, False),  # worse than the last five, better than 9
    (LOSSES, 7, 8.5, 5, True),  # against min(9, 8)
    (LOSSES, 7, 8.0, 5, False),
    ([1.0, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0], 7, 1.5, 5, True),  # the least, not the latest
    ([9.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0], 6, 2.0, 5, False),  # a loss that is not logged yet
    (LOSSES, 7, math.nan, 5, False),
    ([math.nan, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0], 7, 8.5, 5, True),  # NaN is passed over
    ([math.nan] * 7, 7, 8.5, 5, False),
    (LOSSES, 7, math.inf, 5, True),
    (LOSSES, 1, 9.5, 0, True),  # n = 0: any loss that is not the best so far
    (LOSSES, 2, 8.5, 1, False),
    (LOSSES, 2, 9.5, 1, True),
]


@pytest.mark.parametrize(("losses", "num_losses", "val_loss", "nonmonotone", "fires"), TABLE)
def test_the_trigger_fires_when_the_table_says_so(losses, num_losses, val_loss, nonmonotone, fires):
    trigger = functools.partial(nt_triggered, nonmonotone=nonmonotone)
    for padding in (math.inf, -1.0, math.nan):
        logged = np.float32(losses[:num_losses] + [padding] * (7 - num_losses))
        assert bool(trigger(logged, num_losses, val_loss)) is fires


def test_the_trigger_runs_compiled_over_many_candidates():
    columns = [np.array(column) for column in zip(*TABLE, strict=True)]
    losses, num_losses, val_loss, nonmonotone, fires = columns
    triggered = jax.jit(jax.vmap(nt_triggered))
    got = triggered(np.float32(losses), num_losses, np.float32(val_loss), nonmonotone)
    assert got.dtype == bool
    np.testing.assert_array_equal(got, fires)


@pytest.mark.parametrize("num_losses", [-1, 8, np.int32(8), jnp.int32(8)])
def test_the_trigger_refuses_more_losses_than_there_is_room_for(num_losses):
    with pytest.raises(ConfigError, match=r"`num_losses` must lie in \[0, 7\]"):
        nt_triggered(np.float32(LOSSES), num_losses, 99.0)


def test_the_trigger_refuses_a_negative_window():
    with pytest.raises(ConfigError, match="`nonmonotone` must be at least 0, got -1"):
        nt_triggered(np.float32(LOSSES), 3, 99.0, -1)


def test_traced_counts_out_of_range_are_clipped():
    triggered = jax.jit(nt_triggered)
    # The best, 3, is among the last five of seven, so that 8.5 meets 8 and 7.5 does not.
    log = np.float32(LOSSES)
    assert bool(triggered(log, 99, 8.5)) and not bool(triggered(log, 99, 7.5))
    assert not bool(triggered(log, -1, 99.0))
    assert not bool(triggered(log, 0, 99.0, -5))


def test_the_trigger_first_fires_in_the_epoch_of_the_authors_code():
    rng = np.random.default_rng(1)
    first = []
    for _ in range(20):
        losses = np.float32(rng.normal(size=30).cumsum())
        # AWD-LSTM's main.py: `len(best_val_loss) > n and val_loss > min(best_val_loss[:-n])`.
        epochs = range(1, 31)
        expected = [e for e in epochs if e > 6 and losses[e - 1] > min(losses[: e - 1][:-5])]
        log = np.full(30, np.inf, np.float32)
        fired = []
        for count, loss in enumerate(losses):
            if nt_triggered(log, count, loss):
                fired.append(count + 1)
            log[count] = loss
        assert fired == expected
        first += fired[:1]
    assert min(first) == 7  # and some walks fall for long: the test can tell
    assert max(first) > 10
