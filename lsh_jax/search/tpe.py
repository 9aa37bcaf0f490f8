"""Proposals by hyperopt's tree-structured Parzen estimator (Bergstra et al., 2011), ask and tell.

`hyperopt.fmin` is not used: resumed, it repeats its random stream, and a NaN loss or an exception
traps the estimator in the failing region. Here the history is rebuilt from the ledger for every
batch, each proposal has a seed of its own, and a failed trial counts as an infinite loss.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from lsh_jax.config import Algorithm
from lsh_jax.search.space import Assignment, Space

_ORDERED_FROM = 3  # a numeric control with so many choices is searched as ordered


class Observation(NamedTuple):
    """What is known of one trial."""

    trial: int
    assignment: Assignment
    score: float | None  # to minimise; None while pending and when failed


def num_startup(max_evals: int) -> int:
    """Random trials before the estimator takes over: a third of them, from 4 to 20."""
    return min(max(max_evals // 3, 4), 20)


def propose(
    algo: Algorithm,
    space: Space,
    history: list[Observation],
    trial: int,
    *,
    seed: int,
    attempt: int = 0,
    startup: int = 4,
) -> Assignment:
    """Proposes the configuration of one trial.

    Args:
      algo: "tpe" or "random".
      space: the choices of each control.
      history: earlier trials; a score that is not finite counts as failed.
      trial: the number of the new trial.
      seed: the run's.
      attempt: raised to ask again when the proposal is known already.
      startup: random trials before the estimator takes over.

    Returns:
      The proposed configuration: a pure function of the arguments.
    """
    from hyperopt import rand, tpe
    from hyperopt.base import Domain

    domain = Domain(lambda _: 0.0, _hyperopt_space(space))
    trials = _trials(space, history)
    own_seed = int(np.random.SeedSequence([seed, trial, attempt]).generate_state(1)[0])
    if algo == "random":
        (document,) = rand.suggest([trial], domain, trials, own_seed)
    else:
        (document,) = tpe.suggest(
            [trial], domain, trials, own_seed, n_startup_jobs=startup, verbose=False
        )
    indices = document["misc"]["vals"]
    return {name: choices[int(indices[name][0])] for name, choices in space.items()}


def _is_ordered(choices: tuple[Any, ...]) -> bool:
    numeric = all(isinstance(choice, (int, float)) for choice in choices)
    return numeric and len(choices) >= _ORDERED_FROM


def _hyperopt_space(space: Space) -> dict[str, Any]:
    from hyperopt import hp

    def node(name: str, choices: tuple[Any, ...]) -> Any:
        if _is_ordered(choices):  # the ends reach as far as the inner choices, and no further
            return hp.quniform(name, -0.499, len(choices) - 0.501, 1)
        return hp.choice(name, list(range(len(choices))))

    return {name: node(name, choices) for name, choices in space.items()}


def _trials(space: Space, history: list[Observation]) -> Any:
    from hyperopt import JOB_STATE_DONE, Trials

    trials = Trials()
    documents = []
    for trial, assignment, score in history:
        indices = {name: [choices.index(assignment[name])] for name, choices in space.items()}
        if score is None or not math.isfinite(score):
            result: dict[str, Any] = {"status": "fail"}  # hyperopt reads it as +inf
        else:
            result = {"status": "ok", "loss": float(score)}
        documents.append(
            {
                "state": JOB_STATE_DONE,
                "tid": trial,
                "spec": None,
                "result": result,
                "misc": {
                    "tid": trial,
                    "cmd": ("domain_attachment", "FMinIter_Domain"),
                    "workdir": None,
                    "idxs": {name: [trial] for name in space},
                    "vals": indices,
                },
                "exp_key": None,
                "owner": None,
                "version": 0,
                "book_time": None,
                "refresh_time": None,
            }
        )
    trials.insert_trial_docs(documents)
    trials.refresh()
    return trials
