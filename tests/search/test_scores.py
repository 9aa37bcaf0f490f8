import math

from lsh_jax.config import SparsityConfig
from lsh_jax.search.ledger import Record
from lsh_jax.search.scores import score


def record(config, seed=5, **hyper):
    return Record(trial=0, epoch=1, round=0, controls=config.to_json() | hyper, seed=seed)


def test_a_static_candidate_has_no_death_rate_to_be_judged_by():
    dynamic, static = SparsityConfig(death_rate=0.4), SparsityConfig(update_every=math.inf)
    assert score("death-rate", record(dynamic)) == -0.4
    assert score("death-rate", record(static)) == 0.0  # nothing dies: the worst there is


def test_chance_is_drawn_anew_for_other_hyperparameters_of_the_same_masks():
    config = SparsityConfig()
    draws = [score("none", record(config, learning_rate=rate)) for rate in (1.0, 2.0)]
    draws.append(score("none", record(config)))
    assert len(set(draws)) == 3
    assert draws[0] == score("none", record(config, learning_rate=1.0))
    assert score("none", record(config, seed=6)) != draws[2]
