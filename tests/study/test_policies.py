import numpy as np
import pytest

from lsh_jax.study.policies import (
    CHANCE,
    FULL,
    HINDSIGHT,
    LSH,
    best_spectral,
    compare,
    search_of,
)
from lsh_jax.study.scores import score_table


@pytest.fixture(scope="module")
def revealing(make_table):
    """A table whose spectra lie the farther from the dense ones the worse the final."""
    finals = np.tile(np.linspace(5, 9, 12), (2, 1))
    return make_table(finals, finals)


@pytest.fixture(scope="module")
def compared(revealing):
    revealing.settings["study"]["early_epochs"] = [2, 3, 4]
    return compare(revealing, 2, replays=12)


def test_a_distance_that_tells_all_beats_chance(compared):
    lsh, chance = (compared["policies"][name]["dense_free"] for name in (LSH, CHANCE))
    assert lsh["test"][0] < chance["test"][0]
    assert chance["more_than_lsh"][0] == pytest.approx(chance["test"][0] - lsh["test"][0])
    assert chance["better_than_lsh"] < chance["worse_than_lsh"]  # pools are asked for by score


def test_budgets_are_equal_but_for_what_a_dense_network_costs(compared):
    # 9 of 12 candidates in a replay, 6 in the pool: 6 x 2 + 3 + 2 rounds, 2 x 2 to epoch 6.
    assert compared["candidates_in_a_replay"] == 9
    assert (compared["max_evals"], compared["budget"]) == (6, 12 + 3 + 2 + 2 * 2)
    assert compared["full_search"] == 36
    for name, own in compared["policies"].items():
        assert own["dense_free"]["epochs"] <= compared["budget"]
        if name == FULL:
            assert own["dense_free"]["finalists"] == 21 // 6
            assert own["dense_charged"]["finalists"] == 27 // 6
        elif own["needs_dense"]:
            assert own["dense_charged"] == own["dense_free"]
        else:
            assert own["dense_charged"]["finalists"] > own["dense_free"]["finalists"]
    flops = compared["policies"][FULL]["dense_charged_by_flops"]
    assert flops["finalists"] == (21 + 12) // 6  # half of the weights: twice the epochs


def test_the_cost_of_reaching_lsh_is_that_of_the_fewest_finalists_that_do(compared):
    assert compared["epochs_to_reach_lsh"][LSH] <= compared["budget"]
    full = compared["policies"][FULL]["by_finalists"]
    lsh = compared["policies"][LSH]["dense_free"]["test"][0]
    expected = min(epochs for _, epochs, test, *_ in full if test <= lsh + 1e-9)
    assert compared["epochs_to_reach_lsh"][FULL] == expected


def test_hindsight_takes_the_spectral_score_that_orders_the_finals_best(revealing, compared):
    scored = score_table(revealing, 3)
    scored.scores["full 10%"] = scored.final
    scored.scores["hidden 100%"] = -scored.final
    for label in scored.scores:
        if label.startswith(("hidden", "full", "mean of", "paper")) and label != "full 10%":
            scored.scores[label] = -scored.final
    assert best_spectral(scored) == "full 10%"
    assert compared["policies"][HINDSIGHT]["needs_dense"]


def test_the_same_replays_are_the_same(revealing, compared):
    assert compare(revealing, 2, replays=12) == compared


def test_a_judge_that_is_never_wrong_needs_one_finalist(compared):
    for name in (LSH, HINDSIGHT, "mean of all exponents"):
        rows = compared["policies"][name]["by_finalists"]
        assert len({test for _, _, test, _, _ in rows}) == 1, name
    rows = compared["policies"][CHANCE]["by_finalists"]
    assert rows[0][2] > rows[-1][2]


def test_judges_that_say_nothing_find_the_same_networks(make_table):
    finals = np.tile(np.linspace(9, 5, 12), (2, 1))
    table = make_table(finals, np.ones_like(finals), losses=np.ones_like(finals))
    table.settings["study"]["early_epochs"] = [2, 3, 4]
    found = compare(table, 2, replays=4)["policies"]
    for name in ("LSH, leading 30%", "LSH, paper's recipe", "loss", "loss, averaged"):
        assert found[name]["by_finalists"] == found[LSH]["by_finalists"], name
    assert found[CHANCE]["by_finalists"] != found[LSH]["by_finalists"]


def test_the_searches_that_are_replayed_are_among_the_networks_of_the_study(revealing):
    config = search_of(revealing, e0=3, max_evals=6)
    study = revealing.settings["study"]
    assert (config.e0, config.ei, config.max_evals) == (3, 1, 6)
    assert (config.final_epochs, config.sparsity) == (study["final_epochs"], study["sparsity"])
    assert config.space.death == ("magnitude", "set")
    assert config.space.death_rate == (0.3, 0.6)
