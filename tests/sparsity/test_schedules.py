import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsh_jax.config import Schedule, choices
from lsh_jax.sparsity.schedules import (
    RULES,
    billionths,
    cubic_count,
    progress,
    scheduled_rate,
)

COSINE, LINEAR, CONSTANT = (jnp.int32(i) for i in range(3))


@jax.jit
def rates(mode, start, floor, updates, horizon):
    def rate(update):
        return scheduled_rate(mode, start, floor, progress(update, horizon))

    return jax.vmap(rate)(updates)


@jax.jit
def live_counts(total, dense, updates, horizon):
    return jax.vmap(lambda update: cubic_count(total, dense, progress(update, horizon)))(updates)


UPDATES = np.arange(1, 202)  # one shape for all horizons


def curve(mode, start, floor, horizon):
    return np.asarray(
        rates(mode, jnp.float32(start), jnp.float32(floor), UPDATES, jnp.int32(horizon))
    )


@pytest.mark.parametrize("horizon", [1, 7, 100])
@pytest.mark.parametrize("start", [0.005, 0.4, 1.0])
@pytest.mark.parametrize("floor", [0.0, 0.005, 0.1])
def test_the_cosine_falls_to_its_floor_and_stays_there(start, floor, horizon):
    got = curve(COSINE, start, floor, horizon)
    x = np.minimum(UPDATES / horizon, 1)
    floor = min(start, floor)  # a lower rate stays
    expected = floor + (start - floor) * (1 + np.cos(math.pi * x)) / 2
    np.testing.assert_allclose(got / 1e9, expected, atol=2e-8)  # the series is cut at 1e-8
    assert (np.diff(got) <= 0).all()
    assert got[-1] == round(1e9 * floor)


def test_the_cosine_is_half_way_at_half_the_horizon():
    assert curve(COSINE, 0.505, 0.005, 100)[49] == pytest.approx(255_000_000, abs=10)


def test_the_line_falls_by_equal_steps_to_its_floor():
    # 0.9 to 0.1 over 4 updates: 0.7, 0.5, 0.3, 0.1, then 0.1.
    got = curve(LINEAR, 0.9, 0.1, 4)
    assert got[:6].tolist() == [700_000_000, 500_000_000, 300_000_000] + 3 * [100_000_000]


def test_a_rate_below_the_floor_does_not_rise():
    for mode in (COSINE, LINEAR, CONSTANT):
        assert (curve(mode, 0.003, 0.2, 5) == 3_000_000).all()


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.4, 0.7, 0.123456, 0.999999, 1.0])
def test_a_constant_rate_is_read_as_the_decimal_that_was_meant(rate):
    assert (curve(CONSTANT, rate, 0.0, 5) == round(rate * 1e6) * 1000).all()
    assert int(billionths(jnp.float32(rate))) == round(rate * 1e6) * 1000


def test_a_long_run_does_not_overflow():
    rate = jax.jit(
        lambda t, T: scheduled_rate(COSINE, jnp.float32(0.5), jnp.float32(0.005), progress(t, T))
    )
    assert int(rate(jnp.int32(2**30), jnp.int32(2**31 - 1))) == pytest.approx(252_500_000, abs=20)


def test_the_cubic_by_hand():
    # 100 weights to 20 over 4 updates: 80 (3/4)^3 = 33.75; 80 / 8 = 10; 80 / 64 = 1.25; 0 from
    # there on; each rounded down.
    got = live_counts(jnp.int32(20), jnp.int32(100), UPDATES, jnp.int32(4))
    assert got[:6].tolist() == [53, 30, 21, 20, 20, 20]


@pytest.mark.parametrize("horizon", [1, 3, 10, 200])
@pytest.mark.parametrize(
    ("total", "dense"), [(0, 189), (62, 189), (21_780_000, 66_000_000), (5, 5)]
)
def test_the_cubic_falls_from_dense_to_the_total_by_zhu_and_guptas_law(total, dense, horizon):
    got = np.asarray(live_counts(jnp.int32(total), jnp.int32(dense), UPDATES, jnp.int32(horizon)))
    left = 1 - np.minimum(UPDATES / horizon, 1)
    exact = total + (dense - total) * left**3
    # Rounded down, from progress and a cube that are cut to nine digits.
    slack = 4e-9 * dense
    assert (got <= exact + slack).all() and (got > exact - 1 - slack).all()
    assert (np.diff(got) <= 0).all() and (got[horizon - 1 :] == total).all()


def test_the_cubic_of_two_billion_weights_does_not_overflow():
    got = live_counts(jnp.int32(1), jnp.int32(2**31 - 2), UPDATES, jnp.int32(201))
    assert (np.asarray(got) >= 1).all() and got[-1] == 1
    assert int(got[0]) == pytest.approx((2**31 - 3) * (200 / 201) ** 3, abs=12)


def test_the_table_holds_the_rules_of_the_config():
    assert tuple(RULES) == choices(Schedule)
