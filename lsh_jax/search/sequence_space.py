"""Which hyperparameters and modes a search over a network of one's own may choose among."""

import math
from typing import Any

from lsh_jax.config import ConfigError, SpaceConfig
from lsh_jax.search.space import check_space
from lsh_jax.sequence_training import Optimizer
from lsh_jax.types import Hyper


class _Recorder:
    """Hyperparameters that remember which of them are read."""

    def __init__(self, hyper: Hyper) -> None:
        self._hyper = hyper
        self.read: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._hyper, name)
        self.read.add(name)
        return value


def fields_read(optimizer: Optimizer, hyper: Hyper) -> frozenset[str]:
    """The names of the hyperparameters that an optimizer reads."""
    recorder: Any = _Recorder(hyper)
    optimizer(recorder)
    return frozenset(recorder.read)


def check_own_space(
    space: SpaceConfig, *, read: frozenset[str], momentum: bool, gates: bool, matrices: bool
) -> None:
    """Refuses modes that the task cannot serve, and hyperparameters that change nothing.

    Args:
      space: the choices.
      read: from `fields_read`.
      momentum: whether the optimizer keeps one.
      gates: whether there are several side by side in any of its matrices.
      matrices: whether all its prunable leaves have two axes.

    Raises:
      ConfigError: then.
    """
    check_space(space, momentum=momentum, gates=gates, matrices=matrices)
    for name in Hyper._fields:
        if getattr(space, name) and name not in read:
            raise ConfigError(
                f"`space.{name}` must be empty where the task's optimizer does not read it, got "
                f"{getattr(space, name)}: candidates would be trained twice."
            )
    if (
        not gates
        and "random_gates" in space.growth
        and not all(map(math.isinf, space.update_every))
    ):
        raise ConfigError(
            "`space.growth` must be without random_gates where the task names no gates: give "
            "`gates` to `make_sequence_task`."
        )
