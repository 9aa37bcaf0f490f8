"""Searches of hyperopt, Optuna and Ray Tune over a toy, as their documentation writes them.

    python benchmarks/rival_programs.py "optuna rdb" '{"folder": "RUN", "total": 30}'

`rival_faults.py` starts them, lets faults strike and starts them again: each resumes what it finds
in its folder, as the tool's documentation says. The toy: x in [0, 1], loss (x - 0.8)². The last
line printed is JSON: the trials that the tool then knows, [x, state] or [x, state, loss], in order.
"""

import functools
import json
import os
import pathlib
import pickle
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

_OPTIONS = {
    "total": 30,  # trials, those of earlier runs included
    "seed": 0,
    "pause": 0.05,  # seconds of an evaluation
    "bad": "",  # nan, raise: what an evaluation does where x < 0.6; all: raises everywhere
    "timeout": None,  # seconds, given to whatever limit of time the tool has
    "label": "x",  # name and lower end of the control
    "low": 0.0,
    "retries": 0,  # of a trial of Ray Tune
    "pickled": False,  # keeps the sampler of Optuna in a file
    "best": False,  # asks for the best trial at the end
}


def evaluate(x: float, options: dict[str, Any]) -> float:
    """The toy, which may fail where x < 0.6, or everywhere; notes in a file what really ran."""
    note(options, "start", x)
    time.sleep(options["pause"])
    bad = options["bad"]
    if bad == "all" or (bad == "raise" and x < 0.6):
        raise ValueError("the toy fails here")
    note(options, "end", x)
    return float("nan") if bad == "nan" and x < 0.6 else (x - 0.8) ** 2


def note(options: dict[str, Any], event: str, x: float) -> None:
    with open(options["notes"], "a", encoding="utf-8") as file:
        file.write(json.dumps([event, x, os.getpid()]) + "\n")


def drive_hyperopt(options: dict[str, Any]) -> list[Any]:
    """`fmin` with `trials_save_file`, which it resumes from; [x, state] of all trials."""
    from hyperopt import fmin, hp, tpe

    label, low, saved = options["label"], options["low"], f"{options['folder']}/trials"
    fmin(
        lambda x: evaluate(x, options),
        hp.uniform(label, low, low + 1),
        algo=tpe.suggest,
        max_evals=options["total"],
        timeout=options["timeout"],
        trials_save_file=saved,
        rstate=np.random.default_rng(options["seed"]),
        catch_eval_exceptions=bool(options["bad"]),
        show_progressbar=False,
    )
    with open(saved, "rb") as file:
        docs = pickle.load(file)._dynamic_trials
    names = ("NEW", "RUNNING", "DONE", "ERROR")
    return [[next(iter(d["misc"]["vals"].values()))[0], names[d["state"]]] for d in docs]


def drive_optuna(options: dict[str, Any], kind: str) -> list[Any]:
    """A study resumed by name; where the kind says so, with heartbeats or its sampler pickled."""
    import optuna
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend

    folder, label, low = pathlib.Path(options["folder"]), options["label"], options["low"]
    url = f"sqlite:///{folder}/study.db"
    storage = {
        "memory": lambda: None,
        "rdb": lambda: RDBStorage(url),
        "heartbeat": lambda: with_heartbeat(url),
        "journal": lambda: JournalStorage(JournalFileBackend(f"{folder}/journal")),
    }[kind]()
    kept = folder / "sampler"
    sampler = optuna.samplers.TPESampler(seed=options["seed"])
    if options["pickled"] and kept.exists():
        sampler = pickle.loads(kept.read_bytes())
    study = optuna.create_study(
        storage=storage, study_name="toy", load_if_exists=True, sampler=sampler
    )
    done = (optuna.trial.TrialState.COMPLETE,)

    def after(study: Any, trial: Any) -> None:
        note(options, "told", next(iter(trial.params.values())))
        if options["pickled"]:
            kept.write_bytes(pickle.dumps(study.sampler))

    study.optimize(
        lambda trial: evaluate(trial.suggest_float(label, low, low + 1), options),
        n_trials=max(0, options["total"] - len(study.get_trials(states=done))),
        timeout=options["timeout"],
        catch=(ValueError,) if options["bad"] else (),
        callbacks=[after],
    )
    if options["best"]:
        print(study.best_value)
    return [[next(iter(t.params.values()), None), t.state.name] for t in study.trials]


