"""Ways to spend a budget of epochs on a study's candidates, replayed many times.

Every replay draws one of the study's seeds and a random part of its candidates; all policies search
the same part with the same random numbers. So the spread over replays holds the chance of
proposals, of the seed and of the sample of candidates.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from lsh_jax.config import SearchConfig, SpaceConfig
from lsh_jax.search.space import make_space
from lsh_jax.search.successive_halving import num_epochs, plan
from lsh_jax.study.analysis import correlation, draw
from lsh_jax.study.replay import Outcome, World, fill_pool, replay_halving, replay_random
from lsh_jax.study.scores import COMBINED, DISTANCE, LEADING, LOSS, Scored, score_table
from lsh_jax.study.table import Table

LSH, CHANCE, FULL = "LSH", "chance", "random, trained to the end"
HINDSIGHT = "LSH, its best judge in hindsight"
FINALISTS = 2
_MOST_FINALISTS = 5
_SHARE = 0.75  # of the candidates in a replay

Note = Callable[[str], None]


class Policy(NamedTuple):
    """What the pool is asked for and cut by.

    Attributes:
      score: of `scores`; None for numbers drawn by chance.
      needs_dense: whether it compares with a dense network, which must then be trained too.
    """

    score: str | None
    needs_dense: bool = False


POLICIES: dict[str, Policy] = {
    LSH: Policy(DISTANCE, needs_dense=True),
    "LSH, leading 30%": Policy(LEADING, needs_dense=True),
    "LSH, paper's recipe": Policy("paper's recipe", needs_dense=True),
    "mean of all exponents": Policy("mean of all"),
    "rank sum of LSH and averaged loss": Policy(COMBINED, needs_dense=True),
    "loss, averaged": Policy(LOSS),
    "loss": Policy("loss"),
    "death rate": Policy("death rate"),
    CHANCE: Policy(None),
}
_SPECTRAL = ("hidden", "full", "mean of", "paper")  # how names of LS scores begin


def search_of(table: Table, e0: int, max_evals: int) -> SearchConfig:
    """The search that is replayed: half the pool goes on by one epoch a round."""
    study = table.settings["study"]
    space = {name: tuple(values) for name, values in study["space"].items()}
    return SearchConfig(
        max_evals=max_evals,
        e0=e0,
        ei=1,
        final_epochs=study["final_epochs"],
        finalists=FINALISTS,
        sparsity=study["sparsity"],
        space=SpaceConfig(**space),
    )


def compare(
    table: Table, e0: int, *, replays: int = 100, note: Note = lambda text: None
) -> dict[str, Any]:
    """Replays every policy.

    Args:
      table: of the study; it must have spectra up to the last round's epoch.
      e0: epochs before the first score.
      replays: of each policy.
      note: told of progress.

    Returns:
      JSON values: the search, what the dense network costs, and for each policy the test
      perplexities at equal epochs, with the dense network free, charged as so many epochs, and
      charged by the FLOPs that a pruned network needs; the paired difference to LSH; cost and
      perplexity by number of finalists.
    """
    scored = {epoch: score_table(table, epoch) for epoch in table.settings["study"]["early_epochs"]}
    hindsight = best_spectral(scored[e0])
    needs_dense = not hindsight.startswith("mean of")
    policies = POLICIES | {HINDSIGHT: Policy(hindsight, needs_dense)}
    count = round(_SHARE * len(table.candidates()))
    config = search_of(table, e0, max_evals=2 * count // 3)
    found: dict[str, list[dict[int, Outcome]]] = {name: [] for name in (*policies, FULL)}
    for replay in range(replays):
        for name, outcomes in _replay(table, policies, scored, config, count, replay).items():
            found[name].append(outcomes)
        if (replay + 1) % 50 == 0:
            note(f"{replay + 1} of {replays} replays")
    return {"hindsight": hindsight, **_summary(policies, config, found)}


def best_spectral(scored: Scored) -> str:
    """The score from spectra that orders the finals best: known only once all are trained."""
    num_seeds, num_candidates = scored.final.shape
    draws = draw(num_candidates, num_seeds, resamples=0)
    rho = {
        label: float(correlation(values, scored.final, draws)[0])
        for label, values in scored.scores.items()
        if label.startswith(_SPECTRAL)
    }
    return max(rho, key=lambda label: np.nan_to_num(rho[label], nan=-2.0))


def _replay(
    table: Table,
    policies: dict[str, Policy],
    scored: dict[int, Scored],
    config: SearchConfig,
    count: int,
    replay: int,
) -> dict[str, dict[int, Outcome]]:
    """Outcomes of every policy by number of finalists."""
    generator = np.random.default_rng(replay)
    some = next(iter(scored.values()))
    seed = int(generator.integers(len(some.final)))
    part = np.sort(generator.permutation(len(some.names))[:count])
    networks = table.settings["networks"]
    world = World(
        assignments=[_controls(networks[some.names[i]]) for i in part],
        finals=some.final[seed, part],
        tests=some.test[seed, part],
        final_epochs=config.final_epochs,
    )
    space, chance = make_space(config), generator.random(len(part))
    found = {}
    for name, policy in policies.items():
        scores = {
            epoch: own.scores[policy.score][seed, part] if policy.score else chance
            for epoch, own in scored.items()
        }
        pool = fill_pool(world, scores[config.e0], config, space, replay)
        found[name] = {
            finalists: replay_halving(
                world, scores, pool, dataclasses.replace(config, finalists=finalists)
            )
            for finalists in range(1, _MOST_FINALISTS + 1)
        }
    found[FULL] = {
        number: replay_random(world, number * config.final_epochs, replay)
        for number in range(1, count + 1)
    }
    return found


def _controls(config: dict[str, Any]) -> dict[str, Any]:
    """A candidate's controls as the space names them."""
    return {name: float("inf") if value == "inf" else value for name, value in config.items()}


