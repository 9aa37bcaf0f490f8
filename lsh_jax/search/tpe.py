"""Proposals by hyperopt, ask and tell: tree-structured Parzen estimator (Bergstra et al., 2011).

`hyperopt.fmin` is not used: resumed, it repeats its random stream, and a NaN loss or an exception
traps the estimator in the failing region. Here the history is rebuilt from the ledger for every
batch, each proposal has a seed of its own, and a failed trial counts as an infinite loss.
A control that does not matter for a configuration is neither drawn nor learnt from there.
"""

import itertools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from lsh_jax.config import Algorithm
from lsh_jax.search.space import (
    Assignment,
    Space,
    assignments,
    children,
    in_order,
    roots,
    size,
)

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
      algo: "tpe"; "random"; "anneal", hyperopt's annealing, which draws near good trials, ever
        nearer; "grid", the configurations of the space one by one.
      space: the choices of each control, and where it matters.
      history: earlier trials; a score that is not finite counts as failed.
      trial: the number of the new trial.
      seed: the run's.
      attempt: raised to ask again when the proposal is known already.
      startup: random trials before the estimator takes over.

    Returns:
      The proposed configuration: a pure function of the arguments.
    """
    from hyperopt import anneal, rand, tpe
    from hyperopt.base import Domain

    if algo == "grid":
        return next(itertools.islice(assignments(space), trial % size(space), None))
    nodes = _nodes(space, roots(space), {})
    if not nodes:  # nothing is free
        return in_order(space, _chosen(space, roots(space), {}))
    domain = Domain(lambda _: 0.0, nodes)
    trials = _trials(space, list(domain.params), history)
    own_seed = int(np.random.SeedSequence([seed, trial, attempt]).generate_state(1)[0])
    started = any(_is_known(observation.score) for observation in history)
    if algo == "random" or (algo == "anneal" and not started):
        (document,) = rand.suggest([trial], domain, trials, own_seed)
    elif algo == "anneal":
        (document,) = anneal.suggest([trial], domain, trials, own_seed)
    else:
        (document,) = tpe.suggest(
            [trial], domain, trials, own_seed, n_startup_jobs=startup, verbose=False
        )
    return in_order(space, _chosen(space, roots(space), document["misc"]["vals"]))


def _is_known(score: float | None) -> bool:
    return score is not None and math.isfinite(score)


def _chosen(space: Space, names: list[str], indices: Mapping[str, Any]) -> Assignment:
    """The values of `names` and of what matters because of them."""
    assignment: Assignment = {}
    for name in names:
        choices = _indexed(space.choices[name])
        value = choices[int(indices[name][0]) if len(choices) > 1 else 0]
        assignment |= {name: value, **_chosen(space, children(space, name, value), indices)}
    return assignment


def _is_ordered(choices: tuple[Any, ...]) -> bool:
    numeric = all(isinstance(choice, (int, float)) for choice in choices)
    return numeric and len(choices) >= _ORDERED_FROM


def _indexed(choices: tuple[Any, ...]) -> tuple[Any, ...]:
    """The choices as hyperopt numbers them: ordered ones by size, however they were typed."""
    return tuple(sorted(choices)) if _is_ordered(choices) else choices


def _nodes(space: Space, names: list[str], built: dict[str, Any]) -> dict[str, Any]:
    """hyperopt's expressions for `names`, what depends on them inside the branches of a choice.

    A fixed control has none, so that fixing one more never changes the draws of the others. A
    control under several branches is one and the same node, as hyperopt knows it by its label;
    one whose choices lead to different controls cannot be ordered.
    """
    from hyperopt import hp

    nodes: dict[str, Any] = {}
    for name in names:
        choices = _indexed(space.choices[name])
        below = [children(space, name, value) for value in choices]
        if all(branch == below[0] for branch in below):
            nodes |= _nodes(space, below[0], built)
            below = []
        if len(choices) == 1:
            continue
        if name not in built:
            if below:
                options = [_nodes(space, branch, built) for branch in below]
                built[name] = hp.choice(name, options)
            elif _is_ordered(choices):  # the ends reach as far as the inner choices, no further
                built[name] = hp.quniform(name, -0.499, len(choices) - 0.501, 1)
            else:
                built[name] = hp.choice(name, list(range(len(choices))))
        nodes[name] = built[name]
    return nodes


def _trials(space: Space, labels: list[str], history: list[Observation]) -> Any:
    from hyperopt import JOB_STATE_DONE, Trials

    trials = Trials()
    documents = []
    places = {
        name: {value: place for place, value in enumerate(_indexed(space.choices[name]))}
        for name in labels
    }
    for trial, assignment, score in history:
        indices = {
            name: [places[name][assignment[name]]] if name in assignment else [] for name in labels
        }
        result: dict[str, Any] = {"status": "fail"}  # hyperopt reads it as +inf
        if _is_known(score):
            result = {"status": "ok", "loss": score}
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
                    "idxs": {name: [trial] * len(own) for name, own in indices.items()},
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
