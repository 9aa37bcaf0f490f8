import itertools
import math

import numpy as np
import pytest

from lsh_jax.config import ConfigError, SearchConfig, SpaceConfig, SparsityConfig
from lsh_jax.search.space import (
    CONDITIONS,
    Condition,
    Space,
    assignments,
    candidate_seed,
    check_space,
    hyper,
    in_play,
    make_space,
    matters,
    size,
    sparsity_config,
)

FIXED = {"init": ("er",), "growth": ("random",), "redistribution": ("none",)}


def configurations(**choices):
    """Every assignment of a small space, with its full configuration."""
    config = SearchConfig(e0=5, space=SpaceConfig(**(FIXED | choices)))
    space = make_space(config)
    found = list(assignments(space))
    assert len(found) == size(space)
    return [(assignment, sparsity_config(assignment, config)) for assignment in found]


def test_the_default_space_is_the_product_of_its_choices():
    # 2 inits x 4 deaths x 2 growths x 3 redistributions x 6 rates
    assert size(make_space(SearchConfig())) == 288
    assert len({repr(a) for a in assignments(make_space(SearchConfig()))}) == 288


def test_every_assignment_is_a_valid_configuration():
    config = SearchConfig(sparsity=0.5, final_epochs=10)
    for assignment in assignments(make_space(config)):
        made = sparsity_config(assignment, config)
        assert made.sparsity == 0.5
        assert made.horizon == 10


def test_the_horizon_counts_updates_up_to_the_final_epoch():
    config = SearchConfig(final_epochs=10, space=SpaceConfig(update_every=(0.25, math.inf)))
    horizons = {
        a["update_every"]: sparsity_config(a, config).horizon
        for a in assignments(make_space(config))
    }
    assert horizons == {0.25: 40, math.inf: 1}


def test_a_static_topology_is_one_candidate_however_many_controls_rule_the_updates():
    found = configurations(
        update_every=(1.0, math.inf), death=("magnitude", "set"), death_rate=(0.4, 0.6, 0.8)
    )
    static = [(a, made) for a, made in found if a["update_every"] == math.inf]
    assert len(found) == 2 * 3 + 1
    ((assignment, made),) = static
    assert assignment == {"init": "er", "update_every": math.inf, "init_sampling": "exact"}
    default = SparsityConfig()
    assert (made.death, made.death_rate) == (default.death, default.death_rate)


def test_a_small_conditional_space_is_listed_as_by_hand():
    found = configurations(
        death=("magnitude", "threshold", "sign_flip"),
        threshold_init=(0.0, 1e-3),
        death_rate=(0.5,),
        schedule=("cosine", "constant"),
        rate_floor=(0.0, 0.1),
    )
    listed = {
        tuple(a.get(n) for n in ("death", "threshold_init", "schedule", "rate_floor"))
        for a, _ in found
    }
    rates = [("cosine", 0.0), ("cosine", 0.1), ("constant", None)]
    assert listed == {
        ("sign_flip", None, None, None),  # as many die as change sign: no rate, no schedule
        *(("magnitude", None, *rate) for rate in rates),
        *(("threshold", start, *rate) for start, rate in itertools.product((0.0, 1e-3), rates)),
    }
    assert len(found) == len(listed) == 10
    assert all(("death_rate" in a) == (a["death"] != "sign_flip") for a, _ in found)


def test_different_assignments_are_different_candidates():
    found = configurations(
        update_every=(0.5, 1.0, math.inf),
        death=("threshold", "sign_flip"),
        threshold_init=(0.0, 1e-3),
        schedule=("linear", "constant"),
        rate_floor=(0.0, 0.1),
        exclude_dropped=(False, True),
        stop_fraction=(0.5, 1.0),
    )
    # A period: 2 x 2 x (6 rates x 2 starts x (2 floors + 1) + 1 sign flip); and one static.
    assert len(found) == 2 * 4 * (6 * 2 * 3 + 1) + 1
    assert len({made for _, made in found}) == len(found)


def test_conditions_nest_and_never_refer_to_what_is_not_there():
    space = Space(
        {"leaf": (1, 2), "inner": ("x", "y"), "root": ("p", "q")},
        {"leaf": Condition("inner", only=("y",)), "inner": Condition("root", unless=("p",))},
    )
    assert list(assignments(space)) == [
        {"root": "p"},
        {"inner": "x", "root": "q"},
        {"leaf": 1, "inner": "y", "root": "q"},
        {"leaf": 2, "inner": "y", "root": "q"},
    ]
    assert set(CONDITIONS) <= set(make_space(SearchConfig()).choices)
    assert {condition.parent for condition in CONDITIONS.values()} <= set(
        make_space(SearchConfig()).choices
    )


