import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsh_jax.config import ConfigError, SparseInit, SparsityConfig, choices
from lsh_jax.sparsity import controls, dynamic_sparsity
from lsh_jax.sparsity.allocation import (
    MODES,
    allocation,
    density_fraction,
    given_counts,
    num_live_weights,
)

# Embedding, four recurrent matrices and decoder of the paper's LSTM (10,000 words, 2 x 1500); the
# tied table of its RHN, W and R of ten steps of depth, 830 wide.
PAPER_LSTM = [(10_000, 1500), *4 * [(1500, 6000)], (10_000, 1500)]
PAPER_RHN = [(10_000, 830), *11 * [(830, 1660)]]

round_live = jax.jit(num_live_weights)


def density(sparsity):
    return jnp.array(density_fraction(sparsity), jnp.int32)


def start(mode, sparsity, shapes, densities=None):
    def counts(mode, density):
        own = allocation(mode, density, shapes, densities)
        return own.counts(own.total)

    return np.asarray(jax.jit(counts)(jnp.int32(MODES.index(mode)), density(sparsity)))


def densities_of(counts, shapes):
    return counts / np.array([math.prod(shape) for shape in shapes])


@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.3, 0.5, 0.67, 0.9, 0.999])
@pytest.mark.parametrize("num_weights", [1, 2, 105, 1_000_003, 66_000_000, 2**31 - 2])
def test_the_number_of_live_weights_is_rounded_exactly(sparsity, num_weights):
    got = round_live(density(sparsity), num_weights)
    assert int(got) == round((1 - Fraction(str(sparsity))) * num_weights)


@pytest.mark.parametrize("sparsity", [1 / 3, 2**-40, 1 - 2**-53, math.pi / 4])
def test_a_density_without_decimals_is_within_one_weight(sparsity):
    num_weights = 2**31 - 2
    got = int(round_live(density(sparsity), num_weights))
    assert abs(got - (1 - Fraction(sparsity)) * num_weights) < 1


@pytest.mark.parametrize("mode", ["er", "erk"])
def test_er_gives_the_densities_of_the_papers_lstm(mode):
    # eps = 0.33 sum(n) / sum(dims) = 410.9; eps (1/10000 + 1/1500) and eps (1/1500 + 1/6000).
    counts = start(mode, 0.67, PAPER_LSTM)
    expected = [0.3151, 0.3425, 0.3425, 0.3425, 0.3425, 0.3151]
    np.testing.assert_allclose(densities_of(counts, PAPER_LSTM), expected, atol=5e-5)
    assert counts.sum() == 21_780_000


def test_er_gives_the_densities_of_the_papers_rhn():
    # 0.53 sparse (SPARSITY.md 1.2 has d = 0.472: 11.1 M of 23.5 M). eps = 0.472 x 23,455,800 /
    # (10,830 + 11 x 2490) = 289.67; eps (1/10000 + 1/830) and eps (1/830 + 1/1660).
    counts = start("er", 0.528, PAPER_RHN)
    got = densities_of(counts, PAPER_RHN)
    np.testing.assert_allclose(got, [0.3780, *11 * [0.5235]], atol=5e-5)
    assert counts.sum() == round(0.472 * 23_455_800)


def test_er_makes_a_leaf_dense_rather_than_more_than_dense():
    # sum(dims) 4 and 40, K = 202: the first quota is 202 * 4 / 44 = 18.4 of 4, so it is full.
    assert start("er", 0.5, [(2, 2), (20, 20)]).tolist() == [4, 198]


def test_a_convolution_has_more_under_er_than_under_erk():
    # A 3 x 3 window of 4 x 8 and a matrix of 10 x 10: er 9 (4 + 8) = 108 : 20, erk 18 : 20.
    # K = round(0.5 x 388) = 194: er 163.7 and 30.3, erk 91.9 and 102.1, of which 100 fit.
    shapes = [(3, 3, 4, 8), (10, 10)]
    assert start("er", 0.5, shapes).tolist() == [164, 30]
    assert start("erk", 0.5, shapes).tolist() == [94, 100]


def test_uniform_gives_every_leaf_the_same_density():
    # 0.33 * 30, 20, 5 = 9.9, 6.6, 1.65, K = round(18.15) = 18: quotas scaled to 18 are 9.82,
    # 6.55, 1.64: floors 9, 6, 1 and the two left go to the remainders .82 and .64.
    assert start("uniform", 0.67, [(5, 6), (4, 5), (5, 1)]).tolist() == [10, 6, 2]


@pytest.mark.parametrize("mode", ["uniform", "er", "erk"])
def test_density_one_fills_every_leaf(mode):
    assert start(mode, 0.0, [(3, 4), (5, 1), (0, 3)]).tolist() == [12, 5, 0]


