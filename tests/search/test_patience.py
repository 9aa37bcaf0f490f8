"""Training that ends early: where the best validation nll has grown too old."""

import dataclasses

import pytest

from lsh_jax.config import ConfigError, SpaceConfig
from lsh_jax.report import write_report
from lsh_jax.search.dense import cached_directory, load_dense, train_dense
from lsh_jax.search.hyperpruning import hyperprune
from lsh_jax.search.ledger import Ledger, Record, has_ended

RATES = (0.4, 0.6, 0.8)
DENSE_BEST = 3
LAST_ROUND = 4  # e0 = 2 for the pool of 5, ei = 1 for 3 and 2 of them


def best_of(rate):
    """The epoch at which a candidate is best: 1, 3 and 5."""
    return 1 + 2 * RATES.index(round(rate, 1))


@pytest.fixture(scope="module")
def overfitting_task(toy_task):
    """The toy, but the nll falls to an epoch and rises from then on."""

    def make(patience, trained=None, dense_best=DENSE_BEST):
        toy = toy_task(trained=trained)

        def init(key, controls, hyper):
            state = toy.init(key, controls, hyper)
            return state | {"dense": controls.death_rate == 0.0}

        def evaluate(state, split):
            epoch = float(state["segments"]) / toy.segments_per_epoch
            best = dense_best if state["dense"] else best_of(float(state["rate"]))
            offset = 0.01 * int(state["death"]) + 0.3 * float(state["learning_rate"])
            return 1 + 0.01 * (epoch - best) ** 2 + offset

        return toy._replace(init=init, evaluate=evaluate, patience=patience)

    return make


@pytest.fixture(scope="module")
def config(search_config):
    def make(**changes):
        space = SpaceConfig(
            init=("uniform",), growth=("random",), redistribution=("none",), death_rate=RATES
        )
        return search_config(**({"final_epochs": 9, "space": space} | changes))

    return make


def lines(run):
    records = Ledger(run / "trials.jsonl").records()
    return [dataclasses.replace(record, wall_s=None) for record in records]


def history_of(nlls):
    return [Record(0, epoch, 0, {}, 0, val_nll=nll) for epoch, nll in enumerate(nlls, start=1)]


@pytest.mark.parametrize(
    ("nlls", "patience", "least", "ended"),
    [
        ([3, 2, 1], 1, 0, False),
        ([3, 1, 2], 1, 0, True),
        ([3, 1, 2], 2, 0, False),
        ([3, 1, 2, 2], 2, 0, True),
        ([1, 1, 1], 2, 0, True),  # the earlier of equals is the best
        ([3, 1, 2, 2], 2, 5, False),
        ([3, 1, 2, 2], 2, 4, True),
        ([3, 1, 2, 2], 0, 0, False),
        ([], 1, 0, False),
    ],
)
def test_training_ends_when_the_best_is_as_old_as_patience_lasts(nlls, patience, least, ended):
    assert has_ended(history_of(nlls), patience, least) == ended


@pytest.fixture(scope="module")
def straight(overfitting_task, config, tmp_path_factory):
    run, trained, notices = tmp_path_factory.mktemp("straight") / "run", [], []

    def listen(kind, values):
        notices.extend(values["text"] for _ in range(kind == "notice"))

    task = overfitting_task(2, trained)
    return hyperprune(task, config(), out=run, on_event=listen), run, trained, notices


def test_the_dense_network_and_the_finalists_end_early(straight):
    found, _, _, notices = straight
    dense = [record for record in found.records if record.trial == "dense"]
    assert len(dense) == found.result["dense"]["epochs"] == DENSE_BEST + 2
    finalists = found.result["rounds"][-1]["survivors"]
    for trial in finalists:
        own = [record for record in found.records if record.trial == trial]
        best = best_of(own[0].controls["death_rate"])
        assert len(own) == max(best + 2, LAST_ROUND)
        text = f"training of {trial} ends after epoch {len(own)}, its best is epoch {best}"
        # One whose best is old by the end of the rounds has no epoch after them.
        assert (text in notices) == (len(own) > LAST_ROUND)
    assert "training of dense ends after epoch 5, its best is epoch 3" in notices


def test_screening_knows_no_patience(straight):
    found = straight[0]
    for entry in found.result["rounds"]:
        for trial in entry["entered"]:
            own = [r for r in found.records if r.trial == trial and r.epoch <= entry["epochs"]]
            assert len(own) == entry["epochs"]


def test_what_was_trained_is_what_is_counted(straight):
    found, _, trained, _ = straight
    budget = found.result["budget"]
    assert budget["epochs_dense"] == sum(name == "dense" for name, _ in trained)
    assert budget["epochs_spent"] == sum(name != "dense" for name, _ in trained)
    assert budget["epochs_full_search"] == 5 * 9