def test_hyperparameters_join_the_space_only_where_they_have_choices():
    assert "learning_rate" not in make_space(SearchConfig()).choices
    found = configurations(death=("set",), death_rate=(0.5,), learning_rate=(10.0, 20.0))
    assert [hyper(a) for a, _ in found] == [{"learning_rate": 10.0}, {"learning_rate": 20.0}]
    assert len({made for _, made in found}) == 1  # the masks are the same for both


def test_a_candidates_seed_depends_on_its_configuration_and_the_run_alone():
    first = {"death": "set", "death_rate": 0.4}
    assert candidate_seed(first, 0) == candidate_seed(dict(reversed(first.items())), 0)
    others = [candidate_seed(first, 1), candidate_seed(first | {"death_rate": 0.5}, 0)]
    assert candidate_seed(first, 0) not in others
    assert 0 <= candidate_seed(first, 0) < 2**31


@pytest.mark.parametrize("control", ["growth", "redistribution"])
def test_modes_by_momentum_are_refused_where_training_has_none(control):
    space = SpaceConfig(**{control: ("gradient", "momentum")})
    check_space(space, momentum=True)
    with pytest.raises(ConfigError, match=rf"`space.{control}` .*gradient,momentum.*momentum=0.9"):
        check_space(space, momentum=False)
    static = SpaceConfig(**{control: ("momentum",)}, update_every=(math.inf,))
    check_space(static, momentum=False)  # nothing is ever grown


def test_gates_are_refused_as_another_name_for_random_where_there_are_none():
    space = SpaceConfig(growth=("random", "random_gates"))
    check_space(space, momentum=False, gates=True)
    with pytest.raises(ConfigError, match=r"`space.growth` must not hold both"):
        check_space(space, momentum=False, gates=False)


def test_the_two_kinds_of_none_are_refused_together_where_they_are_the_same():
    both = ("none", "none_authors")
    with pytest.raises(ConfigError, match=r"`space.redistribution` .*space.death=magnitude:"):
        SpaceConfig(death=("threshold", "magnitude"), redistribution=both)
    assert SpaceConfig(death=("threshold",), redistribution=both).redistribution == both


def test_the_death_rate_cannot_judge_a_death_without_one():
    with pytest.raises(ConfigError, match=r"`metric` death-rate needs .*sign_flip"):
        SearchConfig(metric="death-rate", space=SpaceConfig(death=("set", "sign_flip")))


def test_what_matters_of_a_candidate_is_what_the_search_chose():
    """Of the full configurations as the ledger has them, against the assignments behind them."""
    choices = {
        "death": ("magnitude", "threshold", "sign_flip"),
        "update_every": (1.0, math.inf),
        "schedule": ("cosine", "constant"),
        "rate_floor": (0.005, 0.1),
        "threshold_init": (0.0, 1e-3),
    }
    for assignment, made in configurations(**choices, learning_rate=(1.0, 2.0)):
        controls = made.to_json() | hyper(assignment)
        own = [name for name in controls if matters(name, controls)]
        assert set(own) - {"sparsity", "horizon", "sparsity_schedule"} == set(assignment)


def test_controls_that_matter_nowhere_are_not_in_play():
    static = make_space(SearchConfig(space=SpaceConfig(update_every=(math.inf,), clip=(1.0,))))
    assert in_play(static) == ["init", "update_every", "init_sampling", "clip"]
    mixed = SpaceConfig(update_every=(0.5, math.inf), death=("sign_flip", "set"))
    names = in_play(make_space(SearchConfig(space=mixed)))
    assert "death_rate" in names and "rate_floor" in names and "threshold_init" not in names


def test_kernels_are_refused_as_another_name_for_er_where_there_are_only_matrices():
    space = SpaceConfig(init=("er", "erk"))
    check_space(space, momentum=False)
    with pytest.raises(ConfigError, match=r"`space.init` must not hold both er and erk"):
        check_space(space, momentum=False, matrices=True)
    check_space(SpaceConfig(init=("uniform", "erk")), momentum=False, matrices=True)


def test_a_death_rate_of_0_alone_is_refused_where_it_makes_a_static_topology():
    for updates in ((1.0,), (1.0, math.inf)):
        with pytest.raises(ConfigError, match=r"death=set, .*--space.update-every=inf"):
            SpaceConfig(death=("set", "sign_flip"), death_rate=(0.0,), update_every=updates)
    SpaceConfig(death_rate=(0.0, 0.5))
    SpaceConfig(death=("threshold", "sign_flip"), death_rate=(0.0,))
    SpaceConfig(death_rate=(0.0,), update_every=(math.inf,))


@pytest.mark.parametrize("number", [np.float32(0.5), np.int64(1)])
def test_numbers_that_json_cannot_hold_are_refused_at_once(number):
    with pytest.raises(ConfigError, match=r"`space.death_rate` must hold plain Python values"):
        SpaceConfig(death_rate=(0.4, number))
    assert SpaceConfig(death_rate=tuple(np.array([0.4, 0.5]))).death_rate == (0.4, 0.5)
