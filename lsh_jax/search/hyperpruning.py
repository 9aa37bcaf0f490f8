"""LS-based Hyperpruning (Zheng & Shlizerman, 2025, arXiv 2506.07975), assembled.

Dense reference (tuned first where candidates choose hyperparameters), pool of candidates by TPE,
rounds of halving that continue from checkpoints, finalists to the end, winner. Every step is a
function of what the ledger holds, so a search that was interrupted is continued by running it
again: nothing recorded is trained twice, and the records are the same as without the interruption,
up to rounding where candidates train side by side.
"""

import contextlib
import json
import math
import pathlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from lsh_jax.checkpoint import CheckpointError, write_json
from lsh_jax.config import ConfigError, SearchConfig, check
from lsh_jax.machine import InUseError, locked
from lsh_jax.search import stopping
from lsh_jax.search.compilations import count_compilations
from lsh_jax.search.dense import (
    DenseReference,
    OnEvent,
    SearchError,
    adopt,
    cached_directory,
    has_passed,
    train_dense,
)
from lsh_jax.search.driver import Search, advance
from lsh_jax.search.epoch import load_state
from lsh_jax.search.executors import Executor, SerialExecutor
from lsh_jax.search.ledger import Ledger, LedgerError, Record, best_epoch, has_ended
from lsh_jax.search.measure import check_measure
from lsh_jax.search.pool import fill_pool
from lsh_jax.search.population import (
    Population,
    PopulationSize,
    check_population,
    settle_population,
)
from lsh_jax.search.rounds import halve
from lsh_jax.search.run_directory import (
    LEDGER,
    check_vacant,
    gather_spectra,
    held,
    record_settings,
)
from lsh_jax.search.scores import reference_epoch
from lsh_jax.search.space import tried
from lsh_jax.search.successive_halving import last_scored_epoch, plan
from lsh_jax.search.summary import summarise
from lsh_jax.search.task import Task, TaskState, segments_between_updates
from lsh_jax.search.trial import Candidate, TaskFailure
from lsh_jax.search.tuning import UNTUNED, Tuning, check_dense_given, tune_dense

_POLL = 1.0  # seconds between looks at a directory that another search holds


class SearchResult(NamedTuple):
    """What a search found.

    Attributes:
      result: the content of result.json.
      records: the ledger, in the order of writing.
      best: the winner's state at its best epoch.
      dense: the dense network's state at its best epoch.
    """

    result: dict[str, Any]
    records: list[Record]
    best: TaskState
    dense: TaskState


def hyperprune(
    task: Task,
    config: SearchConfig,
    executor: Executor | None = None,
    *,
    out: pathlib.Path | str | None = None,
    dense: DenseReference | None = None,
    cache_dir: pathlib.Path | str | None = None,
    resume: bool = False,
    settings: Mapping[str, Any] | None = None,
    keep_all_checkpoints: bool = False,
    population: PopulationSize = 1,
    time_limit: float = math.inf,
    on_event: OnEvent | None = None,
) -> SearchResult:
    """Searches for the pruned network to train.

    Args:
      task: what is trained, see `lsh_jax.search.task.Task`.
      config: how it is searched.
      executor: where epochs of candidates are trained, see `lsh_jax.search.executors`; in this
        process if not given. It is not closed.
      out: the run directory, new or empty; a temporary one if not given.
      dense: a dense network to compare with; trained if not given.
      cache_dir: keeps trained dense networks between runs; the run directory does if not given.
      resume: continue the run in `out`.
      settings: JSON values to record in config.json beside `config` and the fingerprint.
      keep_all_checkpoints: keep those of candidates that lost a round.
      population: candidates that are trained side by side in one program, or "auto" for as many as
        fit the memory of the devices; the records are those of one by one, up to the rounding of
        floating-point numbers.
      time_limit: seconds that an epoch of a candidate may train, compiling included; one that takes
        longer fails.
      on_event: `on_event(kind, values)` is told of "started", "segment", "record", "round",
        "done" and "notice"; while the dense network is tuned, trials are called `tuning-<number>`.

    Returns:
      A SearchResult; the run directory holds the same and more.

    Raises:
      ConfigError: when the rounds do not fit, the directory is taken, or `resume` does not match.
      SearchError: when the dense network or every candidate fails.
    """
    started = time.perf_counter()
    with contextlib.ExitStack() as stack:
        if out is None:
            out = stack.enter_context(tempfile.TemporaryDirectory())
        run = pathlib.Path(out)
        _check(task, config, run, dense, resume=resume)
        check_population(population)
        check(time_limit > 0, "time_limit", "be positive", time_limit)
        stack.enter_context(held(run))
        notify = on_event or (lambda kind, values: None)
        executor = executor or SerialExecutor(task)
        size = settle_population(task, config, population, notify, executor.workers)
        recorded = {"search": config.to_json(), "fingerprint": task.fingerprint()}
        free = {
            "population": size,
            "executor": type(executor).__name__,
            "workers": executor.workers,
            "measure": task.measure._asdict(),
        }
        record_settings(run, {**recorded, **(settings or {})}, resume=resume, free=free)
        search = Search(
            task=task,
            config=config,
            run=run,
            ledger=Ledger(run / LEDGER),
            dense=dense,
            executor=executor,
            population=Population(size),
            least_epochs=last_scored_epoch(config),
            time_limit=time_limit,
            on_event=notify,
            keep_all=keep_all_checkpoints,
        )
        tuning, given = UNTUNED, dense is not None
        counter = stack.enter_context(count_compilations())
        if dense is None:
            tuning = tune_dense(search)
            search = search._replace(dense=_dense(search, cache_dir, tuning))
        else:
            adopt(dense, run, search.ledger)
        return _run(search, tuning, counter, started, dense_given=given)


