"""What do hyperopt, Optuna and Ray Tune do under the faults that this library is tested against?

    python benchmarks/rival_faults.py --out=rivals.jsonl
    python benchmarks/rival_faults.py --only=optuna

One JSON line a check: `who` and `version`; the `fault`; `what_happened`; `holds`, whether what one
would hope for does (said in `rival_checks.py`, at the function of the check). Each check runs in a
process of its own with a time limit and a temporary directory; the faults strike the programs of
`rival_programs.py`. Needs `pip install optuna "ray[tune]"`, for a full disk the right to mount one.
Method and results: benchmarks/README.md.
"""

import argparse
import contextlib
import importlib.metadata
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from functools import partial

import rival_checks as checks

_LIMIT = 240  # seconds of a check
_STORED = ("hyperopt", "optuna rdb", "optuna journal")
_KEPT = {"pickled": True}  # Optuna's sampler, as its tutorial keeps it
_CHECKS = [
    ("hyperopt", "driver killed", checks.interrupted),
    ("optuna rdb", "driver killed, sampler made anew", checks.interrupted),
    ("optuna rdb", "driver killed, sampler kept", partial(checks.interrupted, **_KEPT)),
    ("optuna heartbeat", "driver killed, sampler kept", partial(checks.interrupted, **_KEPT)),
    ("optuna journal", "driver killed, sampler kept", partial(checks.interrupted, **_KEPT)),
    ("ray", "driver killed", partial(checks.interrupted, **checks.RAY)),
    ("optuna rdb", "worker killed", checks.worker_killed),
    ("optuna heartbeat", "worker killed", checks.worker_killed),
    ("optuna journal", "worker killed", checks.worker_killed),
    ("ray", "worker killed, as it comes", checks.worker_killed),
    ("ray", "worker killed, max_failures=2", partial(checks.worker_killed, retries=2)),
    ("hyperopt", "torn file: trials", partial(checks.torn, file="trials", half=True)),
    ("optuna journal", "torn last line", partial(checks.torn, file="journal")),
    ("ray", "torn file: state", partial(checks.torn, file="run/experiment_state*", half=True)),
    ("optuna rdb", "killed while writing", checks.killed_while_writing),
    ("optuna journal", "killed while writing", checks.killed_while_writing),
    *((who, "disk full", checks.disk_full) for who in _STORED),
    *(
        (who, name, partial(checks.trapped, bad=bad))
        for bad, name in (("nan", "NaN"), ("raise", "exception"))
        for who in ("hyperopt", "optuna memory")
    ),
    ("ray", "NaN", partial(checks.trapped, bad="nan", total=60)),
    ("ray", "exception", partial(checks.trapped, bad="raise", total=40, seeds=1)),  # slow
    *((who, "hanging trial", checks.hanging) for who in ("hyperopt", "optuna rdb", "ray")),
    *((who, "all trials fail", checks.all_fail) for who in ("hyperopt", "optuna memory", "ray")),
    *(
        (who, "resumed with other bounds", partial(checks.changed_space, low=2.0))
        for who in (*_STORED, "ray")
    ),
    *(
        (who, "resumed with another control", partial(checks.changed_space, label="y"))
        for who in _STORED
    ),
    ("ray", "damaged checkpoint", checks.damaged_checkpoint),
    *((who, "two at once", checks.two_at_once) for who in (*_STORED, "ray")),
    ("hyperopt", "Ctrl-C", partial(checks.interrupted, by=signal.SIGINT)),
    ("optuna rdb", "Ctrl-C, sampler kept", partial(checks.interrupted, by=signal.SIGINT, **_KEPT)),
    ("ray", "Ctrl-C", partial(checks.interrupted, by=signal.SIGINT, **checks.RAY)),
    ("hyperopt", "hostile run directory", partial(checks.hostile, file="trials")),
    ("ray", "hostile run directory", partial(checks.hostile, file="run/tuner.pkl")),
]


def in_a_process(index: int) -> list[bool | str]:
    """A check in a session of its own, which ends with it: [holds, what happened]."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        process = subprocess.Popen(
            [sys.executable, __file__, f"--check={index}", f"--folder={folder}"],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            out, _ = process.communicate(timeout=_LIMIT)
            return json.loads(out.splitlines()[-1])
        except subprocess.TimeoutExpired:
            return [False, f"no end within {_LIMIT} s"]
        finally:
            for path in pathlib.Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(ProcessLookupError):
                    if os.getsid(int(path.name)) == process.pid:  # Ray's agents outlive its driver
                        os.kill(int(path.name), signal.SIGKILL)


def main() -> None:
    """Makes the checks that the flags ask for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=pathlib.Path, help="file that lines are appended to")
    parser.add_argument("--only", default="", help="hyperopt, optuna, ray, or a longer beginning")
    parser.add_argument("--fault", default="", help="faults that begin so")
    parser.add_argument("--check", type=int, help="one check, in this process")
    parser.add_argument("--folder", type=pathlib.Path, help="where that has its files")
    flags = parser.parse_args()
    if flags.check is not None:
        who, _, check = _CHECKS[flags.check]
        print(json.dumps(check(who, flags.folder)))
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # or the check would live on
    for index, (who, fault, _) in enumerate(_CHECKS):
        if not (who.startswith(flags.only) and fault.startswith(flags.fault)):
            continue
        holds, happened = in_a_process(index)
        line = {
            "who": who,
            "version": importlib.metadata.version(who.split()[0]),
            "fault": fault,
            "what_happened": happened,
            "holds": holds,
            "date": time.strftime("%Y-%m-%d"),
        }
        print(json.dumps(line), flush=True)
        if flags.out:
            with flags.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
