"""Faults that strike the searches of `rival_programs.py`, one function each.

A check gets the tool and a folder, and returns whether what one would hope for holds, as the first
line of the function says, and what happened, in words.
"""

import json
import os
import pathlib
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

_PROGRAM = pathlib.Path(__file__).with_name("rival_programs.py")
_DONE = ("DONE", "COMPLETE", "TERMINATED")
RAY = {"total": 6, "pause": 0.2}  # three epochs a trial
Told = tuple[bool, str]


def start(who: str, folder: pathlib.Path, **options: Any) -> subprocess.Popen[bytes]:
    """Starts a search, or goes on with the one in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    given = json.dumps({"notes": f"{folder}.notes", **options, "folder": str(folder)})
    with open(f"{folder}.out", "wb") as out, open(f"{folder}.err", "wb") as err:
        return subprocess.Popen([sys.executable, str(_PROGRAM), who, given], stdout=out, stderr=err)


def finish(process: subprocess.Popen[bytes], folder: pathlib.Path) -> tuple[list[Any] | None, str]:
    """The trials that a search ends with (None: it died) and its last words."""
    process.wait()
    words = pathlib.Path(f"{folder}.err").read_text(encoding="utf-8", errors="replace").split("\n")
    said = [
        line
        for line in words
        if any(word in line for word in ("Error", "Failed", "Exception:")) and line[0] not in " |"
    ]
    lines = pathlib.Path(f"{folder}.out").read_text(encoding="utf-8").splitlines()
    trials = json.loads(lines[-1]) if process.returncode == 0 else None
    return trials, (said or ["no error"])[-1][:160]


def search(who: str, folder: pathlib.Path, **options: Any) -> tuple[list[Any] | None, str]:
    """Both, one after the other."""
    return finish(start(who, folder, **options), folder)


def notes(folder: pathlib.Path) -> list[Any]:
    """What really ran: [event, x, process]."""
    path = pathlib.Path(f"{folder}.notes")
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def await_starts(folder: pathlib.Path, count: int) -> list[Any]:
    """Waits until so many evaluations began; the note of the last."""
    ends = time.monotonic() + 100
    while sum(event == "start" for event, *_ in notes(folder)) < count:
        assert time.monotonic() < ends, "the search does not run"
        time.sleep(0.01)
    return [note for note in notes(folder) if note[0] == "start"][-1]


def interrupted(who: str, folder: pathlib.Path, by: int = signal.SIGKILL, **options: Any) -> Told:
    """Holds if the resumed search ends with the trials of the uninterrupted one, nothing over."""
    count = 11 if who == "ray" else 25
    straight, error = search(who, folder / "straight", **options)
    assert straight, error
    process = start(who, folder / "run", **options)
    _, x, _ = await_starts(folder / "run", count)
    time.sleep(0.02)
    process.send_signal(by)
    code = process.wait()
    before = len(notes(folder / "run"))
    time.sleep(4)  # the heartbeat's grace
    resumed, error = search(who, folder / "run", **options)
    if resumed is None:
        return False, f"exit code {code}; resume fails: {error}"
    finished = [[t[0], *t[2:]] for t in resumed if t[1] in _DONE]
    same = sum([t[0], *t[2:]] in finished for t in straight)
    later = [event for event, at, _ in notes(folder / "run")[before:] if at == x]
    resumed_at = [event for event in later if event.startswith("from")]
    did = f"resumed {resumed_at[0]}" if resumed_at else "run again" if later else "not run again"
    states = ", ".join(t[1] for t in resumed if t[0] == x) or "gone"
    distinct = len({t[0] for t in resumed})
    return same == len(straight) == len(resumed), (
        f"exit code {code}; {same} of {len(straight)} results are found again; "
        f"{len(resumed)} trials, {distinct} distinct; the one running: {states}, {did}"
    )


def worker_killed(who: str, folder: pathlib.Path, **options: Any) -> Told:
    """Holds if the trial of a killed worker ends all the same, once."""
    if who == "ray":
        process = start(who, folder / "run", **RAY, **options)
        _, x, victim = await_starts(folder / "run", 8)
        time.sleep(0.05)
    else:
        process = start(who, folder / "run", total=20, pause=0.4, **options)
        await_starts(folder / "run", 2)
        victim = start(who, folder / "run", total=20, pause=0.4, seed=1, **options).pid
        while sum(n[2] == victim and n[0] == "start" for n in notes(folder / "run")) < 2:
            time.sleep(0.01)
        time.sleep(0.05)
        x = [n for n in notes(folder / "run") if n[2] == victim and n[0] == "start"][-1][1]
    os.kill(victim, signal.SIGKILL)
    trials, error = finish(process, folder / "run")
    if trials is None:
        return False, f"the search dies: {error}"
    states = [t[1] for t in trials if t[0] == x]
    went_on = [event for event, at, _ in notes(folder / "run") if at == x and "from" in event]
    ended = sum(t[1] in _DONE for t in trials)
    how = f", resumed {went_on[0]}" if went_on else ""
    return states[-1:] == ["TERMINATED"] or "COMPLETE" in states, (
        f"the search goes on ({ended} of {len(trials)} trials finished); "
        f"the trial of the killed worker: {', '.join(states)}{how}"
    )


def torn(who: str, folder: pathlib.Path, file: str, half: bool = False) -> Told:
    """Cuts the last line, or the file, in half; holds if the search goes on, one trial short."""
    options = RAY if who == "ray" else {}
    search(who, folder / "run", **{**options, "total": 5})
    path = max((folder / "run").glob(file), key=lambda path: path.stat().st_mtime)
    data = path.read_bytes()
    last = data.rstrip(b"\n").rfind(b"\n") + 1
    path.write_bytes(data[: len(data) // 2 if half else (last + len(data)) // 2])
    trials, error = search(who, folder / "run", **{**options, "total": 8})
    if trials is None:
        again, error_again = search(who, folder / "run", **{**options, "total": 8})
        return False, f"resume fails: {error}; once more: {'works' if again else error_again}"
    return len(trials) >= 7, f"resumed, with {len(trials)} of 8 trials"


def killed_while_writing(who: str, folder: pathlib.Path) -> Told:
    """Four kills; holds if every trial that was told is in the storage."""
    for turn in range(4):
        process = start(who, folder / "run", total=10_000, pause=0.0)
        await_starts(folder / "run", sum(n[0] == "start" for n in notes(folder / "run")) + 5)
        time.sleep(0.013 * turn)
        process.kill()
        process.wait()
    trials, error = search(who, folder / "run", total=0)
    if trials is None:
        return False, f"cannot be opened: {error}"
    told = {at for event, at, _ in notes(folder / "run") if event == "told"}
    kept = {t[0] for t in trials if t[1] in _DONE}
    left = sum(t[1] == "RUNNING" for t in trials)
    return told <= kept, f"{len(told & kept)} of {len(told)} told trials kept, {left} left RUNNING"


def disk_full(who: str, folder: pathlib.Path) -> Told:
    """On a small file system that fills; holds if it goes on when there is space, nothing lost."""
    disk, options = folder / "disk", {"notes": f"{folder / 'disk'}.notes"}
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    subprocess.run(mount, check=True)
    try:
        search(who, disk, total=10, pause=0.0, **options)
        with open(disk / "ballast", "wb", buffering=0) as file:
            try:
                while file.write(b"\0" * 1024):
                    pass
            except OSError:
                pass
        trials, error = search(who, disk, total=400, pause=0.0, **options)
        event = "end" if who == "hyperopt" else "told"
        told = {at for what, at, _ in notes(disk) if what == event}
        (disk / "ballast").unlink()
        shutil.copytree(disk, folder / "copy")
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
    assert trials is None, "the disk was not full"
    again, error_again = search(who, folder / "copy", total=0, **options)
    if again is None:
        return False, f"ends: {error}; with space again: {error_again}"
    kept = {t[0] for t in again if t[1] in _DONE}
    short = len(told - kept)
    return short <= (who == "hyperopt"), f"ends: {error}; {len(kept)} trials kept, {short} lost"


def trapped(who: str, folder: pathlib.Path, bad: str, total: int = 120, seeds: int = 3) -> Told:
    """60 % of the space fails; holds if fewer than 60 % of the last third of proposals do."""
    shares = []
    for seed in range(seeds):
        run = folder / str(seed)
        _, error = search(who, run, total=total, pause=0.0, bad=bad, seed=seed)
        tried = [at for event, at, _ in notes(run) if event == "start"]
        assert len(tried) >= total, error
        last = tried[-(total // 3) :]
        shares.append(sum(at < 0.6 for at in last) / len(last))
    text = ", ".join(f"{share:.0%}" for share in shares)
    return max(shares) < 0.6, f"of the last third of {total} proposals {text} fail ({seeds} seeds)"


def hanging(who: str, folder: pathlib.Path) -> Told:
    """An evaluation of 20 s, the tool's limit of time at 3 s; holds if it is cut short."""
    options = {"total": 2, "pause": 20.0, "timeout": 3, "notes": f"{folder}/notes"}
    process = start(who, folder / "run", **options)
    while not (folder / "notes").exists():
        time.sleep(0.01)
    began = time.monotonic()
    finish(process, folder / "run")
    seconds = time.monotonic() - began
    ended = "end" in (folder / "notes").read_text()
    return not ended and seconds < 15, (
        f"limit 3 s; the evaluation of 20 s {'ran to its end' if ended else 'was cut short'}; "
        f"the search ended after {seconds:.0f} s"
    )


