"""The command `python experiments/hypersearch.py`: settings in, run directory and report out."""

import contextlib
import dataclasses
import os
import pathlib
import sys
from collections.abc import Iterator, Sequence

import jax

from lsh_jax.cli.executors import num_workers, open_executor
from lsh_jax.cli.flags import given, read_flags
from lsh_jax.cli.running import Command, describe_finished, run_command, run_directory
from lsh_jax.cli.workplace import Workplace, cache_directory, open_device, recorded, set_up
from lsh_jax.config import ConfigError, check
from lsh_jax.estimate import (
    describe_disk,
    describe_model,
    describe_plan,
    describe_rounds,
    describe_unused_rows,
    estimate,
    total_epochs,
)
from lsh_jax.machine import free_bytes, visible_cores
from lsh_jax.presets import Settings, starting_point, to_json
from lsh_jax.progress import Listener, both, progress, records_so_far
from lsh_jax.report import headline, write_report
from lsh_jax.saved_model import SavedModel, load_model
from lsh_jax.search import stopping
from lsh_jax.search.dense import DenseReference, SearchError, foreign_dense, load_dense
from lsh_jax.search.hyperpruning import hyperprune
from lsh_jax.search.run_directory import LEDGER, check_vacant
from lsh_jax.search.space import check_space, tried
from lsh_jax.search.successive_halving import plan
from lsh_jax.search.task import Task
from lsh_jax.search.trial import DENSE
from lsh_jax.search.tuning import check_dense_given
from lsh_jax.sparsity import controls
from lsh_jax.tensorboard import tensorboard_listener


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
      arguments: without the program's name; those of the process if not given.

    Returns:
      The exit status: 0 done, 1 failed, 2 bad input, 130 interrupted, 143 terminated.
    """
    return run_command(Command(parse, _search, run_directory), arguments)


def parse(arguments: Sequence[str]) -> Settings:
    """Reads flags over the preset that they name.

    Raises:
      SystemExit: with status 2 and a message on bad flags; with 0 after --help.
    """
    default = starting_point(given(arguments, "preset"), given(arguments, "space-preset"))
    return read_flags(arguments, default, _program())


def _search(settings: Settings) -> int:
    _check(settings)
    cache, out = cache_directory(settings.cache_dir), pathlib.Path(str(settings.out))
    if not settings.dry_run:
        check_vacant(out, resume=settings.resume)
    if settings.resume and (finished := describe_finished(out)):
        print(finished)
    if settings.executor != "serial":  # the driver leaves the memory of a GPU to the workers
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    device = open_device(settings.accelerator, cache)
    saved, settings = _foreign_model(settings)
    place = set_up(settings, cache, saved.vocabulary if saved else None)
    _describe_networks(settings, place, sized=saved is not None)
    if settings.dry_run:
        if saved is None:
            _dense(settings, place.task, None)  # refuses what the search would refuse
        print(describe_plan(settings, estimate(settings, place.corpus, num_workers(settings))))
        return 0
    print(describe_rounds(settings))
    print(describe_disk(settings, place.task, free_bytes(out)))
    print(f"Run directory: {out}")
    return _run(settings, place, device, cache, saved)


def _run(
    settings: Settings,
    place: Workplace,
    device: jax.Device,
    cache: pathlib.Path,
    saved: SavedModel | None,
) -> int:
    """Searches, and writes the report; also of a search that fails."""
    task, out = place.task, pathlib.Path(str(settings.out))
    vocabulary = saved.vocabulary if saved else None
    try:
        with (
            open_executor(settings, cache, vocabulary) as executor,
            stopping.on_signals(),
            _listener(settings, place, out) as listener,
        ):
            found = hyperprune(
                task,
                settings.search(),
                executor,
                out=out,
                dense=_dense(settings, task, saved),
                cache_dir=cache,
                resume=settings.resume,
                settings=recorded(to_json(settings), place, device),
                keep_all_checkpoints=settings.keep_checkpoints,
                population=settings.population,
                time_limit=settings.time_limit,
                on_event=listener,
            )
    except SearchError:
        write_report(out)
        print(f"Report: {out / 'report.html'}")
        raise
    write_report(out)
    print(headline(found.result))
    print(f"Report: {out / 'report.html'}")
    return 0


@contextlib.contextmanager
def _listener(settings: Settings, place: Workplace, out: pathlib.Path) -> Iterator[Listener]:
    """Shows the search, and writes it for TensorBoard where that is asked for."""
    sizes = total_epochs(settings), place.task.segments_per_epoch, place.unigram
    records = records_so_far(out) if settings.resume else ()
    with contextlib.ExitStack() as stack:
        board: Listener | None = None
        if settings.tensorboard:
            board = stack.enter_context(tensorboard_listener(out / "tensorboard", out))
        shown = stack.enter_context(progress(*sizes, records=records))
        yield both(shown, board) if board else shown


def _check(settings: Settings) -> None:
    """Refuses what cannot work before anything is loaded."""
    plan(settings.search())  # refuses rounds that do not fit
    tried(settings.search())
    check(settings.time_limit > 0, "time_limit", "be positive", settings.time_limit)
    check(settings.retries >= 0, "retries", "be at least 0", settings.retries)
    check(settings.worker_gpus >= 0, "worker_gpus", "be at least 0", settings.worker_gpus)
    cores = visible_cores()
    check(cores.isdecimal() and int(cores) > 0, "NPROC", "be a number of cores", cores)
    has_gates = settings.model.cell != "tanh"
    momentum = settings.train.momentum > 0
    check_space(settings.space, momentum=momentum, gates=has_gates, matrices=True)
    if settings.dense:
        check_dense_given(settings.space)


def _describe_networks(settings: Settings, place: Workplace, *, sized: bool) -> None:
    """Prints what is trained; `sized` where a saved model rules the sizes."""
    print(describe_model(settings))
    unused = describe_unused_rows(settings, place.statistics["types"])
    if unused and not sized:
        print(unused)


def _foreign_model(settings: Settings) -> tuple[SavedModel | None, Settings]:
    """A saved model given as --dense, and the settings that it forces."""
    if settings.dense is None or (pathlib.Path(settings.dense) / LEDGER).is_file():
        return None, settings
    if not (pathlib.Path(settings.dense) / "model.json").is_file():
        raise ConfigError(
            f"`dense` must be a run directory or a saved model, got {settings.dense!r}."
        )
    saved = load_model(settings.dense)
    if not all(mask.all() for mask in jax.tree.leaves(saved.masks)):
        raise ConfigError(
            f"`dense` must be a dense network, got the pruned one in {settings.dense!r}: name the "
            "run directory to compare with the dense network of that run."
        )
    print("Note: the dense model has no history, so --reference=final and its own sizes are used.")
    return saved, dataclasses.replace(settings, reference="final", model=saved.model.config)


def _dense(settings: Settings, task: Task, saved: SavedModel | None) -> DenseReference | None:
    """The dense network given as --dense, if there is one."""
    if settings.dense is None:
        return None
    if saved is None:
        return load_dense(task, pathlib.Path(settings.dense))
    state = task.init(jax.random.key(settings.seed), controls(DENSE), task.hyper)
    return foreign_dense(task, state._replace(params=saved.params), settings.seed)


def _program() -> str:
    """The name by which the command was called, for --help and completions."""
    called = pathlib.Path(sys.argv[0]).name
    return called if called == "lsh-jax" else "hypersearch.py"
