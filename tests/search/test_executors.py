"""Where candidates train, and what becomes of workers, changes nothing of what a search finds."""

import dataclasses
import functools
import multiprocessing
import os
import pathlib
import re
import time
from concurrent.futures import CancelledError, Future

import pytest
import toy

from lsh_jax.config import ConfigError, SpaceConfig
from lsh_jax.search.dense import SearchError
from lsh_jax.search.executors import Job, SerialExecutor
from lsh_jax.search.hyperpruning import hyperprune
from lsh_jax.search.ledger import Ledger
from lsh_jax.search.process_executor import ProcessExecutor
from lsh_jax.search.ray_executor import RayExecutor
from lsh_jax.search.trial import DENSE, Candidate

RATES = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
HERE = str(pathlib.Path(toy.__file__).parent)


@pytest.fixture(scope="module")
def config(search_config):
    """Nine candidates of twelve, asked for by fours."""
    space = SpaceConfig(
        init=("uniform",),
        death=("magnitude", "set"),
        growth=("random",),
        redistribution=("none",),
        death_rate=RATES,
    )
    return search_config(max_evals=9, final_epochs=6, space=space)


def lines(run):
    """The ledger in the order of trials, without wall times."""
    records = Ledger(pathlib.Path(run) / "trials.jsonl").records()
    records = sorted(records, key=lambda record: (str(record.trial), record.epoch))
    return [dataclasses.replace(record, wall_s=None) for record in records]


def assert_same_search(found, run, expected):
    """The same ledger, decisions and winner, bit for bit."""
    assert lines(run) == lines(expected[1])
    for name in ("best", "dense", "beats_dense", "budget", "rounds"):
        assert found.result[name] == expected[0].result[name]
    for name in ("spectra.npz", "model/weights.npy"):
        assert (run / name).read_bytes() == (expected[1] / name).read_bytes()


@pytest.fixture(scope="module")
def serial(config, tmp_path_factory):
    run = tmp_path_factory.mktemp("serial") / "run"
    return hyperprune(toy.make_task(), config, out=run), run


@pytest.fixture(scope="module")
def processes():
    with ProcessExecutor(toy.make_task, 3) as executor:
        yield executor


@pytest.fixture
def harmed(tmp_path):
    """Makes the factory of a task that does harm."""

    def make(how, **options):
        folder = tmp_path / "harm"
        folder.mkdir(exist_ok=True)
        harm = functools.partial(toy.harm, folder=str(folder), how=how, **options)
        return functools.partial(toy.make_task, harm)

    return make


def test_processes_give_the_ledger_of_one(config, serial, processes, tmp_path):
    started = []

    def listen(kind, values):
        if kind == "started":
            started.append((values["trial"], values["epoch"]))

    found = hyperprune(toy.make_task(), config, processes, out=tmp_path / "run", on_event=listen)
    assert_same_search(found, tmp_path / "run", serial)
    trained = [r for r in found.records if isinstance(r.trial, int) and r.duplicate_of is None]
    assert sorted(started) == sorted((r.trial, r.epoch) for r in trained)


def test_a_worker_that_is_killed_costs_nothing_but_time(config, serial, harmed, tmp_path):
    with ProcessExecutor(harmed("kill"), 2) as executor:
        found = hyperprune(toy.make_task(), config, executor, out=tmp_path / "run")
    assert len(list((tmp_path / "harm").iterdir())) == 1
    assert_same_search(found, tmp_path / "run", serial)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("kill", r"its worker was killed by SIGKILL, as for want of memory, 2 times"),
        pytest.param("exit", r"its worker ended with status 3, 2 times", marks=pytest.mark.slow),
        ("raise", r"RuntimeError: its own fault"),
        ("memory", r"(_ArrayMemoryError|MemoryError): Unable to allocate"),
    ],
)
def test_a_candidate_that_ends_its_workers_fails_alone(config, harmed, tmp_path, how, reason):
    make_task = harmed(how, rate=0.8, times=99)
    with ProcessExecutor(make_task, 2, retries=1) as executor:
        found = hyperprune(toy.make_task(), config, executor, out=tmp_path / "run")
    failed = [record for record in found.records if record.status == "failed"]
    assert failed
    assert {record.controls["death_rate"] for record in failed} == {0.8}
    for record in failed:
        assert (record.epoch, record.score) == (2, None)
        assert re.match(reason, record.reason)
    assert found.result["best"]["controls"]["death_rate"] != 0.8


def test_a_function_that_no_process_can_import_is_refused_before_anything_is_trained():
    with pytest.raises(ConfigError, match=r"`make_task` must be a function of a module"):
        ProcessExecutor(lambda: toy.make_task(), 2)


def test_a_candidate_that_hangs_is_ended_at_its_time_limit(config, harmed, tmp_path):
    make_task = harmed("hang", rate=0.8, times=99)
    with ProcessExecutor(make_task, 2) as executor:
        found = hyperprune(toy.make_task(), config, executor, out=tmp_path / "run", time_limit=2.0)
    failed = [record for record in found.records if record.status == "failed"]
    assert {r.reason for r in failed} == {"an epoch took longer than the time limit of 2 s"}
    assert {record.controls["death_rate"] for record in failed} == {0.8}


