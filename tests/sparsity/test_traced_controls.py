"""Tests of `traced_controls.py`."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from worlds import stack

from lsh_jax.config import ConfigError, SparsityConfig
from lsh_jax.sparsity import controls, dynamic_sparsity
from lsh_jax.sparsity.traced_controls import MODES, NEEDS, Controls

KEY = jax.random.key(0)
PARAMS = {"W": jnp.ones((4, 6))}
PLAIN, DEFAULT = dynamic_sparsity(), controls(SparsityConfig())
STATE = jax.eval_shape(PLAIN.init, KEY, PARAMS, DEFAULT)
NEEDED_OF_THE_UPDATER = [
    ("death", "sign_flip", r"track_signs=True"),
    ("init", "given", r"dynamic_sparsity\(densities=...\)"),
    ("growth", "random_gates", r"dynamic_sparsity\(gates=...\)"),
]


@pytest.mark.parametrize("control", MODES)
def test_a_mode_is_its_place_in_the_table(control):
    for i, mode in enumerate(MODES[control]):
        value = getattr(controls(SparsityConfig(**{control: mode})), control)
        assert (int(value), value.dtype, value.shape) == (i, jnp.int32, ())


def test_controls_are_the_configuration_as_arrays():
    own = controls(
        SparsityConfig(
            0.67, death_rate=0.4, rate_floor=0.1, threshold_init=1e-3, exclude_dropped=True,
            horizon=50, stop_fraction=0.75, update_every=0.25,
        )
    )  # fmt: skip
    assert own.density.tolist() == [33, 100]
    assert (float(own.death_rate), float(own.rate_floor)) == pytest.approx((0.4, 0.1))
    assert float(own.threshold_init) == pytest.approx(1e-3)
    assert bool(own.exclude_dropped) and bool(own.freezes)
    assert int(own.horizon) == 38  # 37.5, to the even neighbour
    assert float(own.update_every) == 0.25
    assert {leaf.dtype.name for leaf in jax.tree.leaves(own)} == {"int32", "float32", "bool"}


def test_the_horizon_is_at_least_one_update_and_an_int32():
    assert int(controls(SparsityConfig(horizon=10, stop_fraction=0.01)).horizon) == 1
    assert int(controls(SparsityConfig(horizon=2**40)).horizon) == 2**31 - 1
    assert not bool(DEFAULT.freezes)


def test_the_host_can_read_the_period_of_the_updates():
    for period in (0.25, 1.0, math.inf):
        assert float(controls(SparsityConfig(update_every=period)).update_every) == period


@pytest.mark.parametrize(("control", "mode"), NEEDS)
def test_a_mode_without_what_it_ranks_by_is_refused_by_name(control, mode):
    argument = NEEDS[control, mode]
    own = controls(SparsityConfig(**{control: mode}))
    other = {"gradients": "momentum", "momentum": "gradients"}[argument]
    for asked in (own, stack([DEFAULT, own])):
        for given in ({}, {other: PARAMS}):
            match = f"`{argument}` must be given for {control} by {mode}, got None"
            with pytest.raises(ConfigError, match=match):
                PLAIN.update(KEY, STATE, PARAMS, asked, **given)
    jax.eval_shape(lambda s: PLAIN.update(KEY, s, PARAMS, own, **{argument: PARAMS}), STATE)


def test_every_mode_that_ranks_by_gradients_or_momentum_needs_them():
    named = {
        (control, mode)
        for control in ("growth", "redistribution", "death")
        for mode in MODES[control]
        if mode in ("gradient", "momentum", "taylor")
    }
    assert set(NEEDS) == named


@pytest.mark.parametrize(("control", "mode", "advice"), NEEDED_OF_THE_UPDATER)
def test_a_mode_that_the_updater_was_not_built_for_is_refused(control, mode, advice):
    own = controls(SparsityConfig(**{control: mode}))
    for asked in (own, stack([DEFAULT, own])):
        with pytest.raises(ConfigError, match=rf"`{control}` {mode} needs .*{advice}"):
            PLAIN.init(KEY, PARAMS, asked)
        with pytest.raises(ConfigError, match=rf"`{control}` {mode} needs"):
            PLAIN.update(KEY, STATE, PARAMS, asked)


def test_what_is_no_controls_of_one_configuration_is_refused():
    for wrong in (SparsityConfig(), "rigl"):
        with pytest.raises(ConfigError, match=r"`controls` must come from `sparsity\.controls"):
            PLAIN.init(KEY, PARAMS, wrong)
        with pytest.raises(ConfigError, match=r"`controls` must come from `sparsity\.controls"):
            PLAIN.update(KEY, STATE, PARAMS, wrong)
    with pytest.raises(ConfigError, match=r"`controls` must be of one configuration, got \(2,\)"):
        PLAIN.init(KEY, PARAMS, stack([DEFAULT, DEFAULT]))
    with pytest.raises(ConfigError, match="`state` must be a SparsityState, got 'dict'"):
        PLAIN.update(KEY, PARAMS, STATE, DEFAULT)


@pytest.mark.parametrize("name", ["prunable", "gates", "densities"])
def test_what_is_no_function_of_path_and_leaf_is_refused(name):
    with pytest.raises(ConfigError, match=f"`{name}` must be a function"):
        dynamic_sparsity(**{name: {"W": 0.5}})


def test_gate_granularity_without_gates_is_refused():
    with pytest.raises(ConfigError, match="`gates` must be given with granularity='gate'"):
        dynamic_sparsity(granularity="gate")


def test_a_state_without_signs_is_refused_where_they_are_tracked():
    updater = dynamic_sparsity(track_signs=True)
    with pytest.raises(ConfigError, match=r"`state\.signs` must be kept"):
        updater.update(KEY, STATE, PARAMS, DEFAULT)


def test_controls_that_a_caller_closes_over_are_refused_under_jit_too():
    own = controls(SparsityConfig(growth="gradient"))
    with pytest.raises(ConfigError, match="`gradients` must be given"):
        jax.jit(lambda state: PLAIN.update(KEY, state, PARAMS, own)).lower(STATE)


def test_traced_controls_are_not_refused():
    for config in (SparsityConfig(growth="gradient"), SparsityConfig(death="sign_flip")):
        jax.jit(lambda state, own: PLAIN.update(KEY, state, PARAMS, own)).lower(
            STATE, controls(config)
        )


def test_stacked_controls_keep_their_fields():
    both = stack([DEFAULT, controls(SparsityConfig(0.5))])
    assert isinstance(both, Controls)
    np.testing.assert_array_equal(both.density, [[33, 100], [1, 2]])
