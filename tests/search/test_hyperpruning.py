import dataclasses
import itertools
import json
import math
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from lsh_jax.config import ConfigError, SpaceConfig
from lsh_jax.search.dense import SearchError, foreign_dense, load_dense
from lsh_jax.search.hyperpruning import hyperprune
from lsh_jax.search.ledger import Ledger
from lsh_jax.search.measure import Measure
from lsh_jax.search.trial import DENSE
from lsh_jax.sparsity import controls


def lines(run):
    """The ledger without wall times."""
    records = Ledger(pathlib.Path(run) / "trials.jsonl").records()
    return [dataclasses.replace(record, wall_s=None) for record in records]


@pytest.fixture(scope="module")
def straight(toy_task, search_config, tmp_path_factory):
    """A search without interruption, its directory, and the epochs it trained."""
    trained = []
    run = tmp_path_factory.mktemp("straight") / "run"
    return hyperprune(toy_task(trained=trained), search_config(), out=run), run, trained


def test_a_search_halves_its_pool_and_trains_the_finalists(straight):
    found, _, _ = straight
    rounds = found.result["rounds"]
    assert [len(r["entered"]) for r in rounds] == [5, 3, 2]
    assert [r["epochs"] for r in rounds] == [2, 3, 4]
    for earlier, later in itertools.pairwise(rounds):
        assert later["entered"] == earlier["survivors"]
    own = [r for r in found.records if isinstance(r.trial, int) and r.duplicate_of is None]
    # 5 x 2 + 3 + 2 epochs against 5 x 4
    assert len(own) == found.result["budget"]["epochs_spent"] == 15
    assert found.result["budget"]["epochs_full_search"] == 20
    assert found.result["budget"]["ratio"] == pytest.approx(15 / 20)
    assert found.result["budget"]["ratio_with_dense"] == pytest.approx(19 / 20)


def test_the_survivors_are_those_nearest_to_the_dense_spectrum(straight):
    found, _, _ = straight
    first = found.result["rounds"][0]
    scores = {
        r.trial: r.score for r in found.records if r.epoch == 2 and r.trial in first["entered"]
    }
    assert first["survivors"] == sorted(scores, key=lambda t: (scores[t], t))[:3]
    for r in found.records:
        if isinstance(r.trial, int):
            # The toy's spectrum is (-nll, -2 nll), so the distance is sqrt(5) |difference|.
            dense = next(d for d in found.records if d.trial == "dense" and d.epoch == r.epoch)
            assert r.ls_distance == pytest.approx(math.sqrt(5) * abs(r.val_nll - dense.val_nll))


def test_a_test_nll_beyond_numbers_ends_with_a_word_on_it(toy_task, search_config, tmp_path):
    def block_nll(state, split):
        return np.array([1.0, math.nan]), np.array([1.0, 1.0])

    task = toy_task()._replace(block_nll=block_nll)
    with pytest.raises(SearchError, match="the test nll of the winner is nan"):
        hyperprune(task, search_config(), out=tmp_path / "run")


def test_the_winner_has_the_lowest_validation_loss_at_its_best_epoch(straight):
    found, _, _ = straight
    finalists = found.result["rounds"][-1]["survivors"]
    bests = {t: min(r.val_nll for r in found.records if r.trial == t) for t in finalists}
    assert found.result["best"]["trial"] == min(bests, key=lambda t: bests[t])
    assert found.result["best"]["val_perplexity"] == pytest.approx(math.exp(min(bests.values())))


def test_the_same_search_twice_gives_the_same_ledger(toy_task, search_config, tmp_path, straight):
    hyperprune(toy_task(), search_config(), out=tmp_path / "again")
    assert lines(tmp_path / "again") == lines(straight[1])


class Stop(KeyboardInterrupt):
    """Raised in place of Ctrl-C."""


def stop_at(kind, count):
    """A listener that interrupts the search at the `count`-th event of a kind."""
    seen = 0

    def listener(event, values):
        nonlocal seen
        seen += event == kind
        if seen == count:
            raise Stop

    return listener


