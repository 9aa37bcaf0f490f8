"""LS-based Hyperpruning (Zheng & Shlizerman, 2025, arXiv 2506.07975), assembled.

Dense reference, pool of candidates by TPE, rounds of halving that continue from checkpoints,
finalists to the end, winner. Every step is a function of what the ledger holds, so a search that
was interrupted is continued by running it again: nothing recorded is trained twice, and the
records are the same as without the interruption.
"""

import contextlib
import json
import pathlib
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from lsh_jax.checkpoint import CheckpointError, write_json
from lsh_jax.config import ConfigError, SearchConfig
from lsh_jax.machine import locked
from lsh_jax.search.compilations import count_compilations
from lsh_jax.search.dense import (
    DenseReference,
    OnEvent,
    SearchError,
    adopt,
    cached_directory,
    train_dense,
)
from lsh_jax.search.driver import Search, advance
from lsh_jax.search.executors import Executor, SerialExecutor
from lsh_jax.search.ledger import Ledger, LedgerError, Record, best_epoch
from lsh_jax.search.pool import fill_pool
from lsh_jax.search.run_directory import (
    LEDGER,
    check_vacant,
    gather_spectra,
    held,
    keep_checkpoints,
    record_settings,
)
from lsh_jax.search.scores import reference_epoch
from lsh_jax.search.successive_halving import num_survivors, plan, survivors
from lsh_jax.search.summary import summarise
from lsh_jax.search.task import Task, TaskState, segments_between_updates
from lsh_jax.search.trial import (
    Candidate,
    load_state,
)


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
    on_event: OnEvent | None = None,
) -> SearchResult:
    """Searches for the pruned network to train.

    Args:
      task: what is trained, see `lsh_jax.search.task.Task`.
      config: how it is searched.
      executor: where trials run; serially in this process if not given.
      out: the run directory, new or empty; a temporary one if not given.
      dense: a dense network to compare with; trained if not given.
      cache_dir: keeps trained dense networks between runs; the run directory does if not given.
      resume: continue the run in `out`.
      settings: JSON values to record in config.json beside `config` and the fingerprint.
      keep_all_checkpoints: keep those of candidates that lost a round.
      on_event: `on_event(kind, values)` is told of "segment", "record", "round", "done" and
        "notice".

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
        stack.enter_context(held(run))
        recorded = {"search": config.to_json(), "fingerprint": task.fingerprint()}
        record_settings(run, {**recorded, **(settings or {})}, resume=resume)
        ledger = Ledger(run / LEDGER)
        notify = on_event or (lambda kind, values: None)
        counter = stack.enter_context(count_compilations())
        if dense is None:
            dense = _dense(task, config, run, ledger, cache_dir, notify)
        else:
            adopt(dense, run, ledger)
        search = Search(
            task=task,
            config=config,
            run=run,
            ledger=ledger,
            dense=dense,
            executor=executor or SerialExecutor(),
            live={},
            on_event=notify,
            keep_all=keep_all_checkpoints,
        )
        return _run(search, counter, started)


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
    if config.dense_seeds > 1 and dense is not None:
        raise ConfigError(
            f"`dense_seeds` must be 1 with a dense network of your own, got {config.dense_seeds}."
        )
    if dense is not None and config.reference == "same-epoch":
        for epoch in range(1, config.final_epochs + 1):
            reference_epoch(config.reference, epoch, 0.0, dense.records)
    for every in config.space.update_every:
        segments_between_updates(every, task.segments_per_epoch)
    check_vacant(run, resume=resume)


def _run(search: Search, count: Callable[[], int], started: float) -> SearchResult:
    """The search from the dense reference on; `count` returns the programs compiled so far."""
    own = [record for record in search.ledger.records() if record.duplicate_of is None]
    search.on_event("done", {"epochs": len(own)})
    rounds, finalists = _halve(search, fill_pool(search))
    best, state = _train_finalists(search, finalists, len(rounds))
    result = summarise(search.task, search.config, search.ledger, search.dense, best, state, rounds)
    finished = search.run / "result.json"
    cost = {"compilations": count(), "wall_s": float(f"{time.perf_counter() - started:.1f}")}
    if finished.is_file():  # a run that is resumed after its end keeps what it has cost
        cost = {name: json.loads(finished.read_text())[name] for name in cost}
    result |= cost
    search.task.save(state, search.run / "model")
    gather_spectra(search.run)
    write_json(search.run / "result.json", result)
    return SearchResult(result, search.ledger.records(), state, search.dense.state)


def _dense(
    task: Task,
    config: SearchConfig,
    run: pathlib.Path,
    ledger: Ledger,
    cache_dir: pathlib.Path | str | None,
    on_event: OnEvent,
) -> DenseReference:
    """Trains or finds the dense networks, one a seed, and copies them into the run."""
    references: list[DenseReference] = []
    for index in range(config.dense_seeds):
        name = "dense" if index == 0 else f"dense-{index}"
        seed = config.seed + index
        own_task = task if index == 0 else task.with_seed(seed)
        epochs = config.final_epochs
        directory = run / "dense" / str(seed)
        if cache_dir is not None:
            directory = cached_directory(pathlib.Path(cache_dir), own_task, epochs)
        if Ledger(directory / LEDGER).get("dense", epochs) is not None:
            on_event("notice", {"text": f"{name} is taken from the cache, {epochs} epochs"})
        try:
            with locked(directory, wait=True):
                dense = train_dense(own_task, epochs, seed, directory, on_event)
        except (CheckpointError, LedgerError) as error:
            raise SearchError(f"{error} Remove {directory} to train it again.") from error
        first = references[0] if references else None
        adopt(dense, run, ledger, name=name, reference=first)
        references.append(dense)
    return references[0]


def _halve(search: Search, pool: list[Candidate]) -> tuple[list[dict[str, Any]], list[Candidate]]:
    """Runs the rounds; returns what happened in each, and the finalists, best first."""
    config = search.config
    entering, epochs = pool, config.e0
    rounds: list[dict[str, Any]] = []
    while True:
        for candidate in entering:
            advance(search, candidate, epochs, len(rounds))
        scores = _scores(search, entering, epochs)
        if not scores:
            reasons = {search.ledger.history(candidate.trial)[-1].reason for candidate in entering}
            raise SearchError(f"All candidates failed: {'; '.join(sorted(map(str, reasons)))}.")
        _warn_of_beginners(search, scores, epochs)
        finished = len(scores) <= config.finalists
        count = len(scores)
        if not finished:
            count = num_survivors(len(scores), config.finalists, config.halving)
        kept = survivors(scores, count)
        rounds.append(
            {
                "round": len(rounds),
                "epochs": epochs,
                "entered": [candidate.trial for candidate in entering],
                "failed": [c.trial for c in entering if c.trial not in scores],
                "survivors": kept,
            }
        )
        search.on_event("round", rounds[-1])
        by_trial = {candidate.trial: candidate for candidate in entering}
        _release(search, (c for c in entering if c.trial not in kept))
        entering = [by_trial[trial] for trial in kept]
        if finished:
            return rounds, entering
        epochs += config.ei


def _warn_of_beginners(search: Search, scores: Mapping[int, float], epoch: int) -> None:
    """Tells of candidates that are scored before they have begun to learn."""
    if search.task.baseline_nll is None:
        return
    baseline = search.task.baseline_nll["validation"]
    records = [search.ledger.get(trial, epoch) for trial in scores]
    above = sum(record is not None and (record.val_nll or 0.0) > baseline for record in records)
    if above:
        text = f"{above} of {len(scores)} candidates are scored while no better than the unigram "
        text += "perplexity: their scores say little; raise e0 or train on more text"
        search.on_event("notice", {"text": text})


def _scores(search: Search, candidates: list[Candidate], epoch: int) -> dict[int, float]:
    """The scores at an epoch of the candidates that have not failed."""
    scores = {}
    for candidate in candidates:
        record = search.ledger.get(candidate.trial, epoch)
        if record is not None and record.score is not None and isinstance(record.trial, int):
            scores[record.trial] = record.score
    return scores


def _release(search: Search, losers: Iterable[Candidate]) -> None:
    for candidate in losers:
        if not search.keep_all:
            keep_checkpoints(search.run, candidate.trial, set())


def _train_finalists(
    search: Search, finalists: list[Candidate], search_round: int
) -> tuple[Record, TaskState]:
    """Trains the finalists to the end; returns the winner's best record and its state."""
    for candidate in finalists:
        advance(search, candidate, search.config.final_epochs, search_round)
    bests = []
    for candidate in finalists:
        history = search.ledger.history(candidate.trial)
        record = search.ledger.get(candidate.trial, best_epoch(history))
        assert record is not None
        bests.append((record.val_nll, finalists.index(candidate), record, candidate))
    _, _, best, winner = min(bests, key=lambda entry: entry[:2])
    return best, load_state(search.task, search.run, winner, best.epoch)
