"""The rounds of a search: train, score, keep the better half, until the finalists are left."""

from collections.abc import Iterable, Mapping
from typing import Any

from lsh_jax.search.dense import SearchError
from lsh_jax.search.driver import Search, advance
from lsh_jax.search.run_directory import keep_checkpoints
from lsh_jax.search.successive_halving import num_survivors, survivors
from lsh_jax.search.trial import Candidate


def halve(search: Search, pool: list[Candidate]) -> tuple[list[dict[str, Any]], list[Candidate]]:
    """Runs the rounds.

    Args:
      search: the search.
      pool: candidates that are trained to `e0` epochs already.

    Returns:
      What happened in each round, as JSON values; the finalists, best first.

    Raises:
      SearchError: when no candidate is left that has not failed.
    """
    config = search.config
    entering, epochs = pool, config.e0
    rounds: list[dict[str, Any]] = []
    while True:
        advance(search, entering, epochs, len(rounds))
        scores = _scores(search, entering, epochs)
        if not scores:
            reasons = {search.ledger.history(candidate.trial)[-1].reason for candidate in entering}
            failures = "; ".join(sorted(map(str, reasons)))
            raise SearchError(f"All {_entrants(search)} failed: {failures}.")
        _warn_of_beginners(search, scores, epochs)
        finished = len(scores) <= config.finalists
        count = len(scores)
        if not finished:
            count = num_survivors(len(scores), config.finalists, config.halving, config.eta)
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
        release(search, (c for c in entering if c.trial not in kept))
        entering = [by_trial[trial] for trial in kept]
        if finished:
            return rounds, entering
        epochs += config.ei


def _entrants(search: Search) -> str:
    """What enters the rounds; while the dense network is tuned these are no candidates."""
    return "candidates" if search.dense is not None else "trials"


def _warn_of_beginners(search: Search, scores: Mapping[int, float], epoch: int) -> None:
    """Tells of candidates that are scored before they have begun to learn."""
    if search.task.baseline_nll is None:
        return
    baseline = search.task.baseline_nll["validation"]
    records = [search.ledger.get(trial, epoch) for trial in scores]
    above = sum(record is not None and (record.val_nll or 0.0) > baseline for record in records)
    if above:
        measure = search.task.measure
        text = f"{above} of {len(scores)} {_entrants(search)} are scored while no better than the "
        text += f"{measure.baseline} {measure.name}: their scores say little; raise e0 or train on "
        text += f"more {measure.data}"
        search.on_event("notice", {"text": text})


def _scores(search: Search, candidates: list[Candidate], epoch: int) -> dict[int, float]:
    """The scores at an epoch of the candidates that have not failed."""
    scores = {}
    for candidate in candidates:
        record = search.ledger.get(candidate.trial, epoch)
        if record is not None and record.score is not None and isinstance(record.trial, int):
            scores[record.trial] = record.score
    return scores


def release(search: Search, losers: Iterable[Candidate]) -> None:
    """Deletes the checkpoints of candidates that lost, unless all are to be kept.

    Those of a tuning stay until the dense network is chosen: they stand in where finalists fail.
    """
    for candidate in losers:
        if not search.keep_all and search.dense is not None:
            keep_checkpoints(search.run, candidate.trial, set())
