"""The pictures that put several runs side by side."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lsh_jax.plots.style import COLOURS, FAINT, canvas, epoch_axis, house_style, legend, log_values

_MARKERS = ("", "o", "s", "D", "^")  # of runs beyond as many as there are colours


class Pair(NamedTuple):
    """A curve of a run and, dotted, the one it is held against."""

    x: Sequence[float]  # of the curve
    y: Sequence[float]  # as many
    reference_x: Sequence[float] = ()  # of the dotted one; none if empty
    reference_y: Sequence[float] = ()  # as many


@house_style
def plot_pairs(
    title: str,
    x_label: str,
    y_label: str,
    pairs: Mapping[str, Pair],
    *,
    epochs: bool = False,
    log_y: bool = False,
    numbers: Mapping[str, int] | None = None,
) -> Figure:
    """A curve of each run in one picture.

    Args:
      title: of the picture.
      x_label: of the axis across.
      y_label: of the axis up.
      pairs: by the name of the run; one colour a run, its reference dotted and thin.
      epochs: whether the axis across is of epochs.
      log_y: whether the axis up is logarithmic.
      numbers: of the colours of the runs; in their order if not given.

    Returns:
      A Figure.
    """
    figure, axes = canvas(title, x_label, y_label)
    for number, (name, pair) in enumerate(pairs.items()):
        _draw_pair(axes, number if numbers is None else numbers[name], name, pair)
    if log_y:
        values = [y for pair in pairs.values() for y in (*pair.y, *pair.reference_y)]
        log_values(axes, values)
    if epochs:
        seen = [int(x) for pair in pairs.values() for x in (*pair.x, *pair.reference_x)]
        epoch_axis(axes, seen)
    legend(figure)
    return figure


def _draw_pair(axes: Axes, number: int, name: str, pair: Pair) -> None:
    again = number // len(COLOURS) % len(_MARKERS)
    look: dict[str, Any] = {"color": COLOURS[number % len(COLOURS)], "marker": _MARKERS[again]}
    axes.plot(pair.reference_x, pair.reference_y, lw=1.1, ls=":", **look)
    axes.plot(pair.x, pair.y, lw=2.2, markersize=4, label=name, **look)


@house_style
def plot_intervals(
    rows: Sequence[tuple[str, float, float, float]], x_label: str = "difference, nats per token"
) -> Figure:
    """Differences with their intervals, a line a run.

    Args:
      rows: (name, difference, low, high), the first on top.
      x_label: what the differences are.

    Returns:
      A Figure; what lies left of the line at 0 is in favour of the first of each pair.
    """
    figure, axes = canvas("", x_label, "", 1.2 + 0.4 * len(rows))
    for place, (_, middle, low, high) in enumerate(rows):
        colour = COLOURS[place % len(COLOURS)]
        axes.plot([low, high], [place, place], color=colour, lw=2)
        axes.plot([middle], [place], "o", color=colour, markersize=6)
    axes.axvline(0, color=FAINT, lw=1.5, zorder=0)
    axes.set_yticks(range(len(rows)), [row[0] for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.tick_params(axis="y", length=0)
    return figure
