import dataclasses

import pytest

from lsh_jax.config import ConfigError, SearchConfig, SpaceConfig
from lsh_jax.search.successive_halving import Round, num_epochs, num_survivors, plan, survivors


@pytest.mark.parametrize(
    ("rule", "entering", "chain"),
    [
        ("half", 8, [4, 2]),
        ("half", 9, [5, 3, 2]),
        ("half", 3, [2]),
        # The authors' published run: 26 unique candidates (their files hold 26 of 40 trials).
        ("authors", 26, [14, 8, 5, 3, 2]),
        ("eta", 27, [9, 3, 2]),  # thirds
        ("eta", 10, [4, 2]),
    ],
)
def test_the_rounds_shrink_as_the_rule_says(rule, entering, chain):
    seen = []
    while entering > 2:
        entering = num_survivors(entering, 2, rule)
        seen.append(entering)
    assert seen == chain


def test_eta_says_by_what_the_candidates_are_divided():
    assert [num_survivors(16, 1, "eta", eta) for eta in (2, 4, 5)] == [8, 4, 4]


def test_a_grid_must_hold_the_whole_space():
    space = SpaceConfig(init=("er",), death=("set", "magnitude"), growth=("random",))
    grid = SearchConfig(algo="grid", max_evals=36, space=space)  # 2 deaths x 3 x 6 rates
    assert plan(grid)[0].num_entering == 36
    with pytest.raises(ConfigError, match=r"`max_evals` must be at least 36 with algo=grid"):
        plan(dataclasses.replace(grid, max_evals=35))


def test_no_fewer_than_the_finalists_go_on():
    assert num_survivors(5, 4) == 4
    assert num_survivors(3, 4) == 3


def test_survivors_are_the_lowest_scores_and_ties_go_to_the_lower_trial():
    assert survivors({3: 1.0, 1: 1.0, 2: 0.5, 0: 9.0}, 2) == [2, 1]


def test_keeping_more_only_adds_survivors():
    scores = {trial: (trial * 7) % 5 for trial in range(10)}
    for count in range(10):
        assert survivors(scores, count) == survivors(scores, count + 1)[:count]


def test_the_plan_counts_epochs_by_hand():
    config = SearchConfig(max_evals=8, e0=2, ei=1, final_epochs=6)
    rounds = plan(config)
    assert rounds == [Round(8, 2), Round(4, 3), Round(2, 4)]
    # 8 x 2 + 4 x 1 + 2 x 1 + 2 x (6 - 4)
    assert num_epochs(config, rounds) == 16 + 4 + 2 + 4


def test_the_papers_schedule_with_resume_costs_338_epochs():
    # SearchConfig of the published run; 26 x 3 + (14 + 8 + 5 + 3 + 2) x 3 + 2 x 82 = 338.
    config = SearchConfig(max_evals=26, e0=3, ei=3, final_epochs=100, halving="authors")
    assert num_epochs(config, plan(config)) == 338


def test_a_pool_of_finalists_goes_straight_to_the_end():
    config = SearchConfig(max_evals=2, e0=2, ei=1, final_epochs=6)
    assert plan(config) == [Round(2, 2)]


def test_rounds_that_do_not_fit_are_refused_with_the_epochs_they_need():
    with pytest.raises(ConfigError, match=r"`final_epochs` must be at least 4, got 3"):
        plan(SearchConfig(max_evals=8, e0=2, ei=1, final_epochs=3))


def test_a_rule_that_never_ends_is_refused():
    # floor(2/2) + 1 = 2: with one finalist the authors' rule keeps both for ever.
    with pytest.raises(ConfigError, match="`halving` must shrink the pool"):
        plan(SearchConfig(max_evals=4, finalists=1, final_epochs=50, halving="authors"))
