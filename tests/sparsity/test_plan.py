import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
import worlds
from worlds import at, live_per_leaf, prunable_of

from lsh_jax.config import Death, SparsityConfig, choices
from lsh_jax.sparsity import controls, dynamic_sparsity, preset

N = worlds.NUM_WEIGHTS  # 72 + 72 + 45


def totals(history):
    return [sum(live_per_leaf(state.masks)) for _, _, state, _ in history]


def cubic(**changes):
    own = {"sparsity": 0.67, "sparsity_schedule": "cubic", "death_rate": 0.0, "horizon": 4}
    return SparsityConfig(**(own | changes))


def test_gradual_pruning_starts_dense_and_ends_exactly_at_the_density_asked_for():
    # K = round(62.37) = 62; 127 (3/4)^3 = 53.6, 127 / 8 = 15.9, 127 / 64 = 1.98, 0.
    ((config, first, history),) = worlds.side_by_side([cubic()], 6)
    assert sum(live_per_leaf(first.masks)) == N
    assert totals(history) == [62 + 53, 62 + 15, 62 + 1, 62, 62, 62]
    for i, (_, _, state, _) in enumerate(history):
        total = reference.cubic_total(config, worlds.SHAPES, None, i + 1)
        # Uniform: each leaf has its share at every update.
        assert live_per_leaf(state.masks) == reference.apportion(total, [72, 72, 45], [72, 72, 45])
    # Nothing is grown, and nothing dies once there.
    assert [int(info.num_grown) for *_, info in history] == 6 * [0]
    assert [int(info.num_removed) for *_, info in history][4:] == [0, 0]


@pytest.mark.parametrize("init", ["uniform", "er", "given"])
def test_one_shot_pruning_is_magnitude_pruning_by_argsort_leaf_by_leaf(init):
    ((config, first, history),) = worlds.side_by_side([cubic(horizon=1, init=init)], 2)
    moved, params, state, _ = history[0]
    assert sum(live_per_leaf(first.masks)) == N
    total = reference.final_total(config, worlds.SHAPES, worlds.DENSITIES)
    counts = reference.allocation(config, worlds.SHAPES, worlds.DENSITIES, total)
    for w, mask, k in zip(prunable_of(moved), prunable_of(state.masks), counts, strict=True):
        expected = np.zeros(w.size, bool)
        expected[np.argsort(-abs(w).ravel(), kind="stable")[:k]] = True
        np.testing.assert_array_equal(mask.ravel(), expected)
    for w, new, mask in zip(
        prunable_of(moved), prunable_of(params), prunable_of(state.masks), strict=True
    ):
        np.testing.assert_array_equal(new, np.where(mask, w, 0))
    jax.tree.map(np.testing.assert_array_equal, history[1][2].masks, state.masks)  # it is done


def test_one_shot_pruning_across_leaves_is_that_by_argsort_of_all():
    config = cubic(horizon=1, death="global_magnitude")
    ((_, _, history),) = worlds.side_by_side([config], 1)
    moved, _, state, _ = history[0]
    flat = np.concatenate([abs(w).ravel() for w in prunable_of(moved)])
    expected = np.zeros(N, bool)
    expected[np.argsort(-flat, kind="stable")[:62]] = True
    got = np.concatenate([mask.ravel() for mask in prunable_of(state.masks)])
    np.testing.assert_array_equal(got, expected)


def test_the_cubic_law_holds_for_every_death_with_and_without_rewiring():
    configs = [
        cubic(death=death, death_rate=rate, growth=growth, redistribution=redistribution)
        for death, rate, growth, redistribution in itertools.product(
            choices(Death), (0.0, 0.3), ("random", "gradient"), ("none", "magnitude")
        )
    ]
    for config, first, history in worlds.side_by_side(configs, 5):
        assert sum(live_per_leaf(first.masks)) == N
        assert totals(history) == [115, 77, 63, 62, 62], config
        before = N
        for i, (*_, info) in enumerate(history):
            after = [115, 77, 63, 62, 62][i]
            assert info.num_removed - info.num_grown == before - after, config
            if config.death_rate == 0 and config.death != "sign_flip":
                assert info.num_grown == 0, config
            elif config.death in ("threshold", "global_magnitude", "global_normalized"):
                # GraNet: what goes for good, and a share of what stays, is removed.
                share = math.ceil(reference.death_rate(config, i + 1) * after)
                assert info.num_removed == before - after + share, config
            before = after


