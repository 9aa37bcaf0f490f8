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
