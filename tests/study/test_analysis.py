import numpy as np
import pytest
from scipy import stats

from lsh_jax.study.analysis import (
    chance_regret,
    correlation,
    correlation_given,
    correlation_within,
    draw,
    estimated,
    fitted_on_halves,
    regret,
    spread,
)

GENERATOR = np.random.default_rng(0)


def test_a_correlation_is_the_mean_over_seeds_of_scipys():
    x, y = GENERATOR.normal(size=(2, 3, 10))
    y += x
    draws = draw(10, 3, resamples=5)
    found = correlation(x, y, draws)
    expected = [stats.spearmanr(a, b).statistic for a, b in zip(x, y, strict=True)]
    assert found[0] == pytest.approx(np.mean(expected))
    drawn, seeds = draws.candidates[2], draws.seeds[2]
    expected = [stats.spearmanr(x[s, drawn], y[s, drawn]).statistic for s in seeds]
    assert found[2] == pytest.approx(np.mean(expected))
    kendall = [stats.kendalltau(a, b).statistic for a, b in zip(x, y, strict=True)]
    assert correlation(x, y, draws, "kendall")[0] == pytest.approx(np.mean(kendall))


def test_an_interval_holds_the_truth_nine_times_in_ten():
    truth, hits = 0.5, 0
    pearson = 2 * np.sin(np.pi * truth / 6)  # of a normal pair with Spearman's 0.5
    for trial in range(100):
        own = np.random.default_rng(trial)
        x = own.normal(size=(1, 40))
        y = pearson * x + np.sqrt(1 - pearson**2) * own.normal(size=(1, 40))
        found = estimated(correlation(x, y, draw(40, 1, resamples=200)))
        hits += found.low <= truth <= found.high
    assert hits >= 81  # binomial, 90 of 100: three standard deviations


def test_what_another_score_explains_is_taken_out():
    z = GENERATOR.normal(size=(1, 3000))
    x, y = z + GENERATOR.normal(size=(2, 1, 3000))
    draws = draw(3000, 1, resamples=0)
    assert correlation(x, y, draws)[0] > 0.4
    assert abs(correlation_given(x, z, y, draws)[0]) < 0.1  # four of 1 / sqrt(3000), and ranks


def test_within_groups_the_difference_between_them_does_not_count():
    groups = ["a"] * 6 + ["b"] * 6 + ["c"] * 3  # the last is too small
    x = np.array([[*range(6), *range(106, 112), 50, 51, 52]], float)
    y = np.array([[*range(6, 0, -1), *range(206, 200, -1), 7, 8, 9]], float)
    draws = draw(15, 1)
    assert correlation(x, y, draws)[0] > 0
    found = estimated(correlation_within(x, y, groups, draws))
    assert (found.value, found.high) == (-1, -1)
    assert np.isnan(correlation_within(x, y, list("abcdefghijklmno"), draws)).all()


def test_regret_is_what_the_best_of_the_first_falls_short():
    scores = np.array([[1.0, 2.0, 3.0, 4.0], [4.0, 3.0, 2.0, 1.0]])
    final = np.array([[7.0, 5.0, 9.0, 6.0], [5.0, 9.0, 9.0, 8.0]])
    draws = draw(4, 2, resamples=0)
    assert regret(scores, final, 1, draws)[0] == ((7 - 5) + (8 - 5)) / 2
    assert regret(scores, final, 2, draws)[0] == (0 + (8 - 5)) / 2
    assert regret(final, final, 1, draws)[0] == 0


def test_the_regret_of_chance_is_its_expectation():
    final = np.array([[1.0, 2.0, 4.0]])
    draws = draw(3, 1, resamples=0)
    assert chance_regret(final, 1, draws)[0] == pytest.approx((0 + 1 + 3) / 3)
    assert chance_regret(final, 2, draws)[0] == pytest.approx((0 + 0 + 1) / 3)  # of three pairs
    assert chance_regret(final, 3, draws)[0] == 0


