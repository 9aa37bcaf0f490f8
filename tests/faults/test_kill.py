"""kill -9 at any point changes nothing: not the ledger, not the winner, not its weights."""

import contextlib
import os
import pathlib
import random
import signal
import time

import pytest

pytestmark = pytest.mark.slow
LONG = pytest.mark.long


def kill_at(process, event, delay):
    """Kills a process some time after its `event`-th line; whether it was still alive."""
    for _ in range(event):
        if not process.stdout.readline():
            break
    time.sleep(delay)
    alive = process.poll() is None
    process.kill()
    process.communicate(timeout=60)
    return alive


@pytest.mark.parametrize("seed", [0, *(pytest.param(s, marks=LONG) for s in range(1, 6))])
def test_a_driver_that_is_killed_four_times_ends_as_if_nothing_had_happened(
    searches, straight, tmp_path, seed
):
    """24 points in all, in the dense network, the pool, the rounds and the finals."""
    rng = random.Random(seed)
    left = straight.num_events
    for _ in range(4):
        event = rng.randint(1, max(2, left // 2))
        assert kill_at(searches.start(tmp_path / "run"), event, rng.uniform(0, 0.15))
        left -= event - 1  # a resumed search tells of the rest
    searches.finish(tmp_path / "run")
    assert searches.outcome(tmp_path / "run") == straight.outcome


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2))
def test_a_driver_of_processes_that_is_killed_ends_as_a_serial_one(
    searches, straight, tmp_path, seed
):
    rng = random.Random(100 + seed)
    for first, last in ((16, 24), (2, 8), (2, 8)):
        process = searches.start(tmp_path / "run", "process")
        assert kill_at(process, rng.randint(first, last), rng.uniform(0, 0.3))
    searches.finish(tmp_path / "run", "process")
    assert searches.outcome(tmp_path / "run") == straight.outcome


def children(pid):
    """The processes that live and have been started by another."""
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, parent = (entry / "stat").read_text().rsplit(")", 1)[1].split()[:2]
            if int(parent) == pid and state != "Z":
                found.append(int(entry.name))
    return found


def is_worker(pid):
    with contextlib.suppress(OSError):
        return b"spawn_main" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="finds workers in /proc")
def test_workers_that_are_killed_at_random_leave_no_trace_in_the_ledger(
    searches, straight, tmp_path
):
    process = searches.start(tmp_path / "run", "process")
    rng, records, killed = random.Random(0), 0, 0
    for line in process.stdout:
        records += line.startswith("record")
        if line.startswith("record") and records % 5 == 0:
            time.sleep(rng.uniform(0, 0.3))
            for pid in [pid for pid in children(process.pid) if is_worker(pid)][:1]:
                os.kill(pid, signal.SIGKILL)
                killed += 1
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr
    assert killed >= 2
    failed = [record for record in searches.lines(tmp_path / "run") if record.status == "failed"]
    assert failed == []  # none was killed three times in one epoch
    assert searches.outcome(tmp_path / "run") == straight.outcome


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="finds workers in /proc")
def test_no_worker_outlives_its_driver(searches, tmp_path):
    process = searches.start(tmp_path / "run", "process")
    for line in process.stdout:
        if line.startswith("record") and any(map(is_worker, children(process.pid))):
            break
    workers = [pid for pid in children(process.pid) if is_worker(pid)]
    assert workers
    process.kill()
    process.communicate(timeout=60)
    waited = time.monotonic()
    while any(map(is_worker, workers)) and time.monotonic() - waited < 10:
        time.sleep(0.1)
    assert not any(map(is_worker, workers))


@pytest.mark.long
def test_a_search_goes_on_under_another_executor(searches, straight, tmp_path):
    pytest.importorskip("ray")
    assert kill_at(searches.start(tmp_path / "run", "process"), 16, 0.0)
    assert kill_at(searches.start(tmp_path / "run", "serial"), 6, 0.1)
    searches.finish(tmp_path / "run", "ray")
    assert searches.outcome(tmp_path / "run") == straight.outcome


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=LONG)])
@pytest.mark.parametrize("executor", ["serial", pytest.param("process", marks=LONG)])
def test_a_signal_stops_at_a_segment_and_the_search_goes_on_from_there(
    searches, straight, tmp_path, executor, number
):
    process = searches.start(tmp_path / "run", executor)
    seen = 0
    for line in process.stdout:
        seen += line.startswith("record")
        if seen == 8:
            break
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "stopping after this segment" in stderr
    assert "Traceback" not in stderr
    searches.finish(tmp_path / "run", executor)
    assert searches.outcome(tmp_path / "run") == straight.outcome
