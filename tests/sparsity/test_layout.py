import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import worlds

from lsh_jax.config import ConfigError, SparsityConfig
from lsh_jax.sparsity import apply_masks, controls, count_live, dynamic_sparsity
from lsh_jax.sparsity.layout import Scope, make_layout
from lsh_jax.sparsity.plan import initial_counts

KEY = jax.random.key(0)
DEFAULT = controls(SparsityConfig(0.5, death_rate=0.5, schedule="constant"))

# Four gates of (6, 3) and a leaf of that shape: one program for all five.
DATA = worlds.make_data({"U": np.zeros((6, 12)), "V": np.zeros((6, 3)), "b": np.zeros(12)})
NUM_GATES = [4, 1]
BY_GATE = dynamic_sparsity(
    gates=worlds.gates, densities=worlds.densities, track_signs=True, granularity="gate"
)


@functools.cache
def gate_runs():
    """A third of all rules, with counts of gates: configs, first state, history."""
    configs = worlds.all_rules()[::3]
    own = worlds.stack(list(map(controls, configs)))
    start = jax.jit(jax.vmap(BY_GATE.init, (None, None, 0)))
    advance = functools.partial(worlds.advance, updater=BY_GATE)
    many = jax.jit(jax.vmap(advance, (None, 0, 0, 0, None, None, None)))
    return configs, *worlds.run(start, many, own, 2, DATA)


def live_per_gate(masks, num_gates):
    cut = zip(worlds.prunable_of(masks), num_gates, strict=True)
    return [int(unit.sum()) for mask, n in cut for unit in np.split(mask, n, axis=-1)]


@pytest.mark.slow
def test_gates_that_count_for_themselves_agree_with_plain_numpy():
    fixed = {"num_gates": NUM_GATES, "densities": [0.2, 0.7], "by_gate": True}
    worlds.assert_agree(*gate_runs(), data=DATA, **fixed)


@pytest.mark.slow
def test_gates_keep_their_counts_without_redistribution():
    checked = 0
    for config, first, history in worlds.one_by_one(*gate_runs()):
        if config.redistribution == "none" and config.sparsity_schedule == "constant":
            wanted = live_per_gate(first.masks, NUM_GATES)
            for _, _, state, info in history:
                assert live_per_gate(state.masks, NUM_GATES) == wanted, config
                checked += int(info.num_removed > 0)
    assert checked > 5


@pytest.mark.slow
def test_gates_of_a_leaf_gain_and_lose_to_each_other_where_the_leaf_counts():
    moved, gates = 0, worlds.NUM_GATES
    for config, first, history in worlds.one_by_one(*worlds.grid()):
        if config.redistribution == "none" and config.sparsity_schedule == "constant":
            after = history[0][2].masks
            moved += live_per_gate(first.masks, gates) != live_per_gate(after, gates)
    assert moved > 5


def scope(**changes):
    fields = dict.fromkeys(Scope._fields) | {"granularity": "leaf", "track_signs": False}
    return Scope(**(fields | changes))


def test_uniform_gates_start_with_one_density():
    layout = make_layout(worlds.PARAMS, scope(gates=worlds.gates, granularity="gate"))
    # 18 weights a gate: 9 each. 45: 22.5; 144 / 2 + 22.5 = 94.5 is rounded to the even 94.
    assert initial_counts(layout, DEFAULT).tolist() == 8 * [9] + [22]


@pytest.mark.parametrize("granularity", ["leaf", "gate"])
def test_cutting_and_merging_gives_the_tree_back(granularity):
    layout = make_layout(worlds.PARAMS, scope(gates=worlds.gates, granularity=granularity))
    stacks = layout.stack(worlds.PARAMS, worlds.PARAMS, "params")
    empty = jax.tree.map(lambda x: jnp.full(x.shape, jnp.nan), worlds.PARAMS)
    merged = layout.merge(empty, stacks)
    for path in (lambda t: t["cells"][0]["U"], lambda t: t["cells"][1]["U"], lambda t: t["out"][0]):
        np.testing.assert_array_equal(path(merged), path(worlds.PARAMS))
    assert np.isnan(merged["cells"][0]["b"]).all()  # not prunable: not touched
    shapes = {"leaf": [(2, 6, 12), (1, 9, 5)], "gate": [(8, 6, 3), (1, 9, 5)]}
    assert [stack.shape for stack in stacks] == shapes[granularity]


def test_numbers_of_units_are_in_the_order_of_the_leaves():
    # Stacks by shape: leaves 0 and 2, then 1; each tells ten times its place.
    params = [jnp.zeros((2, 2)), jnp.zeros((3, 3)), jnp.ones((2, 2))]
    layout = make_layout(params, scope())
    assert layout.stacks == ((0, 2), (1,))
    found = layout.numbers(
        layout.map(lambda unit, index, x: 10 * index, layout.stack(params, params, ""))
    )
    assert found.tolist() == [0, 10, 20]
    assert [x.tolist() for x in layout.spread(jnp.array([5, 6, 7]))] == [[5, 7], [6]]