def test_a_sum_fitted_on_one_half_is_judged_on_the_other():
    parts = GENERATOR.normal(size=(2, 2, 40))
    final = parts[0] + parts[1]
    both, first = fitted_on_halves(parts, final), fitted_on_halves(parts[:1], final)
    assert both.value > 0.9
    assert 0.4 < first.value < 0.85
    noise = fitted_on_halves(GENERATOR.normal(size=(1, 2, 40)), final)
    assert noise.low < 0 < noise.high


def test_the_spread_takes_candidates_and_seeds_apart():
    own = np.random.default_rng(1)
    final = (
        50
        + 2.0 * own.normal(size=(1, 400))  # candidates
        + 5.0 * own.normal(size=(3, 1))  # a seed's own level, which is no noise between candidates
        + 0.5 * own.normal(size=(3, 400))
    )
    found = spread(final)
    assert found.candidates == pytest.approx(2.0, rel=0.12)  # three of 1 / sqrt(800)
    assert found.seeds == pytest.approx(0.5, rel=0.12)
    assert (found.best, found.worst) == (final.min(), final.max())
    assert spread(np.array([[1.0, 2.0], [2.0, 1.0]])).candidates == 0


def test_a_score_that_equals_the_finals_is_right_in_every_draw():
    final = GENERATOR.normal(size=(3, 8))
    draws = draw(8, 3, resamples=50)
    np.testing.assert_allclose(correlation(final, final, draws), 1)
    np.testing.assert_allclose(correlation(final, final, draws, "kendall"), 1)
    assert not regret(final, final, 1, draws).any()
    assert estimated(correlation(-final, final, draws)) == pytest.approx((-1, -1, -1))


def test_a_constant_score_has_no_correlation_and_the_regret_of_the_first():
    final = np.array([[7.0, 5.0, 9.0, 6.0]])
    constant, draws = np.ones((1, 4)), draw(4, 1, resamples=20)
    for kind in ("spearman", "kendall"):
        assert np.isnan(estimated(correlation(constant, final, draws, kind))).all()
    assert np.isnan(correlation_given(final, constant, final, draws)).all()
    assert regret(constant, final, 1, draws)[0] == 7 - 5


def test_a_seed_without_a_correlation_is_left_out_of_the_mean():
    scores = np.array([[1.0, 2.0, 3.0, 4.0], [5.0, 5.0, 5.0, 5.0]])
    final = np.array([[2.0, 1.0, 4.0, 3.0], [1.0, 2.0, 3.0, 4.0]])
    # Ranks 1 2 3 4 and 2 1 4 3: 1 - 6 * 4 / (4 * 15) = 0.6.
    assert correlation(scores, final, draw(4, 2, resamples=0))[0] == pytest.approx(0.6)


def test_candidates_and_seeds_are_drawn_together_for_all_scores():
    draws = draw(5, 2, seed=3, resamples=10)
    assert draws.candidates[0].tolist() == [0, 1, 2, 3, 4]
    assert draws.seeds[0].tolist() == [0, 1]
    values = GENERATOR.normal(size=(2, 5))
    drawn = draws.of(values)
    assert drawn.shape == (11, 2, 5)
    for r, s, n in ((1, 0, 0), (4, 1, 2), (10, 0, 4)):
        assert drawn[r, s, n] == values[draws.seeds[r, s], draws.candidates[r, n]]
    again, other = (draw(5, 2, seed=seed, resamples=10) for seed in (3, 4))
    assert (again.candidates == draws.candidates).all()
    assert (other.candidates != draws.candidates).any()


def test_one_group_of_all_is_no_group():
    x, y = GENERATOR.normal(size=(2, 2, 7))
    draws = draw(7, 2, resamples=30)
    within = correlation_within(x, y, ["a"] * 7, draws)
    np.testing.assert_allclose(within, correlation(x, y, draws))


def test_the_best_of_more_never_falls_shorter():
    x, y = GENERATOR.normal(size=(2, 3, 9))
    draws = draw(9, 3, resamples=20)
    by_top = np.array([regret(x, y, top, draws) for top in range(1, 10)])
    assert (np.diff(by_top, axis=0) <= 0).all()
    assert by_top[0].max() > 0
    assert not by_top[-1].any()
    chance = [chance_regret(y, top, draws)[0] for top in range(1, 10)]
    assert sorted(chance, reverse=True) == chance
