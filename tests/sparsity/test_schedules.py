import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsh_jax.config import Schedule, choices
from lsh_jax.sparsity.schedules import RULES, scheduled_rate

COSINE, CONSTANT = jnp.int32(0), jnp.int32(1)
rate_at = jax.jit(scheduled_rate)
rates = jax.jit(jax.vmap(scheduled_rate, (None, None, 0, None)))


@pytest.mark.parametrize("horizon", [1, 7, 100])
@pytest.mark.parametrize("start", [0.005, 0.4, 1.0])
def test_the_cosine_falls_to_its_floor_and_stays_there(start, horizon):
    updates = np.arange(1, 202)  # one shape for all horizons
    got = np.asarray(rates(COSINE, jnp.float32(start), updates, jnp.int32(horizon)))
    progress = np.minimum(updates / horizon, 1)
    expected = 0.005 + (start - 0.005) * (1 + np.cos(math.pi * progress)) / 2
    np.testing.assert_allclose(
        np.asarray(got) / 1e9, expected, atol=2e-8
    )  # the series is cut at 1e-8
    assert (np.diff(got) <= 0).all()
    assert got[-1] == 5_000_000


def test_the_cosine_is_half_way_at_half_the_horizon():
    rate = rate_at(COSINE, jnp.float32(0.505), jnp.int32(50), jnp.int32(100))
    assert int(rate) == pytest.approx(255_000_000, abs=10)


def test_a_rate_below_the_floor_does_not_rise():
    assert int(rate_at(COSINE, jnp.float32(0), jnp.int32(3), jnp.int32(5))) == 0


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.4, 0.7, 0.123456, 1.0])
def test_a_constant_rate_is_read_as_the_decimal_that_was_meant(rate):
    got = rate_at(CONSTANT, jnp.float32(rate), jnp.int32(9), jnp.int32(5))
    assert int(got) == round(rate * 1e6) * 1000


def test_a_long_run_does_not_overflow():
    got = rate_at(COSINE, jnp.float32(0.5), jnp.int32(2**30), jnp.int32(2**31 - 1))
    assert int(got) == pytest.approx(252_500_000, abs=20)


def test_the_table_holds_the_rules_of_the_config():
    assert tuple(RULES) == choices(Schedule)
