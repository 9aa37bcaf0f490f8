"""The command of a task of one's own: flags, progress, signals, run directory and report.

A script hands over a function that makes its task, and what is done with the networks afterwards.
It imports this file before NumPy and JAX: `lsh_jax.cli` sets the threads with which NumPy loads.
"""

import contextlib
import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax

from lsh_jax.accelerators import Accelerator, select_accelerator, use_compile_cache
from lsh_jax.cli.executors import num_workers, start_executor
from lsh_jax.cli.flags import read_flags
from lsh_jax.cli.own_task_plan import describe_plan
from lsh_jax.cli.running import Command, describe_finished, run_command, run_directory
from lsh_jax.cli.workplace import cache_directory, open_device
from lsh_jax.config import Algorithm, Metric, SearchConfig, SpaceConfig, TrainConfig, check
from lsh_jax.estimate import total_epochs
from lsh_jax.lyapunov import LyapunovResult
from lsh_jax.machine import visible_cores
from lsh_jax.presets import ExecutorName, Settings, TrainingSettings
from lsh_jax.progress import Listener, both, progress, records_so_far
from lsh_jax.report import headline, write_report
from lsh_jax.search import stopping
from lsh_jax.search.dense import SearchError, load_dense
from lsh_jax.search.hyperpruning import SearchResult, hyperprune
from lsh_jax.search.run_directory import check_vacant
from lsh_jax.search.successive_halving import plan
from lsh_jax.search.task import Task
from lsh_jax.tensorboard import tensorboard_listener

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
    """Continue the run in --out, or that of this task and seed in runs/ which last changed."""
    cache_dir: str | None = None
    """Dense networks and compiled programs; ~/.cache/lsh_jax if not given."""
    dry_run: bool = False
    """Print rounds, epochs, disk and the time by what a segment takes here, and stop."""
    dense: str | None = None
    """A run of this task whose dense network is taken; trained if not given."""
    executor: ExecutorName = "serial"
    """Where candidates train: in this process, in processes of this machine, or on a Ray cluster
    (extra `ray`). The results are the same."""
    workers: int | Literal["auto"] = "auto"
    """Candidates that train at a time, but with serial; auto for one a GPU, else one for every
    NPROC cores."""
    worker_gpus: float = 1.0
    """GPUs of each worker with --executor=ray; a fraction packs several on one."""
    ray_address: str | None = None
    """Head of the Ray cluster; RAY_ADDRESS, or a new cluster on this machine, if not given."""
    tensorboard: bool = False
    """Write curves and HParams into the run directory, for TensorBoard (extra `tensorboard`)."""
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
        is written: prints and pictures of one's own. `lsh_jax.report.add_figure(out, ...)` puts a
        picture into the report.
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
      The exit status, 0 done, 1 failed, 2 bad input, 130 interrupted, 143 terminated.
    """
    command = Command(
        parse=functools.partial(_parse, own),
        act=functools.partial(_act, own),
        directory=functools.partial(_directory, own),
    )
    return run_command(command, arguments)


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
    fits = settings.workers == "auto" or settings.workers >= 1
    check(fits, "workers", "be at least 1, or auto", settings.workers)
    plan(config)  # refuses rounds that do not fit
    cache, out = cache_directory(settings.cache_dir), pathlib.Path(str(settings.out))
    if not settings.dry_run:
        check_vacant(out, resume=settings.resume)
    if settings.resume and (finished := describe_finished(out)):
        print(finished)
    if settings.executor != "serial":  # the driver leaves the memory of a GPU to the workers
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    device = open_device(settings.accelerator, cache)
    task = own.make_task(settings.seed)
    _describe(task)
    whole = _whole(settings, config, task)
    dense = load_dense(task, pathlib.Path(settings.dense)) if settings.dense else None
    if settings.dry_run:
        print(describe_plan(whole, task, num_workers(whole)))
        return 0
    print(f"Run directory: {out}", flush=True)
    make_task = functools.partial(
        make_worker_task, own.make_task, settings.seed, jax.default_backend(), str(cache)
    )
    recorded = {"task": own.name, "device": device.device_kind, "cores": visible_cores()}
    try:
        with (
            start_executor(whole, make_task) as executor,
            stopping.on_signals(),
            _listener(whole, task, out) as listener,
        ):
            found = hyperprune(
                task,
                config,
                executor,
                out=out,
                dense=dense,
                cache_dir=cache,
                resume=settings.resume,
                settings=recorded,
                on_event=listener,
            )
    except SearchError:
        write_report(out)
        print(f"Report: {out / 'report.html'}")
        raise
    try:
        own.finish(found, out)
    finally:  # the search has its report, whatever becomes of what is made of it
        write_report(out)
    print(headline(found.result))
    print(f"Report: {out / 'report.html'}")
    return 0


def _describe(task: Task) -> None:
    """Prints what is trained, and what it is held against."""
    measure = task.measure
    if task.topology is not None:
        weights = sum(leaf.size for leaf in task.topology.leaves if leaf.prunable)
        print(f"Network: {weights:,} prunable weights")
    for split, nll in (task.baseline_nll or {}).items():
        value = measure.shown(measure.of(nll))
        print(f"Baseline: {measure.baseline} {measure.name} {value} on {split}")


def _whole(settings: OwnTaskSettings, config: SearchConfig, task: Task) -> Settings:
    """The settings of a search as the parts of the library take them that know of flags."""
    names = ("resume", "dense", "executor", "workers", "worker_gpus", "ray_address", "tensorboard")
    own: dict[str, Any] = {name: getattr(settings, name) for name in names}
    own |= {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    return Settings(**own, train=TrainConfig(patience=task.patience))


@contextlib.contextmanager
def _listener(settings: Settings, task: Task, out: pathlib.Path) -> Iterator[Listener]:
    """Shows the search, and writes it for TensorBoard where that is asked for."""
    baseline = task.measure.of((task.baseline_nll or {}).get("validation"))
    sizes = total_epochs(settings), task.segments_per_epoch, baseline
    records = records_so_far(out) if settings.resume else ()
    with contextlib.ExitStack() as stack:
        shown = stack.enter_context(progress(*sizes, records=records, measure=task.measure))
        if settings.tensorboard:
            folder = out / "tensorboard"
            board = stack.enter_context(tensorboard_listener(folder, out, measure=task.measure))
            shown = both(shown, board)
        yield shown


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
