"""The pool: distinct candidates, asked for in batches and trained for `e0` epochs."""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from lsh_jax.search import space as spaces
from lsh_jax.search import tpe
from lsh_jax.search.driver import Search, advance, record_line
from lsh_jax.search.ledger import Record
from lsh_jax.search.trial import DENSE, Candidate

_ATTEMPTS = 8  # proposals asked for one trial before a known configuration is accepted


def fill_pool(search: Search) -> list[Candidate]:
    """Proposes distinct candidates in batches and trains each for `e0` epochs."""
    config, space = search.config, spaces.make_space(search.config)
    target = spaces.pool_size(config)
    if target < config.max_evals:
        text = f"the space holds {target} configurations, fewer than max_evals={config.max_evals}"
        search.on_event("notice", {"text": text})
    if target <= config.finalists and search.dense is not None:
        text = f"all {target} candidates are finalists: none is cut, each is trained to the end"
        search.on_event("notice", {"text": text})
    known: dict[str, int] = {}  # configuration -> the trial that is trained
    history: list[tpe.Observation] = []
    pool: list[Candidate] = []
    while len(known) < target and not _is_settled(search, history):
        batch: list[tuple[int, spaces.Assignment, int]] = []  # trial, assignment, original
        pending = list(history)
        while len(batch) < config.ask_batch and len(known) < target:
            trial = len(pending)
            assignment = _ask(search, space, pending, known)
            original = known.setdefault(repr(assignment), trial)
            batch.append((trial, assignment, original))
            pending.append(tpe.Observation(trial, assignment, None))
        asked = {trial: _candidate(search, trial, assignment) for trial, assignment, _ in batch}
        new = [asked[trial] for trial, _, original in batch if original == trial]
        advance(search, new, config.e0, 0)
        pool += new
        for trial, assignment, original in batch:
            if original != trial:
                _repeat(search, asked[trial], original)
            # Not its last record: a search that is resumed has trained survivors further.
            first = _first_scored(search, trial)
            history.append(tpe.Observation(trial, assignment, first.score))
    return pool


def _ask(
    search: Search,
    space: spaces.Space,
    pending: list[tpe.Observation],
    known: Mapping[str, int],
) -> spaces.Assignment:
    """A configuration for the next trial: one that is to be tried first; then a new one if it can
    be had, else a known one for TPE to learn from.

    Once as many repetitions as `max_evals` have been accepted, a new one is drawn at random.
    """
    config, trial = search.config, len(pending)
    if trial < len(config.try_first):
        own = spaces.tried(config)[trial]
        return tpe.propose("random", own, [], trial, seed=config.seed)
    startup = tpe.num_startup(config.max_evals)
    for attempt in range(_ATTEMPTS):
        assignment = tpe.propose(
            config.algo,
            space,
            pending,
            trial,
            seed=config.seed,
            attempt=attempt,
            startup=startup,
        )
        if repr(assignment) not in known:
            return assignment
    if trial - len(known) < config.max_evals:
        return assignment
    unseen = [new for new in spaces.assignments(space) if repr(new) not in known]
    return unseen[int(np.random.default_rng([config.seed, trial]).integers(len(unseen)))]


def _is_settled(search: Search, history: list[tpe.Observation]) -> bool:
    """Whether the best score has stood for so long that the pool is closed."""
    age = search.config.settled_after
    scores: dict[str, float] = {}  # of distinct configurations, in their order
    for _, assignment, score in history:
        scores.setdefault(repr(assignment), math.inf if score is None else score)
    found = list(scores.values())
    best = min(found, default=math.inf)
    if not age or math.isinf(best) or len(found) - 1 - found.index(best) < age:
        return False
    text = f"the pool is closed with {len(found)} candidates: the best score is {age} of them old"
    search.on_event("notice", {"text": text})
    return True


def _candidate(search: Search, trial: int, assignment: spaces.Assignment) -> Candidate:
    hyper, seed = spaces.hyper(assignment), search.config.seed
    if search.dense is None:
        return Candidate(trial, DENSE, seed, hyper)
    config = spaces.sparsity_config(assignment, search.config)
    return Candidate(trial, config, spaces.candidate_seed(config.to_json(), seed), hyper)


def _repeat(search: Search, candidate: Candidate, original: int) -> None:
    """Records a configuration that is known already with the result it had."""
    first = _first_scored(search, original)
    if search.ledger.get(candidate.trial, first.epoch) is None:
        record_line(
            search,
            dataclasses.replace(first, trial=candidate.trial, duplicate_of=original, wall_s=0.0),
        )


def _first_scored(search: Search, trial: int) -> Record:
    """The record by which the pool judges a trial: of epoch `e0`, or of its earlier failure."""
    history = search.ledger.history(trial)
    return [record for record in history if record.epoch <= search.config.e0][-1]
