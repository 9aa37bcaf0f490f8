"""What does a search cost beside the training that it orders?

    python benchmarks/search_overhead.py --out=overhead.jsonl
    python benchmarks/search_overhead.py --smoke

JSON lines. `quick`: a search of the preset `quick`, timed as a whole and inside the task (training,
evaluation, spectra, drawing of states); the rest is the search's own, of which checkpoints,
proposals, the ledger and the report are timed apart. `synthetic`: searches of 125, 250 and 500
candidates over a task that costs nothing and has a state of 4 MB, each in a process of its own:
seconds an epoch, the largest memory, size and seconds of the report. Method and results:
benchmarks/README.md.
"""

import argparse
import contextlib
import functools
import importlib.metadata
import json
import pathlib
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

import lsh_jax.cli  # noqa: F401  (sets the threads of OpenBLAS before NumPy is at work)
from lsh_jax.config import SearchConfig, SpaceConfig
from lsh_jax.data import load_corpus
from lsh_jax.machine import visible_cores
from lsh_jax.presets import PRESETS
from lsh_jax.report import write_report
from lsh_jax.search import epoch, pool
from lsh_jax.search.hyperpruning import hyperprune
from lsh_jax.search.language_model_task import make_language_model_task
from lsh_jax.search.ledger import Ledger
from lsh_jax.search.task import Task, TrainInfo
from lsh_jax.types import Hyper

_TASK = ("init", "train", "evaluate", "block_nll", "spectrum", "save", "end_epoch", "unaveraged")
_OWN = {  # part of the search -> where its functions are looked up
    "checkpoints": [(epoch, "save_checkpoint"), (epoch, "restore_checkpoint")],
    "proposals": [(pool, "_ask")],
    "ledger": [(Ledger, "append")],
}
_COUNTS = (125, 250, 500)


class Clock:
    """Seconds spent in functions, by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, its seconds added to those of `name`."""

        @functools.wraps(function)
        def call(*arguments: Any, **options: Any) -> Any:
            started = time.perf_counter()
            try:
                return jax.block_until_ready(function(*arguments, **options))
            finally:
                self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started

        return call

    @contextlib.contextmanager
    def on_the_search(self) -> Iterator[None]:
        """Times the parts of every search in the block."""
        with contextlib.ExitStack() as stack:
            for name, places in _OWN.items():
                for owner, function in places:
                    own = self.timed(name, getattr(owner, function))
                    stack.enter_context(mock.patch.object(owner, function, own))
            yield