@pytest.mark.parametrize("after", [1, 4, 7, 15, 19])
def test_an_interrupted_search_resumes_to_the_ledger_of_the_straight_one(
    toy_task, search_config, tmp_path, straight, after
):
    expected, run, once = straight
    trained = []
    task = toy_task(trained=trained)
    with pytest.raises(Stop):
        hyperprune(task, search_config(), out=tmp_path / "run", on_event=stop_at("record", after))
    resumed = hyperprune(task, search_config(), out=tmp_path / "run", resume=True)
    assert lines(tmp_path / "run") == lines(run)
    assert trained == once  # no epoch was trained twice
    for key in ("best", "dense", "beats_dense", "budget", "rounds"):
        assert resumed.result[key] == expected.result[key]


@pytest.mark.parametrize("before_the_end", [3, pytest.param(7, marks=pytest.mark.slow)])
def test_what_survivors_reach_later_does_not_change_the_pool_of_a_resumed_search(
    toy_task, search_config, tmp_path, before_the_end
):
    """The toy's ranks turn round after the first score: TPE must not learn of that."""
    config = search_config(max_evals=9, ask_batch=1, final_epochs=6, seed=1)
    expected = hyperprune(toy_task(), config, out=tmp_path / "straight").records
    count = len(expected) - before_the_end
    with pytest.raises(Stop):
        hyperprune(toy_task(), config, out=tmp_path / "run", on_event=stop_at("record", count))
    hyperprune(toy_task(), config, out=tmp_path / "run", resume=True)
    assert lines(tmp_path / "run") == lines(tmp_path / "straight")


def test_an_interrupt_within_an_epoch_repeats_only_that_epoch(
    toy_task, search_config, tmp_path, straight
):
    with pytest.raises(Stop):
        hyperprune(
            toy_task(), search_config(), out=tmp_path / "run", on_event=stop_at("segment", 17)
        )
    hyperprune(toy_task(), search_config(), out=tmp_path / "run", resume=True)
    assert lines(tmp_path / "run") == lines(straight[1])


def test_a_finished_run_resumed_trains_nothing(toy_task, search_config, tmp_path):
    trained = []
    task = toy_task(trained=trained)
    hyperprune(task, search_config(), out=tmp_path / "run")
    trained.clear()
    hyperprune(task, search_config(), out=tmp_path / "run", resume=True)
    assert trained == []


