import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsh_jax.config import Redistribution, choices
from lsh_jax.sparsity.redistribution import RULES, mean_magnitudes, redistribute

NONE, MAGNITUDE, NONZEROS = (jnp.int32(i) for i in range(3))
means_of, share_out = jax.jit(mean_magnitudes), jax.jit(redistribute)

# Live 2 of 4 and 6 of 12, means of |w| over the live: 3 and 1.
WEIGHTS = (np.array([[2.0, -4.0], [7.0, 7.0]]), np.array([[1.0, -1.0] * 3, [9.0] * 6]))
LIVE = (np.array([[1, 1], [0, 0]], bool), np.array([[1] * 6, [0] * 6], bool))


@pytest.mark.parametrize(
    ("mode", "num_removed", "expected"),
    [
        (NONE, [1, 3], [1, 3]),
        (MAGNITUDE, [1, 3], [3, 1]),  # 4 in the proportion 3 : 1, and the first has 3 free places
        (MAGNITUDE, [0, 4], [2, 2]),  # ... now it has 2
        (NONZEROS, [1, 3], [1, 3]),  # 2 : 6
        (NONZEROS, [2, 2], [1, 3]),
        (NONE, [0, 0], [0, 0]),
        (MAGNITUDE, [2, 6], [4, 4]),  # all removed; the first leaf is full
    ],
)
def test_shares_of_two_leaves_by_hand(mode, num_removed, expected):
    got = share_out(mode, WEIGHTS, LIVE, jnp.array(num_removed))
    np.testing.assert_array_equal(got, expected)


def test_means_are_those_of_floats_up_to_one_scale():
    rng = np.random.default_rng(0)
    weights = [rng.normal(0, scale, (30, 40)).astype(np.float32) for scale in (1.0, 0.05, 3.0)]
    live = [rng.random((30, 40)) < 0.3 for _ in weights]
    means = np.asarray(means_of(weights, live))
    expected = np.array(
        [abs(np.asarray(w, np.float64))[m].mean() for w, m in zip(weights, live, strict=True)]
    )
    # 24 bits below an exponent of 9 at most, the small leaf's mean is 0.04: six digits less two.
    np.testing.assert_allclose(means / means.sum(), expected / expected.sum(), rtol=1e-4)


def test_means_have_the_same_bits_in_any_order_and_under_vmap():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(5, 500)).astype(np.float32)
    shuffled = np.stack([rng.permutation(x.ravel()).reshape(x.shape) for _ in range(8)])
    everyone = np.ones(x.shape, bool)
    single = means_of([x], [everyone])
    batch = jax.jit(jax.vmap(mean_magnitudes, (0, None)))([shuffled], [everyone])
    np.testing.assert_array_equal(batch, np.broadcast_to(single, batch.shape))


def test_means_skip_what_is_not_finite_and_bear_all_scales():
    everyone = [np.ones((1, 3), bool)] * 2
    broken = [np.array([[np.nan, np.inf, 3.0]]), np.array([[1.0, 1.0, 1.0]])]
    a, b = means_of(broken, everyone)
    assert a == b > 0  # 3 / 3 and 3 / 3
    for scale in (1e-44, 1e-38, 1e38):
        a, b = means_of([np.full((1, 3), jnp.float32(scale))] * 2, everyone)
        assert a == b > 0
    assert means_of([np.zeros((1, 3))] * 2, everyone).tolist() == [0, 0]
    assert means_of(broken, [np.zeros((1, 3), bool)] * 2).tolist() == [0, 0]


def test_sums_pass_32_bits_exactly():
    # 2^10 weights of the largest 24-bit mantissa sum to 2^34 - 2^10.
    largest = np.full((32, 32), jnp.float32(2**24 - 1))
    assert means_of([largest], [np.ones((32, 32), bool)]).tolist() == [2**24 - 1]


def test_many_leaves_do_not_overflow_the_shares():
    many = 130
    means = jax.jit(lambda w, live: mean_magnitudes([w] * many, [live] * many))(
        np.full((1, 1), 1.99), np.ones((1, 1), bool)
    )
    assert sum(means.tolist()) < 2**31 and min(means.tolist()) > 0


def test_the_table_holds_the_rules_of_the_config():
    assert tuple(RULES) == choices(Redistribution)
