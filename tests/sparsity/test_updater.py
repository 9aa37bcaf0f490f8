import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import worlds
from worlds import PARAMS, at, live_per_leaf, prunable_of

from lsh_jax.checkpoint import restore_checkpoint, save_checkpoint
from lsh_jax.config import ConfigError, Death, Growth, SparsityConfig, choices
from lsh_jax.sparsity import apply_masks, controls, count_live, dynamic_sparsity

KEY = jax.random.key(0)
SMALL = [np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)]
PLAIN = dynamic_sparsity()


def update(key, state, params, own, gradients=SMALL):
    """With gradients throughout, so that one program serves all tests of the small leaf."""
    return PLAIN.update(key, state, params, own, gradients=gradients)


def histories():
    """(config, first state, [(params before, params, state, info), ...]) of the grid."""
    return worlds.one_by_one(*worlds.grid())


def test_every_combination_of_rules_agrees_with_plain_numpy():
    fixed = {"num_gates": worlds.NUM_GATES, "densities": worlds.DENSITIES}
    worlds.assert_agree(*worlds.grid(), **fixed)


def test_the_total_is_exact_after_every_update_of_every_combination_of_rules():
    for config, first, history in histories():
        for i, (_, _, state, _) in enumerate(history):
            wanted = worlds.wanted_total(config, i + 1, first.masks)
            assert sum(live_per_leaf(state.masks)) == wanted, config
            assert state.num_updates == i + 1


@pytest.mark.slow
def test_the_totals_stay_exact_over_a_hundred_updates():
    configs, first, _ = worlds.grid()
    counts = worlds.totals(list(configs), 100)
    for c, config in enumerate(configs):
        start = at(first, c).masks
        wanted = [worlds.wanted_total(config, i + 1, start) for i in range(100)]
        assert counts[:, c].tolist() == wanted, config


@pytest.mark.slow
@pytest.mark.parametrize(
    ("init", "sampling", "rate"),
    [
        ("uniform", "bernoulli", 1.0),
        ("er", "exact", 0.05),
        ("er", "bernoulli", 0.5),
        ("erk", "magnitude", 1.0),
        ("given", "exact", 0.5),
        ("given", "magnitude", 0.05),
    ],
)
def test_the_totals_stay_exact_for_other_starts_samplings_and_rates_too(init, sampling, rate):
    changes = {"init": init, "init_sampling": sampling, "death_rate": rate}
    configs = [dataclasses.replace(config, **changes) for config in worlds.grid()[0]]
    own = worlds.stack(list(map(controls, configs)))
    masks = jax.device_get(worlds.many_init(jax.random.key(5), PARAMS, own).masks)
    counts = worlds.totals(configs, 100)
    for c, config in enumerate(configs):
        wanted = [worlds.wanted_total(config, i + 1, at(masks, c)) for i in range(100)]
        assert counts[:, c].tolist() == wanted, config


def test_every_leaf_keeps_its_count_without_redistribution():
    checked = 0
    for config, first, history in histories():
        shared = config.redistribution == "none_authors" and config.death != "threshold"
        if config.sparsity_schedule == "constant" and (config.redistribution == "none" or shared):
            wanted = live_per_leaf(first.masks)
            assert all(live_per_leaf(state.masks) == wanted for _, _, state, _ in history), config
            checked += 1
    assert checked > 30


def test_dead_weights_are_exact_zeros_and_dense_leaves_stay_as_they_are():
    for _, _, history in histories():
        for moved, params, state, info in history:
            for param, mask in zip(prunable_of(params), prunable_of(state.masks), strict=True):
                assert not param[~mask].any() and np.isfinite(param).all()
            assert state.masks["cells"][0]["b"].all() and not info.grown["cells"][0]["b"].any()
            np.testing.assert_array_equal(params["cells"][0]["b"], moved["cells"][0]["b"])


def test_explored_is_the_union_of_all_masks_and_grown_what_is_new():
    for _, first, history in histories():
        union, before = prunable_of(first.masks), prunable_of(first.masks)
        for _, _, state, info in history:
            masks = prunable_of(state.masks)
            union = [u | m for u, m in zip(union, masks, strict=True)]
            for got, expected in zip(prunable_of(state.explored), union, strict=True):
                np.testing.assert_array_equal(got, expected)
            num_new = 0
            for got, new, old in zip(prunable_of(info.grown), masks, before, strict=True):
                np.testing.assert_array_equal(got, new & ~old)
                num_new += got.sum()
            num_live = sum(int(mask.sum()) for mask in before)
            assert info.churn == np.float32(num_new) / np.float32(max(1, num_live))
            before = masks