def with_heartbeat(url: str) -> Any:
    """A storage that tries the trials of dead workers again, three seconds later at most."""
    from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback

    again = RetryHeartbeatStaleTrialCallback(max_retry=2)
    return RDBStorage(
        url, heartbeat_interval=1, grace_period=2, heartbeat_stale_trial_callback=again
    )


def drive_ray(options: dict[str, Any]) -> list[Any]:
    """`Tuner` with `HyperOptSearch`, three epochs and checkpoints a trial, or `Tuner.restore`."""
    os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "0")  # state saved as often as it can be
    import ray
    from ray import tune
    from ray.tune.search.hyperopt import HyperOptSearch

    folder = options["folder"]
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        _temp_dir=f"{folder}/ray{os.getpid()}",
    )
    trainable = functools.partial(train_ray, options=options)
    space = {options["label"]: tune.uniform(options["low"], options["low"] + 1)}
    if tune.Tuner.can_restore(f"{folder}/run"):
        changed = {"param_space": space} if options["low"] else {}
        tuner = tune.Tuner.restore(f"{folder}/run", trainable, **changed)
    else:
        search = HyperOptSearch(n_initial_points=4, random_state_seed=options["seed"])
        tuner = tune.Tuner(
            trainable,
            param_space=space,
            tune_config=tune.TuneConfig(
                metric="loss", mode="min", search_alg=search, num_samples=options["total"],
                max_concurrent_trials=1, reuse_actors=True, time_budget_s=options["timeout"],
            ),
            run_config=tune.RunConfig(
                name="run", storage_path=folder, verbose=0,
                failure_config=tune.FailureConfig(max_failures=options["retries"]),
                stop={"time_total_s": options["timeout"]} if options["timeout"] else None,
            ),
        )  # fmt: skip
    found = tuner.fit()
    if options["best"]:
        print(found.get_best_result().metrics["loss"])
    trials = found._experiment_analysis.trials
    return [[next(iter(t.config.values())), t.status, t.last_result.get("loss")] for t in trials]


def train_ray(config: dict[str, float], options: dict[str, Any]) -> None:
    """Three epochs that move a state from x; a checkpoint after each."""
    from ray import tune

    x = next(iter(config.values()))
    state, checkpoint = np.full(64, x), tune.get_checkpoint()
    if checkpoint:
        with checkpoint.as_directory() as path:
            state = np.load(f"{path}/state.npy")
        note(options, f"from epoch {round(state[-1])}", x)
    else:
        state[-1] = 0  # counts epochs
    for _ in range(int(state[-1]), 1 if options["bad"] else 3):
        loss = evaluate(x, options) + float(np.mean((state[:-1] - x) ** 2))
        state[-1] += 1
        with tempfile.TemporaryDirectory() as path:
            np.save(f"{path}/state.npy", state)
            tune.report({"loss": loss}, checkpoint=tune.Checkpoint.from_directory(path))


DRIVERS: dict[str, Callable[[dict[str, Any]], list[Any]]] = {
    "hyperopt": drive_hyperopt,
    **{f"optuna {k}": functools.partial(drive_optuna, kind=k)
       for k in ("memory", "rdb", "heartbeat", "journal")},
    "ray": drive_ray,
}  # fmt: skip


if __name__ == "__main__":
    who, given = sys.argv[1], json.loads(sys.argv[2])
    trials = DRIVERS[who]({**_OPTIONS, "notes": f"{given['folder']}/notes", **given})
    print("\n" + json.dumps(trials))
