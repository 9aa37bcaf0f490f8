"""The pictures of masks over training: density by leaf and gate, overlap, exploration."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lsh_jax.plots.search import LOOKS, Trials, Value, draw_trials
from lsh_jax.plots.style import (
    COLOURS,
    DASHES,
    FAINT,
    SIZE,
    canvas,
    epoch_axis,
    house_style,
    legend,
)

_SPAN = 0.1  # of densities, at least: what hardly moves should look so


@house_style
def plot_density(
    epochs: Sequence[int],
    panels: Mapping[str, Mapping[str, Sequence[float]]],
    whole: Sequence[float],
) -> Figure:
    """The density of the parts of one network over the epochs, a panel a leaf.

    Args:
      epochs: at which the densities were taken.
      panels: by title, densities at the epochs by label (a gate, or a leaf); a label looks the same
        in every panel. NaN is left out.
      whole: the density of all prunable weights, drawn in every panel.

    Returns:
      A Figure, two panels a row.
    """
    rows = math.ceil(len(panels) / 2)
    figure = Figure(figsize=(SIZE[0], 1.4 + 1.4 * rows), layout="constrained")
    labels = list(dict.fromkeys(itertools.chain(*panels.values())))
    grid = figure.subplots(rows, 2, sharex=True, sharey=True, squeeze=False).flatten()
    for axes, (title, lines) in zip(grid, panels.items(), strict=False):
        axes.plot(epochs, whole, color=FAINT, lw=5, label="whole network", zorder=1)
        for label, densities in lines.items():
            axes.plot(epochs, densities, label=label, **look_of_line(labels.index(label), epochs))
        axes.set_title(title, fontsize="medium")
        axes.yaxis.set_major_locator(MaxNLocator(4))
        epoch_axis(axes, epochs)
        axes.tick_params(labelsize="small")
    for number, axes in enumerate(grid):
        # The last of a column has the labels, be it in the last row or above an empty place.
        last = number + 2 >= len(panels)
        axes.tick_params(axis="x", labelbottom=last)
        axes.set_xlabel((axes.get_xlabel() or "epoch") if last else "", fontsize="medium")
    if len(panels) % 2:
        grid[-1].set_axis_off()
    figure.suptitle("Density by layer and gate", x=0.01, ha="left", fontsize=11.5)
    figure.supylabel("density: share of live weights", fontsize="medium")
    grid[0].set_ylim(density_limits(panels, whole))
    legend(figure, labels, columns=3)
    return figure


def look_of_line(number: int, epochs: Sequence[int]) -> dict[str, Any]:
    """The look of the `number`-th of lines over some epochs; of one epoch it is a mark."""
    colour, again = number % len(COLOURS), number // len(COLOURS)
    look: dict[str, Any] = {
        "color": COLOURS[colour],
        "ls": DASHES[(colour + again) % len(DASHES)],  # where colours begin again, these do not
        "lw": 1.6,
        "zorder": 3,
    }
    return look | ({"marker": "o", "markersize": 3.5} if len(epochs) == 1 else {})


def density_limits(
    panels: Mapping[str, Mapping[str, Sequence[float]]], whole: Sequence[float]
) -> tuple[float, float]:
    """The range of an axis that shows all densities of `plot_density`."""
    values = [*whole, *itertools.chain(*(d for lines in panels.values() for d in lines.values()))]
    finite = [value for value in values if math.isfinite(value)]
    low, high = min(finite), max(finite)
    margin = max(0.06 * (high - low), (_SPAN - (high - low)) / 2)
    return max(0.0, low - margin), min(1.02, high + margin)


def plot_overlap(trials: Trials) -> Figure:
    """The share of the weights alive an epoch ago that live now, by epoch."""
    return _plot_share(
        "Overlap with the masks of the epoch before",
        "share of live weights kept",
        trials,
        lambda record: (record.topology or {}).get("overlap"),
    )


def plot_explored(trials: Trials) -> Figure:
    """The share of all weights that have ever been alive, by epoch."""
    return _plot_share(
        "Weights ever explored",
        "share of weights that ever lived",
        trials,
        lambda record: (record.topology or {}).get("explored"),
    )


@house_style
def _plot_share(title: str, ylabel: str, trials: Trials, value: Value) -> Figure:
    figure, axes = canvas(title, "epoch", ylabel)
    draw_trials(axes, trials, value)
    axes.set_ylim(0, 1.02)
    epochs = [record.epoch for record in itertools.chain(*trials.histories.values())]
    epoch_axis(axes, epochs, trials.cuts)
    legend(figure, reversed(LOOKS), columns=3)
    return figure
