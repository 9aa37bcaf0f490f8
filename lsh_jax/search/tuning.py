"""The dense network's hyperparameters, where the candidates choose theirs.

A candidate with a learning rate of its own, held against a dense network that never had the
choice, may win by the learning rate. So the dense network chooses first: as many trials as the
pool holds, by the same algorithm, through the same rounds of halving, its finalists to the end.
They are judged by validation nll, for a Lyapunov spectrum can only be held against that of the
network sought here; of the finalists, as of the candidates', the best epoch counts. The run that
is chosen is the dense reference: trained again it would be the same, bit for bit. Every epoch
counts.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from lsh_jax.config import ConfigError, SearchConfig, SpaceConfig
from lsh_jax.search.dense import (
    DenseReference,
    OnEvent,
    SearchError,
    load_reference,
    name_remedy,
)
from lsh_jax.search.driver import Search, advance
from lsh_jax.search.ledger import Ledger, Record, best_epoch
from lsh_jax.search.pool import fill_pool
from lsh_jax.search.rounds import halve
from lsh_jax.search.run_directory import LEDGER, keep_checkpoints
from lsh_jax.search.space import assignments, hyper, make_space, size
from lsh_jax.search.successive_halving import num_epochs, plan
from lsh_jax.search.trial import Candidate
from lsh_jax.types import Hyper


class Tuning(NamedTuple):
    """What the dense network chose, and what the choice cost."""

    hyper: dict[str, float]  # empty where the space holds no hyperparameters
    num_trials: int
    num_epochs: int  # but for those of `reference`, which are the dense network's
    reference: DenseReference | None  # the run that was chosen; None where nothing was to choose


UNTUNED = Tuning({}, 0, 0, None)


def tuning_config(config: SearchConfig) -> SearchConfig:
    """The search for the dense network's hyperparameters: static networks of one kind."""
    chosen = {name: getattr(config.space, name) for name in Hyper._fields}
    space = SpaceConfig(init=("uniform",), update_every=(math.inf,), **chosen)
    return dataclasses.replace(config, metric="loss", space=space, try_first=())


def is_tuned(config: SearchConfig) -> bool:
    """Whether there is a hyperparameter to choose."""
    return size(make_space(tuning_config(config))) > 1


def epochs_tuning(config: SearchConfig) -> int:
    """Epochs that the dense network's tuning takes where no trial fails; 0 without any.

    Those of the run that is chosen are left out: they are the dense network's.
    """
    own = tuning_config(config)
    return num_epochs(own, plan(own)) - config.final_epochs if is_tuned(config) else 0


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


def tune_dense(whole: Search) -> Tuning:
    """Chooses the dense network's hyperparameters, or as much of it as is not on record yet.

    The tuning is kept in `tuning` below the directory of the search, and its listener is told of
    the same events as of the search, trials being called "tuning-<number>".

    Args:
      whole: the search that they are for, without a dense network yet.

    Returns:
      The choice; that of the task where there is nothing to choose.

    Raises:
      SearchError: when every trial fails.
    """
    config, own = whole.config, tuning_config(whole.config)
    if not is_tuned(config):
        (only,) = assignments(make_space(own))
        return UNTUNED._replace(hyper=hyper(only))
    directory = whole.run / "tuning"
    search = whole._replace(
        config=own,
        run=directory,
        ledger=Ledger(directory / LEDGER),
        on_event=_renamed(whole.on_event),
    )
    whole.on_event("done", {"epochs": len(_trained(search))})
    try:
        pool = fill_pool(search)
        rounds, finalists = halve(search, pool)
        chosen = _choose(search, pool, finalists, len(rounds))
    except SearchError as error:
        remedy = name_remedy(name for name in Hyper._fields if getattr(config.space, name))
        text = f"The dense network could not be tuned. {error} {remedy}"
        raise SearchError(text) from error
    if not search.keep_all:
        best = best_epoch(search.ledger.history(chosen.trial))
        for trial in pool:
            keep_checkpoints(directory, trial.trial, {best} if trial == chosen else set())
    trained = _trained(search)
    reference = load_reference(search.task, directory, search.ledger, chosen, search.on_event)
    return Tuning(
        hyper=dict(chosen.hyper),
        num_trials=len({record.trial for record in trained}),
        num_epochs=len(trained) - len(reference.records),
        reference=reference,
    )


def _trained(search: Search) -> list[Record]:
    return [record for record in search.ledger.records() if record.duplicate_of is None]


def _choose(
    search: Search, pool: list[Candidate], finalists: list[Candidate], search_round: int
) -> Candidate:
    """Trains the finalists to the end; the one of the lowest nll at its best epoch.

    One that fails on the way is out: as the dense reference it would lack the epochs after that.
    Where all do, the next best trials are trained to the end in their place, until one gets there.
    """
    lowest: dict[int, float] = {}  # by place, to whom ties go
    reasons = set()
    runners_up = _runners_up(search, pool, finalists)
    to_the_end = functools.partial(
        advance,
        search,
        epochs=search.config.final_epochs,
        search_round=search_round,
        patience=search.task.patience,
    )
    to_the_end(finalists)
    for place, trial in enumerate([*finalists, *runners_up]):
        if place >= len(finalists) and lowest:
            break
        if place == len(finalists):
            text = "all finalists failed, so the next best trials are trained to the end"
            search.on_event("notice", {"text": text})
        to_the_end([trial])
        history = search.ledger.history(trial.trial)
        if history[-1].status == "failed":
            reasons.add(str(history[-1].reason))
            continue
        record = search.ledger.get(trial.trial, best_epoch(history))
        assert record is not None and record.val_nll is not None
        lowest[place] = record.val_nll
    if not lowest:
        raise SearchError(f"All trials failed: {'; '.join(sorted(reasons))}.")
    return [*finalists, *runners_up][min(lowest, key=lambda place: (lowest[place], place))]


def _runners_up(
    search: Search, pool: list[Candidate], finalists: list[Candidate]
) -> list[Candidate]:
    """The others that have not failed, who came farthest first, then by score."""
    places: list[tuple[int, float, int]] = []
    for index, trial in enumerate(pool):
        last = search.ledger.history(trial.trial)[-1]
        if trial not in finalists and last.score is not None:
            places.append((-last.epoch, last.score, index))
    return [pool[index] for _, _, index in sorted(places)]


def _renamed(on_event: OnEvent) -> OnEvent:
    """A listener that knows the trials of the tuning from those of the search."""

    def listener(kind: str, values: Mapping[str, Any]) -> None:
        own = dict(values)
        if kind in ("started", "segment"):
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