def test_a_time_limit_holds_in_this_process_too(config, tmp_path):
    def slow(controls, epoch):
        time.sleep(0.3 * (float(controls.death_rate) > 0.85))

    found = hyperprune(toy.make_task(slow), config, out=tmp_path / "run", time_limit=0.25)
    failed = [record for record in found.records if record.status == "failed"]
    assert {record.controls["death_rate"] for record in failed} == {0.9}
    assert {r.reason for r in failed} == {"an epoch took longer than the time limit of 0.25 s"}


@pytest.mark.parametrize("limit", [0, -1.0, float("nan")])
def test_a_time_limit_that_cannot_be_meant_is_refused(config, tmp_path, limit):
    with pytest.raises(ConfigError, match="`time_limit` must be positive"):
        hyperprune(toy.make_task(), config, out=tmp_path / "run", time_limit=limit)
    assert not (tmp_path / "run").exists()


def test_workers_of_another_task_are_refused_with_the_difference(config, tmp_path):
    other = functools.partial(toy.make_task, seed=1)
    with (
        ProcessExecutor(other, 1) as executor,
        pytest.raises(ConfigError, match="these differ: seed was 0 and is 1"),
    ):
        hyperprune(toy.make_task(), config, executor, out=tmp_path / "run")


@pytest.mark.parametrize(
    ("make_task", "error", "words"),
    [
        (
            functools.partial(os._exit, 7),
            SearchError,
            "could not be started: it ended with status 7",
        ),
        (toy.refuse, ConfigError, "`data` must be there"),
    ],
)
def test_workers_that_do_not_start_stop_the_search_and_blame_no_candidate(
    config, tmp_path, make_task, error, words
):
    with ProcessExecutor(make_task, 1, retries=0) as executor, pytest.raises(error, match=words):
        hyperprune(toy.make_task(), config, executor, out=tmp_path / "run")
    assert {record.trial for record in lines(tmp_path / "run")} == {"dense"}


@pytest.mark.parametrize(("workers", "retries"), [(0, 1), (1, -1)])
def test_numbers_that_cannot_be_meant_are_refused(workers, retries):
    with pytest.raises(ConfigError, match=r"`(workers|retries)` must be at least"):
        ProcessExecutor(toy.make_task, workers, retries=retries)


@pytest.mark.slow
def test_ray_gives_the_ledger_of_one_also_with_a_worker_killed(config, serial, harmed, tmp_path):
    pytest.importorskip("ray")
    path = {"PYTHONPATH": HERE}
    with RayExecutor(harmed("kill"), 2, environment=path) as executor:
        found = hyperprune(toy.make_task(), config, executor, out=tmp_path / "run")
        assert len(list((tmp_path / "harm").iterdir())) == 1
        assert_same_search(found, tmp_path / "run", serial)
        with pytest.raises(ConfigError, match=r"`workers` must be at most \d+ with 1 CPUs"):
            RayExecutor(toy.make_task, 1000)


def test_an_executor_that_is_closed_while_a_worker_starts_ends_at_once(tmp_path):
    executor = ProcessExecutor(toy.make_slowly, 1)
    candidate = Candidate("dense", DENSE, 0)
    future = executor.submit(Job(tmp_path, (candidate,), 1, toy.make_task().fingerprint()))
    time.sleep(0.3)
    started = time.monotonic()
    executor.close()
    assert time.monotonic() - started < 20  # making the task takes a minute
    with pytest.raises(CancelledError):
        future.result()
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.slow
def test_the_death_of_a_worker_that_does_nothing_is_charged_to_nobody(config, serial, tmp_path):
    killed, others = [], set(multiprocessing.active_children())

    def kill(kind, values):
        if kind == "record" and isinstance(values["record"].trial, int) and len(killed) < 3:
            (process,) = set(multiprocessing.active_children()) - others
            process.kill()
            process.join()
            killed.append(process.pid)

    with ProcessExecutor(toy.make_task, 1, retries=0) as executor:
        found = hyperprune(toy.make_task(), config, executor, out=tmp_path / "run", on_event=kill)
    assert len(set(killed)) == 3
    assert_same_search(found, tmp_path / "run", serial)


def test_jobs_beside_one_that_raises_are_waited_for_and_recorded(config, tmp_path):
    """The second of two futures fails as a disk does, while the first still runs."""
    task = toy.make_task()
    inner = SerialExecutor(task)

    class Both:
        workers = 2
        held = None

        def submit(self, job, on_segment=None):
            if job.candidates[0].trial == 1:
                future = Future()
                future.set_exception(OSError(28, "No space left on device"))
                return future
            if job.candidates[0].trial == 0 and self.held is None:
                self.held = Future(), job
                return self.held[0]
            return inner.submit(job, on_segment)

        def stop(self):
            future, job = self.held
            if not future.done():
                future.set_result(inner.submit(job).result())

    with pytest.raises(OSError, match="No space left"):
        hyperprune(task, config, Both(), out=tmp_path / "run")
    assert [(r.trial, r.epoch) for r in lines(tmp_path / "run") if r.trial == 0] == [(0, 1)]
