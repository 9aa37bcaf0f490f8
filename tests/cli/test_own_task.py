"""The command of a task of one's own, over a task without a network."""

import json
import pathlib
import sys

import pytest

from lsh_jax.cli.own_task import OwnTask, run_own_task
from lsh_jax.config import SearchConfig, SpaceConfig

sys.path.append(str(pathlib.Path(__file__).parents[1] / "search"))

import toy

SEARCH = SearchConfig(
    max_evals=5,
    e0=2,
    ei=1,
    final_epochs=4,
    space=SpaceConfig(init=("uniform",), growth=("random",), redistribution=("none",)),
)

pytestmark = pytest.mark.usefixtures("no_compile_cache")


def make_task(seed):
    return toy.make_task(seed=seed)


@pytest.fixture
def run(tmp_path):
    """Runs the command; returns its exit status and what it told `finish`."""

    def call(*flags):
        told = []

        def finish(found, out):
            told.append((found.result["best"]["trial"], out))

        own = OwnTask("toy", make_task, SEARCH, finish)
        shared = [f"--out={tmp_path / 'run'}", f"--cache-dir={tmp_path / 'cache'}"]
        return run_own_task(own, [*shared, *flags]), told

    return call


def test_a_search_ends_with_a_report_and_what_the_script_adds(run, tmp_path, capsys):
    status, told = run()
    assert status == 0
    assert told[0][1] == tmp_path / "run"
    assert (tmp_path / "run" / "report.html").is_file()
    out = capsys.readouterr().out
    assert "Without memory: 3.000 nats per prediction on validation" in out
    assert "unigram" not in out.split("Report:")[0].split("pruned network")[0]


def test_flags_are_read_over_the_search_of_the_script(run, tmp_path):
    assert run("--max-evals=3", "--seed=4", "--space.death=magnitude,set")[0] == 0
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["task"] == "toy"
    search = config["search"]
    assert (search["max_evals"], search["seed"], search["final_epochs"]) == (3, 4, 4)
    assert search["space"]["death"] == ["magnitude", "set"]
    assert search["space"]["growth"] == ["random"]


def test_a_run_that_is_resumed_after_its_end_finds_the_same(run, tmp_path):
    first = run()
    result = (tmp_path / "run" / "result.json").read_text()
    assert run("--resume") == first
    assert (tmp_path / "run" / "result.json").read_text() == result


def test_a_directory_that_is_taken_is_refused(run, capsys):
    run()
    assert run()[0] == 2
    assert "--out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flag", "message"),
    [("--e0=1", "--e0"), ("--workers=0", "--workers"), ("--sparsity=1.5", "--sparsity")],
)
def test_bad_values_are_named_as_typed(run, capsys, flag, message):
    assert run(flag)[0] == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.long
def test_workers_find_what_this_process_finds(run, tmp_path):
    first = run("--executor=process")
    (tmp_path / "run").rename(tmp_path / "process")
    assert run()[1] == first[1]
    results = [
        json.loads((tmp_path / name / "result.json").read_text()) for name in ("run", "process")
    ]
    for result in results:
        del result["wall_s"], result["compilations"]
    assert results[0] == results[1]
