import numpy as np
import pytest

from lsh_jax import ls_distance
from lsh_jax.distance_noise import debiased_squared_distance
from lsh_jax.study.scores import (
    COMBINED,
    DISTANCE,
    LEADING,
    LOSS,
    SCORES,
    at_points,
    computable,
    score_table,
)


@pytest.fixture(scope="module")
def point(tiny_table):
    """A trained candidate after epoch 3."""
    return at_points(tiny_table, 3)[1][1]


@pytest.mark.parametrize("share", [0.3, 0.5, 1.0])
def test_a_distance_is_that_of_the_library(point, share):
    own = point.candidate.spectra["hidden"][3][1]
    other = point.dense.spectra["hidden"][3][1]
    expected = float(ls_distance(own, other, share=share))
    assert SCORES[f"hidden {share:.0%}"](point) == pytest.approx(expected, rel=1e-5)


def test_the_debiased_distance_is_that_of_the_library(point):
    spectra = [
        t.spectra[name][3][1]
        for t in (point.candidate, point.dense)
        for name in ("hidden", "hidden_std_error")
    ]
    expected = float(debiased_squared_distance(*spectra))
    assert SCORES["hidden 100%, debiased"](point) == pytest.approx(expected, rel=1e-4)


def test_the_paper_compares_exponents_as_they_stand_in_bits(point):
    own, other = (t.spectra["paper"][3] for t in (point.candidate, point.dense))
    floor = -15 / np.log(2)
    unsorted = float(ls_distance(own, other, sort=False, floor=floor))
    assert SCORES["paper's recipe"](point) == pytest.approx(unsorted, rel=1e-5)
    ordered = float(ls_distance(own, other, floor=floor))
    assert SCORES["paper's recipe, sorted"](point) == pytest.approx(ordered, rel=1e-5)


def test_the_reference_is_the_epoch_that_is_asked_for(point):
    own, dense = point.candidate.spectra["hidden"][3][1], point.dense.spectra["hidden"]
    final = float(ls_distance(own, dense[6][1]))
    assert SCORES["hidden 100%, final dense"](point) == pytest.approx(final, rel=1e-5)
    nearest = 1 + int(np.argmin(np.abs(point.dense.val_nll - point.candidate.val_nll[2])))
    same = float(ls_distance(own, dense[nearest][1]))
    assert SCORES["hidden 100%, dense of the same loss"](point) == pytest.approx(same, rel=1e-5)


def test_trailing_exponents_are_the_last_of_each_layer(point):
    own, other = (t.spectra["hidden"][3][1][:, -2:] for t in (point.candidate, point.dense))
    expected = float(np.linalg.norm(own - other))
    assert SCORES["hidden last 30%"](point) == pytest.approx(expected, rel=1e-6)


def test_scores_without_spectra_are_what_the_lines_say(point):
    candidate = point.candidate
    assert SCORES["loss"](point) == candidate.val_nll[2]
    assert SCORES[LOSS](point) == candidate.val_averaged[2]
    assert SCORES["training loss"](point) == candidate.train_nll[2]
    assert SCORES["churn"](point) == -candidate.churn[1:3].mean()
    assert SCORES["death rate"](point) == -point.controls["death_rate"]


def test_a_larger_gap_is_a_larger_score_whatever_the_judge_reads(make_table):
    table = make_table([[5.0, 6.0, 7.0]], [[1.0, 2.0, 3.0]])
    points = at_points(table, 3)[0]
    for label in ("hidden 10%", LEADING, DISTANCE, "full 30%", "paper's recipe", "mean of all"):
        values = [SCORES[label](at) for at in points]
        assert values == sorted(values), label
        assert values[0] < values[2]


def test_the_rank_sum_adds_ranks_within_a_seed(make_table):
    table = make_table([[5.0, 6.0, 7.0], [7.0, 6.0, 5.0]], [[3, 2, 1], [1, 3, 2]])
    table.settings["study"]["full_lengths"] = []
    scored = score_table(table, 3)
    # Distances rank 2, 1, 0 and 0, 2, 1; the losses of epoch 3 rank 0, 1, 2 and 2, 1, 0.
    assert scored.scores[COMBINED].tolist() == [[2, 2, 2], [2, 3, 1]]
    assert not any(label.startswith("full") for label in scored.scores)
    part = scored.part([2, 0])
    assert part.names == ["2", "0"]
    np.testing.assert_allclose(part.final, [[7, 5], [5, 7]])


