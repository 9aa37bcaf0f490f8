"""The command of a task of one's own, over a task without a network."""

import json
import pathlib
import re
import sys

import jax
import jax.numpy as jnp
import pytest

from lsh_jax.cli.own_task import OwnTask, run_own_task
from lsh_jax.config import SearchConfig, SpaceConfig
from lsh_jax.search.measure import Measure

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
    return toy.make_task(seed=seed, measure=Measure("rms", 0.5, "no-change"))


def make_donating_task(seed):
    """That takes the arrays of a state as it trains, as `donate_argnums` may."""
    task = make_task(seed)

    def train(state, *settings):
        own = jax.tree.map(jnp.copy, state)
        jax.tree.map(lambda leaf: leaf.delete(), state)
        return task.train(own, *settings)

    return task._replace(train=train)


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
    # sqrt(2 x 3 - log(2 pi)) x 0.5 = 1.020
    assert "Baseline: no-change rms error 1.02 on validation" in out
    assert "validation rms error" in out and "(no-change 1.02)" in out
    assert ": test rms error " in out
    assert not re.search("perplexity|unigram|token", out)


def test_a_search_has_its_report_also_where_what_the_script_adds_fails(tmp_path):
    def finish(found, out):
        raise RuntimeError("no picture")

    own = OwnTask("toy", make_task, SEARCH, finish)
    shared = [f"--out={tmp_path / 'run'}", f"--cache-dir={tmp_path / 'cache'}"]
    with pytest.raises(RuntimeError, match="no picture"):
        run_own_task(own, shared)
    assert (tmp_path / "run" / "report.html").is_file()


def test_a_dry_run_tells_rounds_disk_and_time_and_leaves_nothing(run, tmp_path, capsys):
    status, told = run("--dry-run")
    assert status == 0 and told == [] and not (tmp_path / "run").exists()
    out = capsys.readouterr().out
    # 5 x 2 + 3 + 2 epochs, and no finals: the last round ends at epoch 4.
    assert "Epochs: 15 of candidates and 4 of the dense network" in out
    rows = [line.split() for line in out.splitlines()]
    assert ["dense", "1", "4", "4", "21.1", "%"] in rows
    assert re.search("Disk: about [0-9.]+ MiB of checkpoints and spectra", out)
    assert re.search("Time: about .*, .* s an epoch .*measured on one segment here", out)


def test_a_dry_run_takes_a_task_that_donates_its_state(tmp_path, capsys):
    own = OwnTask("toy", make_donating_task, SEARCH)
    shared = [f"--out={tmp_path / 'run'}", f"--cache-dir={tmp_path / 'cache'}"]
    assert run_own_task(own, [*shared, "--dry-run"]) == 0
    assert "measured on one segment here" in capsys.readouterr().out


def test_curves_are_written_for_tensorboard(run, tmp_path):
    pytest.importorskip("tensorboardX")
    assert run("--tensorboard")[0] == 0
    folder = tmp_path / "run" / "tensorboard"
    assert {"dense", "0"} <= {path.name for path in folder.iterdir()}
    found = b"".join(path.read_bytes() for path in folder.glob("0/*"))
    assert b"validation/rms_error" in found and b"perplexity" not in found


def test_the_dense_network_of_another_run_is_taken(run, tmp_path, capsys):
    assert run()[0] == 0
    (tmp_path / "run").rename(tmp_path / "before")
    assert run(f"--dense={tmp_path / 'before'}", "--max-evals=3")[0] == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    before = json.loads((tmp_path / "before" / "result.json").read_text())
    assert result["dense"]["test_nll"] == before["dense"]["test_nll"]
    (tmp_path / "run").rename(tmp_path / "done")
    assert run(f"--dense={tmp_path}")[0] == 2
    assert "--dense must be a run with a dense network" in capsys.readouterr().err


def test_flags_are_read_over_the_search_of_the_script(run, tmp_path):
    assert run("--max-evals=3", "--seed=4", "--space.death=magnitude,set")[0] == 0
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["task"] == "toy"
    search = config["search"]
    assert (search["max_evals"], search["seed"], search["final_epochs"]) == (3, 4, 4)
    assert search["space"]["death"] == ["magnitude", "set"]
    assert search["space"]["growth"] == ["random"]


def test_a_run_that_is_resumed_after_its_end_finds_the_same(run, tmp_path, capsys):
    first = run()
    assert "This run is finished" not in capsys.readouterr().out
    result = (tmp_path / "run" / "result.json").read_text()
    assert run("--resume") == first
    told = capsys.readouterr().out
    assert f"This run is finished: result in {tmp_path / 'run' / 'result.json'}, report at" in told
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
@pytest.mark.parametrize("executor", ["process", "ray"])
def test_workers_find_what_this_process_finds(run, tmp_path, executor):
    pytest.importorskip(executor) if executor == "ray" else None
    first = run(f"--executor={executor}")
    (tmp_path / "run").rename(tmp_path / executor)
    assert run()[1] == first[1]
    results = [
        json.loads((tmp_path / name / "result.json").read_text()) for name in ("run", executor)
    ]
    for result in results:
        del result["wall_s"], result["compilations"]
    assert results[0] == results[1]
