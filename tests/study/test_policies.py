import numpy as np
import pytest

from lsh_jax.study.policies import CHANCE, FULL, HINDSIGHT, LSH, best_spectral, compare
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
