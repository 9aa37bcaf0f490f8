import numpy as np
import pytest

from lsh_jax.study.published import judge, judge_parts, rounds

DEATHS = ("magnitude", "SET", "threshold", "global_magnitude")


@pytest.fixture
def trials():
    """Twenty-four trials whose finals follow the distance, and whose losses go against it."""
    own = np.random.default_rng(0).permutation(24)
    return [
        {
            "trial": 100 + n,
            "death": DEATHS[n % 4],
            "death_rate": 0.4 + 0.1 * (n % 5),
            "ls_distance": 90.0 + own[n],
            "val_perplexity": 200.0 - own[n],
            "final_test_perplexity": 70.0 + own[n] / 10,
        }
        for n in range(24)
    ]


def test_rounds_keep_half_and_one_more(trials):
    found = rounds(trials, "ls_distance")
    assert [len(own) for own in found] == [24, 13, 7, 4, 3, 2]
    nearest = min(trials, key=lambda trial: trial["ls_distance"])["trial"]
    assert all(own[0] == nearest for own in found)


def test_a_distance_that_orders_all_beats_a_loss_that_misleads(trials):
    found = judge(trials)["scores"]
    assert found["LS distance"]["spearman"][0] == pytest.approx(1)
    assert found["validation perplexity"]["spearman"][0] == pytest.approx(-1)
    assert found["LS distance"]["less_loss"][1] > 1.9
    assert found["LS distance"]["regret"]["1"][0] == 0
    assert found["validation perplexity"]["regret"]["1"][0] == pytest.approx(2.3)


def test_parts_leave_out_the_deaths_that_they_do_not_name(trials):
    assert [own["trials"] for own in judge_parts(trials).values()] == [24, 18, 12]
