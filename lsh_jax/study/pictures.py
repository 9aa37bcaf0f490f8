"""The pictures of the studies by name, each with its description in words."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from lsh_jax.plots.study import BY_CHANCE, plot_costs, plot_judges, plot_training
from lsh_jax.study.policies import CHANCE, FULL, LSH
from lsh_jax.study.scores import DISTANCE, LEADING, LOSS, SCORES, at_points
from lsh_jax.study.table import Table

_JUDGES = (DISTANCE, LEADING, "paper's recipe", "loss", LOSS)
_POLICIES = (LSH, "loss, averaged", "death rate", CHANCE, FULL)
_LENGTH = 100  # steps of the spectra that are shown


def draw_all(
    studies: Mapping[str, Table], findings: Mapping[str, Any]
) -> dict[str, tuple[Any, str]]:
    """Draws everything.

    Args:
      studies: tables by name.
      findings: of `experiments/analyse_study.py`.

    Returns:
      name -> (matplotlib figure, what it shows).
    """
    judged = {name: study["all"] for name, study in findings["studies"].items()}
    alt = "Rank correlation of early scores with the final perplexity, by epoch and study"
    curves = {name: _curves(study, "spearman") for name, study in judged.items()}
    found = {"judges": (plot_judges(curves, "Spearman with the final perplexity"), alt)}
    alt = "Regret of the best of three candidates by early scores, by epoch and study"
    curves = {
        name: _curves(study, "regret", "3")
        | {BY_CHANCE: dict.fromkeys(map(int, study["epochs"]), study["chance_regret"]["3"])}
        for name, study in judged.items()
    }
    figure = plot_judges(curves, "regret of the best of 3, perplexity", one_scale=False)
    found["regret"] = (figure, alt)
    for name, table in studies.items():
        alt = f"Spectra, LS distances and perplexities of the networks of {name}"
        found[f"training-{name}"] = (figure_one(table), alt)
    for name, search in findings["searches"].items():
        alt = f"Test perplexity against epochs spent, by policy, in {name}"
        found[f"costs-{name}"] = (plot_costs(search, _POLICIES), alt)
    return found


def _curves(study: Mapping[str, Any], *keys: str) -> dict[str, dict[int, Any]]:
    """judge -> epoch -> an estimate, of some judges."""
    curves: dict[str, dict[int, Any]] = {}
    for judge in _JUDGES:
        for epoch, own in study["epochs"].items():
            value = own["scores"][judge]
            for key in keys:
                value = value[key]
            curves.setdefault(judge, {})[int(epoch)] = value
    return curves


def figure_one(table: Table, seed: int = 0) -> Any:
    """The paper's Figure 1 of one seed of a study: spectra, distances, perplexities."""
    study, names = table.settings["study"], table.candidates()
    own = {name: table.trajectories[name, seed] for name in (*names, "dense")}
    where, last = study["lengths"].index(_LENGTH), study["final_epochs"]
    points = {epoch: at_points(table, epoch)[seed] for epoch in study["early_epochs"]}
    return plot_training(
        {name: t.spectra["hidden"][last][where, 0] for name, t in own.items()},
        {
            name: {epoch: SCORES[DISTANCE](row[i]) for epoch, row in points.items()}
            for i, name in enumerate(names)
        },
        {name: np.exp(t.val_averaged) for name, t in own.items()},
        {name: own[name].final() for name in names},
        "dense",
    )