def measure(task: Task, config: SearchConfig, run: pathlib.Path) -> dict[str, Any]:
    """Searches once, writes the report, and says where the seconds went."""
    clock = Clock()
    own = {name: clock.timed("task", getattr(task, name)) for name in _TASK}
    started = time.perf_counter()
    with clock.on_the_search():
        found = hyperprune(task._replace(**own), config, out=run)
    searched = time.perf_counter()
    write_report(run)
    ended = time.perf_counter()
    inside = clock.seconds.pop("task")
    epochs = sum(record.duplicate_of is None for record in found.records)
    own_seconds = ended - started - inside
    return {
        "candidates": len(found.result["rounds"][0]["entered"]),
        "proposals_made": len({r.trial for r in found.records if isinstance(r.trial, int)}),
        "epochs": epochs,
        "seconds": ended - started,
        "seconds_of_task": inside,
        "share_of_search": own_seconds / (ended - started),
        "seconds_an_epoch": own_seconds / epochs,
        **{f"seconds_of_{name}": value for name, value in sorted(clock.seconds.items())},
        "seconds_of_report": ended - searched,
        "megabytes_of_report": (run / "report.html").stat().st_size / 1e6,
        "megabytes_of_memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def quick(epochs: int | None) -> dict[str, Any]:
    """The preset `quick`, or the first of its epochs."""
    settings = PRESETS["quick"]
    with tempfile.TemporaryDirectory() as folder:
        corpus = load_corpus(settings.data, None, settings.model.vocab_size)
        model, train, spectrum = settings.model, settings.train, settings.spectrum
        task = make_language_model_task(corpus, model, train, spectrum, settings.seed)
        changes = {} if epochs is None else {"final_epochs": epochs, "max_evals": 2}
        fields = settings.search().to_json() | changes
        return measure(task, SearchConfig.from_json(fields), pathlib.Path(folder) / "run")


def synthetic(candidates: int) -> dict[str, Any]:
    """A search over a task that costs nothing."""
    rates = tuple(round(0.1 + 0.02 * step, 2) for step in range(40))
    space = SpaceConfig(death_rate=rates, schedule=("cosine", "linear"), stop_fraction=(0.5, 1.0))
    config = SearchConfig(max_evals=candidates, e0=2, ei=1, final_epochs=12, space=space)
    with tempfile.TemporaryDirectory() as folder:
        return measure(make_synthetic_task(), config, pathlib.Path(folder) / "run")


def make_synthetic_task() -> Task:
    """A task whose loss is a formula; its state has 40 arrays, 4 MB, as that of `quick`."""
    arrays = {str(index): np.full(25_000, index, np.float32) for index in range(40)}

    def init(key: Any, controls: Any, hyper: Hyper) -> dict[str, jax.Array]:
        del key, hyper
        rate = jnp.where(jnp.isinf(controls.update_every), 0.5, controls.death_rate)
        return {**map_arrays(arrays), "rate": rate, "segments": jnp.int32(0)}

    def train(state: Any, controls: Any, hyper: Hyper, count: int) -> tuple[Any, TrainInfo]:
        del controls, hyper
        state = state | {"segments": state["segments"] + count}
        return state, TrainInfo(nll(state) * count, count, 0.0, 0, 10)

    def nll(state: Any) -> float:
        return float(np.exp(-int(state["segments"])) + abs(float(state["rate"]) - 0.37))

    def spectrum(state: Any) -> tuple[np.ndarray, np.ndarray]:
        level = nll(state)
        return -level * np.arange(1, 65)[None] / 64, np.full((1, 64), 0.01)

    def save(state: Any, path: pathlib.Path) -> None:
        del state
        path.mkdir(parents=True, exist_ok=True)

    return Task(
        init=init,
        train=train,
        evaluate=lambda state, split: nll(state),
        block_nll=lambda state, split: (np.full(8, nll(state)), np.ones(8)),
        spectrum=spectrum,
        fingerprint=lambda: "synthetic",
        segments_per_epoch=1,
        hyper=Hyper(1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0),
        with_seed=lambda seed: make_synthetic_task(),
        save=save,
    )


def map_arrays(arrays: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    """On the device."""
    return {name: jnp.asarray(array) for name, array in arrays.items()}


def in_a_process(case: str) -> dict[str, Any]:
    """Measures a case in a process of its own, so that its memory is its own."""
    command = [sys.executable, __file__, f"--case={case}"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Measures what the flags ask for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=pathlib.Path, help="file that lines are appended to")
    parser.add_argument("--smoke", action="store_true", help="small cases: does it work?")
    parser.add_argument("--case", help="one case, in this process: quick, smoke or a number")
    flags = parser.parse_args()
    if flags.case:
        names = {"quick": lambda: quick(None), "smoke": lambda: quick(5)}
        found = names[flags.case]() if flags.case in names else synthetic(int(flags.case))
        print(json.dumps(found))
        return
    about = {
        "machine": platform.machine(),
        "cores": visible_cores(),
        "date": time.strftime("%Y-%m-%d"),
        "jax": importlib.metadata.version("jax"),
    }
    cases = ("smoke", "6", "12") if flags.smoke else ("quick", *map(str, _COUNTS))
    for case in cases:
        kind = "synthetic" if case.isdecimal() else "quick"
        line = json.dumps({"case": kind, **in_a_process(case), **about})
        print(line, flush=True)
        if flags.out:
            with flags.out.open("a", encoding="utf-8") as file:
                file.write(line + "\n")


if __name__ == "__main__":
    main()
