"""The command of a task of one's own: flags, progress, signals, run directory and report.

A script hands over a function that makes its task, and what is done with the networks afterwards.
It imports this file before NumPy and JAX: `lsh_jax.cli` sets the threads with which NumPy loads.
"""

import contextlib
import dataclasses
import functools
import math
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import jax

from lsh_jax.accelerators import Accelerator, select_accelerator, use_compile_cache
from lsh_jax.cli.executors import worker_environments
from lsh_jax.cli.flags import read_flags
from lsh_jax.cli.running import Command, run_command, run_directory
from lsh_jax.cli.workplace import cache_directory, open_device
from lsh_jax.config import Algorithm, Metric, SearchConfig, SpaceConfig, check
from lsh_jax.lyapunov import LyapunovResult
from lsh_jax.machine import visible_cores
from lsh_jax.presets import TrainingSettings
from lsh_jax.progress import progress, records_so_far
from lsh_jax.report import headline, write_report
from lsh_jax.search import stopping
from lsh_jax.search.dense import SearchError
from lsh_jax.search.executors import Executor
from lsh_jax.search.hyperpruning import SearchResult, hyperprune
from lsh_jax.search.process_executor import ProcessExecutor
from lsh_jax.search.run_directory import check_vacant
from lsh_jax.search.successive_halving import num_epochs, plan
from lsh_jax.search.task import Task
from lsh_jax.search.tuning import epochs_tuning
from lsh_jax.sequence_models import rms_of_nll

MakeTask = Callable[[int], Task]  # of a seed; a function of a module, so that workers find it


@dataclasses.dataclass(frozen=True)
class OwnTaskSettings:
    """Searches for the pruned network to train, and writes a report."""

    accelerator: Accelerator = "auto"
    """Where to compute; auto takes the best there is."""
    seed: int = 0
    """Of initial weights, proposals, masks and growth."""
    out: str | None = None
    """Run directory; a new one in runs/, named after time, task and seed, if not given."""
    resume: bool = False
    """Continue the run in --out, or the newest of this task and seed in runs/."""
    cache_dir: str | None = None
    """Dense networks and compiled programs; ~/.cache/lsh_jax if not given."""
    executor: Literal["serial", "process"] = "serial"
    """Where candidates train: in this process, or in processes of this machine."""
    workers: int = 2
    """Processes, with --executor=process."""
    metric: Metric = "ls"
    """What candidates are judged by: LS distance, validation loss, death rate alone, or chance."""
    algo: Algorithm = "tpe"
    """How candidates are proposed."""
    max_evals: int = 8
    """Distinct configurations in the pool."""
    e0: int = 2
    """Epochs before the first score."""
    ei: int = 1
    """Epochs more in each round of halving."""
    final_epochs: int = 10
    """Epochs in all for the dense network and for each finalist."""
    finalists: int = 2
    """Candidates trained to the end."""
    sparsity: float = 0.67
    """Share of zeros over all prunable weights, in (0, 1)."""
    dense_seeds: int = 1
    """Dense networks trained; above 1 their distance to each other shows the noise floor."""
    space: SpaceConfig = dataclasses.field(default_factory=SpaceConfig)


class OwnTask(NamedTuple):
    """A task and its search, as a command has them.

    Attributes:
      name: in a word; the run directory is called after it.
      make_task: `make_task(seed) -> Task`.
      search: what the flags start from.
      finish: `finish(found, out)`, called with the result and the run directory before the report
        is written: prints and pictures of one's own.
    """

    name: str
    make_task: MakeTask
    search: SearchConfig
    finish: Callable[[SearchResult, pathlib.Path], None] = lambda found, out: None


def run_own_task(own: OwnTask, arguments: Sequence[str] | None = None) -> int:
    """Runs the command of a task.

    Args:
      own: the task and its search.
      arguments: without the program's name; those of the process if not given.

    Returns:
      The exit status: 0 done, 1 failed, 2 bad input, 130 interrupted.
    """
    command = Command(
        parse=functools.partial(_parse, own),
        act=functools.partial(_act, own),
        directory=functools.partial(_directory, own),
    )
    return run_command(command, arguments)


def describe_rms(found: SearchResult, scale: float) -> str:
    """One line on the errors of both networks, where the loss is `gaussian_nll` of this scale.

    Args:
      found: the result of a search.
      scale: of the loss.
    """

    def rms(network: str) -> str:
        measured = found.result[network]["test_perplexity"]
        return (
            "beyond numbers" if measured is None else f"{rms_of_nll(math.log(measured), scale):.4f}"
        )

    return f"Test rms error: winner {rms('best')}, dense {rms('dense')}"


