"""What is said of worlds whose finals, spectra and losses are given: the answer is known."""

import json

import numpy as np
import pytest

from lsh_jax.study.evidence import find, find_setting, learned
from lsh_jax.study.scores import COMBINED, DISTANCE, LEADING, LOSS

FINALS = np.array([[4.0, 7.0, 5.0, 9.0, 8.0], [4.5, 7.5, 5.5, 8.0, 9.0]])


def at_epoch_3(table):
    """The table, of which epoch 3 alone is analysed."""
    table.settings["study"]["early_epochs"] = [3]
    return table


@pytest.fixture(scope="module")
def revealing(make_table):
    """Spectra lie the farther from the dense ones, and losses the lower, the worse the final."""
    return at_epoch_3(make_table(FINALS, FINALS, losses=-FINALS))


@pytest.fixture(scope="module")
def findings(revealing):
    return json.loads(json.dumps(find(revealing), allow_nan=False))  # strict JSON: no NaN


@pytest.fixture(scope="module")
def revealed(findings):
    return findings["all"]["epochs"]["3"]


def test_a_score_that_orders_as_the_finals_do_has_correlation_1_and_no_regret(revealed):
    for label in (DISTANCE, LEADING, "paper's recipe", "full 100%", "mean of all"):
        own = revealed["scores"][label]
        assert own["spearman"] == own["kendall"] == [1, 1, 1], label
        assert own["regret"] == {"1": [0, 0, 0], "3": [0, 0, 0]}, label


def test_a_score_that_orders_the_other_way_round_picks_the_worst(revealed):
    for label in ("loss", LOSS, "training loss"):
        own = revealed["scores"][label]
        assert own["spearman"] == [-1, -1, -1], label
        # The first is the worst, 9 - 4 and 9 - 4.5; the best of 7, 8, 9 is the third from above.
        assert own["regret"]["1"][0] == ((9 - 4) + (9 - 4.5)) / 2
        assert own["regret"]["3"][0] == ((7 - 4) + (7.5 - 4.5)) / 2
    assert revealed["scores"][DISTANCE]["less_loss"] == [2, 2, 2]
    assert revealed["scores"][COMBINED]["spearman"][0] is None  # opposite ranks: all sums alike


def test_the_claims_follow_from_what_was_put_in(revealed):
    answers = {own["claim"]: own["answer"] for own in revealed["claims"]}
    assert answers["the distance foretells the final better than the loss"] == "supported"
    assert answers["the paper's recipe foretells the final better than the loss"] == "supported"
    assert answers["leading exponents say more than all exponents"] == "undecided"  # both say all
    assert answers["trailing exponents mislead"] == "contradicted"


def test_a_fit_on_one_half_turns_a_misleading_score_round(revealed):
    halves = revealed["fitted_on_halves"]
    assert halves[DISTANCE][0] == halves[LOSS][0] == halves["both"][0] == 1


def test_chance_falls_short_by_the_mean_less_the_best(findings):
    chance = findings["all"]["chance_regret"]
    mean = (FINALS.mean(axis=1) - FINALS.min(axis=1)).mean()
    assert chance["1"][0] == pytest.approx(mean, abs=1e-3)
    # The best of three of five: 6, 3 and 1 of 10 triples have the first, second, third in front.
    ordered = np.sort(FINALS, axis=1)[:, :3] @ [0.6, 0.3, 0.1]
    assert chance["3"][0] == pytest.approx((ordered - FINALS.min(axis=1)).mean(), abs=1e-3)


def test_a_score_that_is_alike_for_all_says_nothing(make_table):
    table = at_epoch_3(make_table(FINALS, np.ones_like(FINALS)))
    found = json.loads(json.dumps(find(table), allow_nan=False))["all"]["epochs"]["3"]
    own = found["scores"][DISTANCE]
    for name in ("spearman", "kendall", "less_loss", "given_loss", "within_growth"):
        assert own[name] == [None, None, None], name
    assert own["regret"]["1"][0] == 0  # ties go to the lower number, here the best
    assert found["scores"][LOSS]["spearman"][0] == 1
    answers = {verdict["claim"]: verdict for verdict in found["claims"]}
    assert answers["the distance foretells the final at all"]["answer"] == "undecided"


