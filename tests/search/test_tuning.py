"""Hyperparameters in the space: candidates choose theirs, the dense network is tuned first."""

import dataclasses
import json
import math

import pytest

from lsh_jax.config import ConfigError, SpaceConfig
from lsh_jax.search.dense import SearchError, foreign_dense, load_dense, train_dense
from lsh_jax.search.hyperpruning import hyperprune
from lsh_jax.search.ledger import Ledger
from lsh_jax.search.space import candidate_seed
from lsh_jax.search.successive_halving import plan
from lsh_jax.search.tuning import epochs_tuning, tuning_config

RATES = (1.0, 2.0, 8.0)  # of which 2 is the toy's best


@pytest.fixture(scope="session")
def tuned_config(search_config):
    """A search in which the learning rate is chosen too."""

    def make(learning_rate=RATES, **changes):
        space = SpaceConfig(
            init=("uniform",),
            growth=("random",),
            redistribution=("none",),
            death_rate=(0.4, 0.6),
            learning_rate=learning_rate,
        )
        return search_config(space=space, **changes)

    return make


def lines(ledger):
    return [dataclasses.replace(record, wall_s=None) for record in Ledger(ledger).records()]


def both_ledgers(run):
    return lines(run / "trials.jsonl"), lines(run / "tuning" / "trials.jsonl")


@pytest.fixture(scope="module")
def straight(toy_task, tuned_config, tmp_path_factory):
    """A search with the learning rate in its space, its directory, and the epochs it trained."""
    trained, events = [], []
    run = tmp_path_factory.mktemp("straight") / "run"
    found = hyperprune(
        toy_task(trained=trained),
        tuned_config(),
        out=run,
        on_event=lambda kind, values: events.append((kind, values)),
    )
    return found, run, trained, events


def test_the_dense_network_is_tuned_first_and_trained_with_what_it_chose(straight):
    found, run, _, _ = straight
    tuning = lines(run / "tuning" / "trials.jsonl")
    # 3 trials of 2 epochs, ceil(3/2) = 2 of them one more, and to epoch 4.
    trained = [record for record in tuning if record.duplicate_of is None]
    assert len(trained) == 3 * 2 + 2 + 2
    assert {record.controls["learning_rate"] for record in trained} == set(RATES)
    assert all(set(record.controls) == {"learning_rate"} for record in trained)
    assert found.result["dense"]["hyper"] == {"learning_rate": 2.0}
    dense = [record for record in found.records if record.trial == "dense"]
    assert [record.controls for record in dense] == [{"learning_rate": 2.0}] * 4
    # 1 + (0.7 - 0) + exp(-4) - 0.05: the toy's handicap turns round after epoch 2.
    assert dense[-1].val_nll == pytest.approx(1.65 + math.exp(-4))


def test_the_tuning_is_judged_by_validation_loss_and_compared_with_nothing(straight):
    tuning = lines(straight[1] / "tuning" / "trials.jsonl")
    assert all(record.score == record.val_nll for record in tuning)
    assert all(record.ls_distance is None for record in tuning)


def test_the_tuning_is_charged(straight):
    budget = straight[0].result["budget"]
    # Of the 10 epochs that the tuning takes 4 are the dense network's.
    assert (budget["epochs_dense"], budget["epochs_tuning"]) == (4, 6)
    own = [r for r in straight[0].records if isinstance(r.trial, int) and r.duplicate_of is None]
    assert budget["epochs_spent"] == len(own)
    assert budget["ratio_with_dense"] == pytest.approx((len(own) + 4 + 6) / 20)
    assert straight[0].result["dense"]["tuning_trials"] == 3
    assert len(straight[2]) == len(own) + 4 + 6  # what was trained is what is charged


def test_the_run_that_was_chosen_is_what_training_the_choice_again_would_give(
    toy_task, straight, tmp_path
):
    found = straight[0]
    adopted = [
        dataclasses.replace(record, wall_s=None)
        for record in found.records
        if record.trial == "dense"
    ]
    quiet = lambda kind, values: None  # noqa: E731
    again = train_dense(toy_task(), 4, 0, tmp_path / "dense", quiet, {"learning_rate": 2.0})
    assert adopted == [dataclasses.replace(record, wall_s=None) for record in again.records]
    for name, value in again.state.items():
        assert (found.dense[name] == value).all()