def _check(
    task: Task,
    config: SearchConfig,
    run: pathlib.Path,
    dense: DenseReference | None,
    *,
    resume: bool,
) -> None:
    """Refuses what cannot work before anything is written."""
    plan(config)
    tried(config)
    task.check_space(config.space)
    check_measure(task.measure)
    if dense is not None:
        check_dense_given(config.space)
    if config.dense_seeds > 1 and dense is not None:
        raise ConfigError(
            f"`dense_seeds` must be 1 with a dense network of your own, got {config.dense_seeds}."
        )
    if dense is not None and config.reference == "same-epoch":
        for epoch in range(1, config.final_epochs + 1):
            if epoch > last_scored_epoch(config) and has_passed(dense, epoch, task.patience):
                break
            reference_epoch(config.reference, epoch, 0.0, dense.records)
    for every in config.space.update_every:
        segments_between_updates(every, task.segments_per_epoch)
    check_vacant(run, resume=resume)


def _run(
    search: Search,
    tuning: Tuning,
    count: Callable[[], int],
    started: float,
    *,
    dense_given: bool,
) -> SearchResult:
    """The search from the dense reference on; `count` returns the programs compiled so far."""
    own = [
        record
        for record in search.ledger.records()
        if record.duplicate_of is None and not (dense_given and isinstance(record.trial, str))
    ]
    search.on_event("done", {"epochs": len(own) + tuning.num_epochs})
    rounds, finalists = halve(search, fill_pool(search))
    best, state = _train_finalists(search, finalists, len(rounds))
    assert search.dense is not None
    result = summarise(
        search.task, search.config, search.ledger, search.dense, best, state, rounds, tuning
    )
    finished = search.run / "result.json"
    cost = {"compilations": count(), "wall_s": float(f"{time.perf_counter() - started:.1f}")}
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        # A run that is resumed after its end keeps what it has cost.
        cost = {name: json.loads(finished.read_text())[name] for name in cost}
    result |= cost
    search.task.save(state, search.run / "model")
    gather_spectra(search.run, search.ledger.records(), search.tell)
    write_json(search.run / "result.json", result)
    return SearchResult(result, search.ledger.records(), state, search.dense.state)


def _dense(search: Search, cache_dir: pathlib.Path | str | None, tuning: Tuning) -> DenseReference:
    """Trains or finds the dense networks, one a seed, and copies them into the run.

    The first is that of the tuning, where there was one.
    """
    task, config, run, on_event = search.task, search.config, search.run, search.on_event
    references: list[DenseReference] = []
    epochs, least = config.final_epochs, search.least_epochs
    if tuning.reference is not None:
        chosen = ", ".join(f"{name}={value:g}" for name, value in tuning.hyper.items())
        on_event("notice", {"text": f"the dense network is the run tuned to {chosen}"})
        adopt(tuning.reference, run, search.ledger)
        references.append(tuning.reference)
    for index in range(len(references), config.dense_seeds):
        name = "dense" if index == 0 else f"dense-{index}"
        seed = config.seed + index
        own_task = task if index == 0 else task.with_seed(seed)
        directory = run / "dense" / str(seed)
        if cache_dir is not None:
            cache = pathlib.Path(cache_dir)
            directory = cached_directory(cache, own_task, epochs, tuning.hyper, least)
        try:
            with _turn(directory, name, on_event):
                history = Ledger(directory / LEDGER).history("dense")
                done = len(history)
                if done >= epochs or has_ended(history, task.patience, least):
                    on_event("notice", {"text": f"{name} is taken from the cache, {done} epochs"})
                on_event("done", {"epochs": tuning.num_epochs + index * epochs + done})
                dense = train_dense(
                    own_task, epochs, seed, directory, on_event, tuning.hyper, least_epochs=least
                )
        except (CheckpointError, LedgerError) as error:
            raise SearchError(f"{error} Remove {directory} to train it again.") from error
        first = references[0] if references else None
        adopt(dense, run, search.ledger, name=name, reference=first)
        references.append(dense)
    return references[0]


@contextlib.contextmanager
def _turn(directory: pathlib.Path, name: str, on_event: OnEvent) -> Iterator[None]:
    """Holds the directory of a dense network, once no other search trains it any more."""
    with contextlib.ExitStack() as stack:
        told = False
        while True:
            try:
                stack.enter_context(locked(directory, wait=False))
                break
            except InUseError as owner:
                if not told:
                    on_event("notice", {"text": f"{name} is being trained by {owner}: waiting"})
                told = True
                stopping.check()
                time.sleep(_POLL)
        yield


def _train_finalists(
    search: Search, finalists: list[Candidate], search_round: int
) -> tuple[Record, TaskState]:
    """Trains the finalists to the end; returns the winner's best record and its state."""
    patience = search.task.patience
    advance(search, finalists, search.config.final_epochs, search_round, patience=patience)
    bests = []
    for candidate in finalists:
        history = search.ledger.history(candidate.trial)
        record = search.ledger.get(candidate.trial, best_epoch(history))
        assert record is not None
        bests.append((record.val_nll, finalists.index(candidate), record, candidate))
    _, _, best, winner = min(bests, key=lambda entry: entry[:2])
    try:
        return best, load_state(search.task, search.run, winner, best.epoch, search.tell)
    except TaskFailure as failure:
        raise SearchError(f"The winner cannot be loaded: {failure}.") from failure
