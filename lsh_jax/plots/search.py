"""The pictures of a search, one function each: the paper's Figure 1 and the rounds.

The dense network is black, the winner orange, other finalists blue, all others light.
"""

import itertools
import math
import operator
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lsh_jax.plots.style import (
    BASELINE,
    CHANCE,
    DENSE,
    FINALIST,
    NOISE,
    OTHER,
    WINNER,
    canvas,
    epoch_axis,
    house_style,
    legend,
    log_values,
)
from lsh_jax.search.ledger import Record
from lsh_jax.search.measure import PERPLEXITY, Measure

Value = Callable[[Record], float | None]
"""What of a record is drawn; None where it has no such value."""
Others = Literal["other candidates", "other finalists"]
"""What the trials that did not win are called in a legend."""
Best = Literal["winner", "best so far"]
"""What the leading trial is called: the second where the search still runs."""

MOST_POINTS = 30_000
"""Points of thin spectra in one picture; where there are more, some are left out."""
SIGNIFICANT = 2 * math.sqrt(2)
"""Standard errors by which two distances must differ: two sigma of their difference."""

LOOKS = {
    "other candidates": OTHER,
    "other finalists": FINALIST,
    "winner": WINNER,
    "best so far": WINNER,
}
_DISTANCE: Value = operator.attrgetter("ls_distance")
_MARKERS = {"other candidates": "o", "other finalists": "s", "winner": "D", "best so far": "D"}
_WIDTHS = {"other candidates": 0.9, "other finalists": 1.4, "winner": 2.2, "best so far": 2.2}
_CROWD = 16  # points above which their numbers would cover each other
WIDE = 4.0
"""Ratio of perplexities, or other measures, above which a logarithmic axis shows more."""
VERY_WIDE = 20.0
"""Ratio of distances above which it does."""


class Trials(NamedTuple):
    """The candidates of a search.

    Attributes:
      histories: by trial, each by epoch.
      winner: its trial, if there is one.
      finalists: their trials.
      cuts: epochs at which a round ended.
      leader: the best so far, where there is no winner yet.
    """

    histories: Mapping[int, Sequence[Record]]
    winner: int | None
    finalists: Collection[int] = ()
    cuts: Sequence[int] = ()
    leader: int | None = None


class Point(NamedTuple):
    """A candidate in `plot_scatter`."""

    trial: int  # its number
    distance: float  # to the dense network
    std_error: float  # of the distance
    value: float  # of the measure


