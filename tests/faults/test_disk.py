"""Disks that are full, read-only or elsewhere: a clear end, nothing lost, and it goes on."""

import contextlib
import shutil
import subprocess
import sys

import pytest

from lsh_jax.checkpoint import restore_checkpoint, save_checkpoint
from lsh_jax.search.ledger import Ledger, Record

pytestmark = pytest.mark.slow


@pytest.fixture
def small_disk(tmp_path):
    """Mounts a file system of some bytes."""
    mounted = []

    def mount(size, options=""):
        folder = tmp_path / f"disk {len(mounted)} Größe"
        folder.mkdir()
        flags = ["-t", "tmpfs", "-o", f"size={size}{options}", "tmpfs", str(folder)]
        done = subprocess.run(["mount", *flags], capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"cannot mount a file system here: {done.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder, leave=0):
    """Takes all space but so many bytes; returns the file that has it."""
    ballast = folder / "ballast"
    free = shutil.disk_usage(folder).free - leave
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        for _ in range(free // 4096 + (leave == 0)):
            file.write(b"\0" * 4096)
    return ballast


def record(epoch):
    return Record(0, epoch, 0, {"long": "x" * 3000}, 0)


def test_a_record_that_finds_no_space_is_no_record(small_disk):
    disk = small_disk("1m")
    ledger = Ledger(disk / "trials.jsonl")
    ledger.append(record(1))
    ballast = fill(disk)
    with pytest.raises(OSError, match="No space left"):
        for epoch in range(2, 9):
            ledger.append(record(epoch))
    told = ledger.records()
    ballast.unlink()
    again = Ledger(disk / "trials.jsonl")
    assert again.records() == told
    again.append(record(9))
    assert Ledger(disk / "trials.jsonl").records() == [*told, record(9)]


def test_a_checkpoint_that_finds_no_space_leaves_the_one_before(small_disk):
    import jax.numpy as jnp
    import numpy as np

    state = {"weights": jnp.asarray(np.random.default_rng(0).normal(size=200_000), jnp.float32)}
    disk = small_disk("3m")
    save_checkpoint(disk / "1", state)
    ballast = fill(disk, leave=200_000)
    with pytest.raises(OSError, match=r"checkpoint at .*2 could not be written: .*[Ss]pace"):
        save_checkpoint(disk / "2", state)
    np.testing.assert_array_equal(
        restore_checkpoint(disk / "1", state)["weights"], state["weights"]
    )
    ballast.unlink()
    save_checkpoint(disk / "2", state)
    assert restore_checkpoint(disk / "2", state)["weights"].shape == (200_000,)


@pytest.mark.parametrize("executor", ["serial", pytest.param("process", marks=pytest.mark.long)])
def test_a_search_whose_disk_fills_up_ends_with_a_word_and_goes_on_later(
    searches, straight, small_disk, executor
):
    disk = small_disk("20m")
    process = searches.start(disk / "run", executor)
    seen, ballast = 0, None
    for line in process.stdout:
        seen += line.startswith("record")
        if seen == 9 and ballast is None:
            ballast = fill(disk)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "No space left" in stderr or "could not be written" in stderr
    ballast.unlink()
    searches.finish(disk / "run", executor)
    assert searches.outcome(disk / "run") == straight.outcome


def test_a_read_only_directory_is_refused_in_one_line(small_disk):
    disk = small_disk("2m")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    done = subprocess.run(
        [sys.executable, "-c", HELD, str(disk / "run")], capture_output=True, text=True, timeout=60
    )
    assert "`out` must be a directory that can be made" in done.stderr
    assert "Read-only file system" in done.stderr


HELD = """
import pathlib, sys
from lsh_jax.search.run_directory import held
with held(pathlib.Path(sys.argv[1])):
    pass
"""


def test_a_folder_of_checkpoints_on_another_device_serves(searches, straight, small_disk, tmp_path):
    """A damaged one cannot be renamed from device to device: it is moved."""
    run = tmp_path / "run"
    process = searches.start(run)
    seen = 0
    for line in process.stdout:
        seen += line.startswith("record")
        if seen == 14:
            break
    process.kill()
    process.communicate(timeout=60)
    disk = small_disk("20m")
    shutil.copytree(run, disk / "run")
    (disk / "run" / "corrupt").mkdir()
    subprocess.run(["mount", "--bind", str(tmp_path), str(disk / "run" / "corrupt")], check=True)
    try:
        for path in (disk / "run" / "checkpoints").glob("[0-9]*/*.json"):
            path.write_text("{}")
        searches.finish(disk / "run")
        assert list(tmp_path.glob("[0-9]*-[0-9]*"))
        assert searches.outcome(disk / "run") == straight.outcome
    finally:
        subprocess.run(["umount", "-l", str(disk / "run" / "corrupt")], check=True)