@pytest.mark.slow
def test_a_falling_density_ends_at_the_counts_of_its_init_where_weights_are_rewired_too():
    # ER: 0.2 x 2236 = 447 as 80 : 12 : 50, the second capped at its 36; then 411 as 80 : 50.
    params = [
        jax.random.normal(jax.random.key(i), s) for i, s in enumerate(((40, 40), (6, 6), (20, 30)))
    ]
    config = cubic(sparsity=0.8, init="er", death_rate=0.5, schedule="constant", horizon=10)
    updater, own = dynamic_sparsity(), controls(config)
    state = updater.init(jax.random.key(0), params, own)
    for _ in range(10):
        params, state, _ = updater.update(jax.random.key(1), state, params, own)
    assert [int(mask.sum()) for mask in state.masks] == [253, 36, 158]


def test_a_start_by_chance_is_dense_too_where_the_density_falls():
    for config, first, history in worlds.side_by_side([cubic(init_sampling="bernoulli")], 4):
        assert sum(live_per_leaf(first.masks)) == N
        assert totals(history)[-1] == 62, config


def test_the_presets_move_as_published():
    names = ("set", "deepr", "dsr", "snfs", "rigl", "selfish", "static", "gradual", "one_shot")
    configs = [preset(name, sparsity=0.8, horizon=4) for name in names]
    by_name = dict(zip(names, worlds.side_by_side(configs, 5), strict=True))
    for name, (_, first, history) in by_name.items():
        if name == "gradual":
            assert sum(live_per_leaf(first.masks)) == N and totals(history)[-1] == 38  # 37.8
        else:
            assert totals(history) == 5 * [38], name
    churn = {name: [float(info.churn) for *_, info in run[2]] for name, run in by_name.items()}
    assert churn["static"] == 5 * [0]
    # RigL stops after 3 of 4 updates, with a rate of 0 at the third; the others go on.
    assert churn["rigl"][0] > 0 and churn["rigl"][2:] == [0, 0, 0]
    for name in ("set", "snfs", "selfish"):
        assert min(churn[name][:3]) > 0, name


def test_the_rate_falls_to_its_floor_and_stays_there():
    # Of 50 live weights of each leaf of 72 and 31 of 45: linear 0.8 to 0.2 in 3 updates, so 0.6,
    # 0.4, 0.2, 0.2 of each, rounded up.
    config = SparsityConfig(
        0.3, death_rate=0.8, rate_floor=0.2, schedule="linear", horizon=3, death="magnitude"
    )
    ((_, first, history),) = worlds.side_by_side([config], 4)
    live = live_per_leaf(first.masks)
    for rate, (*_, info) in zip((6, 4, 2, 2), history, strict=True):
        assert info.num_removed == sum(-(-rate * a // 10) for a in live)


def test_a_normalised_death_spares_leaves_of_small_weights():
    # The third leaf's weights are a third of the others' in size, and nearly all it has goes by
    # magnitude; measured by its norm it loses as the others do. All may grow anywhere but by
    # `nonzeros` in proportion to what lived, so kept weights tell what was lost.
    configs = [
        SparsityConfig(0.3, death=death, death_rate=0.4, schedule="constant", exclude_dropped=True)
        for death in ("global_magnitude", "global_normalized")
    ]
    kept = []
    for _, first, history in worlds.side_by_side(configs, 1):
        moved, params, state, info = history[0]
        assert info.num_removed == math.ceil(0.4 * sum(live_per_leaf(first.masks)))
        live = prunable_of(first.masks)[2]
        kept.append(int((prunable_of(params)[2] != 0).sum()) / int(live.sum()))
        del moved, state
    assert kept[0] < kept[1] and kept[1] > 0.5


def test_one_program_serves_all_of_them():
    worlds.side_by_side([cubic()], 1)
    assert (worlds.many_init._cache_size(), worlds.many_advance._cache_size()) == (1, 1)


@pytest.mark.slow
def test_controls_that_lower_the_density_of_a_frozen_run_leave_it_alone():
    # Frozen before the density has fallen, as when a run goes on with other controls.
    config = cubic(stop_fraction=0.5, redistribution="nonzeros")
    own = controls(config)
    state = worlds.one_init(jax.random.key(0), worlds.PARAMS, controls(SparsityConfig(0.2)))
    state = state._replace(num_updates=jnp.int32(7))
    extras = (at(tree, 0) for tree in (worlds.STEPS, worlds.GRADIENTS, worlds.MOMENTUM))
    _, _, after, info = worlds.one_advance(jax.random.key(1), state, worlds.PARAMS, own, *extras)
    jax.tree.map(np.testing.assert_array_equal, after.masks, state.masks)
    assert (int(info.num_removed), int(info.num_grown)) == (0, 0)