def test_a_directory_that_holds_something_is_not_written_over(toy_task, search_config, tmp_path):
    (tmp_path / "thesis.txt").write_text("ten years of work")
    with pytest.raises(ConfigError, match="`out` must be a new or empty directory"):
        hyperprune(toy_task(), search_config(), out=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_resuming_with_other_settings_is_refused_with_the_difference(
    toy_task, search_config, straight
):
    with pytest.raises(ConfigError, match=r"search\.ask_batch was 4 and is 3"):
        hyperprune(toy_task(), search_config(ask_batch=3), out=straight[1], resume=True)


def test_the_measure_is_recorded_and_a_run_begun_without_one_goes_on(
    toy_task, search_config, tmp_path
):
    measure, run = Measure("rms", 0.5, "no-change"), tmp_path / "run"
    found = hyperprune(toy_task(measure=measure), search_config(), out=run)
    config = json.loads((run / "config.json").read_text())
    told = {"kind": "rms", "scale": 0.5, "baseline": "no-change"}
    assert config.pop("measure") == found.result["measure"] == told
    for network in ("best", "dense"):
        own = found.result[network]
        assert own["test_perplexity"] == pytest.approx(math.exp(own["test_nll"]))
        assert own["val_perplexity"] == pytest.approx(math.exp(own["val_nll"]))
    assert found.result["unigram_perplexity"] is None
    assert found.result["baseline_nll"] == {"validation": 3.0, "test": 3.1}
    (run / "config.json").write_text(json.dumps(config))  # as an earlier version left it
    (run / "result.json").unlink()
    before = lines(run)
    assert hyperprune(toy_task(measure=measure), search_config(), out=run, resume=True)
    assert lines(run) == before
    assert json.loads((run / "result.json").read_text())["measure"] == told


def test_settings_of_ones_own_that_are_called_like_the_search_s_do_not_stop_a_resume(
    toy_task, search_config, tmp_path
):
    own = {"settings": {"measure": "mine", "task": "own"}}
    hyperprune(toy_task(), search_config(), out=tmp_path / "run", **own)
    hyperprune(toy_task(), search_config(), out=tmp_path / "run", **own, resume=True)
    with pytest.raises(ConfigError, match="task was 'own'"):
        hyperprune(toy_task(), search_config(), out=tmp_path / "run", resume=True)


def test_a_second_process_on_the_same_run_is_refused(toy_task, search_config, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    holder = (
        "import pathlib, sys, time\n"
        "from lsh_jax.search.run_directory import held\n"
        "with held(pathlib.Path(sys.argv[1])):\n"
        "    print('held', flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(run)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(ConfigError, match=f"process {process.pid} on .* is writing"):
            hyperprune(toy_task(), search_config(), out=run)
        process.kill()


@pytest.mark.parametrize("bad", [math.nan, math.inf, RuntimeError("out of memory\nlong trace")])
def test_a_failing_candidate_is_recorded_and_the_search_goes_on(
    toy_task, search_config, tmp_path, bad
):
    task = toy_task(
        fails=lambda controls, epoch: bad if float(controls.death_rate) > 0.65 else None
    )
    found = hyperprune(task, search_config(), out=tmp_path / "run")
    failed = [r for r in found.records if r.status == "failed"]
    assert failed
    assert all(r.score is None and r.reason for r in failed)
    assert all(r.controls["death_rate"] > 0.65 for r in failed)
    assert found.result["best"]["controls"]["death_rate"] < 0.65
    reason = "RuntimeError: out of memory" if isinstance(bad, Exception) else "training nll is"
    assert reason in failed[0].reason


def test_a_candidate_that_fails_in_a_later_round_leaves_it(toy_task, search_config, tmp_path):
    task = toy_task(fails=lambda controls, epoch: math.nan if epoch == 3 else None)
    with pytest.raises(SearchError, match="All candidates failed: the training nll is nan"):
        hyperprune(task, search_config(), out=tmp_path / "run")
    own = [r for r in lines(tmp_path / "run") if r.duplicate_of is None]
    assert len(own) == 4 + 10 + 3  # all that happened is on record


def assert_best_of_what_did_not_fail(found):
    finalists = found.result["rounds"][-1]["survivors"]
    assert any(r.status == "failed" for r in found.records)
    whole = [r for r in found.records if r.trial in finalists and r.status == "ok"]
    best = min(whole, key=lambda r: (r.val_nll, r.epoch))
    assert found.result["best"]["epoch"] == best.epoch
    assert found.result["best"]["val_perplexity"] == best.val_perplexity


def test_a_finalist_that_fails_late_still_has_its_best_epoch(toy_task, search_config, tmp_path):
    task = toy_task(fails=lambda controls, epoch: math.nan if epoch == 5 else None)
    found = hyperprune(task, search_config(final_epochs=5), out=tmp_path / "run")
    assert_best_of_what_did_not_fail(found)


def test_an_epoch_that_failed_after_its_evaluation_cannot_win(toy_task, search_config, tmp_path):
    task = toy_task()

    def spectrum(state):
        exponents, std_error = task.spectrum(state)
        spoilt = int(state["segments"]) == 8 and float(state["rate"]) != np.float32(0.6)
        return exponents * (math.nan if spoilt else 1.0), std_error

    space = SpaceConfig(
        init=("uniform",), growth=("random",), redistribution=("none",), death_rate=(0.4, 0.8)
    )
    found = hyperprune(
        task._replace(spectrum=spectrum),
        search_config(space=space, ei=1, final_epochs=5, finalists=3),
        out=tmp_path / "run",
    )
    assert_best_of_what_did_not_fail(found)
    reasons = {r.reason for r in found.records if r.status == "failed"}
    assert reasons == {"the Lyapunov spectrum is not finite"}


def test_a_distance_beyond_numbers_is_a_failure_with_its_reason(toy_task, search_config, tmp_path):
    task = toy_task()

    def spectrum(state):
        exponents, std_error = task.spectrum(state)
        # The toy's candidates of rate 0.6 share the dense network's; the others overflow.
        spoilt = float(state["rate"]) != np.float32(0.6)
        return np.float32(exponents * (-3e38 if spoilt else 1.0) / 9), std_error

    found = hyperprune(
        task._replace(spectrum=spectrum),
        search_config(max_evals=9, final_epochs=5),
        out=tmp_path / "run",
    )
    failed = [r for r in found.records if r.status == "failed"]
    assert failed
    assert {r.reason for r in failed} == {"the LS distance is inf"}
    assert found.result["best"]["controls"]["death_rate"] == 0.6


def test_spectra_without_standard_errors_leave_none_in_the_ledger(
    toy_task, search_config, tmp_path
):
    task = toy_task()
    bare = task._replace(spectrum=lambda state: (task.spectrum(state)[0], np.full((1, 2), np.nan)))
    found = hyperprune(bare, search_config(), out=tmp_path / "run")
    # A candidate with the dense network's own spectrum is at distance 0 without an error.
    assert {r.ls_std_error for r in found.records if r.ls_distance} == {None}


def test_what_the_listener_raises_is_no_failure_of_the_candidate(toy_task, search_config, tmp_path):
    def listener(kind, values):
        if kind == "segment" and values["trial"] == 0:
            raise RuntimeError("no more screen")

    with pytest.raises(RuntimeError, match="no more screen"):
        hyperprune(toy_task(), search_config(), out=tmp_path / "run", on_event=listener)
    assert {r.trial for r in lines(tmp_path / "run")} == {"dense"}


def test_a_state_that_a_checkpoint_would_change_is_refused_at_once(toy_task, search_config):
    task = toy_task()
    broken = task._replace(init=lambda *arguments: task.init(*arguments) | {"rate": 0.5})
    with pytest.raises(ConfigError, match=r"`state\['rate'\]` must be a JAX array, got 'float'"):
        hyperprune(broken, search_config())


def test_a_candidate_without_a_live_weight_fails(toy_task, search_config, tmp_path):
    task = toy_task()

    def train(state, controls, hyper, num_segments):
        state, info = task.train(state, controls, hyper, num_segments)
        dense = math.isinf(float(controls.update_every))
        return state, info if dense else info._replace(nonzeros=0)

    with pytest.raises(SearchError, match="no live weight is left"):
        hyperprune(task._replace(train=train), search_config(), out=tmp_path / "run")


def test_a_dense_network_that_fails_stops_the_search_with_a_remedy(
    toy_task, search_config, tmp_path
):
    task = toy_task()
    task = task._replace(evaluate=lambda state, split: math.nan)
    with pytest.raises(SearchError, match=r"dense network failed in epoch 1.*learning rate\."):
        hyperprune(task, search_config(), out=tmp_path / "run")


def test_no_configuration_is_trained_twice(toy_task, search_config, tmp_path):
    trained = []
    space = SpaceConfig(
        init=("uniform",),
        death=("magnitude", "set", "threshold"),
        growth=("random",),
        redistribution=("none",),
        death_rate=(0.4, 0.6, 0.8),
    )
    config = search_config(max_evals=30, space=space, final_epochs=8)
    notices = []

    def listen(kind, values):
        if kind == "notice":
            notices.append(values["text"])

    task = toy_task(trained=trained)
    found = hyperprune(task, config, out=tmp_path / "run", on_event=listen)
    assert notices == ["the space holds 9 configurations, fewer than max_evals=30"]
    assert len(found.result["rounds"][0]["entered"]) == 9
    assert len(set(trained)) == len(trained)
    repeated = [r for r in found.records if r.duplicate_of is not None]
    for r in repeated:
        original = next(
            o for o in found.records if o.trial == r.duplicate_of and o.epoch == r.epoch
        )
        assert (r.controls, r.score) == (original.controls, original.score)
        assert original.duplicate_of is None


def test_candidates_that_have_not_begun_to_learn_are_told_of(toy_task, search_config, tmp_path):
    notices = []

    def listen(kind, values):
        if kind == "notice":
            notices.append(values["text"])

    task = toy_task()._replace(baseline_nll={"validation": 1.0, "test": 1.0})
    hyperprune(task, search_config(), out=tmp_path / "run", on_event=listen)
    # The toy's nll is above 1 at first, for all of them.
    assert notices[0].startswith("5 of 5 candidates are scored while no better than the unigram")
    notices.clear()
    task = task._replace(measure=Measure("rms", 1.0, "no-change"))
    hyperprune(task, search_config(), out=tmp_path / "other", on_event=listen)
    assert "no better than the no-change rms error: their scores say little" in notices[0]
    assert notices[0].endswith("more data")


@pytest.fixture(scope="module")
def at_random(toy_task, search_config):
    """A search that learns nothing from scores, so that baselines meet the same candidates."""
    return hyperprune(toy_task(), search_config(algo="random"))


@pytest.mark.parametrize("metric", ["loss", "death-rate", "none"])
def test_baselines_share_everything_but_the_score(
    toy_task, search_config, tmp_path, at_random, metric
):
    other = hyperprune(toy_task(), search_config(algo="random", metric=metric), out=tmp_path / "r")
    pools = [
        [(r.trial, r.controls, r.seed, r.val_nll, r.ls_distance) for r in f.records if r.round == 0]
        for f in (at_random, other)
    ]
    assert pools[0] == pools[1]
    for r in other.records:
        if isinstance(r.trial, int):
            expected = {"loss": r.val_nll, "death-rate": -r.controls["death_rate"]}
            assert r.score == expected.get(metric, r.score)
            assert 0 <= r.score < 1 or metric != "none"


@pytest.mark.parametrize(("reference", "epoch"), [("final", 4), ("same-epoch", 2)])
def test_the_reference_epoch_is_the_one_asked_for(
    toy_task, search_config, tmp_path, reference, epoch
):
    found = hyperprune(toy_task(), search_config(reference=reference), out=tmp_path / "run")
    candidate = next(r for r in found.records if r.trial == 0 and r.epoch == 2)
    dense = next(r for r in found.records if r.trial == "dense" and r.epoch == epoch)
    assert candidate.ls_distance == pytest.approx(
        math.sqrt(5) * abs(candidate.val_nll - dense.val_nll)
    )


def test_the_same_loss_reference_is_the_epoch_of_the_nearest_loss(
    toy_task, search_config, tmp_path
):
    found = hyperprune(toy_task(), search_config(reference="same-loss"), out=tmp_path / "run")
    dense = [r.val_nll for r in found.records if r.trial == "dense"]
    for r in found.records:
        if isinstance(r.trial, int):
            nearest = min(abs(r.val_nll - nll) for nll in dense)
            assert r.ls_distance == pytest.approx(math.sqrt(5) * nearest, abs=1e-5)


def test_the_dense_network_is_trained_once_for_a_cache(toy_task, search_config, tmp_path):
    trained = []
    task = toy_task(trained=trained)
    for name in ("a", "b"):
        hyperprune(task, search_config(), out=tmp_path / name, cache_dir=tmp_path / "cache")
    assert [epoch for name, epoch in trained if name == "dense"] == [1, 2, 3, 4]
    assert lines(tmp_path / "a") == lines(tmp_path / "b")


def test_an_earlier_run_serves_as_the_dense_reference(toy_task, search_config, tmp_path):
    task = toy_task()
    hyperprune(task, search_config(), out=tmp_path / "a", cache_dir=tmp_path / "cache")
    dense = load_dense(task, tmp_path / "a")
    hyperprune(task, search_config(), out=tmp_path / "b", dense=dense)
    assert lines(tmp_path / "a") == lines(tmp_path / "b")
    with pytest.raises(ConfigError, match="differs in seed"):
        load_dense(toy_task(seed=1), tmp_path / "a")
    with pytest.raises(ConfigError, match="`dense` must be a run with a dense network"):
        load_dense(task, tmp_path)


def test_a_dense_network_without_the_epoch_is_an_error_not_another_epoch(
    toy_task, search_config, tmp_path
):
    task = toy_task()
    hyperprune(task, search_config(), out=tmp_path / "short")
    dense = load_dense(task, tmp_path / "short")
    with pytest.raises(ConfigError, match="needs the dense network after epoch 5; it has epochs 1"):
        hyperprune(task, search_config(final_epochs=9), out=tmp_path / "run", dense=dense)


def test_a_foreign_dense_network_serves_as_the_final_reference(toy_task, search_config, tmp_path):
    task = toy_task()
    state = hyperprune(task, search_config(), out=tmp_path / "a").dense
    dense = foreign_dense(task, state, 0)
    found = hyperprune(task, search_config(reference="final"), out=tmp_path / "b", dense=dense)
    assert found.result["dense"]["epochs"] == 0
    assert found.result["budget"]["epochs_dense"] == 0


def test_more_dense_seeds_show_their_distance_to_the_first(toy_task, search_config, tmp_path):
    found = hyperprune(toy_task(), search_config(dense_seeds=2), out=tmp_path / "run")
    others = [r for r in found.records if r.trial == "dense-1"]
    # The toy shifts the spectrum by 0.01 a seed: (0.01, 0.02) apart.
    assert [r.ls_distance for r in others] == pytest.approx([0.01 * math.sqrt(5)] * 4, rel=1e-3)
    assert found.result["budget"]["epochs_dense"] == 8


def test_the_run_directory_holds_what_the_contract_says(straight):
    found, run, _ = straight
    assert json.loads((run / "result.json").read_text()) == found.result
    spectra = np.load(run / "spectra.npz")
    assert {f"{r.trial}/{r.epoch}" for r in found.records if r.duplicate_of is None} == set(spectra)
    assert (run / "model" / "weights.npy").is_file()
    kept = {path.name for path in (run / "checkpoints").iterdir()}
    finalists = {str(trial) for trial in found.result["rounds"][-1]["survivors"]}
    assert kept == finalists | {"dense"}
    assert not [path for path in run.rglob("*") if path.suffix in (".pkl", ".pickle")]


def test_a_library_call_without_a_directory_leaves_nothing_behind(toy_task, search_config):
    found = hyperprune(toy_task(), search_config())
    assert found.result["best"]["trial"] in range(20)
    assert found.best["weights"].shape == (5,)


def test_a_space_that_the_task_cannot_serve_is_refused_before_anything_is_written(
    toy_task, search_config, tmp_path
):
    def check(space):
        raise ConfigError(f"no {space.growth[0]} growth here")

    with pytest.raises(ConfigError, match="no random growth here"):
        hyperprune(toy_task()._replace(check_space=check), search_config(), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_updates_inside_a_segment_are_refused(toy_task, search_config, tmp_path):
    config = search_config(space=SpaceConfig(update_every=(1 / 3,)))
    with pytest.raises(ConfigError, match="`update_every` must be a multiple of 1/segments"):
        hyperprune(toy_task(), config, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_candidate_whose_state_cannot_be_made_fails_alone(toy_task, search_config, tmp_path):
    task = toy_task()

    def init(key, controls, hyper):
        if float(controls.death_rate) > 0.65:
            raise ValueError("no such allocation\nlong trace")
        return task.init(key, controls, hyper)

    found = hyperprune(task._replace(init=init), search_config(), out=tmp_path / "run")
    failed = [record for record in found.records if record.status == "failed"]
    assert {record.reason for record in failed} == {"ValueError: no such allocation"}


def test_a_churn_that_is_no_number_is_a_failure(toy_task, search_config, tmp_path):
    task = toy_task()

    def train(state, controls, hyper, num_segments):
        state, info = task.train(state, controls, hyper, num_segments)
        spoilt = float(controls.death_rate) > 0.65
        return state, info._replace(churn_sum=math.nan) if spoilt else info

    found = hyperprune(task._replace(train=train), search_config(), out=tmp_path / "run")
    reasons = {record.reason for record in found.records if record.status == "failed"}
    assert reasons == {"the churn is nan"}


def test_a_run_is_not_resumed_with_another_dense_network(toy_task, search_config, tmp_path):
    config = search_config(reference="final")
    task = toy_task()
    state = task.init(None, controls(DENSE), task.hyper)
    first = foreign_dense(task, state, 0)
    other = foreign_dense(task, state | {"segments": state["segments"] + 4}, 0)
    run = tmp_path / "run"
    with pytest.raises(Stop):
        hyperprune(task, config, out=run, dense=first, on_event=stop_at("record", 3))
    with pytest.raises(ConfigError, match=r"`dense` must be the network that .* began with"):
        hyperprune(task, config, out=run, dense=other, resume=True)
    hyperprune(task, config, out=run, dense=first, resume=True)


def test_a_damaged_spectrum_and_result_do_not_stop_a_finished_run(
    toy_task, search_config, tmp_path
):
    run, notices = tmp_path / "run", []
    hyperprune(toy_task(), search_config(), out=run)
    (run / "spectra" / "0-1.npy").write_bytes(b"\x93NUMPY")
    (run / "result.json").write_text("")

    def listen(kind, values):
        if kind == "notice":
            notices.append(values["text"])

    hyperprune(toy_task(), search_config(), out=run, resume=True, on_event=listen)
    assert sum("spectrum of 0 after epoch 1 cannot be read" in text for text in notices) == 1
    with np.load(run / "spectra.npz") as spectra:
        assert "0/1" not in spectra.files
        assert "0/2" in spectra.files
