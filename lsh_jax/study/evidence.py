"""The findings of a study, as numbers: from a table to everything that is said of it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lsh_jax.study.analysis import (
    Draws,
    Estimate,
    chance_regret,
    correlation,
    correlation_given,
    correlation_within,
    draw,
    estimated,
    fitted_on_halves,
    regret,
    spread,
)
from lsh_jax.study.claims import judge
from lsh_jax.study.scores import DISTANCE, LEADING, LOSS, SCORES, Scored, at_points, score_table
from lsh_jax.study.table import Table, Trajectory

_TOPS = (1, 3)
_FEWEST = 4  # candidates that anything is said of by themselves
_DIGITS = 3


def find(table: Table, epochs: Sequence[int] | None = None) -> dict[str, Any]:
    """Everything that is said of a study, as JSON values; estimates are [value, low, high].

    Args:
      table: of the study.
      epochs: those whose scores are judged; all that have spectra if not given.
    """
    study = table.settings["study"]
    epochs = epochs or study["early_epochs"]
    scored = {epoch: score_table(table, epoch) for epoch in epochs}
    learners = np.flatnonzero(learned(table).all(axis=0)).tolist()
    parts = {epoch: own.part(learners) for epoch, own in scored.items()}
    return _rounded(
        {
            "setting": find_setting(table),
            "final_epochs": study["final_epochs"],
            "all": _judge_all(table, scored),
            "learners": _brief(_judge_all(table, parts)) if len(learners) >= _FEWEST else None,
            "baselines": _baselines(table),
        }
    )


def _judge_all(table: Table, scored: dict[int, Scored]) -> dict[str, Any]:
    """Of every epoch, and what chance does."""
    some = next(iter(scored.values()))
    controls = [table.settings["networks"][name] for name in some.names]
    draws = draw(some.final.shape[1], some.final.shape[0])
    deaths, growths = ([own[name] for own in controls] for name in ("death", "growth"))
    return {
        "candidates": len(some.names),
        "chance_regret": {
            str(top): _list(estimated(chance_regret(some.final, top, draws))) for top in _TOPS
        },
        "epochs": {
            str(epoch): _judged(own, draws, deaths, growths) for epoch, own in scored.items()
        },
    }


def _brief(judged: dict[str, Any]) -> dict[str, Any]:
    """Without what is told of all candidates only."""
    for own in judged["epochs"].values():
        for score in own["scores"].values():
            for name in ("kendall", "given_churn", "within_death"):
                score.pop(name)
    return judged


def learned(table: Table) -> np.ndarray:
    """Whether each candidate ends below the unigram perplexity, bool [S, n]."""
    unigram = table.settings["text"]["unigram_perplexity"]
    return np.array(
        [
            [table.trajectories[name, seed].final() < unigram for name in table.candidates()]
            for seed in table.seeds()
        ]
    )


def find_setting(table: Table) -> dict[str, Any]:
    """Whether the question can be answered in a setting at all.

    The spread is that of candidates which end below the unigram perplexity with every seed.
    """
    study = table.settings["study"]
    names, seeds = table.candidates(), table.seeds()
    grid = [[table.trajectories[name, seed] for name in names] for seed in seeds]
    final = np.array([[own.final() for own in row] for row in grid])
    test = np.array([[own.final_test() for own in row] for row in grid])
    dense = [table.trajectories["dense", seed] for seed in seeds]
    learners = learned(table)
    found = spread(final[:, learners.all(axis=0)])
    unigram = table.settings["text"]["unigram_perplexity"]
    early = study["early_epochs"]
    beaten = test < np.array([[own.final_test()] for own in dense])
    return {
        "candidates": len(names),
        "seeds": len(seeds),
        "unigram_perplexity": unigram,
        "never_learned": int((~learners).sum()),
        "spread": found._asdict() | {"ratio": found.candidates / max(found.seeds, 1e-9)},
        "dense": {
            "validation": [own.final() for own in dense],
            "best_epoch": [own.best_epoch() for own in dense],
            "validation_last": [float(np.exp(own.val_averaged[-1])) for own in dense],
            "test": [own.final_test() for own in dense],
        },
        "candidates_test": {
            "best": float(test.min()),
            "median": float(np.median(test)),
            "worst": float(test.max()),
        },
        "better_than_dense_on_test": int(beaten.sum()),
        "past_unigram": {
            str(epoch): int((_perplexities(grid, epoch) < unigram).sum()) for epoch in early
        },
        "noise_floor": {
            str(epoch): _noise_floor(table, epoch)
            for epoch in early
            if len(seeds) > 1 and epoch > 1
        },
        "seconds_a_network": float(np.mean([own.wall_s.sum() for row in grid for own in row])),
    }


def _perplexities(grid: list[list[Trajectory]], epoch: int) -> np.ndarray:
    """Of averaged weights after an epoch, [S, n]."""
    return np.exp(np.array([[own.val_averaged[epoch - 1] for own in row] for row in grid]))


def _noise_floor(table: Table, epoch: int) -> dict[str, dict[str, float]]:
    """Distances between dense networks of different seeds, beside those of the candidates."""
    found = {}
    points = at_points(table, epoch)
    dense = [row[0] for row in points]
    pairs = [
        first._replace(candidate=second.dense)
        for i, first in enumerate(dense)
        for second in dense[i + 1 :]
    ]
    for label in (LEADING, DISTANCE, "paper's recipe", "paper's recipe, sorted"):
        own = [SCORES[label](at) for row in points for at in row]
        found[label] = {
            "dense_seeds": float(np.mean([SCORES[label](at) for at in pairs])),
            "candidates_least": float(np.min(own)),
            "candidates_median": float(np.median(own)),
        }
    return found


def _judged(own: Scored, draws: Draws, deaths: list[str], growths: list[str]) -> dict[str, Any]:
    """Of every score at an epoch."""
    final, against = own.final, correlation(own.scores[LOSS], own.final, draws)
    found = {}
    for label, scores in own.scores.items():
        rho = correlation(scores, final, draws)
        found[label] = {
            "spearman": _list(estimated(rho)),
            "kendall": _list(estimated(correlation(scores, final, draws, "kendall"))),
            "less_loss": _list(estimated(rho - against)),
            "given_loss": _list(
                estimated(correlation_given(scores, own.scores[LOSS], final, draws))
            ),
            "given_churn": _list(
                estimated(correlation_given(scores, own.scores["churn"], final, draws))
            ),
            "within_death": _list(estimated(correlation_within(scores, final, deaths, draws))),
            "within_growth": _list(estimated(correlation_within(scores, final, growths, draws))),
            "regret": {
                str(top): _list(estimated(regret(scores, final, top, draws))) for top in _TOPS
            },
        }
    parts = [own.scores[label] for label in (DISTANCE, LOSS)]
    halves = {
        "both": _list(fitted_on_halves(parts, final)),
        DISTANCE: _list(fitted_on_halves(parts[:1], final)),
        LOSS: _list(fitted_on_halves(parts[1:], final)),
    }
    claims = [
        {"claim": verdict.text, "effect": _list(verdict.effect), "answer": verdict.answer}
        for verdict in judge(own, draws, growths)
    ]
    return {"scores": found, "fitted_on_halves": halves, "claims": claims}


def _baselines(table: Table) -> dict[str, Any]:
    """Validation and test perplexities of the networks beside the candidates, by seed."""
    names = sorted({name for name, _ in table.trajectories if not name.isdecimal()})
    return {
        name: {
            "seeds": len(own := [t for (n, _), t in table.trajectories.items() if n == name]),
            "weights": int(own[0].nonzeros[-1]),
            "best_epoch": [t.best_epoch() for t in own],
            "validation": [t.final() for t in own],
            "validation_last": [float(np.exp(t.val_averaged[-1])) for t in own],
            "test": [t.final_test() for t in own],
        }
        for name in names
    }


def _list(found: Estimate) -> list[float]:
    return list(found)


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(own) for name, own in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(own) for own in value]
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}f}") if np.isfinite(value) else None
    return value
