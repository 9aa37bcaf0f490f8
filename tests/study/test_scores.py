import numpy as np
import pytest

from lsh_jax import ls_distance
from lsh_jax.distance_noise import debiased_squared_distance
from lsh_jax.study.scores import COMBINED, DISTANCE, LEADING, LOSS, SCORES, at_points, score_table


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
