import math
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from lsh_jax.config import ConfigError
from lsh_jax.statistics import (
    bootstrap_interval,
    paired_block_bootstrap,
    partial_correlation,
    rank_correlation,
    spearman,
    spearman_p_value,
)


def test_spearman_agrees_with_scipy_and_with_a_value_derived_by_hand():
    x, y = np.random.default_rng(0).normal(size=(2, 20)).round(1)  # with ties
    assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic)
    # Ranks 1 2 3 4 and 2 1 4 3: 1 - 6 * 4 / (4 * 15) = 0.6.
    assert spearman([1, 2, 3, 4], [20, 10, 40, 30]) == pytest.approx(0.6)


@pytest.mark.parametrize("y", [[1, 1, 1], [1, 2, math.nan]])
def test_spearman_of_what_has_no_order_is_nan_without_a_warning(y):
    assert math.isnan(spearman([1, 2, 3], y))


def test_the_bootstrap_interval_of_a_mean_is_that_of_the_normal_law():
    sample = np.random.default_rng(1).normal(size=400)
    low, high = bootstrap_interval(np.mean, sample, level=0.9)
    half = 1.645 * sample.std() / 20
    # Quantiles of 2000 draws: their own spread is 4 % of the half-width.
    assert low == pytest.approx(sample.mean() - half, abs=0.2 * half)
    assert high == pytest.approx(sample.mean() + half, abs=0.2 * half)


def test_pairs_are_drawn_together_and_degenerate_draws_are_dropped():
    x = np.arange(3.0)
    low, high = bootstrap_interval(spearman, x, 10 * x, num_resamples=200)
    assert low == pytest.approx(1)
    assert high == pytest.approx(1)
    assert np.isnan(bootstrap_interval(spearman, [1, 1, 1], [1, 2, 3], num_resamples=20)).all()


def test_a_seed_gives_one_interval():
    sample = np.random.default_rng(2).normal(size=30)
    first = bootstrap_interval(np.mean, sample, num_resamples=50, seed=3)
    assert first == bootstrap_interval(np.mean, sample, num_resamples=50, seed=3)
    assert first != bootstrap_interval(np.mean, sample, num_resamples=50, seed=4)
    counts = np.full(30, 10)
    blocks = paired_block_bootstrap(sample, -sample, counts, num_resamples=50, seed=3)
    assert blocks == paired_block_bootstrap(sample, -sample, counts, num_resamples=50, seed=3)
    assert blocks != paired_block_bootstrap(sample, -sample, counts, num_resamples=50, seed=4)


def test_the_difference_of_two_models_is_per_token():
    # (10 + 50 - 8 - 46) / (10 + 20) = 0.2: a ratio of sums, not the mean of block means.
    difference, low, high = paired_block_bootstrap([10.0, 50.0], [8.0, 46.0], [10, 20])
    assert difference == pytest.approx(0.2)
    assert low == pytest.approx(0.2)
    assert high == pytest.approx(0.2)


def test_the_paired_interval_covers_the_true_difference_at_its_level():
    # 40 blocks of unequal size; the models share what makes a block hard (sd 50), and differ by
    # 0.1 nats a token and noise. Coverage of 200 experiments at level 0.9 has an sd of 2 %, and
    # the percentile interval of 40 blocks covers a little less than it says.
    generator = np.random.default_rng(5)
    hits, widths = 0, []
    for seed in range(200):
        counts = generator.integers(20, 60, 40)
        shared = 5 * counts + generator.normal(0, 50, 40)
        nll_a = shared + 0.1 * counts + generator.normal(0, 3, 40)
        _, low, high = paired_block_bootstrap(
            nll_a, shared, counts, level=0.9, num_resamples=300, seed=seed
        )
        hits += low <= 0.1 <= high
        widths.append(high - low)
    assert 0.8 < hits / 200 < 0.97
    # Unpaired, the noise would be that of sd 50: sixteen times as wide.
    expected = 2 * 1.645 * 3 / math.sqrt(40) / 40
    assert np.mean(widths) == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: spearman([1, 2], [1, 2, 3]), r"`samples` must be vectors of one length"),
        (lambda: spearman([1], [1]), r"`x` must hold at least 2 values, got 1"),
        (lambda: bootstrap_interval(np.mean), r"`samples` must hold at least 1 value"),
        (lambda: bootstrap_interval(np.mean, [1.0], level=1.0), r"`level` must lie in \(0, 1\)"),
        (
            lambda: bootstrap_interval(np.mean, [1.0], num_resamples=0),
            r"`num_resamples` must be at least 1, got 0",
        ),
        (
            lambda: paired_block_bootstrap([1.0], [1.0], [3]),
            r"`counts` must hold at least 2 blocks, got 1",
        ),
        (
            lambda: paired_block_bootstrap([1.0, 1.0], [1.0, 1.0], [3, 0]),
            r"`counts` must be positive",
        ),
    ],
)
def test_what_cannot_be_met_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_importing_the_module_does_not_import_scipys_statistics():
    program = "import sys, lsh_jax.statistics; assert 'scipy.stats' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize(
    ("y", "p"),
    [
        ([1.0, 2.0, 3.0], 2 / 6),  # as far from 0: 123 and 321
        ([2.0, 1.0, 3.0], 1.0),  # correlation 1/2, which every order reaches
        ([1.0, 1.0, 2.0], 4 / 6),  # ties: the 2 is not in the middle
    ],
)
def test_the_exact_p_value_counts_orders(y, p):
    assert spearman_p_value([10.0, 20.0, 30.0], y) == pytest.approx(p)


