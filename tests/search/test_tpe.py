import math

import numpy as np
import pytest

from lsh_jax.config import SearchConfig, SpaceConfig
from lsh_jax.search.space import Condition, Space, assignments, make_space, sparsity_config
from lsh_jax.search.tpe import Observation, _trials, num_startup, propose

SPACE = Space({"kind": ("a", "b", "c"), "rate": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)})


def drive(num_trials, score, algo="tpe", history=()):
    history = list(history)
    for trial in range(len(history), num_trials):
        assignment = propose(algo, SPACE, history, trial, seed=3)
        history.append(Observation(trial, assignment, score(assignment)))
    return history


def bowl(assignment):
    return abs(assignment["rate"] - 0.5) + (assignment["kind"] != "b")


@pytest.mark.parametrize("algo", ["tpe", "random", "grid", "anneal"])
def test_resumed_proposals_are_those_of_the_straight_run(algo):
    straight = drive(16, bowl, algo)
    for split in (3, 9):
        assert drive(16, bowl, algo, straight[:split]) == straight


def test_proposals_come_from_the_space():
    for _, assignment, _ in drive(12, bowl):
        assert all(assignment[name] in choices for name, choices in SPACE.choices.items())


def test_random_proposals_reach_every_choice_of_an_ordered_control_alike():
    draws = [propose("random", SPACE, [], trial, seed=0)["rate"] for trial in range(300)]
    counts = np.array([draws.count(choice) for choice in SPACE.choices["rate"]])
    # Multinomial, 300 draws over 6: mean 50, sd sqrt(300 * 1/6 * 5/6) = 6.5; 4.5 sd
    assert np.abs(counts - 50).max() < 29


@pytest.mark.parametrize("algo", ["tpe", "anneal"])
def test_what_learns_proposes_better_candidates_than_chance(algo):
    later = [observation.score for observation in drive(40, bowl, algo)[20:]]
    chance = [observation.score for observation in drive(200, bowl, "random")]
    # By hand: chance averages 2/3 for the kind and 0.1 * (4 + 3 + 2 + 1 + 0 + 1) / 6 for the rate.
    assert np.mean(chance) == pytest.approx(2 / 3 + 1.1 / 6, abs=0.12)  # 3.5 sd of 0.48/sqrt(200)
    assert np.mean(later) < 0.7 * np.mean(chance)


def test_a_grid_goes_through_the_space_once():
    found = [repr(observation.assignment) for observation in drive(18, bowl, "grid")]
    assert found == [repr(assignment) for assignment in assignments(SPACE)]


@pytest.mark.parametrize("algo", ["tpe", "anneal"])
@pytest.mark.parametrize("broken", [None, math.nan, math.inf])
def test_a_failing_region_does_not_trap_the_search(broken, algo):
    def score(assignment):
        return broken if assignment["kind"] == "a" else bowl(assignment)

    later = drive(40, score, algo)[20:]
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


BRANCHES = Space(
    {
        "kind": ("a", "b"),
        "cut": (1, 2, 3, 4, 5, 6, 7, 8),
        "rate": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6),
        "lone": ("only",),
        "depth": (1, 2, 3),
    },
    {
        "cut": Condition("kind", only=("b",)),
        "rate": Condition("kind", unless=("b",)),
        "lone": Condition("kind", only=("a",)),
        "depth": Condition("lone", unless=("other",)),
    },
)


def valley(assignment):
    """Least at kind a, rate 0.3, depth 2; within kind b at cut 6, which is worse throughout."""
    if assignment["kind"] == "b":
        return 1.0 + abs(assignment["cut"] - 6)
    return 3 * abs(assignment["rate"] - 0.3) + 0.3 * abs(assignment["depth"] - 2)


def drive_branches(num_trials, algo="tpe", history=(), space=BRANCHES):
    history = list(history)
    for trial in range(len(history), num_trials):
        assignment = propose(algo, space, history, trial, seed=3)
        history.append(Observation(trial, assignment, valley(assignment)))
    return history


def test_what_does_not_matter_is_not_proposed():
    everything = [repr(assignment) for assignment in assignments(BRANCHES)]
    for algo in ("tpe", "random"):
        for _, assignment, _ in drive_branches(30, algo):
            assert repr(assignment) in everything


