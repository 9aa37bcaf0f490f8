import dataclasses

import numpy as np
import pytest

from lsh_jax.config import SearchConfig
from lsh_jax.search.space import Space
from lsh_jax.search.successive_halving import num_epochs, plan
from lsh_jax.study.replay import World, fill_pool, replay_halving, replay_random

SPACE = Space({"kind": ("a", "b", "c"), "rate": (0.1, 0.2, 0.3, 0.4)})
ASSIGNMENTS = [{"kind": k, "rate": r} for k in "abc" for r in (0.1, 0.2, 0.3, 0.4)]
CONFIG = SearchConfig(max_evals=8, e0=3, ei=1, final_epochs=20, finalists=2, ask_batch=4)


@pytest.fixture
def world():
    finals = np.arange(60.0, 72.0)
    return World(ASSIGNMENTS, finals, finals + 10, 20)


def scores_of(values):
    return {epoch: np.asarray(values, float) for epoch in range(3, 9)}


def test_a_pool_holds_distinct_candidates_and_is_a_function_of_its_arguments(world):
    pool = fill_pool(world, world.finals, CONFIG, SPACE, seed=1)
    assert len(set(pool)) == len(pool) == 8
    assert pool == fill_pool(world, world.finals, CONFIG, SPACE, seed=1)
    assert pool != fill_pool(world, world.finals, CONFIG, SPACE, seed=2)


def test_a_proposal_that_the_table_holds_is_answered_by_itself():
    # A table of the whole space, asked at random: what comes first is what was proposed.
    from lsh_jax.search.tpe import propose

    config = SearchConfig(max_evals=1, algo="random")
    world = World(ASSIGNMENTS, np.zeros(12), np.zeros(12), 20)
    for seed in range(5):
        (first,) = fill_pool(world, world.finals, config, SPACE, seed)
        assert ASSIGNMENTS[first] == propose("random", SPACE, [], 0, seed=seed)


def test_the_estimator_asks_for_better_candidates_than_chance(world):
    many = [{"kind": k, "rate": r} for k in "abc" for r in (0.1, 0.2, 0.3, 0.4)] * 4
    score = np.array([(own["kind"] != "b") + abs(own["rate"] - 0.2) for own in many])
    large = World(many, score, score, 20)

    def mean(algo):
        config = SearchConfig(max_evals=20, algo=algo)
        pools = [fill_pool(large, score, config, SPACE, seed) for seed in range(6)]
        return np.mean([score[pool[8:]].mean() for pool in pools])

    assert mean("tpe") < mean("random")


def test_scores_that_equal_the_finals_find_the_best_of_the_pool(world):
    pool = [7, 2, 11, 9, 4, 5, 6, 10]
    found = replay_halving(world, scores_of(world.finals), pool, CONFIG)
    assert (found.winner, found.test) == (2, 72.0)
    assert found.epochs == num_epochs(CONFIG, plan(CONFIG)) == 24 + 4 + 2 + 2 * 15


def test_scores_that_are_the_wrong_way_round_find_the_better_of_the_two_worst(world):
    pool = [7, 2, 11, 9, 4, 5, 6, 10]
    found = replay_halving(world, scores_of(-world.finals), pool, CONFIG)
    assert found.winner == 10


def test_a_random_search_trains_as_many_as_it_can_pay_for(world):
    found = replay_random(world, 75, seed=0)
    assert found.epochs == 60
    order = np.random.default_rng(0).permutation(12)[:3]
    assert found.winner == order.min()
    assert replay_random(world, 5, seed=0).epochs == 20  # one at least


def test_of_equal_scores_the_lower_numbers_go_on(world):
    falling = world._replace(finals=-world.finals)
    found = replay_halving(falling, scores_of(np.zeros(12)), [7, 2, 11, 9, 4, 5, 6, 10], CONFIG)
    assert found.winner == 4  # 2 4 5 6 of the first cut, 2 4 of the second


def test_a_cut_goes_by_the_scores_of_its_own_epoch(world):
    scores = scores_of(world.finals) | {4: -world.finals}
    pool = [0, 1, 2, 3, 4, 5, 6, 7]
    # Epoch 3 leaves 0 1 2 3; epoch 4 takes the other end of these, 3 2.
    assert replay_halving(world, scores, pool, CONFIG).winner == 2


def test_more_finalists_never_find_a_worse_network_and_always_cost_more(world):
    scores = scores_of(np.random.default_rng(4).normal(size=12))
    found = [
        replay_halving(world, scores, range(8), dataclasses.replace(CONFIG, finalists=count))
        for count in (1, 2, 3, 4, 8)
    ]
    finals = [world.finals[own.winner] for own in found]
    assert finals == sorted(finals, reverse=True)
    assert finals[0] > finals[-1] == 60
    costs = [own.epochs for own in found]
    assert costs == sorted(set(costs))
    assert costs[-1] == 8 * 20


@pytest.mark.parametrize("halving", ["half", "authors"])
def test_a_replay_costs_what_the_plan_of_the_search_says(world, halving):
    config = dataclasses.replace(CONFIG, halving=halving)
    found = replay_halving(world, scores_of(world.finals), range(8), config)
    assert found.epochs == num_epochs(config, plan(config))


def test_the_winner_is_the_best_on_validation_whatever_it_is_on_test(world):
    turned = world._replace(tests=world.tests[::-1])
    found = replay_halving(turned, scores_of(world.finals), range(8), CONFIG)
    assert (found.winner, found.test) == (0, 81.0)
