import math

from lsh_jax.config import SearchConfig, SpaceConfig
from lsh_jax.search.space import (
    assignments,
    candidate_seed,
    make_space,
    size,
    sparsity_config,
)


def test_the_authors_space_has_144_configurations():
    space = make_space(SearchConfig(space=SpaceConfig(growth=("random",))))
    assert size(space) == 144
    everything = [repr(assignment) for assignment in assignments(space)]
    assert len(set(everything)) == 144


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


def test_a_candidates_seed_depends_on_its_configuration_and_the_run_alone():
    first = {"death": "set", "death_rate": 0.4}
    assert candidate_seed(first, 0) == candidate_seed(dict(reversed(first.items())), 0)
    others = [candidate_seed(first, 1), candidate_seed(first | {"death_rate": 0.5}, 0)]
    assert candidate_seed(first, 0) not in others
    assert 0 <= candidate_seed(first, 0) < 2**31