def test_a_frozen_topology_keeps_masks_threshold_and_weights():
    checked = 0
    for config, first, history in histories():
        states = [first, *(state for _, _, state, _ in history)]
        # The schedules run over round(0.5 * 5) = 2 updates (the even neighbour), two follow.
        for i in (2, 3) if config.stop_fraction < 1 else ():
            before, after, info = states[i], states[i + 1], history[i][3]
            jax.tree.map(np.testing.assert_array_equal, before.masks, after.masks)
            jax.tree.map(np.testing.assert_array_equal, *history[i][:2])
            assert after.threshold == before.threshold
            assert (info.churn, info.num_removed, info.num_grown) == (0, 0, 0)
            checked += 1
    assert checked > 100


def test_sixty_four_candidates_side_by_side_equal_each_by_itself_bit_for_bit():
    configs, first, history = worlds.grid()
    for c in np.linspace(0, len(configs) - 1, 64).astype(int):
        own_first, own = worlds.run(worlds.one_init, worlds.one_advance, controls(configs[c]))
        jax.tree.map(np.testing.assert_array_equal, at(first, c), own_first)
        for of_all, of_one in zip(history, own, strict=True):
            jax.tree.map(np.testing.assert_array_equal, at(of_all, c), of_one)


def test_one_program_serves_all_candidates():
    worlds.run(worlds.one_init, worlds.one_advance, controls(SparsityConfig()), 1)
    before = worlds.one_advance._cache_size(), worlds.one_init._cache_size()
    for config in worlds.all_rules()[::30]:
        worlds.run(worlds.one_init, worlds.one_advance, controls(config), 1)
    assert (worlds.one_advance._cache_size(), worlds.one_init._cache_size()) == before


def test_runs_side_by_side_may_be_at_different_updates():
    # Three copies of one candidate, restarted at updates 0, 1 and 2 of its own history.
    configs, first, history = worlds.grid()
    c = 17
    states = [at(first, c), *(at(state, c) for _, _, state, _ in history[:2])]
    params = [jax.tree.map(jnp.zeros_like, PARAMS), *(at(p, c) for _, p, _, _ in history[:2])]
    fill = len(configs) - 3  # so that the program is that of the grid
    own = worlds.stack([controls(configs[c])] * len(configs))
    step, gradients, momentum = (
        at(tree, 0) for tree in (worlds.STEPS, worlds.GRADIENTS, worlds.MOMENTUM)
    )
    out = worlds.many_advance(
        KEY,
        worlds.stack(states + fill * [states[0]]),
        worlds.stack(params + fill * [params[0]]),
        own,
        step,
        gradients,
        momentum,
    )
    for i in range(3):
        alone = worlds.one_advance(
            KEY, states[i], params[i], controls(configs[c]), step, gradients, momentum
        )
        jax.tree.map(np.testing.assert_array_equal, at(out, i), jax.device_get(alone))
        assert alone[2].num_updates == i + 1


def test_the_state_survives_a_checkpoint_and_goes_on_as_it_would_have(tmp_path):
    own = controls(worlds.all_rules()[105])  # threshold death
    assert own.death == choices(Death).index("threshold")
    _, history = worlds.run(worlds.one_init, worlds.one_advance, own, 3)
    state = jax.tree.map(jnp.asarray, history[1][2])
    save_checkpoint(tmp_path / "state", state)
    restored = restore_checkpoint(tmp_path / "state", state)
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    jax.tree.map(np.testing.assert_array_equal, restored, state)
    extras = (at(tree, 2) for tree in (worlds.STEPS, worlds.GRADIENTS, worlds.MOMENTUM))
    out = worlds.one_advance(worlds.key_of(2), restored, history[1][1], own, *extras)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(out), history[2])