def changed_space(who: str, folder: pathlib.Path, **changes: Any) -> Told:
    """Resumes with another control or other bounds; holds if that is refused by name."""
    options = RAY if who == "ray" else {"total": 24}
    if who == "ray":  # a finished experiment has nothing left to draw
        process = start(who, folder / "run", **options)
        await_starts(folder / "run", 8)
        process.kill()
        process.wait()
    else:
        search(who, folder / "run", **options)
    count = len(notes(folder / "run"))
    trials, error = search(who, folder / "run", **{**options, "total": 28, **changes})
    if trials is None:
        return "KeyError" not in error and "Lookup" not in error, error
    drawn = [at for event, at, _ in notes(folder / "run")[count:] if event == "start"]
    new = sum(at >= 2 for at in drawn) if changes.get("low") else len(drawn)
    return False, f"accepted; {new} of {len(drawn)} later evaluations in the new space"


def damaged_checkpoint(who: str, folder: pathlib.Path) -> Told:
    """One byte of a checkpoint flips; holds if the trial does not go on from it unnoticed."""
    options = {**RAY, "total": 2}
    straight, error = search(who, folder / "straight", **options)
    assert straight, error
    process = start(who, folder / "run", **options)
    _, x, _ = await_starts(folder / "run", 6)
    time.sleep(0.1)
    process.kill()
    process.wait()
    newest = max(folder.glob("run/run/*/*/state.npy"), key=lambda path: path.stat().st_mtime)
    for path in newest.parent.parent.glob("*/state.npy"):
        data = bytearray(path.read_bytes())
        data[-10] ^= 1 << 4  # the exponent of the last weight but the counter
        path.write_bytes(data)
    trials, error = search(who, folder / "run", **options)
    if trials is None:
        return True, f"refused: {error}"
    status, loss = next((t[1], t[2]) for t in trials if t[0] == x)
    true = next(t[2] for t in straight if t[0] == x)
    noticed = status != "TERMINATED" or loss == true
    return noticed, f"{status}: loss {loss:.4g} in place of {true:.4g}"


