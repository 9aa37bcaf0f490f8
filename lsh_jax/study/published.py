"""The authors' published trials through our halving and our statistics."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lsh_jax.search.successive_halving import num_survivors, survivors
from lsh_jax.study.analysis import chance_regret, correlation, draw, estimated, regret

_FINALISTS = 2
_LOSS = "validation perplexity"

# Their SET removes the most negative weights, which ruins its trials (SET in their code and paper
# differ, see `lsh_jax.sparsity`): without it the question is a finer one.
PARTS: dict[str, tuple[str, ...]] = {
    "all": ("magnitude", "set", "threshold", "global_magnitude"),
    "without SET": ("magnitude", "threshold", "global_magnitude"),
    "magnitude and global magnitude": ("magnitude", "global_magnitude"),
}

Trial = Mapping[str, Any]


def rounds(trials: Sequence[Trial], score: str) -> list[list[int]]:
    """The trials of every round by the authors' rule, the pool first, each in its order.

    Args:
      trials: with "trial" and the score, which stands for those of later rounds too.
      score: "ls_distance" or "val_perplexity".
    """
    scores = {int(trial["trial"]): float(trial[score]) for trial in trials}
    found = [survivors(scores, len(scores))]
    while len(scores) > _FINALISTS:
        kept = survivors(scores, num_survivors(len(scores), _FINALISTS, "authors"))
        scores = {trial: scores[trial] for trial in kept}
        found.append(kept)
    return found


def judge(trials: Sequence[Trial]) -> dict[str, Any]:
    """How well distance, loss and death rate order the finals; estimates are [value, low, high]."""

    def column(name: str) -> np.ndarray:
        return np.array([[float(trial[name]) for trial in trials]])

    final, draws = column("final_test_perplexity"), draw(len(trials), 1)
    scores = {
        "LS distance": column("ls_distance"),
        _LOSS: column("val_perplexity"),
        "death rate": -column("death_rate"),
    }
    rho = {name: correlation(values, final, draws) for name, values in scores.items()}
    found = {
        name: {
            "spearman": list(estimated(rho[name])),
            "less_loss": list(estimated(rho[name] - rho[_LOSS])),
            "regret": {str(n): list(estimated(regret(values, final, n, draws))) for n in (1, 3)},
        }
        for name, values in scores.items()
    }
    chance = {str(n): list(estimated(chance_regret(final, n, draws))) for n in (1, 3)}
    return {"trials": len(trials), "scores": found, "chance_regret": chance}


def judge_parts(trials: Sequence[Trial]) -> dict[str, Any]:
    """`judge` of each of `PARTS`."""
    return {
        name: judge([trial for trial in trials if trial["death"].lower() in deaths])
        for name, deaths in PARTS.items()
    }