def test_an_update_of_one_small_leaf_by_hand():
    # Live 1, -4, 2, -3, all other 20 are dead; rate 1/2 removes 1 and 2. Gradients of the dead:
    # 1 -> 5, 2 -> 0, then 7 and zeros: grown are 7 and the 5 that belongs to the weight 1, which
    # keeps its value. One of four is new.
    def padded(rows, dtype=np.float32):
        return [np.pad(np.array(rows, dtype), ((0, 2), (0, 3)))]

    own = controls(SparsityConfig(growth="gradient", death_rate=0.5, schedule="constant"))
    params = padded([[1, -4, 2], [-3, 0, 0]])
    gradients = padded([[5, 9, 0], [9, -7, 0]])
    state = PLAIN.init(KEY, params, own)._replace(masks=padded([[1, 1, 1], [1, 0, 0]], bool))
    (got,), state, info = update(KEY, state, params, own, gradients)
    np.testing.assert_array_equal([got], padded([[1, -4, 0], [-3, 0, 0]]))
    np.testing.assert_array_equal(state.masks, padded([[1, 1, 0], [1, 1, 0]], bool))
    np.testing.assert_array_equal(info.grown, padded([[0, 0, 0], [0, 1, 0]], bool))
    assert (int(info.num_removed), int(info.num_grown), float(info.churn)) == (2, 2, 0.25)


@pytest.mark.slow
@pytest.mark.parametrize(("rate", "churn"), [(0.5, 0.401), (0.7, 0.520), (0.9, 0.624)])
def test_churn_is_less_than_the_death_rate_as_some_of_the_dead_return(rate, churn):
    # rho (1 - rho d / (1 - d + rho d)) at d = 0.33; K = 13,200, five standard deviations. The key
    # is the same for init and update: their draws must be independent all the same.
    params = [np.random.default_rng(0).normal(size=(200, 200)).astype(np.float32)]
    own = controls(SparsityConfig(death_rate=rate, schedule="constant"))
    state = PLAIN.init(KEY, params, own)
    *_, info = PLAIN.update(KEY, state, params, own)
    assert float(info.churn) == pytest.approx(churn, abs=0.02)


def test_a_dense_network_is_left_alone():
    for config in worlds.all_rules()[::13]:
        dense = dataclasses.replace(config, sparsity=0.0, init="uniform")
        first, history = worlds.run(worlds.one_init, worlds.one_advance, controls(dense), 2)
        for moved, params, state, info in history:
            jax.tree.map(np.testing.assert_array_equal, moved, params)
            assert all(mask.all() for mask in jax.tree.leaves((first.masks, state.masks)))
            assert info.churn == 0


def test_an_update_before_any_training_keeps_the_counts():
    # Gradients and momentum of nothing but zeros, and no weight has moved.
    zeros = jax.tree.map(np.zeros_like, PARAMS)
    for config in worlds.all_rules()[::13]:
        own = controls(dataclasses.replace(config, sparsity_schedule="constant"))
        state = worlds.one_init(KEY, PARAMS, own)
        _, _, after, info = worlds.one_advance(KEY, state, zeros, own, zeros, zeros, zeros)
        assert sum(live_per_leaf(after.masks)) == sum(live_per_leaf(state.masks)), config
        assert info.num_removed == info.num_grown


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_broken_trial_keeps_its_counts(value):
    broken = jax.tree.map(lambda x: np.full_like(x, value), PARAMS)
    for config in worlds.all_rules()[::9]:
        own = controls(dataclasses.replace(config, sparsity_schedule="constant"))
        state = worlds.one_init(KEY, PARAMS, own)
        for _ in range(2):
            total = sum(live_per_leaf(state.masks))
            _, params, state, _ = worlds.one_advance(
                KEY, state, broken, own, broken, broken, broken
            )
            assert sum(live_per_leaf(state.masks)) == total, config
            assert np.isfinite(state.threshold)
            for param, mask in zip(prunable_of(params), prunable_of(state.masks), strict=True):
                assert not param[~mask].any()


def test_a_few_broken_weights_are_the_last_to_die_and_do_not_spread():
    # Half of 24 die. Two of them are NaN, which counts as larger than all.
    params = [np.where(np.arange(24).reshape(4, 6) % 11 == 0, np.nan, SMALL[0])]
    config = SparsityConfig(0.0, death_rate=0.5, schedule="constant")
    dense = PLAIN.init(KEY, params, controls(config))
    half = dense._replace(masks=[jnp.arange(24).reshape(4, 6) % 2 == 0])
    out, state, _ = update(KEY, half, apply_masks(params, half.masks), controls(config))
    assert int(count_live(state.masks)) == 12
    assert np.isnan(out[0]).sum() == 2  # entries 0 and 22; 11 was dead