@house_style
def plot_spectra(
    title: str,
    dense: Mapping[str, np.ndarray],
    candidates: Sequence[np.ndarray],
    winner: np.ndarray | None,
    others: Others = "other candidates",
    best: Best = "winner",
    *,
    errors: Mapping[str, np.ndarray] | None = None,
    limits: tuple[float, float] | None = None,
) -> Figure:
    """The Lyapunov spectra of one layer (the paper's Figure 1A).

    Args:
      title: of the picture.
      dense: the dense network's exponents by what the legend calls them, nats per step, [K] each;
        the first is drawn solid, the others dashed.
      candidates: exponents of the other candidates, [K] each; of very many, every few exponents
        are drawn, `MOST_POINTS` in all.
      winner: the winner's, [K], if it has any; drawn last, with marks.
      others: what `candidates` are.
      best: what the legend calls `winner`.
      errors: standard errors of the exponents by label, [K] each; where given, a band of two of
        them is drawn about the curve of that label, a name in `dense` or `best`.
      limits: of the exponents' axis, for pictures to be compared.

    Returns:
      A Figure, exponents against their index i/K.
    """
    figure, axes = canvas(title, "index of the exponent, i/K", "exponent, nats per step")
    share = min(1.0, MOST_POINTS / max(1, sum(map(len, candidates))))
    for exponents in candidates:
        drawn = spread(len(exponents), share)
        x, y = _index(exponents)[drawn], exponents[drawn]
        axes.plot(x, y, color=LOOKS[others], lw=0.9, label=others)
    for number, (label, exponents) in enumerate(dense.items()):
        width, dashes = (1.6, (0, (4, 2))) if number else (2.0, "-")
        axes.plot(_index(exponents), exponents, color=DENSE, lw=width, ls=dashes, label=label)
    if winner is not None:
        axes.plot(_index(winner), winner, color=WINNER, lw=2.8, label=best)
        axes.lines[-1].set(marker="o", markersize=4.5, markevery=max(1, len(winner) // 12))
    for line in list(axes.lines):
        error = (errors or {}).get(str(line.get_label()))
        if error is not None:
            x, y = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
            look: dict[str, Any] = {"color": line.get_color(), "alpha": 0.18, "lw": 0}
            axes.fill_between(x, y - 2 * error, y + 2 * error, **look)
    if limits is not None:
        axes.set_ylim(limits)
    legend(figure, reversed(LOOKS))
    return figure


@house_style
def plot_distance(trials: Trials, dense_seeds: Sequence[Sequence[Record]] = ()) -> Figure:
    """The LS distance to the dense network over the epochs, above its noise (Figure 1B).

    Args:
      trials: the candidates.
      dense_seeds: histories of dense networks from other seeds.

    Returns:
      A Figure; the orange band reaches up to `SIGNIFICANT` median standard errors of an epoch's
      distances, the grey one up to the farthest dense network of another seed.
    """
    figure, axes = canvas("LS distance to dense", "epoch", "LS distance, nats per step")
    draw_distance(axes, trials, dense_seeds)
    legend(figure, reversed(LOOKS))
    return figure


def draw_distance(axes: Axes, trials: Trials, dense_seeds: Sequence[Sequence[Record]] = ()) -> None:
    """`plot_distance` into given axes."""
    values = draw_trials(axes, trials, _DISTANCE)
    seeds = {"color": DENSE, "lw": 2, "ls": ":", "label": "dense, other seeds"}
    for history in dense_seeds:
        values += _draw(axes, history, _DISTANCE, **seeds)
    _noise_bands(axes, trials, dense_seeds, values)
    _epoch_axis(axes, trials)


@house_style
def plot_measure(
    trials: Trials,
    dense: Sequence[Record],
    baseline: float | None = None,
    measure: Measure = PERPLEXITY,
) -> Figure:
    """How well the networks do on validation over the epochs (Figure 1C).

    Args:
      trials: the candidates; those that were cut end there.
      dense: the dense network's history; one record becomes a level line.
      baseline: value of the predictor that the measure names.
      measure: what is drawn.

    Returns:
      A Figure, logarithmic where the values range widely and their ratios mean something.
    """
    title, label = f"Validation {measure.name}", f"validation {measure.label}"
    figure, axes = canvas(title, "epoch", label)
    values = draw_trials(axes, trials, measure.of_record)
    levels = [value for record in dense if (value := measure.of_record(record)) is not None]
    if len(levels) == 1:
        axes.axhline(levels[0], color=DENSE, lw=2.4, label="dense, as given", zorder=4)
    elif levels:
        _draw(axes, dense, measure.of_record, color=DENSE, lw=2.4, label="dense", zorder=4)
    if baseline is not None:
        name = measure.baseline.replace("$", r"\$")  # dollars would enclose a formula
        axes.axhline(baseline, color=BASELINE, lw=1.6, ls="-.", label=name)
    values += levels + ([] if baseline is None else [baseline])
    if measure.has_ratios and values and max(values) > WIDE * min(values) > 0:
        log_values(axes, values)
    _epoch_axis(axes, trials, dense if len(levels) > 1 else ())
    legend(figure, reversed(LOOKS))
    return figure


@house_style
def plot_rounds(rows: Sequence[tuple[str, int, int, int]]) -> Figure:
    """How many candidates each round kept.

    Args:
      rows: (what to call the round, survived, cut, failed).

    Returns:
      A Figure, a bar a round, the first on top.
    """
    figure, axes = canvas("Candidates in each round", "candidates", "", 1.6 + 0.34 * len(rows))
    draw_rounds(axes, rows)
    legend(figure, reversed(LOOKS), columns=3)
    return figure


def draw_rounds(axes: Axes, rows: Sequence[tuple[str, int, int, int]]) -> None:
    """`plot_rounds` into given axes."""
    looks: list[dict[str, Any]] = [
        {"label": "went on", "color": FINALIST},
        {"label": "cut", "color": OTHER},
        {"label": "failed", "color": "#FFFFFF", "hatch": "////", "edgecolor": "#667788"},
    ]
    for place, (_, *counts) in enumerate(rows):
        left = 0
        for count, look in zip(counts, looks, strict=True):
            if count:
                axes.barh(place, count, left=left, height=0.62, **look)
            left += count
        text = f"{counts[0]} of {left}"
        axes.annotate(text, (left, place), (6, 0), textcoords="offset points", va="center")
    axes.set_yticks(range(len(rows)), [row[0] for row in rows])
    axes.invert_yaxis()
    axes.margins(x=0.16)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.tick_params(axis="y", length=0)


@house_style
def plot_scatter(title: str, points: Sequence[Point], ylabel: str, trials: Trials) -> Figure:
    """LS distance against how well a candidate does, a mark a candidate.

    Args:
      title: of the picture.
      points: the candidates.
      ylabel: what the values of the points are.
      trials: tells the winner and the finalists.

    Returns:
      A Figure, with the standard error of each distance.
    """
    figure, axes = canvas(title, "LS distance at the first score, nats per step", ylabel)
    for point in points:
        label = role(trials, point.trial)
        place = point.distance, point.value
        look: dict[str, Any] = {"color": LOOKS[label], "label": label, "markersize": 7}
        axes.errorbar(*place, xerr=point.std_error, fmt=_MARKERS[label], elinewidth=1, **look)
        if len(points) <= _CROWD:
            axes.annotate(str(point.trial), place, (6, 5), textcoords="offset points")
    axes.margins(0.12)
    legend(figure, reversed(LOOKS), columns=3)
    return figure


def _index(exponents: np.ndarray) -> np.ndarray:
    return np.arange(1, len(exponents) + 1) / len(exponents)


def spread(count: int, share: float) -> np.ndarray:
    """Places in [0, count) that lie evenly, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, max(2, round(share * count))).round().astype(int))


def role(trials: Trials, trial: int) -> str:
    """What a trial is, as legends call it: a key of `LOOKS`."""
    if trial == trials.winner:
        return "winner"
    if trial == trials.leader:
        return "best so far"
    return "other finalists" if trial in trials.finalists else "other candidates"


def draw_trials(axes: Axes, trials: Trials, value: Value) -> list[float]:
    """Draws every candidate to a dot where it ended, or a cross where it failed.

    Args:
      axes: to draw into.
      trials: the candidates.
      value: of a record; epochs of which it returns None are left out.

    Returns:
      The values drawn.
    """
    values: list[float] = []
    for trial, history in trials.histories.items():
        label = role(trials, trial)
        width = _WIDTHS[label]
        look = {"color": LOOKS[label], "lw": width, "label": label, "zorder": 2 + width}
        drawn = _draw(axes, history, value, **look)
        if drawn and history[-1].status == "failed":
            axes.lines[-1].set(marker="x", markersize=6, markevery=[-1], markeredgecolor=DENSE)
        elif drawn:
            axes.lines[-1].set(marker="o", markersize=3.5, markevery=[-1])
        values += drawn
    return values


def noise_levels(trials: Trials) -> dict[int, float]:
    """What two distances must differ by to be told apart: `SIGNIFICANT` median errors, by epoch."""
    records = itertools.chain(*trials.histories.values())
    errors = _by_epoch((record.epoch, record.ls_std_error) for record in records)
    return {epoch: SIGNIFICANT * float(np.median(errors[epoch])) for epoch in sorted(errors)}


def _noise_bands(
    axes: Axes, trials: Trials, dense_seeds: Sequence[Sequence[Record]], values: Sequence[float]
) -> None:
    """Fills from the axis up to what noise alone gives at each epoch."""
    seeds = _by_epoch((r.epoch, r.ls_distance) for r in itertools.chain(*dense_seeds))
    epochs = [record.epoch for record in itertools.chain(*trials.histories.values())]
    last = max(epochs, default=0)  # the dense networks may go on for longer
    noise = noise_levels(trials)
    chance = {epoch: max(seeds[epoch]) for epoch in sorted(seeds) if epoch <= last}
    axes.set_ylim(bottom=0)
    positive = [value for value in values if value > 0]
    if positive and max(positive) > VERY_WIDE * min(positive):
        limits = min([*positive, *noise.values()]) / 2, max(positive) * 1.5
        log_values(axes, limits)
        axes.set_ylim(limits)
    _band(axes, chance, color=CHANCE, alpha=0.6, label="as near as another dense seed")
    _band(axes, noise, color=NOISE, alpha=0.45, label="2.8 standard errors (median)")


def _band(axes: Axes, tops: Mapping[int, float], **look: Any) -> None:
    bottom = axes.get_ylim()[0]
    if len(tops) == 1:  # one epoch has no width
        axes.axhspan(bottom, *tops.values(), lw=0, zorder=1, **look)
    elif tops:
        axes.fill_between(list(tops), bottom, list(tops.values()), lw=0, zorder=1, **look)


def _by_epoch(pairs: Iterable[tuple[int, float | None]]) -> dict[int, list[float]]:
    found: dict[int, list[float]] = {}
    for epoch, value in pairs:
        if value is not None:
            found.setdefault(epoch, []).append(value)
    return found


def _draw(axes: Axes, history: Sequence[Record], value: Value, **look: Any) -> list[float]:
    found = [(record.epoch, value(record)) for record in history]
    points = [(epoch, number) for epoch, number in found if number is not None]
    if points:
        axes.plot(*zip(*points, strict=True), **look)
    return [number for _, number in points]


def _epoch_axis(axes: Axes, trials: Trials, dense: Sequence[Record] = ()) -> None:
    epochs = [record.epoch for record in itertools.chain(dense, *trials.histories.values())]
    epoch_axis(axes, epochs, trials.cuts)
