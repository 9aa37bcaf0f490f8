"""The pictures of a study: judges over the epochs, the paper's Figure 1, cost and quality."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from lsh_jax.plots.style import CHANCE, COLOURS, DASHES, DENSE, FAINT, SIZE, house_style

_FLOOR = -15.5  # nats: the distance does not look further down
BY_CHANCE = "by chance"  # the name of a curve that no judge has drawn


@house_style
def plot_judges(
    curves: Mapping[str, Mapping[str, Mapping[int, Sequence[float]]]],
    ylabel: str,
    *,
    one_scale: bool = True,
) -> Figure:
    """How well judges foretell the finals, over the epochs, with bands of their intervals.

    Args:
      curves: study -> judge -> epoch -> (value, low, high); one panel a study.
      ylabel: what the values are.
      one_scale: whether all panels have the same y axis.

    Returns:
      A Figure.
    """
    columns = min(2, len(curves))
    rows = -(-len(curves) // columns)
    figure = Figure(figsize=(SIZE[0] * columns, SIZE[1] * rows), layout="constrained")
    panels = np.atleast_1d(figure.subplots(rows, columns, sharey=one_scale)).reshape(-1)
    for axes, (study, judges) in zip(panels, curves.items(), strict=False):
        for number, (judge, points) in enumerate(judges.items()):
            look: dict[str, Any] = {"color": COLOURS[number % 5], "ls": DASHES[number % 5]}
            if judge == BY_CHANCE:
                look = {"color": CHANCE, "ls": "-", "lw": 2, "zorder": 1}
            epochs = sorted(points)
            value, low, high = np.array([points[epoch] for epoch in epochs], float).T
            axes.plot(epochs, value, label=judge, marker=".", **look)
            if judge != BY_CHANCE:
                axes.fill_between(epochs, low, high, color=look["color"], alpha=0.1, lw=0)
        axes.axhline(0, color=FAINT, lw=1, zorder=0)
        axes.set(title=study, xlabel="epoch", ylabel=ylabel)
    for axes in panels[len(curves) :]:
        axes.set_visible(False)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure


@house_style
def plot_training(
    spectra: Mapping[str, np.ndarray],
    distances: Mapping[str, Mapping[int, float]],
    perplexities: Mapping[str, Sequence[float]],
    finals: Mapping[str, float],
    dense: str,
) -> Figure:
    """The paper's Figure 1 from runs of our own: spectra, distances and perplexities.

    Candidates are coloured by their final perplexity.

    Args:
      spectra: network -> exponents of the first layer at the last epoch, [K].
      distances: candidate -> epoch -> LS distance to the dense network after as many epochs.
      perplexities: network -> validation perplexity by epoch, [E].
      finals: candidate -> final validation perplexity.
      dense: the name of the dense network.

    Returns:
      A Figure of three panels, A, B and C.
    """
    figure = Figure(figsize=(2.4 * SIZE[0], SIZE[1]), layout="constrained")
    a, b, c = figure.subplots(1, 3)
    norm = Normalize(min(finals.values()), float(np.quantile(list(finals.values()), 0.9)))
    colours = ScalarMappable(norm, "viridis_r")
    for name, final in finals.items():
        look: dict[str, Any] = {"color": colours.to_rgba(np.array(final)), "lw": 1, "alpha": 0.9}
        if name in spectra:
            a.plot(np.arange(1, spectra[name].size + 1), spectra[name], **look)
        b.plot(list(distances[name]), list(distances[name].values()), marker=".", **look)
        c.plot(np.arange(1, len(perplexities[name]) + 1), perplexities[name], **look)
    black: dict[str, Any] = {"color": DENSE, "lw": 2, "label": "dense"}
    a.plot(np.arange(1, spectra[dense].size + 1), spectra[dense], **black)
    c.plot(np.arange(1, len(perplexities[dense]) + 1), perplexities[dense], **black)
    a.set(title="A  Lyapunov exponents, layer 1, at the end", xlabel="index", ylabel="nats a step")
    b.set(title="B  LS distance to dense", xlabel="epoch", ylabel="nats a step")
    c.set(title="C  Validation perplexity", xlabel="epoch", ylabel="perplexity")
    a.set_ylim(bottom=_FLOOR)
    a.legend()
    figure.colorbar(colours, ax=c, label="final validation perplexity")
    return figure


@house_style
def plot_costs(search: Mapping[str, Any], shown: Sequence[str]) -> Figure:
    """Mean test perplexity of what a policy finds against the epochs that it spends.

    Args:
      search: from `lsh_jax.study.policies.compare`.
      shown: policies.

    Returns:
      A Figure.
    """
    figure = Figure(figsize=(1.5 * SIZE[0], 1.2 * SIZE[1]), layout="constrained")
    axes: Axes = figure.add_subplot()
    for number, name in enumerate(shown):
        points = np.array(search["policies"][name]["by_finalists"])
        look: dict[str, Any] = {"color": COLOURS[number % 5], "ls": DASHES[number % 5]}
        axes.plot(points[:, 1], points[:, 2], marker=".", label=name, **look)
        axes.fill_between(points[:, 1], points[:, 3], points[:, 4], color=look["color"], alpha=0.08)
    axes.axvline(search["full_search"], color=FAINT, lw=1)
    axes.annotate(
        "every candidate of the pool to the end",
        (search["full_search"], 1),
        rotation=90,
        xycoords=("data", "axes fraction"),
        ha="right",
        va="top",
        fontsize="small",
    )
    axes.set(
        title="What a budget buys",
        xlabel="epochs of candidates",
        ylabel="test perplexity",
        ylim=_seen(search, shown),
    )
    axes.legend(fontsize="small")
    return figure


def _seen(search: Mapping[str, Any], shown: Sequence[str]) -> tuple[float, float]:
    """The part of the y axis where most means lie: a single bad one would flatten the rest."""
    points = [row for name in shown for row in search["policies"][name]["by_finalists"]]
    low, high = min(row[3] for row in points), float(np.quantile([row[2] for row in points], 0.9))
    return low - 0.1 * (high - low), high + 1.0 * (high - low)