def test_the_finalists_of_the_tuning_are_judged_at_the_end_as_those_of_the_search(
    toy_task, tuned_config, tmp_path
):
    """A rate that learns fast at first and one that ends lower: as the candidates, dense ends."""
    task = toy_task()

    def evaluate(state, split):
        epoch = float(state["segments"]) / 2
        if float(state["learning_rate"]) == 8.0:
            return max(1.8, 3 - 0.8 * epoch)  # 1.8 from epoch 1.5 on
        return 1 + 2 * math.exp(-epoch / 3)  # 2.03 after epoch 2, 1.07 after epoch 10

    config = tuned_config((2.0, 8.0), final_epochs=10, max_evals=4)
    found = hyperprune(task._replace(evaluate=evaluate), config, out=tmp_path / "run")
    assert found.result["dense"]["hyper"] == {"learning_rate": 2.0}
    tuning = lines(tmp_path / "run" / "tuning" / "trials.jsonl")
    at_screening = {r.controls["learning_rate"]: r.val_nll for r in tuning if r.epoch == 2}
    assert at_screening[8.0] < at_screening[2.0]


def test_candidates_are_trained_with_their_own_hyperparameters(straight):
    found = straight[0]
    own = [r for r in found.records if isinstance(r.trial, int)]
    assert len({record.controls["learning_rate"] for record in own}) > 1
    for record in own:
        death = ("magnitude", "set", "set_authors", "threshold", "global_magnitude").index(
            record.controls["death"]
        )
        handicap = abs(record.controls["death_rate"] - 0.6) + 0.1 * death
        recipe = {1.0: 0.0, 2.0: -0.05, 8.0: 0.05}[record.controls["learning_rate"]]
        nll = (handicap if record.epoch <= 2 else 0.7 - handicap) + math.exp(-record.epoch)
        assert record.val_nll == pytest.approx(1 + nll + recipe)
    assert "learning_rate" in found.result["best"]["controls"]


def test_a_change_of_learning_rate_leaves_the_masks_as_they_are(straight):
    for record in straight[0].records:
        if isinstance(record.trial, int):
            masks = {n: v for n, v in record.controls.items() if n != "learning_rate"}
            assert record.seed == candidate_seed(masks, 0)


def test_the_listener_can_tell_the_tuning_from_the_search(straight):
    _, _, _, events = straight
    trials = [values["record"].trial for kind, values in events if kind == "record"]
    assert trials[:2] == ["tuning-0", "tuning-0"]
    tuned = [str(trial).startswith("tuning") for trial in trials]
    assert tuned == sorted(tuned, reverse=True) and "dense" not in trials
    notices = [values["text"] for kind, values in events if kind == "notice"]
    assert notices[0].startswith("tuning the dense network: the space holds 3 configurations")
    assert notices[1] == "the dense network is the run tuned to learning_rate=2"
    assert [values.get("tuning", False) for kind, values in events if kind == "round"][:3] == [
        True,
        True,
        False,
    ]
    assert [values["epochs"] for kind, values in events if kind == "done"] == [0, 4 + 6]


def test_no_checkpoint_of_the_tuning_is_left_but_the_best_of_the_choice(straight):
    found, run, _, _ = straight
    left = {path.parent.name + "/" + path.stem for path in run.glob("tuning/checkpoints/*/*")}
    tuning = lines(run / "tuning" / "trials.jsonl")
    (chosen,) = {
        record.trial
        for record in tuning
        if record.controls["learning_rate"] == 2.0 and record.duplicate_of is None
    }
    assert left == {f"{chosen}/{found.result['dense']['best_epoch']}"}


class Stop(KeyboardInterrupt):
    """Raised in place of Ctrl-C."""


@pytest.mark.parametrize("after", [1, 5, 9, 10, 16])
def test_an_interrupted_search_resumes_to_the_same_ledgers(
    toy_task, tuned_config, tmp_path, straight, after
):
    """Within the tuning, among its finalists, at its end, in the pool."""
    expected, run, once, _ = straight
    trained, seen = [], 0

    def listener(kind, values):
        nonlocal seen
        seen += kind == "record" and values["record"].duplicate_of is None
        if seen == after:
            raise Stop

    task = toy_task(trained=trained)
    with pytest.raises(Stop):
        hyperprune(task, tuned_config(), out=tmp_path / "run", on_event=listener)
    resumed = hyperprune(task, tuned_config(), out=tmp_path / "run", resume=True)
    assert both_ledgers(tmp_path / "run") == both_ledgers(run)
    assert trained == once  # no epoch was trained twice
    for key in ("best", "dense", "budget", "rounds"):
        assert resumed.result[key] == expected.result[key]


