"""The executor that the flags ask for, and the task that its workers make."""

import contextlib
import functools
import math
import os
import pathlib
from collections.abc import Iterator, Sequence

import jax

from lsh_jax.accelerators import select_accelerator, use_compile_cache
from lsh_jax.config import ConfigError, check
from lsh_jax.data import load_corpus
from lsh_jax.machine import available_cores, visible_cores
from lsh_jax.presets import Settings
from lsh_jax.search.executors import Executor, MakeTask
from lsh_jax.search.language_model_task import make_language_model_task
from lsh_jax.search.process_executor import ProcessExecutor
from lsh_jax.search.ray_executor import RayExecutor
from lsh_jax.search.task import Task

_MEMORY = 0.9  # of a GPU's, for all its workers together


@contextlib.contextmanager
def open_executor(
    settings: Settings, cache: pathlib.Path, vocabulary: Sequence[str] | None
) -> Iterator[Executor | None]:
    """Opens the executor of the settings, says what it is, and closes it at the end.

    Args:
      settings: the search.
      cache: from `cache_directory`; all workers share it.
      vocabulary: of a saved model that is the dense network.

    Yields:
      The executor; None for this process.

    Raises:
      ConfigError: when there cannot be such workers.
    """
    shared = settings, jax.default_backend(), str(cache), vocabulary
    with start_executor(settings, functools.partial(make_worker_task, *shared)) as executor:
        yield executor


@contextlib.contextmanager
def start_executor(settings: Settings, make_task: MakeTask) -> Iterator[Executor | None]:
    """`open_executor` for any task.

    Args:
      settings: executor, workers and what they get; the rest does not matter.
      make_task: makes the task in a worker.

    Yields:
      The executor; None for this process.

    Raises:
      ConfigError: when there cannot be such workers.
    """
    if settings.executor == "serial":
        yield None
        return
    with _EXECUTORS[settings.executor](settings, make_task) as executor:
        cores = visible_cores()
        print(f"Executor: {settings.executor}, {executor.workers} workers of {cores} cores each")
        yield executor


def num_workers(settings: Settings) -> int:
    """Workers on this machine that the settings ask for; 1 in this process.

    Raises:
      ConfigError: when it is no number of workers.
    """
    if settings.executor == "serial":
        return 1
    if settings.workers != "auto":
        check(settings.workers >= 1, "workers", "be at least 1, or auto", settings.workers)
        return settings.workers
    if jax.default_backend() != "cpu":
        return jax.local_device_count()
    return max(1, available_cores() // int(visible_cores()))


def make_worker_task(
    settings: Settings, platform: str, cache: str, vocabulary: Sequence[str] | None
) -> Task:
    """Makes the task of a search in a worker: from the cache of the corpus, and of programs.

    Args:
      settings: the search.
      platform: that the driver computes on.
      cache: directory of both caches.
      vocabulary: as of `open_executor`.

    Returns:
      The task; its fingerprint is the driver's, or the worker refuses its jobs.
    """
    select_accelerator(platform)  # type: ignore[arg-type]
    use_compile_cache(pathlib.Path(cache) / "compiled")
    vocab_size = settings.model.vocab_size
    corpus = load_corpus(
        settings.data, settings.data_dir, vocab_size, vocabulary, cache_dir=pathlib.Path(cache)
    )
    return make_language_model_task(
        corpus, settings.model, settings.train, settings.spectrum, settings.seed
    )


def _processes(settings: Settings, make_task: MakeTask) -> ProcessExecutor:
    workers = num_workers(settings)
    if jax.default_backend() == "tpu":
        raise ConfigError(
            "`executor` must be serial on a TPU, which serves one process, got 'process': train "
            "candidates side by side with --population=auto."
        )
    wanted, there = workers * int(visible_cores()), available_cores()
    if jax.default_backend() == "cpu" and wanted > there:
        print(
            f"Note: {workers} workers of {visible_cores()} cores each share {there}. NPROC="
            f"{max(1, there // workers)} in front of the command gives each its own; the last bits "
            "of results go by NPROC, never by the number of workers."
        )
    environments = worker_environments(workers)
    return ProcessExecutor(make_task, workers, retries=settings.retries, environments=environments)


def _on_ray(settings: Settings, make_task: MakeTask) -> RayExecutor:
    gpus = settings.worker_gpus if jax.default_backend() == "gpu" else 0.0
    shared = {"XLA_PYTHON_CLIENT_MEM_FRACTION": f"{_MEMORY * gpus:.3f}"} if 0 < gpus < 1 else {}
    return RayExecutor(
        make_task,
        None if settings.workers == "auto" else num_workers(settings),
        cpus=int(visible_cores()),
        gpus=gpus,
        retries=settings.retries,
        environment=_common_environment() | shared,
        address=settings.ray_address,
    )


_EXECUTORS = {"process": _processes, "ray": _on_ray}


def worker_environments(workers: int) -> list[dict[str, str]]:
    """The variables of each worker process: cores as here, and a GPU with a share of its memory.

    Args:
      workers: processes on this machine.
    """
    common = _common_environment()
    if jax.default_backend() != "gpu":
        return [common] * workers
    listed = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    devices = listed.split(",") if listed else [str(d.id) for d in jax.local_devices()]
    share = _MEMORY / math.ceil(workers / len(devices))
    return [
        common
        | {
            "CUDA_VISIBLE_DEVICES": devices[number % len(devices)],
            "XLA_PYTHON_CLIENT_MEM_FRACTION": f"{share:.3f}",
        }
        for number in range(workers)
    ]


def _common_environment() -> dict[str, str]:
    """What numbers go by, the same everywhere."""
    names = ("OPENBLAS_NUM_THREADS", "XLA_FLAGS")
    inherited = {name: os.environ[name] for name in names if name in os.environ}
    return {"NPROC": visible_cores()} | inherited
