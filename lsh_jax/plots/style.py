"""How the pictures look: colours, fonts, an empty canvas and its legend.

The colours are those of Okabe & Ito (2008), told apart by style as well.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ParamSpec, TypeVar

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

P = ParamSpec("P")
R = TypeVar("R")

DENSE, WINNER, FINALIST, OTHER = "#111111", "#D55E00", "#0072B2", "#A9BCCD"
BASELINE, NOISE, CHANCE, FAINT = "#009E73", "#E69F00", "#C6CDD4", "#D8DEE4"
COLOURS = (DENSE, WINNER, FINALIST, BASELINE, NOISE)  # of lines that are told apart by a legend
DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1, 1, 1)))  # as well
SIZE = (5.4, 3.9)  # inches: two side by side on a desk, one on a phone, at a legible font size
LONG_RUN = 20
"""Epochs above which the rounds would be squeezed on a linear axis."""
_STYLE: dict[str, Any] = {
    "font.size": 10.5,
    "axes.titlesize": 11.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#667788",
    "xtick.color": "#445566",
    "ytick.color": "#445566",
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text: selectable, and in the page's font
    "svg.hashsalt": "lsh_jax",  # ids, and so the page, depend on nothing but the run
}


def house_style(function: Callable[P, R]) -> Callable[P, R]:
    """Runs a function in the house style, whatever the reader's matplotlibrc says."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        with style.context(["default", _STYLE]):
            return function(*args, **kwargs)

    return wrapped


def canvas(title: str, xlabel: str, ylabel: str, height: float = SIZE[1]) -> tuple[Figure, Axes]:
    """An empty picture with its labels."""
    figure = Figure(figsize=(SIZE[0], height), layout="constrained")
    axes = figure.add_subplot()
    axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
    return figure, axes


def epoch_axis(axes: Axes, epochs: Sequence[int], cuts: Sequence[int] = ()) -> None:
    """Whole epochs along the x axis, logarithmic where there are many, and lines at `cuts`."""
    for cut in cuts:
        axes.axvline(cut, color=FAINT, lw=1, zorder=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if epochs and max(epochs) > LONG_RUN:
        axes.set_xscale("log")
        axes.set_xlim(left=max(1, min(epochs)) * 0.9, right=max(epochs) * 1.1)
        axes.xaxis.set_major_locator(FixedLocator([1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000]))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_xlabel("epoch (log scale)")


def log_values(axes: Axes, values: Sequence[float]) -> None:
    """A logarithmic y axis for some values, with plain numbers along it."""
    axes.set_yscale("log")
    ratio = max(values) / min(values)
    subs = (1, 3) if ratio > 50 else (1, 2, 3, 5) if ratio > 10 else (1, 1.5, 2, 3, 4, 5, 7)
    axes.yaxis.set_major_locator(LogLocator(subs=subs, numticks=12))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.set_ylabel(axes.get_ylabel() + " (log scale)")


def axes_legend(axes: Axes, first: Iterable[str] = ()) -> None:
    """Each label once, the ones of `first` first, inside the axes, if there are any."""
    handles, labels = axes.get_legend_handles_labels()
    found = dict(zip(labels, handles, strict=True))
    order = [*(label for label in first if label in found)]
    order += [label for label in found if label not in order]
    if order:
        axes.legend([found[label] for label in order], order, fontsize="small")


def legend(figure: Figure, first: Iterable[str] = (), columns: int = 2) -> None:
    """Each label once, the ones of `first` first, below the picture, where it covers nothing."""
    found: dict[str, Any] = {}
    for axes in figure.axes:
        handles, labels = axes.get_legend_handles_labels()
        found |= dict(zip(labels, handles, strict=True))
    leading = [label for label in first if label in found]
    order = leading + [label for label in found if label not in leading]
    if order:
        chosen = [found[label] for label in order]
        figure.legend(chosen, order, loc="outside lower center", ncols=columns)