def test_the_tuning_is_planned_over_as_many_trials_as_the_pool_or_all_there_are(tuned_config):
    few, many = tuned_config(max_evals=2), tuned_config(max_evals=40)
    assert [round.num_entering for round in plan(tuning_config(few))] == [2]
    assert [round.num_entering for round in plan(tuning_config(many))] == [3, 2]
    # To the end two finalists take 2 and 1 epochs more each, and the chosen one's 4 are dense.
    assert (epochs_tuning(few), epochs_tuning(many)) == (2 * 2 + 2 * 2 - 4, 3 * 2 + 2 + 2 - 4)


def test_without_hyperparameters_in_the_space_nothing_is_tuned(toy_task, search_config, tmp_path):
    found = hyperprune(toy_task(), search_config(), out=tmp_path / "run")
    assert epochs_tuning(search_config()) == found.result["budget"]["epochs_tuning"] == 0
    assert found.result["dense"]["hyper"] == {}
    assert not (tmp_path / "run" / "tuning").exists()


def test_a_single_choice_goes_to_the_dense_network_untuned(toy_task, tuned_config, tmp_path):
    found = hyperprune(toy_task(), tuned_config((8.0,)), out=tmp_path / "run")
    assert found.result["dense"]["hyper"] == {"learning_rate": 8.0}
    assert found.result["dense"]["tuning_trials"] == 0
    assert {r.controls["learning_rate"] for r in found.records} == {8.0}
    assert not (tmp_path / "run" / "tuning").exists()


def test_a_cached_dense_network_belongs_to_its_hyperparameters(toy_task, tuned_config, tmp_path):
    trained = []
    cache = tmp_path / "cache"
    for name, rate in (("a", 2.0), ("b", 8.0), ("c", 2.0)):
        task = toy_task(trained=trained)
        hyperprune(task, tuned_config((rate,)), out=tmp_path / name, cache_dir=cache)
    assert [epoch for name, epoch in trained if name == "dense"] == [1, 2, 3, 4] * 2
    first, third = (lines(tmp_path / name / "trials.jsonl") for name in ("a", "c"))
    assert first == third


def test_a_dense_network_that_had_no_choice_is_refused(toy_task, search_config, tuned_config):
    task = toy_task()
    state = hyperprune(task, search_config()).dense
    dense = foreign_dense(task, state, 0)
    with pytest.raises(ConfigError, match=r"`dense` must not be given .*--space.learning-rate"):
        hyperprune(task, tuned_config(reference="final"), dense=dense)


def test_a_tuned_dense_network_is_refused_where_candidates_have_the_recipe(toy_task, straight):
    with pytest.raises(ConfigError, match=r"hyperparameters were tuned \(learning_rate=2.0\)"):
        load_dense(toy_task(), straight[1])


def test_a_tuning_in_which_all_trials_fail_says_so(toy_task, tuned_config, tmp_path):
    task = toy_task()._replace(evaluate=lambda state, split: math.nan)
    with pytest.raises(
        SearchError, match=r"dense network could not be tuned\. All trials"
    ) as error:
        hyperprune(task, tuned_config(), out=tmp_path / "run")
    assert (
        "the validation nll is nan. Change the training recipe, e.g. lower the learning rates"
        in str(error.value)
    )
    assert "candidates" not in str(error.value)


def failing_from(task, epoch, rates):
    """The task with rates whose validation nll is NaN from an epoch on."""

    def evaluate(state, split):
        failed = float(state["learning_rate"]) in rates and float(state["segments"]) >= 2 * epoch
        return math.nan if failed else task.evaluate(state, split)

    return task._replace(evaluate=evaluate)


def test_a_choice_that_fails_after_the_screening_gives_way_to_the_next(
    toy_task, tuned_config, tmp_path
):
    task = failing_from(toy_task(), 4, {2.0})  # the best of the screening, to epoch 3
    found = hyperprune(task, tuned_config(), out=tmp_path / "run")
    assert found.result["dense"]["hyper"] == {"learning_rate": 1.0}
    assert found.result["dense"]["epochs"] == 4