def describe_exponents(spectra: Mapping[str, LyapunovResult], count: int = 3) -> str:
    """The largest exponents of systems by name, with their standard errors: a line each."""

    def line(result: LyapunovResult) -> str:
        values, errors = result.exponents[:count].tolist(), result.std_error[:count].tolist()
        pairs = zip(values, errors, strict=True)
        return ", ".join(f"{value:.3f} ± {error:.3f}" for value, error in pairs)

    return "\n".join(f"{name}: {line(result)}" for name, result in spectra.items())


def _shared_fields() -> list[str]:
    names = {field.name for field in dataclasses.fields(SearchConfig)}
    return [field.name for field in dataclasses.fields(OwnTaskSettings) if field.name in names]


def _parse(own: OwnTask, arguments: Sequence[str]) -> OwnTaskSettings:
    default = OwnTaskSettings(**{name: getattr(own.search, name) for name in _shared_fields()})
    return read_flags(arguments, default, f"{own.name}.py")


def _directory(own: OwnTask, settings: OwnTaskSettings) -> pathlib.Path:
    named = TrainingSettings(
        preset=own.name,  # type: ignore[arg-type]  # whose place in the name the task takes
        seed=settings.seed,
        out=settings.out,
        resume=settings.resume,
    )
    return run_directory(named)


def _act(own: OwnTask, settings: OwnTaskSettings) -> int:
    changed = {name: getattr(settings, name) for name in _shared_fields()}
    config = dataclasses.replace(own.search, **changed)
    check(settings.workers >= 1, "workers", "be at least 1", settings.workers)
    plan(config)  # refuses rounds that do not fit
    cache, out = cache_directory(settings.cache_dir), pathlib.Path(str(settings.out))
    check_vacant(out, resume=settings.resume)
    if settings.executor != "serial":  # the driver leaves the memory of a GPU to the workers
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    device = open_device(settings.accelerator, cache)
    task = own.make_task(settings.seed)
    if task.topology is not None:
        weights = sum(leaf.size for leaf in task.topology.leaves if leaf.prunable)
        print(f"Network: {weights:,} prunable weights")
    for split, nll in (task.baseline_nll or {}).items():
        print(f"Without memory: {nll:.3f} nats per prediction on {split}")
    print(f"Run directory: {out}", flush=True)
    recorded = {"task": own.name, "device": device.device_kind, "cores": visible_cores()}
    try:
        with (
            _open_executor(own, settings, cache) as executor,
            stopping.on_signals(),
            progress(
                _total_epochs(config),
                task.segments_per_epoch,
                None,  # the lines would call it a unigram perplexity
                records=records_so_far(out) if settings.resume else (),
            ) as listener,
        ):
            found = hyperprune(
                task,
                config,
                executor,
                out=out,
                cache_dir=cache,
                resume=settings.resume,
                settings=recorded,
                on_event=listener,
            )
        own.finish(found, out)
    except SearchError:
        write_report(out)
        print(f"Report: {out / 'report.html'}")
        raise
    write_report(out)
    print(headline(found.result))
    print(f"Report: {out / 'report.html'}")
    return 0


def _total_epochs(config: SearchConfig) -> int:
    dense = config.dense_seeds * config.final_epochs
    return num_epochs(config, plan(config)) + dense + epochs_tuning(config)


@contextlib.contextmanager
def _open_executor(
    own: OwnTask, settings: OwnTaskSettings, cache: pathlib.Path
) -> Iterator[Executor | None]:
    """The executor of the settings; None for this process."""
    if settings.executor == "serial":
        yield None
        return
    make_task = functools.partial(
        make_worker_task, own.make_task, settings.seed, jax.default_backend(), str(cache)
    )
    environments = worker_environments(settings.workers)
    with ProcessExecutor(make_task, settings.workers, environments=environments) as executor:
        print(f"Executor: process, {executor.workers} workers of {visible_cores()} cores each")
        yield executor


def make_worker_task(make_task: MakeTask, seed: int, platform: str, cache: str) -> Task:
    """Makes the task of a search in a worker.

    Args:
      make_task: of the script.
      seed: of the search.
      platform: that the driver computes on.
      cache: directory of compiled programs.

    Returns:
      The task; its fingerprint is the driver's, or the worker refuses its jobs.
    """
    select_accelerator(platform)  # type: ignore[arg-type]
    use_compile_cache(pathlib.Path(cache) / "compiled")
    return make_task(seed)
