import math

import numpy as np
import pytest

from lsh_jax.config import SearchConfig
from lsh_jax.search.space import make_space
from lsh_jax.search.tpe import Observation, num_startup, propose

SPACE = {"kind": ("a", "b", "c"), "rate": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)}


def drive(num_trials, score, algo="tpe", history=()):
    history = list(history)
    for trial in range(len(history), num_trials):
        assignment = propose(algo, SPACE, history, trial, seed=3)
        history.append(Observation(trial, assignment, score(assignment)))
    return history


def bowl(assignment):
    return abs(assignment["rate"] - 0.5) + (assignment["kind"] != "b")


@pytest.mark.parametrize("algo", ["tpe", "random"])
def test_resumed_proposals_are_those_of_the_straight_run(algo):
    straight = drive(16, bowl, algo)
    for split in (3, 9):
        assert drive(16, bowl, algo, straight[:split]) == straight


def test_proposals_come_from_the_space():
    for _, assignment, _ in drive(12, bowl):
        assert all(assignment[name] in choices for name, choices in SPACE.items())


def test_random_proposals_reach_every_choice_of_an_ordered_control_alike():
    draws = [propose("random", SPACE, [], trial, seed=0)["rate"] for trial in range(300)]
    counts = np.array([draws.count(choice) for choice in SPACE["rate"]])
    # Multinomial, 300 draws over 6: mean 50, sd sqrt(300 * 1/6 * 5/6) = 6.5; 4.5 sd
    assert np.abs(counts - 50).max() < 29


def test_tpe_proposes_better_candidates_than_chance():
    later = [observation.score for observation in drive(40, bowl)[20:]]
    chance = [observation.score for observation in drive(200, bowl, "random")]
    # By hand: chance averages 2/3 for the kind and 0.1 * (4 + 3 + 2 + 1 + 0 + 1) / 6 for the rate.
    assert np.mean(chance) == pytest.approx(2 / 3 + 1.1 / 6, abs=0.12)  # 3.5 sd of 0.48/sqrt(200)
    assert np.mean(later) < 0.7 * np.mean(chance)


@pytest.mark.parametrize("broken", [None, math.nan, math.inf])
def test_a_failing_region_does_not_trap_the_search(broken):
    def score(assignment):
        return broken if assignment["kind"] == "a" else bowl(assignment)

    later = drive(40, score)[20:]
    # Handed NaN, hyperopt would propose nothing but the failing region.
    assert sum(assignment["kind"] == "a" for _, assignment, _ in later) < 10


def test_a_pending_trial_changes_the_next_proposal_of_the_estimator():
    history = drive(20, bowl)
    alone = [propose("tpe", SPACE, history, 20, seed=s) for s in range(12)]
    pending = [*history, *(Observation(20 + i, alone[0], None) for i in range(6))]
    beside = [propose("tpe", SPACE, pending, 20, seed=s) for s in range(12)]
    assert alone != beside


def test_asking_again_gives_another_proposal():
    asked = {repr(propose("tpe", SPACE, [], 0, seed=0, attempt=a)) for a in range(10)}
    assert len(asked) > 3


def test_the_number_of_random_trials_is_a_third_within_4_and_20():
    assert [num_startup(n) for n in (1, 8, 12, 40, 300)] == [4, 4, 4, 13, 20]


def test_the_default_space_is_understood():
    space = make_space(SearchConfig())
    assert set(propose("tpe", space, [], 0, seed=0)) == set(space)
