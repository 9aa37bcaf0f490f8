"""How many candidates train side by side: as many as asked for, or as many as fit the device."""

import dataclasses
import os
from typing import Literal, NamedTuple

import jax

from lsh_jax.config import ConfigError, SearchConfig
from lsh_jax.search.dense import OnEvent
from lsh_jax.search.successive_halving import plan
from lsh_jax.search.task import Task

PopulationSize = int | Literal["auto"]
_SHARE = 0.8  # of a device's memory that a group may take; allocators leave gaps


@dataclasses.dataclass
class Population:
    """How many candidates of a search train side by side; falls to 1 when a group fails."""

    size: int = 1


class Fit(NamedTuple):
    """How large a group may be, and what it takes."""

    fitting: int  # candidates that fit all devices
    largest: int  # group that the search can use
    bytes_each: int  # memory that a candidate of a group takes on its device
    bytes_limit: int  # what a group may take of one

    @property
    def size(self) -> int:
        """Candidates to train side by side."""
        return min(self.fitting, self.largest)


def check_population(population: PopulationSize) -> None:
    """Refuses what is no number of candidates.

    Raises:
      ConfigError: when it is neither "auto" nor an integer of 1 or more.
    """
    whole = isinstance(population, int) and not isinstance(population, bool)
    if population != "auto" and not (whole and int(population) >= 1):
        raise ConfigError(f"`population` must be at least 1, or auto, got {population!r}.")


def largest_group(config: SearchConfig) -> int:
    """The most candidates of a search that can be trained at one time.

    The pool waits for the scores of `ask_batch` candidates before it asks for more; a round trains
    all that enter it.
    """
    pool, *rounds = plan(config)
    asked = min(config.ask_batch, pool.num_entering)
    return max([asked, *(entering for entering, _ in rounds)])


def fit_population(task: Task, config: SearchConfig, workers: int = 1) -> Fit | None:
    """The largest group that fits the devices, from what the compiler says of one and of two.

    Args:
      task: what is trained.
      config: the search.
      workers: that train groups at a time; spread over the devices.

    Returns:
      The fit, of at least one candidate; None for a task that cannot train side by side. It costs
      compiling the programs of both sizes.
    """
    side_by_side = task.side_by_side
    if side_by_side is None:
        return None
    one, two = side_by_side.num_bytes(1), side_by_side.num_bytes(2)
    each = max(1, two - one)
    sharing = -(-workers // jax.local_device_count())
    limit = int(_SHARE * memory_of(jax.local_devices()[0])) // sharing
    return Fit(
        fitting=max(1, 1 + (limit - one) // each) * side_by_side.num_devices,
        largest=largest_group(config),
        bytes_each=each,
        bytes_limit=limit,
    )


def memory_of(device: jax.Device) -> int:
    """Bytes of memory of a device: its limit, or its part of what the machine has to spare.

    0 where neither is known.
    """
    limit = (device.memory_stats() or {}).get("bytes_limit")
    if limit:
        return int(limit)
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):  # not every system knows these names
        return 0
    return free // jax.local_device_count()


def settle_population(
    task: Task,
    config: SearchConfig,
    population: PopulationSize,
    on_event: OnEvent,
    workers: int = 1,
) -> int:
    """The number of candidates to train side by side.

    Args:
      task: what is trained.
      config: the search.
      population: a number, or auto for the largest that fits.
      on_event: told where a task cannot do what was asked for.
      workers: that train groups at a time.
    """
    if population == "auto":
        fit = fit_population(task, config, workers)
        return 1 if fit is None else fit.size
    if population > 1 and task.side_by_side is None:
        text = "candidates are trained one by one: the task has no way to train them side by side"
        on_event("notice", {"text": text})
        return 1
    return population
