import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsh_jax.sparsity.fixed_point import inverse_norm, mean_shares, total_magnitude


@jax.jit
def shares(x, chosen):
    """Means of leaves that stand along the first axis, and the norms, as the engine takes them."""
    totals = jax.vmap(total_magnitude)(x, chosen)
    numbers = jnp.sum(chosen, axis=tuple(range(1, x.ndim)), dtype=jnp.int32)
    return mean_shares(totals, numbers), jax.vmap(inverse_norm)(x, chosen)


def means(*leaves):
    x = np.stack(leaves)
    return shares(x, np.ones(x.shape, bool))[0].tolist()


def test_means_are_those_of_floats_up_to_one_scale_and_norms_too():
    rng = np.random.default_rng(0)
    x = rng.normal(0, [[[1.0]], [[0.05]], [[3.0]]], (3, 30, 40)).astype(np.float32)
    live = rng.random(x.shape) < 0.3
    got, inverse = map(np.asarray, shares(x, live))
    chosen = [np.asarray(w, np.float64)[m] for w, m in zip(x, live, strict=True)]
    expected = np.array([abs(w).mean() for w in chosen])
    # 24 bits below an exponent of 9 at most, the small leaf's mean is 0.04: six digits less two.
    np.testing.assert_allclose(got / got.sum(), expected / expected.sum(), rtol=1e-4)
    # 16 bits below the largest, rounded down: 1,200 x 0.3 entries, each off by 2^-15 of it at most.
    norms = [np.sqrt((w**2).sum()) for w in chosen]
    np.testing.assert_allclose(inverse, 1 / np.array(norms), rtol=1e-4)


def test_a_norm_by_hand():
    # 3, 4, of all scales; entries that are not chosen, or not finite, do not count.
    for scale in (1e-30, 1.0, 1e30):
        x = np.array([[3 * scale, -4 * scale, 9 * scale, np.nan]], np.float32)
        inverse = shares(x, np.array([[1, 1, 0, 1]], bool))[1]
        np.testing.assert_allclose(inverse, 1 / (5 * scale), rtol=1e-4)


def test_nothing_has_the_mean_zero_and_the_norm_one():
    x = np.array([[0, 0, 0, 0], [1, 2, 3, 4]], np.float32)
    got, inverse = shares(x, np.array([[1, 1, 1, 1], [0, 0, 0, 0]], bool))
    assert got.tolist() == [0, 0] and inverse.tolist() == [1, 1]


def test_sums_have_the_same_bits_in_any_order_and_under_vmap():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, 5, 500)).astype(np.float32)
    shuffled = np.stack([rng.permutation(x.ravel()).reshape(x.shape) for _ in range(8)])
    everyone = np.ones(x.shape, bool)
    alone = shares(x, everyone)
    batch = jax.jit(jax.vmap(shares, (0, None)))(shuffled, everyone)
    for got, expected in zip(batch, alone, strict=True):
        np.testing.assert_array_equal(got, np.broadcast_to(expected, got.shape))


def test_means_skip_what_is_not_finite_and_bear_all_scales():
    a, b = means(np.array([[np.nan, np.inf, 3.0]]), np.array([[1.0, 1.0, 1.0]]))
    assert a == b > 0  # 3 / 3 and 3 / 3
    for scale in (1e-44, 1e-38, 1e38):
        leaf = np.full((1, 3), jnp.float32(scale))
        a, b = means(leaf, leaf)
        assert a == b > 0
    assert means(np.zeros((1, 3)), np.zeros((1, 3))) == [0, 0]


@pytest.mark.parametrize("exponent", [-140, -100, 0, 100])
def test_leaves_of_unlike_scales_keep_their_proportion(exponent):
    # 1 : 2 : 1024, whatever the unit.
    a, b, c = means(*(np.full((1, 3), factor * 2.0**exponent) for factor in (1, 2, 1024)))
    assert (b, c) == (2 * a, 1024 * a) and a > 0


def test_sums_pass_32_bits_exactly():
    # 2^10 weights of the largest 24-bit mantissa sum to 2^34 - 2^10; the mean is the mantissa.
    assert means(np.full((32, 32), jnp.float32(2**24 - 1))) == [2**24 - 1]


@pytest.mark.parametrize("many", [128, 129, 1000])
def test_many_leaves_do_not_overflow_the_shares(many):
    got = means(*np.full((many, 1, 1), np.float32(2 - 2**-23)))
    assert sum(got) < 2**31 and min(got) > 0


def test_halves_are_measured_too():
    x = jnp.array([[1.5, -0.5, 2.0]], jnp.bfloat16)
    inverse = shares(x, jnp.ones(x.shape, bool))[1]
    np.testing.assert_allclose(inverse, 6.5**-0.5, rtol=1e-4)