def test_a_sole_finalist_that_fails_gives_way_to_the_next_best_trial(
    toy_task, tuned_config, tmp_path
):
    # By nll the rates are in the order 2, 1, 8; 8 is cut after epoch 2, 1 after epoch 3.
    config = tuned_config(finalists=1, max_evals=4, final_epochs=6)
    notices, trained = [], []
    for number, rates in enumerate(({2.0}, {1.0, 2.0})):
        task = failing_from(toy_task(trained=trained), 5, rates)

        def listener(kind, values):
            notices.extend(values["text"] for _ in range(kind == "notice"))

        run = tmp_path / str(number)
        found = hyperprune(task, config, out=run, on_event=listener)
        assert found.result["dense"]["hyper"] == {"learning_rate": [1.0, 8.0][number]}
        assert found.result["dense"]["epochs"] == 6
        assert any("the next best trials are trained to the end" in text for text in notices)
        notices.clear()
        once = list(trained)
        again = hyperprune(task, config, out=run, resume=True)
        assert again.result["dense"] == found.result["dense"] and trained == once


def test_a_tuning_in_which_all_trials_fail_late_says_so(toy_task, tuned_config, tmp_path):
    task = failing_from(toy_task(), 4, set(RATES))
    with pytest.raises(SearchError, match=r"All trials failed: .* rates of the space"):
        hyperprune(task, tuned_config(), out=tmp_path / "run")


@pytest.mark.parametrize(
    ("own", "remedy"),
    [
        ({}, "lower the learning rate."),
        ({"learning_rate": 8.0}, "lower the learning rates of the space."),
        (
            {"clip": 1.0, "dropout_input": 0.1},
            "lower the learning rate, or change the space's clip, dropout_input.",
        ),
    ],
)
def test_a_dense_network_that_fails_names_what_rules_its_recipe(toy_task, tmp_path, own, remedy):
    task = toy_task()._replace(evaluate=lambda state, split: math.nan)
    with pytest.raises(SearchError, match="dense network failed in epoch 1") as error:
        train_dense(task, 4, 0, tmp_path, lambda kind, values: None, own)
    assert str(error.value).endswith(remedy)


def test_a_resumed_tuning_tells_what_it_holds_before_it_goes_on(toy_task, tuned_config, tmp_path):
    seen, events = [], []

    def stop(kind, values):
        seen.append(kind)
        if seen.count("record") == 3:
            raise Stop

    with pytest.raises(Stop):
        hyperprune(toy_task(), tuned_config(), out=tmp_path / "run", on_event=stop)
    hyperprune(
        toy_task(),
        tuned_config(),
        out=tmp_path / "run",
        resume=True,
        on_event=lambda kind, values: events.append((kind, values)),
    )
    assert events[0] == ("done", {"epochs": 3})


def test_a_resumed_dense_network_tells_what_it_holds_before_it_goes_on(
    toy_task, search_config, tmp_path
):
    seen, events = [], []

    def stop(kind, values):
        seen.append(kind)
        if seen.count("record") == 2:
            raise Stop

    with pytest.raises(Stop):
        hyperprune(toy_task(), search_config(), out=tmp_path / "run", on_event=stop)
    hyperprune(
        toy_task(),
        search_config(),
        out=tmp_path / "run",
        resume=True,
        on_event=lambda kind, values: events.append((kind, values)),
    )
    assert events[0] == ("done", {"epochs": 2})


def test_a_failing_learning_rate_is_not_chosen(toy_task, tuned_config, tmp_path):
    task = toy_task()

    def evaluate(state, split):
        return math.nan if float(state["learning_rate"]) == 2.0 else task.evaluate(state, split)

    found = hyperprune(task._replace(evaluate=evaluate), tuned_config(), out=tmp_path / "run")
    assert found.result["dense"]["hyper"] == {"learning_rate": 1.0}
    # One fails in epoch 1; the rest are finalists, of whom one becomes the dense network.
    assert found.result["budget"]["epochs_tuning"] == 1 + 2 * 4 - 4


def test_no_clipping_at_all_is_a_choice_that_the_ledger_can_hold(toy_task, search_config, tmp_path):
    space = SpaceConfig(init=("er",), growth=("random",), clip=(math.inf,), death_rate=(0.5,))
    config = search_config(space=space, max_evals=2)
    found = hyperprune(toy_task(), config, out=tmp_path / "run")
    assert {record.controls["clip"] for record in found.records} == {"inf"}
    assert json.loads((tmp_path / "run" / "result.json").read_text())["dense"]["hyper"] == {
        "clip": "inf"
    }
    hyperprune(toy_task(), config, out=tmp_path / "run", resume=True)