@pytest.mark.slow
def test_a_report_can_be_written_of_a_run_that_ended_early(overfitting_task, config, tmp_path):
    task = overfitting_task(2, dense_best=1)
    found = hyperprune(task, config(finalists=5, dense_seeds=2), out=tmp_path / "run")
    assert {r.ls_distance is None for r in found.records if r.epoch > 3} == {True}
    write_report(tmp_path / "run")
    assert (tmp_path / "run" / "report.html").is_file()


@pytest.mark.parametrize("metric", ["ls", pytest.param("loss", marks=pytest.mark.slow)])
def test_a_finalist_may_outlast_the_dense_network(overfitting_task, config, tmp_path, metric):
    # The dense network ends with the rounds; nobody has a distance to compare after that.
    task = overfitting_task(2, dense_best=1)
    found = hyperprune(task, config(finalists=5, metric=metric, e0=2), out=tmp_path / "run")
    own = [record for record in found.records if record.trial != "dense"]
    assert found.result["dense"]["epochs"] == 3  # one round, to epoch 2; 1 + patience
    assert max(record.epoch for record in own) > 3
    for record in own:
        assert record.status == "ok"
        assert (record.ls_distance is None) == (record.epoch > 3)
        assert (record.score is None) == (record.epoch > 3 and metric == "ls")


def test_the_dense_network_has_every_epoch_that_a_score_needs(overfitting_task, tmp_path):
    task = overfitting_task(1, dense_best=1)
    quiet = lambda kind, values: None  # noqa: E731
    for least, epochs in ((LAST_ROUND, LAST_ROUND), (0, 2)):
        dense = train_dense(task, 9, 0, tmp_path / str(least), quiet, {}, least_epochs=least)
        assert dense.records[-1].epoch == epochs


@pytest.mark.parametrize("after", [21, *(pytest.param(n, marks=pytest.mark.slow) for n in (5, 19))])
def test_a_search_that_is_resumed_ends_at_the_same_epochs(
    overfitting_task, config, straight, tmp_path, after
):
    """After the dense network's last epoch, before and at the end of the finals."""
    seen, trained = 0, []

    def stop(kind, values):
        nonlocal seen
        seen += kind == "record"
        if seen == after:
            raise KeyboardInterrupt

    task = overfitting_task(2, trained)
    with pytest.raises(KeyboardInterrupt):
        hyperprune(task, config(), out=tmp_path / "run", on_event=stop)
    resumed = hyperprune(task, config(), out=tmp_path / "run", resume=True)
    assert lines(tmp_path / "run") == lines(straight[1])
    assert trained == straight[2]
    assert resumed.result["budget"] == straight[0].result["budget"]


def test_a_cached_dense_network_that_ended_early_is_not_trained_on(
    overfitting_task, config, tmp_path
):
    trained, notices = [], []
    task = overfitting_task(2, trained)
    for name in ("a", "b"):
        hyperprune(
            task,
            config(),
            out=tmp_path / name,
            cache_dir=tmp_path / "cache",
            on_event=lambda kind, values: notices.append(values.get("text")),
        )
    assert [epoch for name, epoch in trained if name == "dense"] == [1, 2, 3, 4, 5]
    assert "dense is taken from the cache, 5 epochs" in notices
    assert lines(tmp_path / "a") == lines(tmp_path / "b")


def test_rounds_that_end_later_have_a_dense_network_of_their_own(overfitting_task, tmp_path):
    for patience, distinct in ((2, 2), (0, 1)):
        task = overfitting_task(patience)
        assert len({cached_directory(tmp_path, task, 9, {}, least) for least in (4, 6)}) == distinct


def test_a_dense_run_that_ended_early_is_accepted_and_a_short_one_is_not(
    overfitting_task, config, straight, tmp_path
):
    task = overfitting_task(2)
    dense = load_dense(task, straight[1])
    hyperprune(task, config(), out=tmp_path / "a", dense=dense)
    assert lines(tmp_path / "a") == lines(straight[1])
    with pytest.raises(ConfigError, match="needs the dense network after epoch 6; it has epochs 1"):
        hyperprune(task, config(ei=2), out=tmp_path / "b", dense=dense)
    quiet = lambda kind, values: None  # noqa: E731
    short = train_dense(task, 4, 0, tmp_path / "short", quiet, {})
    with pytest.raises(ConfigError, match="needs the dense network after epoch 5; it has epochs 1"):
        hyperprune(task, config(), out=tmp_path / "c", dense=short)


def test_a_tuned_dense_network_has_every_epoch_that_a_score_needs(
    overfitting_task, config, tmp_path
):
    # The tuning's own rounds end at epoch 2, the search's at 4.
    space = dataclasses.replace(config().space, learning_rate=(1.0, 2.0))
    task = overfitting_task(1, trained := [], dense_best=1)
    found = hyperprune(task, config(space=space), out=tmp_path / "run")
    budget = found.result["budget"]
    assert found.result["dense"]["epochs"] == budget["epochs_dense"] == LAST_ROUND
    assert budget["epochs_dense"] + budget["epochs_tuning"] == sum(n == "dense" for n, _ in trained)
