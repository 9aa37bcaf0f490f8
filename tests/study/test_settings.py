import dataclasses
import json
import pathlib

import pytest

from lsh_jax.config import ConfigError
from lsh_jax.search import space as spaces
from lsh_jax.search.space import assignments, make_space, sparsity_config
from lsh_jax.sizes import model_sizes
from lsh_jax.study.presets import SCOUTING, STUDIES
from lsh_jax.study.settings import (
    BASELINES,
    E0,
    candidate_seed,
    draw_candidates,
    networks,
    search_epochs,
    small_model,
)
from lsh_jax.study.table import describe_study


@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
def test_candidates_are_distinct_configurations_of_the_space(study):
    search = study.search()
    space = [sparsity_config(own, search) for own in assignments(make_space(search))]
    drawn = draw_candidates(study)
    assert len(drawn) == study.num_candidates
    assert all(config in space for config in drawn)
    assert len({repr(config) for config in drawn}) == len(drawn)


def test_drawing_more_candidates_than_the_space_holds_is_refused(tiny_study):
    study = dataclasses.replace(tiny_study, num_candidates=500)
    with pytest.raises(ConfigError, match="`num_candidates` must be at most the"):
        draw_candidates(study)


def test_the_smallest_dense_network_has_no_more_weights_than_a_candidate_has_live_ones():
    study = STUDIES["lstm-67"]
    live = 0.33 * model_sizes(study.model).weights
    small = small_model(study)
    wider = dataclasses.replace(
        small, embed_size=small.embed_size + 1, hidden_size=small.hidden_size + 1
    )
    assert model_sizes(small).weights <= live < model_sizes(wider).weights


def test_every_baseline_is_a_network_of_its_own():
    study = dataclasses.replace(STUDIES["lstm-67"], num_candidates=3)
    found = networks(study)
    assert list(found) == ["dense", "0", "1", "2", *BASELINES]
    assert found["static-er"].sparsity.update_every == float("inf")
    assert found["gradual"].sparsity.sparsity_schedule == "cubic"
    assert found["small-dense"].model.hidden_size < study.model.hidden_size
    assert found["long-dense"].final_epochs > study.final_epochs
    assert found["dense"].spectra == tuple(range(1, 31))
    assert found["0"].spectra == (*study.early_epochs, 30)


def test_the_long_dense_network_is_given_the_epochs_of_a_search_of_the_whole_pool():
    # 24 x 7 + 12 + 6 + 3 + 2 for the rounds, two finalists from epoch 11 to 30.
    assert search_epochs(STUDIES["lstm-67"]) == 168 + 23 + 2 * 19


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"average_from": 3}, "`average_from` must lie between 4"),
        ({"early_epochs": (3, 2)}, "`early_epochs` must name epochs in growing order"),
        ({"lengths": (5, 12)}, "`lengths` must hold growing multiples of 5"),
        ({"baselines": ("tiny",)}, "`baselines` must be one of"),
    ],
)
def test_a_setting_that_cannot_be_met_is_refused(changes, message, tiny_study):
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(tiny_study, **changes)


def test_scouting_trains_fewer_networks_than_the_studies():
    assert all(own.num_candidates * own.num_seeds <= 8 for own in SCOUTING.values())


def test_draws_do_not_change(tiny_study):
    drawn = draw_candidates(tiny_study)
    assert [(c.init, c.death, c.growth, c.redistribution, c.death_rate) for c in drawn] == [
        ("er", "magnitude", "gradient", "nonzeros", 0.3),
        ("er", "magnitude", "random", "none", 0.3),
        ("er", "set", "gradient", "none", 0.3),
    ]


@pytest.mark.parametrize("name", ["lstm-67", "rhn-53", "lstm-90"])
def test_the_networks_of_a_study_are_those_of_its_table(name):
    path = pathlib.Path(__file__).resolve().parents[2] / "experiments/results/studies" / name
    recorded = json.loads((path / "study.json").read_text())
    own = describe_study(STUDIES[name], {})
    assert own["networks"] == recorded["networks"]
    assert own["study"] == recorded["study"]


def test_a_small_dense_network_weighs_no_more_than_a_trained_candidate(tiny_study, tiny_table):
    live = tiny_table.trajectories["0", 0].nonzeros[0]
    assert model_sizes(small_model(tiny_study)).weights <= live
    with pytest.raises(ConfigError, match="`sparsity` must leave a network of one unit"):
        small_model(dataclasses.replace(tiny_study, sparsity=0.999))


def test_a_candidate_has_the_masks_that_a_search_would_give_it(tiny_study):
    found = networks(tiny_study)
    for name in "012":
        own = found[name].sparsity.to_json()
        assert candidate_seed(found[name], 3) == spaces.candidate_seed(own, 3)
    seeds = {candidate_seed(found[name], seed) for name in "012" for seed in range(4)}
    assert len(seeds) == 12
    assert candidate_seed(found["dense"], 3) == 3


def test_a_longer_course_begins_its_mean_as_late_in_proportion():
    study = STUDIES["lstm-67"]
    longer = networks(study)["long-dense"]
    assert longer.average_from == round(longer.final_epochs * 18 / 30)
    assert longer.sparsity == networks(study)["dense"].sparsity


@pytest.mark.parametrize("study", [*STUDIES.values(), *SCOUTING.values()])
def test_every_preset_has_the_spectra_that_scores_read(study):
    assert 100 in study.lengths
    assert not study.full_lengths or 100 in study.full_lengths
    assert E0 in study.early_epochs