def test_those_that_never_learn_are_counted_and_left_out_of_the_learners(make_table):
    # The unigram perplexity of these tables is 100; the second candidate fails with one seed.
    finals = np.array([[4.0, 700.0, 5.0, 9.0, 8.0, 900.0], [4.5, 7.5, 5.5, 8.0, 9.0, 800.0]])
    table = at_epoch_3(make_table(finals, finals))
    assert learned(table).tolist() == [
        [True, False, True, True, True, False],
        [True, True, True, True, True, False],
    ]
    found = find(table)
    assert found["setting"]["never_learned"] == 3
    assert (found["all"]["candidates"], found["learners"]["candidates"]) == (6, 4)
    assert found["setting"]["spread"]["worst"] == 9


def test_of_learners_less_is_told_than_of_all(findings):
    whole, part = (findings[name]["epochs"]["3"]["scores"][LOSS] for name in ("all", "learners"))
    assert set(whole) - set(part) == {"kendall", "given_churn", "within_death"}
    assert part["spearman"] == whole["spearman"]


def test_the_spread_of_a_setting_is_that_of_its_finals(make_table):
    # Means over seeds 4, 6, 8: variance 4. About them and the seeds' means, which are alike, lie
    # -1 0 1 and 1 0 -1: 4 of 2 degrees of freedom, variance 2, of which a half is in the means.
    table = make_table([[3.0, 6.0, 9.0], [5.0, 6.0, 7.0]], np.ones((2, 3)))
    spread = find_setting(table)["spread"]
    assert spread["candidates"] == pytest.approx(np.sqrt(4 - 2 / 2))
    assert spread["seeds"] == pytest.approx(np.sqrt(2))
    assert spread["ratio"] == pytest.approx(np.sqrt(3 / 2))
    assert (spread["best"], spread["worst"]) == (pytest.approx(3), pytest.approx(9))


def test_the_dense_network_and_the_unigram_are_what_candidates_are_held_against(make_table):
    # Every dense network of these tables ends at 5; early losses are 100 more than given.
    table = make_table(FINALS, FINALS, losses=np.log(np.full_like(FINALS, 200)) - 100)
    for seed, name in ((0, "1"), (1, "4")):
        own = table.trajectories[name, seed]
        for values in (own.val_averaged, own.val_nll):
            values[1:3] = np.log(90), np.log(200)
    setting = find_setting(table)
    assert setting["better_than_dense_on_test"] == 2
    assert setting["dense"]["validation"] == pytest.approx([5, 5])
    assert setting["dense"]["best_epoch"] == [6, 6]
    assert setting["past_unigram"] == {"2": 2, "3": 0}
    assert setting["candidates_test"]["best"] == pytest.approx(4 * np.exp(0.1))
    assert setting["candidates_test"]["worst"] == pytest.approx(9 * np.exp(0.1))
    assert setting["seconds_a_network"] == 6 * 7


def test_the_noise_floor_lies_between_dense_networks_of_different_seeds(make_table):
    table = make_table([[5.0, 6.0], [5.0, 6.0]], [[2.0, 3.0], [2.0, 4.0]])
    for epoch, exponents in table.trajectories["dense", 1].spectra["hidden"].items():
        table.trajectories["dense", 1].spectra["hidden"][epoch] = exponents - 0.5
    floor = find_setting(table)["noise_floor"]
    assert set(floor) == {"2", "3"}
    # A gap of g in m exponents is a distance of g sqrt(m): 12 exponents, 4 leading ones. Gaps are
    # 2, 3 with seed 0 and, to a dense network that lies 0.5 lower, 1.5, 3.5 with seed 1.
    for label, m in ((DISTANCE, 12), (LEADING, 4)):
        own = floor["3"][label]
        assert own["dense_seeds"] == pytest.approx(0.5 * np.sqrt(m))
        assert own["candidates_least"] == pytest.approx(1.5 * np.sqrt(m))
        assert own["candidates_median"] == pytest.approx(2.5 * np.sqrt(m))


def test_networks_beside_the_candidates_are_listed_with_what_they_weigh(tiny_table):
    whole = find(tiny_table)
    assert whole["learners"] is None  # of three candidates nothing is said by themselves
    found = whole["baselines"]
    assert list(found) == ["dense", "static-er"]
    for name, own in found.items():
        trained = [tiny_table.trajectories[name, seed] for seed in (0, 1)]
        assert own["seeds"] == 2
        assert own["test"] == pytest.approx([t.final_test() for t in trained], abs=1e-3)
        assert own["best_epoch"] == [t.best_epoch() for t in trained]
    assert (found["dense"]["weights"], found["static-er"]["weights"]) == (720, 360)


def test_the_same_table_gives_the_same_findings(revealing, findings):
    assert json.loads(json.dumps(find(revealing))) == findings
