"""Candidates side by side: the search, over a task that trains its groups one by one in truth."""

import dataclasses
import functools
import json
import math

import jax
import numpy as np
import pytest

from lsh_jax.config import ConfigError, SpaceConfig
from lsh_jax.search import epoch, population
from lsh_jax.search.hyperpruning import hyperprune
from lsh_jax.search.ledger import Ledger
from lsh_jax.search.population import fit_population, largest_group
from lsh_jax.search.task import SideBySide

RATES = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@pytest.fixture(scope="module")
def grouped_task(toy_task):
    """The toy with groups; `sizes` gets the size of each that is stacked, in its order."""

    def make(sizes=None, breaks=False, **settings):
        toy = toy_task(**settings)

        def stack(states, controls, hypers):
            if sizes is not None:
                sizes.append(len(states))
            return list(zip(states, controls, hypers, strict=True))

        def train(group):
            if breaks:
                raise MemoryError("no room for two\nlong trace")
            found = [toy.train(*member, 1) for member in group]
            rest = [member[1:] for member in group]
            states = [(state, *own) for (state, _), own in zip(found, rest, strict=True)]
            return states, [info for _, info in found]

        side_by_side = SideBySide(
            stack=stack,
            train=train,
            unstack=lambda group: [state for state, _, _ in group],
            num_bytes=lambda size: 1000 + 100 * size,
        )
        return toy._replace(side_by_side=side_by_side)

    return make


@pytest.fixture(scope="module")
def config(search_config):
    def make(**changes):
        space = SpaceConfig(
            init=("uniform",), growth=("random",), redistribution=("none",), death_rate=RATES
        )
        return search_config(**({"final_epochs": 5, "space": space} | changes))

    return make


def spoilt(controls, epoch):
    """A candidate that fails in the pool, and one that fails later."""
    rate = float(controls.death_rate)
    return math.nan if (rate > 0.85 and epoch == 2) or (0.65 < rate < 0.75 and epoch == 3) else None


def lines(run):
    """The ledger in the order of trials, without wall times."""
    records = Ledger(run / "trials.jsonl").records()
    records = sorted(records, key=lambda record: (str(record.trial), record.epoch))
    return [dataclasses.replace(record, wall_s=None) for record in records]


def segments(events):
    """A listener that notes what it hears of segments."""

    def listen(kind, values):
        if kind == "segment":
            events.append(tuple(values.values()))

    return listen


@pytest.fixture(scope="module")
def one_by_one(grouped_task, config, tmp_path_factory):
    run, events = tmp_path_factory.mktemp("one") / "run", []
    task = grouped_task(fails=spoilt)
    return hyperprune(task, config(), out=run, on_event=segments(events)), run, events


@pytest.mark.parametrize("size", [2, 3])
def test_the_ledger_is_that_of_one_by_one(grouped_task, config, one_by_one, tmp_path, size):
    expected, run, events = one_by_one
    sizes, heard = [], []
    found = hyperprune(
        grouped_task(sizes, fails=spoilt),
        config(),
        out=tmp_path / "run",
        population=size,
        on_event=segments(heard),
    )
    assert lines(tmp_path / "run") == lines(run)
    assert any(record.status == "failed" for record in found.records)
    for name in ("best", "budget", "rounds", "dense"):
        assert found.result[name] == expected.result[name]
    # The pool is asked for in batches of 4: two groups of 2, or 3 and one that trains alone.
    assert max(sizes) == size
    assert sorted(map(str, heard)) == sorted(map(str, events))


def test_groups_go_through_pool_rounds_finals_and_tuning(grouped_task, config, tmp_path):
    sizes, space = [], dataclasses.replace(config().space, learning_rate=(1.0, 2.0, 8.0))
    task = grouped_task(sizes)
    for size in (1, 3):
        hyperprune(task, config(space=space), out=tmp_path / str(size), population=size)
    for folder in (".", "tuning"):
        assert lines(tmp_path / "1" / folder) == lines(tmp_path / "3" / folder)
    tuning = [3, 3, 2, 2]  # 3 trials for 2 epochs, 2 for one, and the finalists for 2 to the end
    pool = [3, 3]  # batches of 4 for 2 epochs, of whom one trains alone, and of one
    rounds = [3, 2, 2]  # of 3 and of 2, who are the finalists, for an epoch each
    assert sizes == [*tuning, 2, *pool, *rounds]


@pytest.mark.parametrize("after", [7, *(pytest.param(n, marks=pytest.mark.slow) for n in (9, 19))])
def test_a_search_that_is_resumed_in_the_middle_of_a_group_gives_the_same_ledger(
    grouped_task, config, one_by_one, tmp_path, after
):
    seen = 0

    def stop(kind, values):
        nonlocal seen
        seen += kind == "record"
        if seen == after:
            raise KeyboardInterrupt

    task = grouped_task(fails=spoilt)
    with pytest.raises(KeyboardInterrupt):
        hyperprune(task, config(), out=tmp_path / "run", population=3, on_event=stop)
    # Resumed with another number side by side, which is no setting of the search.
    hyperprune(task, config(), out=tmp_path / "run", population=2, resume=True)
    assert lines(tmp_path / "run") == lines(one_by_one[1])
    assert json.loads((tmp_path / "run" / "config.json").read_text())["population"] == 3


def test_a_group_that_cannot_be_trained_goes_on_one_by_one(
    grouped_task, config, one_by_one, tmp_path
):
    sizes, notices = [], []
    task = grouped_task(sizes, breaks=True, fails=spoilt)

    def listen(kind, values):
        notices.extend(values["text"] for _ in range(kind == "notice"))

    hyperprune(task, config(), out=tmp_path / "run", population=4, on_event=listen)
    assert lines(tmp_path / "run") == lines(one_by_one[1])
    assert sizes == [4]  # tried once
    assert [text for text in notices if "side by side" in text] == [
        "4 candidates side by side failed (MemoryError: no room for two): they go on one by one"
    ]