def test_the_estimator_learns_inside_the_branches_of_a_conditional_space():
    later = [observation.score for observation in drive_branches(50)[25:]]
    chance = [observation.score for observation in drive_branches(200, "random")]
    # By hand: half of chance is kind b, 1 + (5+4+3+2+1+0+1+2)/8 = 3.25 on average; kind a has
    # 3 * (0.2+0.1+0+0.1+0.2+0.3)/6 + 0.3 * 2/3 = 0.65. The mean is 1.95, the sd 1.7.
    assert np.mean(chance) == pytest.approx(1.95, abs=0.5)  # 4 sd of 1.7/sqrt(200)
    assert np.mean(later) < 0.75 * 1.95  # measured for 6 seeds: 1.01 to 1.28


def test_a_resumed_search_of_a_conditional_space_proposes_the_same():
    straight = drive_branches(24)
    for split in (5, 17):
        assert drive_branches(24, history=straight[:split]) == straight


def test_hyperopt_is_told_nothing_of_controls_that_did_not_matter():
    history = [
        Observation(0, {"kind": "b", "cut": 6}, 1.0),
        Observation(1, {"kind": "a", "rate": 0.2, "lone": "only", "depth": 3}, 0.6),
    ]
    told = _trials(BRANCHES, ["kind", "cut", "rate", "depth"], history).miscs
    assert told[0]["vals"] == {"kind": [1], "cut": [5], "rate": [], "depth": []}
    assert told[0]["idxs"] == {"kind": [0], "cut": [0], "rate": [], "depth": []}
    assert told[1]["vals"] == {"kind": [0], "cut": [], "rate": [1], "depth": [2]}
    assert told[1]["idxs"] == {"kind": [1], "cut": [], "rate": [1], "depth": [1]}


def test_a_branch_that_was_never_seen_teaches_nothing_and_breaks_nothing():
    only_b = [Observation(t, {"kind": "b", "cut": 1 + t % 8}, 1.0 + t % 8) for t in range(20)]
    drawn = [propose("tpe", BRANCHES, only_b, 20, seed=seed) for seed in range(40)]
    unseen = [assignment for assignment in drawn if assignment["kind"] == "a"]
    assert len({assignment["rate"] for assignment in unseen}) > 1


def test_fixing_one_more_control_does_not_change_the_draws_of_the_others():
    wider = Space({**SPACE.choices, "fixed": (7,)})
    for trial in range(5):
        alone = propose("tpe", SPACE, [], trial, seed=0)
        assert propose("tpe", wider, [], trial, seed=0) == alone | {"fixed": 7}


def test_a_space_of_one_configuration_is_proposed_as_it_is():
    assert propose("tpe", Space({"kind": ("a",)}), [], 0, seed=0) == {"kind": "a"}


def test_every_branch_of_a_wide_search_space_gives_a_valid_candidate():
    config = SearchConfig(
        space=SpaceConfig(
            update_every=(1.0, math.inf),
            death=("threshold", "sign_flip", "set"),
            threshold_init=(0.0, 1e-3),
            schedule=("cosine", "constant"),
            rate_floor=(0.0, 0.01, 0.1),
            learning_rate=(10.0, 20.0, 40.0),
        )
    )
    space, history = make_space(config), []
    whole = {frozenset(assignment.items()) for assignment in assignments(space)}
    for trial in range(60):
        assignment = propose("tpe", space, history, trial, seed=1)
        assert frozenset(assignment.items()) in whole
        sparsity_config(assignment, config)
        history.append(Observation(trial, assignment, float(len(assignment))))
    assert {len(assignment) for _, assignment, _ in history} >= {4, 13}  # static, and all but one


@pytest.mark.parametrize("algo", ["tpe", "random"])
def test_numbers_are_searched_by_size_in_whatever_order_they_were_typed(algo):
    typed = Space({**SPACE.choices, "rate": (0.4, 0.1, 0.6, 0.3, 0.2, 0.5)})
    history = drive(12, bowl)
    for trial in range(12, 20):
        by_size = propose(algo, SPACE, history, trial, seed=5)
        assert propose(algo, typed, history, trial, seed=5) == by_size
