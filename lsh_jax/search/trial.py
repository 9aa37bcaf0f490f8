"""A network of the search: what identifies it, what an epoch of it gave, and its line."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from lsh_jax.config import SparsityConfig
from lsh_jax.search.ledger import Record, TrialId, perplexity
from lsh_jax.search.scores import Spectra, digest
from lsh_jax.search.task import Task
from lsh_jax.types import Hyper

DENSE = SparsityConfig(sparsity=0.0, death_rate=0.0, update_every=math.inf)


class Candidate(NamedTuple):
    """What identifies a network of the search."""

    trial: TrialId
    config: SparsityConfig
    seed: int  # of its masks and growth
    hyper: Mapping[str, float] = {}  # the hyperparameters that it does not share with the task


class Measurement(NamedTuple):
    """What one epoch gave."""

    failure: str | None  # why the trial cannot go on; then the rest is what was known by then
    train_nll: float | None = None
    val_nll: float | None = None
    spectra: Spectra | None = None
    churn: float | None = None
    nonzeros: int | None = None
    wall_s: float = 0.0
    topology: dict[str, Any] | None = None  # as in `Record`
    notices: tuple[str, ...] = ()  # what a person should know of how it came about


def recorded_controls(candidate: Candidate) -> dict[str, Any]:
    """What the ledger says of a candidate: its configuration and its own hyperparameters."""
    methods = {} if candidate.config == DENSE else candidate.config.to_json()
    own = candidate.hyper.items()
    return methods | {name: "inf" if value == math.inf else value for name, value in own}


def own_hyper(task: Task, candidate: Candidate) -> Hyper:
    """The hyperparameters of a candidate: its own, and the task's for the rest."""
    return task.hyper._replace(**candidate.hyper)


def make_record(
    candidate: Candidate, epoch: int, search_round: int | None, measured: Measurement
) -> Record:
    """The ledger's line for an epoch, before it is scored."""
    return Record(
        trial=candidate.trial,
        epoch=epoch,
        round=search_round,
        controls=recorded_controls(candidate),
        seed=candidate.seed,
        status="ok" if measured.failure is None else "failed",
        reason=measured.failure,
        train_nll=measured.train_nll,
        val_nll=measured.val_nll,
        val_perplexity=None if measured.val_nll is None else perplexity(measured.val_nll),
        averaging=measured.spectra is not None and measured.spectra.raw is not None,
        churn=measured.churn,
        nonzeros=measured.nonzeros,
        wall_s=float(f"{measured.wall_s:.3f}"),
        topology=measured.topology,
        spectra_digest=None if measured.spectra is None else digest(measured.spectra),
    )


class TaskFailure(Exception):
    """What a function of the task has raised."""


def attempt(function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls a function of the task: whatever it raises ends the trial, not the search.

    Raises:
      TaskFailure: in place of it.
    """
    try:
        return function(*arguments)
    except Exception as error:  # a task is the user's: nothing is known of what it may raise
        message = str(error).strip().split("\n")[0][:300]
        raise TaskFailure(f"{type(error).__name__}: {message}") from error