@pytest.mark.parametrize(
    # The dense network has made 5 evaluations and loaded one state, the first, before the group.
    ("place", "call"),
    [("evaluate", 8), ("load_state", 4)],
)
def test_a_group_that_finds_no_memory_on_its_way_goes_on_one_by_one(
    grouped_task, config, one_by_one, tmp_path, monkeypatch, place, call
):
    sizes, calls = [], []
    task = grouped_task(sizes, fails=spoilt)

    def lacking(function, *arguments):
        calls.append(place)
        if len(calls) == call:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")
        return function(*arguments)

    if place == "evaluate":
        task = task._replace(evaluate=functools.partial(lacking, task.evaluate))
    else:
        monkeypatch.setattr(epoch, place, functools.partial(lacking, epoch.load_state))
    hyperprune(task, config(), out=tmp_path / "run", population=4)
    assert lines(tmp_path / "run") == lines(one_by_one[1])
    assert sizes == ([4] if place == "evaluate" else [])  # one group was tried, or not even that


def test_a_candidate_that_raises_fails_alone(grouped_task, config, tmp_path):
    def fails(controls, epoch):
        return ValueError("its own fault") if float(controls.death_rate) > 0.85 else None

    short = config(finalists=5, final_epochs=2)
    found = hyperprune(grouped_task(fails=fails), short, out=tmp_path / "run", population=4)
    failed = [record for record in found.records if record.status == "failed"]
    assert {record.reason for record in failed} == {"ValueError: its own fault"}
    assert all(record.controls["death_rate"] == 0.9 for record in failed)


@pytest.mark.slow
def test_finalists_that_end_early_leave_their_group(grouped_task, config, tmp_path):
    def late(state, split):  # best at epoch 3, or at 4 for a rate of 0.6
        epoch = float(state["segments"]) / 2
        best = 3 + (float(state["rate"]) == np.float32(0.6))
        return 1 + 0.1 * (epoch - best) ** 2 + 0.01 * int(state["death"])

    ledgers = []
    for size in (1, 2):
        sizes = []
        task = grouped_task(sizes)._replace(evaluate=late, patience=2)
        run = tmp_path / str(size)
        hyperprune(task, config(final_epochs=9, metric="loss"), out=run, population=size)
        ledgers.append(lines(run))
    assert ledgers[0] == ledgers[1]
    last = {r.trial: r.epoch for r in ledgers[0] if r.round == 3}
    assert all(epoch < 9 for epoch in last.values())


def test_a_task_without_groups_is_told_of_and_trained_one_by_one(toy_task, config, tmp_path):
    notices = []
    hyperprune(
        toy_task(),
        config(max_evals=2, final_epochs=2),
        out=tmp_path / "run",
        population=4,
        on_event=lambda kind, values: notices.append(values.get("text")),
    )
    assert "candidates are trained one by one: the task has no way" in notices[0]
    assert len(lines(tmp_path / "run")) == 2 + 2 * 2
    assert json.loads((tmp_path / "run" / "config.json").read_text())["population"] == 1


@pytest.mark.parametrize("size", [0, -1, 1.5, True, "all"])
def test_a_population_that_is_no_number_is_refused(toy_task, search_config, tmp_path, size):
    with pytest.raises(ConfigError, match="`population` must be at least 1, or auto"):
        hyperprune(toy_task(), search_config(), out=tmp_path / "run", population=size)
    assert not (tmp_path / "run").exists()


def test_auto_takes_what_fits_and_no_more_than_the_search_can_use(
    grouped_task, config, monkeypatch
):
    task = grouped_task()
    # Of 1000 + 100 bytes a candidate, 80 % of 1630 hold 1304: 3 candidates.
    for memory, fitting in ((1630, 3), (1e9, 4), (10, 1), (0, 1)):
        monkeypatch.setattr(population, "memory_of", lambda device, memory=memory: memory)
        fit = fit_population(task, config(max_evals=7))
        assert (fit.size, fit.bytes_each, fit.largest) == (fitting, 100, 4)
    monkeypatch.setattr(population, "memory_of", lambda device: 1630)
    two = task._replace(side_by_side=task.side_by_side._replace(num_devices=2))
    assert fit_population(two, config(max_evals=9, ask_batch=9, final_epochs=6)).size == 6
    assert fit_population(task._replace(side_by_side=None), config()) is None


def test_auto_is_settled_before_the_search(grouped_task, config, tmp_path, monkeypatch):
    monkeypatch.setattr(population, "memory_of", lambda device: 1630)
    sizes = []
    short = config(finalists=5, final_epochs=2)
    hyperprune(grouped_task(sizes), short, out=tmp_path / "run", population="auto")
    assert max(sizes) == 3
    assert json.loads((tmp_path / "run" / "config.json").read_text())["population"] == 3


@pytest.mark.parametrize(
    ("changes", "largest"),
    [
        ({"ask_batch": 4}, 4),  # rounds of 4 and 2 after a pool of 7
        ({"ask_batch": 9}, 7),
        ({"ask_batch": 1}, 4),
        ({"ask_batch": 1, "finalists": 7}, 1),
    ],
)
def test_the_largest_group_is_that_of_the_pool_or_of_a_round(config, changes, largest):
    assert largest_group(config(max_evals=7, **changes)) == largest


def test_memory_of_a_device_is_known_here():
    import jax

    assert population.memory_of(jax.local_devices()[0]) > 2**20