def two_at_once(who: str, folder: pathlib.Path) -> Told:
    """A second process on the same run; holds if it is refused, or shares the work, none lost."""
    options = {**RAY, "pause": 1.5} if who == "ray" else {"total": 20, "pause": 0.4}
    first = start(who, folder / "run", **options)
    await_starts(folder / "run", 5 if who == "ray" else 2)
    notes_of_both = f"{folder / 'run'}.notes"
    given = {"notes": notes_of_both, "folder": str(folder / "run"), **options, "seed": 1}
    command = [sys.executable, str(_PROGRAM), who, json.dumps(given)]
    second = subprocess.run(command, capture_output=True, text=True)
    finish(first, folder / "run")
    ran = [at for event, at, _ in notes(folder / "run") if event == "end"]
    trials, final = search(who, folder / "run", **{**options, "total": 0})
    if trials is None:
        return False, f"cannot be read after: {final}"
    kept = sum(t[1] in _DONE for t in trials)
    each = 3 if who == "ray" else 1
    codes = f"exit codes {first.returncode}, {second.returncode}"
    return kept * each == len(ran) and len(set(ran)) * each == len(ran), (
        f"{codes}; {len(ran)} evaluations, {len(set(ran))} distinct points, {kept} trials kept"
    )


def all_fail(who: str, folder: pathlib.Path) -> Told:
    """Every evaluation raises; holds if the search ends, and gives no best, in peace."""
    trials, error = search(who, folder / "run", total=3, bad="all", best=True)
    return trials is not None, error


def hostile(who: str, folder: pathlib.Path, file: str) -> Told:
    """A file of the run holds a pickle that runs a command; holds if resuming does not run it."""
    search(who, folder / "run", total=1)
    (folder / "run" / file).write_bytes(pickle.dumps(Payload(str(folder / "ran"))))
    search(who, folder / "run", total=2)
    ran = (folder / "ran").exists()
    return not ran, f"resuming {'runs' if ran else 'does not run'} what the file holds ({file})"


class Payload:
    """A pickle that makes a file when it is read."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (self.path,)