@pytest.mark.parametrize(
    ("label", "state", "where", "share"),
    [
        ("full 3%", "full", 0, 0.03),
        ("full 30%", "full", 0, 0.3),
        ("hidden 30%, averaged weights", "averaged", 0, 0.3),
        ("hidden 100%, averaged weights", "averaged", 0, 1.0),
    ],
)
def test_a_distance_reads_the_spectrum_that_its_name_says(point, label, state, where, share):
    own, other = (t.spectra[state][3][where] for t in (point.candidate, point.dense))
    expected = float(ls_distance(own, other, share=share))
    assert SCORES[label](point) == pytest.approx(expected, rel=1e-5)


def test_the_debiased_distance_of_a_part_is_that_of_the_library(point):
    spectra = [
        t.spectra[name][3][1]
        for t in (point.candidate, point.dense)
        for name in ("hidden", "hidden_std_error")
    ]
    expected = float(debiased_squared_distance(*spectra, share=0.3))
    assert SCORES["hidden 30%, debiased"](point) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("label", "count"),
    [
        ("hidden 10%", 2),  # ceil(0.1 * 6) = 1 of each of two layers
        ("hidden 30%", 4),
        ("hidden 100%", 12),
        ("hidden last 50%", 6),
        ("full 30%", 8),  # ceil(0.3 * 12) = 4
        ("full 100%", 24),
        ("paper's recipe", 12),
        ("hidden 100%, averaged weights", 12),
        ("hidden 100%, final dense", 12),
    ],
)
def test_a_gap_in_so_many_exponents_is_a_distance_of_its_root(make_table, label, count):
    table = make_table([[5.0, 6.0]], [[1.0, 2.0]])
    values = [SCORES[label](at) for at in at_points(table, 3)[0]]
    np.testing.assert_allclose(values, np.sqrt(count) * np.array([1.0, 2.0]))


def test_errors_of_estimation_are_taken_off_the_squared_distance(make_table):
    (at,) = at_points(make_table([[5.0]], [[2.0]]), 3)[0]
    # 12 exponents that lie 2 apart, each of both networks with an error of 0.1.
    assert SCORES["hidden 100%, debiased"](at) == pytest.approx(12 * (2**2 - 2 * 0.1**2))


def test_exponents_below_the_floor_lie_on_it(make_table):
    deep, deeper = at_points(make_table([[5.0, 6.0]], [[50.0, 90.0]]), 3)[0]
    own, other = (at.spectra["hidden"][3][1] for at in (deep.candidate, deep.dense))
    assert own.max() < -15 < other.min()
    for label in ("hidden 10%", DISTANCE, "full 30%", "paper's recipe, sorted"):
        assert SCORES[label](deep) == SCORES[label](deeper) > 0, label
    assert SCORES[DISTANCE](deep) == pytest.approx(float(ls_distance(own, other)), rel=1e-5)


def test_a_mean_of_exponents_looks_at_no_dense_network(make_table):
    (at,) = at_points(make_table([[5.0]], [[1.0]]), 3)[0]
    base = -np.linspace(0.5, 3.0, 12).reshape(2, 6) - 1.0
    assert SCORES["mean of all"](at) == pytest.approx(1.0 + (0.5 + 3.0) / 2)
    assert SCORES["mean of the leading 30%"](at) == pytest.approx(-base[:, :2].mean())
    assert SCORES["mean of the leading 10%"](at) == pytest.approx(-base[:, 0].mean())
    blind = at._replace(dense=at.dense._replace(spectra={}))
    for label in ("mean of all", "mean of the leading 30%", "mean of all, averaged weights"):
        assert SCORES[label](blind) == SCORES[label](at)


def test_a_score_is_there_where_its_spectra_are(make_table):
    table = make_table([[5.0, 6.0]], [[1.0, 2.0]])
    assert "hidden 100%, 35 steps" in SCORES
    assert not computable("hidden 100%, 35 steps", table)  # lengths are 5 and 100
    table.settings["study"]["lengths"] = [35, 100]
    assert computable("hidden 100%, 35 steps", table)
    assert computable("full 10%", table)
    assert "hidden 100%, 35 steps" in score_table(table, 3).scores


def test_the_finals_of_a_table_are_those_of_its_trained_networks(make_table):
    finals = np.array([[5.0, 6.0, 7.0], [8.0, 9.0, 4.0]])
    scored = score_table(make_table(finals, np.ones((2, 3))), 2)
    np.testing.assert_allclose(scored.final, finals)
    np.testing.assert_allclose(scored.test, finals * np.exp(0.1))
    assert scored.names == ["0", "1", "2"]
