"""The dense network's hyperparameters, where the candidates choose theirs.

A candidate with a learning rate of its own, held against a dense network that never had the
choice, may win by the learning rate. So the dense network chooses first: as many trials as the
pool holds, by the same algorithm, through the same rounds of halving. They are judged by
validation nll, for a Lyapunov spectrum can only be held against that of the network sought here.
The choice is then trained from the start as the dense reference; every epoch counts.
"""

import dataclasses
import math
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from lsh_jax.config import ConfigError, SearchConfig, SpaceConfig
from lsh_jax.search.dense import OnEvent, SearchError
from lsh_jax.search.driver import Search
from lsh_jax.search.executors import Executor
from lsh_jax.search.ledger import Ledger
from lsh_jax.search.pool import fill_pool
from lsh_jax.search.rounds import halve, release
from lsh_jax.search.run_directory import LEDGER
from lsh_jax.search.space import assignments, hyper, make_space, size
from lsh_jax.search.successive_halving import plan, screening_epochs
from lsh_jax.search.task import Task
from lsh_jax.types import Hyper


class Tuning(NamedTuple):
    """What the dense network chose, and what the choice cost."""

    hyper: dict[str, float]  # empty where the space holds no hyperparameters
    num_trials: int
    num_epochs: int


UNTUNED = Tuning({}, 0, 0)


def tuning_config(config: SearchConfig) -> SearchConfig:
    """The search for the dense network's hyperparameters: static networks of one kind."""
    chosen = {name: getattr(config.space, name) for name in Hyper._fields}
    space = SpaceConfig(init=("uniform",), update_every=(math.inf,), **chosen)
    return dataclasses.replace(config, metric="loss", space=space)


def is_tuned(config: SearchConfig) -> bool:
    """Whether there is a hyperparameter to choose."""
    return size(make_space(tuning_config(config))) > 1


def epochs_tuning(config: SearchConfig) -> int:
    """Epochs that the dense network's tuning takes where no trial fails; 0 without any."""
    return screening_epochs(plan(tuning_config(config))) if is_tuned(config) else 0


def check_dense_given(space: SpaceConfig) -> None:
    """Refuses hyperparameters in the space beside a dense network that is brought along.

    Raises:
      ConfigError: when there are any: the given network may not have had the same choice.
    """
    named = [name for name in Hyper._fields if getattr(space, name)]
    if named:
        flags = ", ".join(f"--space.{name.replace('_', '-')}" for name in named)
        raise ConfigError(
            f"`dense` must not be given where candidates choose hyperparameters ({flags}): the "
            "dense network has to be tuned over as many trials, or candidates win by the recipe "
            "alone. Leave --dense out, or set them for all in --train."
        )


def tune_dense(
    task: Task,
    config: SearchConfig,
    run: pathlib.Path,
    executor: Executor,
    on_event: OnEvent,
    *,
    keep_all: bool,
) -> Tuning:
    """Chooses the dense network's hyperparameters, or as much of it as is not on record yet.

    Args:
      task: the task.
      config: the search that they are for.
      run: its directory; the tuning is kept in `tuning` below it.
      executor: where trials run.
      on_event: told of the same events as of the search, trials being called "tuning-<number>".
      keep_all: keep the checkpoints.

    Returns:
      The choice; that of the task where there is nothing to choose.

    Raises:
      SearchError: when every trial fails.
    """
    own = tuning_config(config)
    if not is_tuned(config):
        (only,) = assignments(make_space(own))
        return UNTUNED._replace(hyper=hyper(only))
    directory = run / "tuning"
    search = Search(
        task=task,
        config=own,
        run=directory,
        ledger=Ledger(directory / LEDGER),
        dense=None,
        executor=executor,
        live={},
        on_event=_renamed(on_event),
        keep_all=keep_all,
    )
    try:
        _, finalists = halve(search, fill_pool(search))
    except SearchError as error:
        raise SearchError(f"The dense network could not be tuned. {error}") from error
    release(search, finalists)
    trained = [r for r in search.ledger.records() if r.duplicate_of is None]
    num_trials = len({record.trial for record in trained})
    return Tuning(dict(finalists[0].hyper), num_trials, len(trained))


def _renamed(on_event: OnEvent) -> OnEvent:
    """A listener that knows the trials of the tuning from those of the search."""

    def listener(kind: str, values: Mapping[str, Any]) -> None:
        own = dict(values)
        if kind == "segment":
            own["trial"] = f"tuning-{own['trial']}"
        elif kind == "record":
            record = own["record"]
            own["record"] = dataclasses.replace(record, trial=f"tuning-{record.trial}")
        elif kind == "round":
            own["tuning"] = True
        elif kind == "notice":
            own["text"] = f"tuning the dense network: {own['text']}"
        on_event(kind, own)

    return listener
