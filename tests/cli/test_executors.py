"""The command with workers, under signals, and of a search in which everything fails."""

import json
import pathlib
import signal
import socket
import subprocess
import sys

import pytest
from commands import EXPERIMENTS, TINY_TRAINING, ledger, run_script

TINY = [*TINY_TRAINING, "--e0=2", "--space.update-every=0.5", "--data=text", "--max-evals=4"]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def flags(text_folder):
    return [f"--data-dir={text_folder}", *TINY]


@pytest.fixture(scope="module")
def serial(flags, cache, tmp_path_factory):
    run = tmp_path_factory.mktemp("serial") / "run"
    done = run_script("hypersearch.py", *flags, f"--out={run}", cache=cache)
    assert done.returncode == 0, done.stderr
    return run


def by_trial(run):
    return sorted(ledger(run), key=lambda row: (str(row["trial"]), row["epoch"]))


def assert_same(run, serial):
    assert by_trial(run) == by_trial(serial)
    weights = "model/weights.safetensors"
    assert (run / weights).read_bytes() == (serial / weights).read_bytes()


def test_processes_train_the_same_networks_and_compile_nothing_anew(flags, serial, cache, tmp_path):
    run = tmp_path / "run"
    programs = {path.name for path in (cache / "compiled").iterdir()}
    own = ("--executor=process", "--workers=2", f"--out={run}", "--tensorboard")
    done = run_script("hypersearch.py", *flags, *own, cache=cache)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Executor: process, 2 workers of" in done.stdout
    assert_same(run, serial)
    # What the driver of a search with workers compiles is what a serial one compiles, or less.
    new = {path.name for path in (cache / "compiled").iterdir()} - programs
    assert {name for name in new if not name.endswith("-atime")} == set()
    config = json.loads((run / "config.json").read_text())
    assert (config["executor"], config["workers"]) == ("ProcessExecutor", 2)
    assert config["cores"]
    assert {path.name for path in (run / "tensorboard").iterdir()} >= {"dense", "0", "1"}


@pytest.mark.long
def test_groups_in_processes_are_those_of_one_process_and_close_to_networks_alone(
    flags, serial, cache, tmp_path
):
    """Groups are float32 sums in another order, which training at this rate then makes more of."""
    grouped, run = tmp_path / "grouped", tmp_path / "run"
    for out, own in ((grouped, ()), (run, ("--executor=process", "--workers=2"))):
        own = (*own, "--population=2", f"--out={out}")
        done = run_script("hypersearch.py", *flags, *own, cache=cache)
        assert done.returncode == 0, done.stderr
    assert_same(run, grouped)
    for row, alone in zip(by_trial(run), by_trial(serial), strict=True):
        same = ("trial", "epoch", "seed", "nonzeros", "controls")
        assert [row[name] for name in same] == [alone[name] for name in same]
        if row["epoch"] == 1:
            assert row["val_nll"] == pytest.approx(alone["val_nll"], abs=1e-3)


@pytest.mark.long
def test_ray_trains_the_same_networks(flags, serial, cache, tmp_path):
    pytest.importorskip("ray")
    run = tmp_path / "run"
    done = run_script(
        "hypersearch.py", *flags, "--executor=ray", "--workers=1", f"--out={run}", cache=cache
    )
    assert done.returncode == 0, done.stderr
    assert_same(run, serial)


@pytest.mark.long
def test_a_ray_cluster_is_joined_by_its_address(flags, serial, cache, tmp_path):
    pytest.importorskip("ray")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ray = str(pathlib.Path(sys.executable).with_name("ray"))
    own = ["--num-cpus=4", "--include-dashboard=false", "--disable-usage-stats"]
    address = f"--ray-address=127.0.0.1:{port}"
    refused = run_script("hypersearch.py", *flags, "--executor=ray", address, cache=cache)
    assert refused.returncode == 2
    assert "--ray-address must be a cluster that can be joined" in refused.stderr
    head = subprocess.Popen(
        [ray, "start", "--head", f"--port={port}", *own, "--block"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert any("Ray runtime started" in line for line in head.stdout)
        run = tmp_path / "run"
        own = ("--executor=ray", address, "--workers=2", f"--out={run}")
        done = run_script("hypersearch.py", *flags, *own, cache=cache)
    finally:
        head.terminate()
        head.communicate(timeout=60)
    assert done.returncode == 0, done.stderr
    assert "Executor: ray, 2 workers" in done.stdout
    assert_same(run, serial)


def test_workers_with_another_number_of_cores_are_another_search(flags, serial, cache, tmp_path):
    command = [sys.executable, str(EXPERIMENTS / "hypersearch.py"), *flags]
    done = subprocess.run(
        [*command, f"--cache-dir={cache}", f"--out={serial}", "--resume"],
        capture_output=True,
        text=True,
        timeout=120,
        env={"NPROC": "7", "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
    )
    assert done.returncode == 2
    assert "cores was '" in done.stderr
    assert "and is '7'" in done.stderr


def test_a_search_in_which_everything_fails_ends_with_a_report(flags, cache, tmp_path):
    run = tmp_path / "run"
    own = ("--time-limit=0.0001", f"--out={run}")
    done = run_script("hypersearch.py", *flags, *own, cache=cache)
    assert done.returncode == 1
    assert done.stderr.startswith("failed: All candidates failed: an epoch took longer")
    assert "Traceback" not in done.stderr
    assert f"Report: {run / 'report.html'}" in done.stdout
    page = (run / "report.md").read_text()
    assert "All 4 candidates failed: an epoch took longer than the time limit" in page


@pytest.mark.parametrize("executor", ["serial", pytest.param("process", marks=pytest.mark.long)])
def test_a_second_signal_stops_at_once(flags, cache, tmp_path, executor):
    command = [sys.executable, str(EXPERIMENTS / "hypersearch.py"), *flags]
    own = [f"--cache-dir={cache}", f"--out={tmp_path / 'run'}", f"--executor={executor}"]
    own += ["--final-epochs=999"]
    with subprocess.Popen(
        [*command, *own], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        for line in process.stdout:
            if "dense, epoch 2" in line:
                break
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        _, message = process.communicate(timeout=60)
    assert process.returncode in (130, 143)
    assert "Traceback" not in message
    assert "--resume" in message