def _summary(
    policies: dict[str, Policy], config: SearchConfig, found: dict[str, list[dict[int, Outcome]]]
) -> dict[str, Any]:
    dense_epochs, finalists = config.final_epochs, config.finalists
    budget = num_epochs(config, plan(config))
    lsh = np.array([own[finalists].test for own in found[LSH]])
    summed = {}
    for name, replays in found.items():
        needs_dense = name in policies and policies[name].needs_dense
        extra = 0 if needs_dense else dense_epochs  # what goes into finalists instead
        allowed = {
            "dense_free": budget,
            "dense_charged": budget + extra,
            "dense_charged_by_flops": budget + extra / (1 - config.sparsity),
        }
        counts = {label: _affordable(replays, epochs) for label, epochs in allowed.items()}
        tests = {
            label: np.array([own[number].test for own in replays])
            for label, number in counts.items()
        }
        summed[name] = {
            "needs_dense": needs_dense,
            **{
                label: {
                    "finalists": counts[label],
                    "epochs": float(np.mean([own[counts[label]].epochs for own in replays])),
                    "test": _middle(values),
                    "more_than_lsh": _middle(values - lsh),
                    "better_than_lsh": float(np.mean(values < lsh)),
                    "worse_than_lsh": float(np.mean(values > lsh)),
                }
                for label, values in tests.items()
            },
            "by_finalists": [
                [
                    number,
                    float(np.mean([own[number].epochs for own in replays])),
                    *_middle(np.array([own[number].test for own in replays])),
                ]
                for number in replays[0]
            ],
        }
    return {
        "e0": config.e0,
        "max_evals": config.max_evals,
        "candidates_in_a_replay": len(found[FULL][0]),
        "replays": len(lsh),
        "budget": budget,
        "dense_epochs": dense_epochs,
        "full_search": config.max_evals * config.final_epochs,
        "policies": summed,
        "epochs_to_reach_lsh": _costs(summed, float(lsh.mean())),
    }


def _affordable(replays: list[dict[int, Outcome]], budget: float) -> int:
    """The most finalists whose mean cost is within a budget; one at least."""
    costs = {n: np.mean([own[n].epochs for own in replays]) for n in replays[0]}
    return max((n for n, cost in costs.items() if cost <= budget), default=min(costs))


def _middle(values: np.ndarray) -> list[float]:
    """The mean, and what holds the middle 90 %."""
    low, high = np.quantile(values, [0.05, 0.95])
    return [float(values.mean()), float(low), float(high)]


def _costs(policies: dict[str, Any], quality: float) -> dict[str, float | None]:
    """The least mean epochs at which the mean test perplexity is as low as that of LSH."""
    return {
        name: min(
            (epochs for _, epochs, test, _, _ in own["by_finalists"] if test <= quality + 1e-9),
            default=None,
        )
        for name, own in policies.items()
    }
