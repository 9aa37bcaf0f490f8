"""Workers that Ray places: on several machines, or several on the GPUs of one.

Ray schedules, pins devices and carries the results; proposals, retries and the ledger are the
driver's. The run directory has to be on a file system that all machines see.
"""

import math
import os
import pathlib
import socket
import time
import warnings
from collections.abc import Mapping
from typing import Any, TypeGuard

from lsh_jax.config import ConfigError, check
from lsh_jax.search import stopping
from lsh_jax.search.executors import Job, MakeTask
from lsh_jax.search.trial import Measurement
from lsh_jax.search.worker import Answer, make_worker, portable
from lsh_jax.search.worker_pool import WorkerDied, WorkerPool

_PLACEMENT = 600.0  # seconds until a worker that Ray cannot place is given up


class RayExecutor(WorkerPool):
    """Worker processes of a Ray cluster, each an actor with CPUs and GPUs of its own."""

    def __init__(
        self,
        make_task: MakeTask,
        workers: int | None = None,
        *,
        cpus: float = 1,
        gpus: float = 0,
        retries: int = 2,
        environment: Mapping[str, str] | None = None,
        address: str | None = None,
    ) -> None:
        """Joins the cluster, or starts one on this machine; starts no worker yet.

        Args:
          make_task: makes the search's task in a worker.
          workers: as many at a time; as many as the cluster holds if not given.
          cpus: that Ray reserves for a worker.
          gpus: that Ray reserves for a worker; a fraction packs several on one.
          retries: of a job whose worker died.
          environment: variables for the workers.
          address: of the cluster's head; `RAY_ADDRESS` or a new one on this machine if not given.

        Raises:
          ConfigError: when Ray is not installed, the cluster cannot be joined, or does not hold so
            many workers.
        """
        address = address or os.environ.get("RAY_ADDRESS")
        if _is_remote(address):
            _knock(address)
            _present_token()
        ray = _import_ray()
        check(cpus > 0, "worker_cpus", "be positive", cpus)
        check(0 <= gpus < math.inf, "worker_gpus", "be at least 0", gpus)
        if not ray.is_initialized():
            _join(ray, address)
        room = sum(_room(node, cpus, gpus) for node in _nodes(ray))
        if room < (workers or 1):
            raise ConfigError(
                f"`workers` must be at most {room} with {cpus:g} CPUs and {gpus:g} GPUs for each "
                f"on this cluster, got {workers or 1}: take fewer, fewer cores (NPROC), or a "
                "smaller --worker-gpus."
            )
        options = {
            "num_cpus": cpus,
            "num_gpus": gpus,
            "max_concurrency": 2,  # a job, and `stop` beside it
            "scheduling_strategy": "SPREAD",
            "runtime_env": {"env_vars": dict(environment or {})},
        }
        remote = ray.remote(_Served).options(**options)
        super().__init__(
            lambda number: _Actor(ray, remote, make_task), workers or room, retries=retries
        )


def _import_ray() -> Any:
    try:
        import ray
    except ImportError:
        raise ConfigError(
            '`executor` ray needs Ray, which is not installed: pip install "lsh-jax[ray]".'
        ) from None
    return ray


def _join(ray: Any, address: str | None) -> None:
    """Joins a cluster, or starts one on this machine."""
    try:
        with warnings.catch_warnings():
            # JAX warns of forks; Ray's start other programs at once, which is safe.
            warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
            ray.init(address=address or "local", include_dashboard=False, logging_level="error")
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise _unreachable(address, str(error).strip().split("\n")[0]) from error


def _is_remote(address: str | None) -> TypeGuard[str]:
    """Whether it is a host and a port, not "auto" or the like."""
    return address is not None and ":" in address and "//" not in address


def _present_token() -> None:
    """Lets Ray present the token that clusters ask for by default.

    It looks for one by itself where the cluster is on this machine alone, and decides when it is
    imported.
    """
    if (pathlib.Path.home() / ".ray" / "auth_token").is_file():
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def _knock(address: str) -> None:
    """Refuses an address at which nobody listens: Ray would try for many minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError) as error:
        raise _unreachable(address, str(error)) from error


def _unreachable(address: str | None, reason: str) -> ConfigError:
    return ConfigError(
        f"`ray_address` must be a cluster that can be joined, got {address!r} ({reason}): start "
        "one with `ray start --head`, and give its machines one token (RAY_AUTH_MODE)."
    )


def _nodes(ray: Any) -> list[Mapping[str, float]]:
    """The resources of each machine of the cluster."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _room(resources: Mapping[str, float], cpus: float, gpus: float) -> int:
    """Workers that a machine holds."""
    room = resources.get("CPU", 0.0) // cpus
    if gpus:
        # A fraction packs a GPU; a worker with more than one takes whole ones.
        each = resources.get("GPU", 0.0)
        room = min(room, each * (1 // gpus) if gpus <= 1 else each // gpus)
    return int(room)


class _Served:
    """The actor: what is in the worker's process."""

    def __init__(self, make_task: MakeTask) -> None:
        self._make_task = make_task

    def begin(self) -> Answer:
        """Makes the task."""
        try:
            self._do = make_worker(self._make_task)
        except Exception as error:  # a task is the user's: what it raises is told by the driver
            return None, portable(error)
        return [], None

    def run(self, job: Job) -> Answer:
        """Does a job."""
        return self._do(job)

    def stop(self) -> None:
        """Asks for a stop after the segment under way."""
        stopping.ask()


class _Actor:
    """The driver's side of an actor."""

    def __init__(self, ray: Any, remote: Any, make_task: MakeTask) -> None:
        self._ray = ray
        self._actor = remote.remote(make_task)
        self._killed = False

    def begin(self) -> None:
        self._get(self._actor.begin, limit=_PLACEMENT)

    def is_alive(self) -> bool:
        return not self._killed

    def run(self, job: Job) -> list[Measurement]:
        return self._get(self._actor.run, job)

    def stop(self) -> None:
        self._actor.stop.remote()

    def kill(self) -> None:
        self._killed = True
        self._ray.kill(self._actor)

    def _get(self, method: Any, *arguments: Any, limit: float = math.inf) -> list[Measurement]:
        """What the worker answers; what it raised is raised here."""
        try:
            answer = method.remote(*arguments)
            waited = time.monotonic()
            while not self._ray.wait([answer], timeout=1.0)[0]:
                if self._killed:
                    raise WorkerDied("was ended")
                if time.monotonic() - waited > limit:
                    raise WorkerDied(f"was not placed by Ray within {limit:.0f} s")
            measured, error = self._ray.get(answer)
        except self._ray.exceptions.RayError as death:
            raise WorkerDied(f"ended ({str(death).strip().splitlines()[0]})") from death
        if error is not None:
            raise error
        return measured