def test_a_network_with_one_or_no_live_weight_survives_its_updates():
    for sparsity, num_live in ((188 / 189, 1), (0.999, 0)):
        for death in choices(Death):
            config = SparsityConfig(sparsity, "er", death=death, redistribution="magnitude")
            _, history = worlds.run(worlds.one_init, worlds.one_advance, controls(config), 2)
            for _, params, state, info in history:
                assert sum(live_per_leaf(state.masks)) == num_live
                assert np.isfinite(info.churn)
                assert np.isfinite(params["out"][0]).all()


def test_a_grown_weight_starts_at_zero_even_if_params_came_unmasked():
    config = SparsityConfig(0.5, death_rate=1.0, schedule="constant")
    state = PLAIN.init(KEY, SMALL, controls(config))
    params, _, info = update(KEY, state, SMALL, controls(config))
    assert info.grown[0].any() and not params[0][info.grown[0]].any()


def test_the_same_key_gives_the_same_topology_and_another_key_another():
    own = controls(SparsityConfig())
    states = [PLAIN.init(jax.random.key(seed), SMALL, own) for seed in (0, 0, 1)]
    masks = [np.asarray(state.masks[0]) for state in states]
    assert (masks[0] == masks[1]).all() and (masks[0] != masks[2]).any()
    states = [update(jax.random.key(seed), states[0], SMALL, own)[1] for seed in (0, 0, 1)]
    masks = [np.asarray(state.masks[0]) for state in states]
    assert (masks[0] == masks[1]).all() and (masks[0] != masks[2]).any()


def test_equal_leaves_draw_masks_of_their_own():
    _, first, _ = worlds.grid()
    assert (first.masks["cells"][0]["U"] != first.masks["cells"][1]["U"]).any()


def test_an_update_runs_under_the_callers_jit_with_donated_buffers():
    own = controls(SparsityConfig(0.5, growth="random"))

    @jax.jit
    def inner(key, state, params):
        return update(key, state, params, own)

    outer = jax.jit(lambda *args: inner(*args), donate_argnums=(1, 2))
    state = PLAIN.init(KEY, SMALL, own)
    expected = update(KEY, state, SMALL, own)
    expected = jax.device_get(update(KEY, expected[1], expected[0], own))
    params = jax.tree.map(jnp.asarray, SMALL)
    for _ in range(2):
        params, state, info = outer(KEY, state, params)
    jax.tree.map(np.testing.assert_array_equal, (params, state, info), expected)


@pytest.mark.slow
def test_an_update_keeps_dtypes_with_64_bit_types_switched_on():
    with jax.enable_x64(True):
        params = [np.random.default_rng(0).normal(size=(8, 8))]
        updater = dynamic_sparsity(
            gates=lambda path, leaf: "ab", densities=lambda path, leaf: 0.25, track_signs=True
        )
        own = controls(
            SparsityConfig(
                0.5, "given", death="global_normalized", growth="random_gates",
                redistribution="magnitude", sparsity_schedule="cubic",
            )
        )  # fmt: skip
        state = updater.init(KEY, params, own)
        for _ in range(2):
            params, state, info = updater.update(KEY, state, params, own)
        assert params[0].dtype == jnp.float64
        dtypes = {leaf.dtype.name for leaf in jax.tree.leaves((state, info))}
        assert dtypes == {"bool", "int8", "int32", "float32"}


@pytest.mark.slow
def test_growth_by_the_caller_is_traced_without_the_arguments_it_needs():
    # Documented: where controls are traced nothing can be raised, and growth is random.
    own = controls(SparsityConfig(0.5, growth="gradient"))
    traced = jax.jit(lambda own, state: PLAIN.update(KEY, state, SMALL, own))
    state = PLAIN.init(KEY, SMALL, own)
    random = own._replace(growth=jnp.int32(choices(Growth).index("random")))
    for got, expected in zip(
        *(jax.tree.leaves(traced(x, state)) for x in (own, random)), strict=True
    ):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("key", [0, PARAMS, None])
def test_what_is_no_key_is_refused_in_one_line(key):
    updater, chosen = dynamic_sparsity(), controls(SparsityConfig())
    message = f"`key` must be a jax.random.key, got '{type(key).__name__}'"
    with pytest.raises(ConfigError, match=message):
        updater.init(key, PARAMS, chosen)
    state = updater.init(jax.random.PRNGKey(0), PARAMS, chosen)  # an old key is one
    with pytest.raises(ConfigError, match=message):
        updater.update(key, state, PARAMS, chosen)