def test_leaves_of_one_shape_but_another_dtype_or_number_of_gates_stay_apart():
    params = [jnp.zeros((2, 4)), jnp.zeros((2, 4), jnp.bfloat16), jnp.ones((2, 4))]
    two = scope(gates=lambda path, leaf: "ab" if path == ("2",) else ())
    assert make_layout(params, two).stacks == ((0,), (1,), (2,))


@pytest.mark.parametrize("shape", [(3, 5), (4,)])
def test_gates_that_do_not_fit_are_refused(shape):
    updater = dynamic_sparsity(lambda path, leaf: True, gates=lambda path, leaf: "ab")
    with pytest.raises(ConfigError, match=r"`gates` must be as many as divide .* got 2 .* at U"):
        updater.init(KEY, {"U": jnp.ones(shape)}, DEFAULT)


@pytest.mark.parametrize("name", ["gradients", "momentum", "state.masks", "state.signs"])
@pytest.mark.parametrize("wrong", ["shape", "structure", "missing"])
def test_a_tree_that_is_not_like_the_parameters_is_refused_by_name(name, wrong):
    updater = dynamic_sparsity(track_signs=True)
    params = {"W": jnp.ones((4, 6)), "b": jnp.ones(6)}
    state = jax.eval_shape(updater.init, KEY, params, DEFAULT)
    tree = {
        "shape": {"W": jnp.ones((6, 4)), "b": jnp.ones(6)},
        "structure": [jnp.ones((4, 6)), jnp.ones(6)],
        "missing": {"W": jnp.ones((4, 6))},
    }[wrong]
    extras = {}
    if name.startswith("state."):
        state = state._replace(**{name.removeprefix("state."): tree})
    else:
        extras = {name: tree}
    with pytest.raises(ConfigError, match=f"`{name}` must have the shapes of `params`"):
        jax.eval_shape(
            lambda state, extras: updater.update(KEY, state, params, DEFAULT, **extras),
            state,
            extras,
        )


@pytest.mark.slow
@pytest.mark.parametrize("num_leaves", [6, 120])
def test_an_empty_leaf_and_many_leaves_of_one_weight_are_nothing_special(num_leaves):
    # Half of the weights live and half of these die.
    rng = np.random.default_rng(0)
    params = [rng.normal(size=(1, 1)).astype(np.float32) for _ in range(num_leaves)]
    params.append(np.zeros((0, 3), np.float32))
    updater = dynamic_sparsity()
    config = SparsityConfig(
        0.5, death="global_magnitude", redistribution="magnitude", schedule="constant"
    )
    own = controls(config)
    state = updater.init(KEY, params, own)
    params = apply_masks(params, state.masks)
    before = np.concatenate([np.ravel(x) for x in params])
    params, state, info = updater.update(KEY, state, params, own)
    half, dead = num_leaves // 2, -(-num_leaves // 4)
    assert (int(count_live(state.masks)), int(info.num_removed)) == (half, dead)
    after = np.concatenate([np.ravel(x) for x in params])
    largest = np.argsort(-abs(before))[: half - dead]
    np.testing.assert_array_equal(after[largest], before[largest])


def test_two_billion_weights_are_traced_without_overflow():
    big = {
        "a": jax.ShapeDtypeStruct((2**15, 2**15), jnp.float32),
        "b": jax.ShapeDtypeStruct((2**15 - 1, 2**15), jnp.bfloat16),
    }  # 2^31 - 2^15, of at most 2^31 - 2
    updater = dynamic_sparsity(gates=lambda path, leaf: "ab", track_signs=True)
    state = jax.eval_shape(updater.init, KEY, big, DEFAULT)
    params, state, _ = jax.eval_shape(updater.update, KEY, state, big, DEFAULT)
    assert params["b"].dtype == jnp.bfloat16 and state.masks["a"].shape == (2**15, 2**15)


def test_leaves_of_other_types_ride_along():
    params = {"W": jnp.ones((4, 4), jnp.bfloat16), "flag": jnp.array([True]), "n": jnp.array([3])}
    updater = dynamic_sparsity(track_signs=True)
    own = controls(SparsityConfig(0.5, death="taylor"))
    state = updater.init(jax.random.key(0), params, own)
    gradients = {"W": jnp.ones((4, 4)), "flag": jnp.zeros(1), "n": jnp.zeros(1)}
    new, state, _ = updater.update(jax.random.key(0), state, params, own, gradients=gradients)
    assert {name: leaf.dtype for name, leaf in new.items()} == {
        name: leaf.dtype for name, leaf in params.items()
    }
    assert (bool(new["flag"][0]), int(new["n"][0]), int(state.masks["W"].sum())) == (True, 3, 8)