@pytest.mark.parametrize(("kind", "name"), [("spearman", "spearmanr"), ("kendall", "kendalltau")])
def test_rank_correlations_of_many_rows_are_scipys_with_ties_too(kind, name):
    x = np.random.default_rng(0).integers(5, size=(20, 12)).astype(float)
    y = np.random.default_rng(1).integers(4, size=(20, 12)).astype(float)
    expected = [getattr(stats, name)(a, b).statistic for a, b in zip(x, y, strict=True)]
    np.testing.assert_allclose(rank_correlation(x, y, kind), expected, atol=1e-12)
    np.testing.assert_allclose(rank_correlation(x, y[0], kind)[0], expected[0], atol=1e-12)


def test_a_constant_row_has_no_rank_correlation():
    found = rank_correlation([[1.0, 1.0, 1.0], [1.0, 2.0, 3.0]], [3.0, 2.0, 1.0])
    assert np.isnan(found[0]) and found[1] == -1


def test_a_rank_correlation_needs_a_known_kind_and_equal_lengths():
    with pytest.raises(ConfigError, match="`kind` must be one of"):
        rank_correlation([1.0, 2.0], [1.0, 2.0], "pearson")
    with pytest.raises(ConfigError, match="`x` must be as long as"):
        rank_correlation([1.0, 2.0, 3.0], [1.0, 2.0])


def test_a_partial_correlation_is_that_of_the_residuals():
    own = np.random.default_rng(0)
    z = own.normal(size=500)
    x, y = 0.8 * z + own.normal(size=500), -0.5 * z + own.normal(size=500)
    pairs = [np.corrcoef(a, b)[0, 1] for a, b in ((x, y), (x, z), (y, z))]
    left = [a - np.polyval(np.polyfit(z, a, 1), z) for a in (x, y)]
    np.testing.assert_allclose(partial_correlation(*pairs), np.corrcoef(*left)[0, 1], atol=1e-12)
    assert np.isnan(partial_correlation(0.3, 1.0, 0.3))  # z is x


def test_two_rank_correlations_by_hand():
    # 1 2 3 4 and 2 1 4 3: 1 - 6 * 4 / (4 * 15) = 0.6; of six pairs two are the wrong way round.
    x, y = [1.0, 2.0, 3.0, 4.0], [2.0, 1.0, 4.0, 3.0]
    assert rank_correlation(x, y) == pytest.approx(0.6)
    assert rank_correlation(x, y, "kendall") == pytest.approx((4 - 2) / 6)


@pytest.mark.parametrize("kind", ["spearman", "kendall"])
def test_a_rank_correlation_sees_the_order_only(kind):
    x, y = np.random.default_rng(3).normal(size=(2, 5, 9)).round(1)
    found = rank_correlation(x, y, kind)
    assert (np.abs(found) <= 1).all()
    np.testing.assert_allclose(rank_correlation(np.exp(x), 3 * y - 7, kind), found, atol=1e-12)
    np.testing.assert_allclose(rank_correlation(-x, y, kind), -found, atol=1e-12)
    np.testing.assert_allclose(rank_correlation(y, x, kind), found, atol=1e-12)
    np.testing.assert_allclose(rank_correlation(x, x, kind), 1)


@pytest.mark.parametrize("kind", ["spearman", "kendall"])
def test_axes_in_front_of_a_rank_correlation_are_broadcast(kind):
    x, y = np.random.default_rng(4).normal(size=(3, 1, 6)), np.arange(12.0).reshape(2, 6) % 5
    found = rank_correlation(x, y, kind)
    assert found.shape == (3, 2)
    for i, j in np.ndindex(3, 2):
        np.testing.assert_allclose(found[i, j], rank_correlation(x[i, 0], y[j], kind))


def test_a_partial_correlation_given_what_tells_nothing_is_the_correlation():
    xy = np.array([-0.7, 0.0, 0.4])
    np.testing.assert_allclose(partial_correlation(xy, 0.0, 0.0), xy)
    # Both follow z: what is left of 0.5 is (0.5 - 0.25) / (1 - 0.25); of 0.25, nothing.
    assert partial_correlation(0.5, 0.5, 0.5) == pytest.approx(1 / 3)
    assert partial_correlation(0.25, 0.5, 0.5) == 0