def test_densities_of_the_user_are_rounded_by_largest_remainders():
    # 0.3 x 7 = 2.1, 0.5 x 3 = 1.5, 0.9 x 9 = 8.1: sum 11.7, so 12; 2 + 1 + 8 = 11, the one left
    # goes to the half. The sparsity of the configuration is not read.
    shapes, own = [(7,), (3,), (9,)], [0.3, 0.5, 0.9]
    assert given_counts(shapes, own) == [2, 2, 8]
    assert start("given", 0.99, shapes, own).tolist() == [2, 2, 8]
    assert start("uniform", 0.0, shapes, own).tolist() == [7, 3, 9]


@pytest.mark.parametrize("seed", range(5))
def test_counts_of_the_user_are_within_one_of_their_quotas_and_sum_exactly(seed):
    rng = np.random.default_rng(seed)
    shapes = [tuple(map(int, rng.integers(1, 30, 2))) for _ in range(20)]
    own = np.round(rng.random(20), 3).tolist()
    own[0], own[1] = 0.0, 1.0
    quotas = [math.prod(shape) * Fraction(str(d)) for shape, d in zip(shapes, own, strict=True)]
    got = given_counts(shapes, own)
    assert sum(got) == round(sum(quotas))
    assert all(abs(k - q) < 1 for k, q in zip(got, quotas, strict=True))
    assert start("given", 0.5, shapes, own).tolist() == got


def test_densities_are_asked_by_path_and_checked():
    params = {"a": {"W": jnp.ones((4, 5))}, "b": jnp.ones(3), "c": jnp.ones((3, 3))}
    seen = []

    def half(path, leaf):
        seen.append((path, leaf.shape))
        return 0.5 if path == ("a", "W") else 1.0

    own = controls(SparsityConfig(init="given"))
    masks = dynamic_sparsity(densities=half).init(jax.random.key(0), params, own).masks
    assert seen == [(("a", "W"), (4, 5)), (("c",), (3, 3))]
    assert (int(masks["a"]["W"].sum()), int(masks["c"].sum())) == (10, 9)
    for wrong in (-0.1, 1.1, math.nan):
        updater = dynamic_sparsity(densities=lambda path, leaf, wrong=wrong: wrong)
        with pytest.raises(ConfigError, match=r"`densities` must give numbers in \[0, 1\].*a/W"):
            updater.init(jax.random.key(0), params, own)


def test_bernoulli_counts_scatter_as_independent_draws_do():
    # 2,000 starts of 30 x 20 at 0.3: mean 180, variance 600 x 0.3 x 0.7 = 126. Five standard
    # errors are 5 sqrt(126 / 2000) = 1.26 for the mean and 5 x 126 sqrt(2 / 2000) = 20 for it.
    own = controls(SparsityConfig(0.7, init_sampling="bernoulli"))
    updater, params = dynamic_sparsity(), [jnp.ones((30, 20))]

    @jax.jit
    def count(key):
        masks = updater.init(key, params, own).masks
        return jnp.sum(masks[0], dtype=jnp.int32)

    counts = np.asarray(jax.jit(jax.vmap(count))(jax.random.split(jax.random.key(0), 2000)))
    assert counts.mean() == pytest.approx(180, abs=1.26)
    assert counts.var() == pytest.approx(126, abs=20)


def test_exact_starts_are_uniform_over_the_places():
    # 2,000 starts of 6 of 20: each place lives in 0.3; 5 sqrt(0.21 / 2000) = 0.051.
    own = controls(SparsityConfig(0.7))
    updater, params = dynamic_sparsity(), [jnp.ones((5, 4))]
    init = jax.jit(jax.vmap(lambda key: updater.init(key, params, own).masks[0]))
    masks = np.asarray(init(jax.random.split(jax.random.key(0), 2000)))
    assert (masks.sum((1, 2)) == 6).all()
    np.testing.assert_allclose(masks.mean(0), 0.3, atol=0.051)


def test_a_start_by_magnitude_takes_the_largest_of_each_leaf():
    # 0.25 of 4 and of 8; of equals the first.
    params = [jnp.array([[1.0, -3.0], [3.0, 2.0]]), jnp.array([[0.5] * 4, [-1.0, 2.0, 0.1, 0.0]])]
    own = controls(SparsityConfig(0.75, init_sampling="magnitude"))
    first, second = dynamic_sparsity().init(jax.random.key(0), params, own).masks
    np.testing.assert_array_equal(first, [[0, 1], [0, 0]])
    np.testing.assert_array_equal(second, [[0, 0, 0, 0], [1, 1, 0, 0]])


def test_the_table_holds_the_rules_of_the_config():
    assert tuple(MODES) == choices(SparseInit)
