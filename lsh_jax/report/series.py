"""The charts of a search: spectra with a slider over the epochs, curves, marks and shares.

They show what the pictures show; where a run has more numbers than a page should hold, spectra are
thinned first, and then the candidates that were cut first are left out.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

from lsh_jax import plots
from lsh_jax.distance import Preparation
from lsh_jax.report.charts import Chart, Frame, Line, Look, colour
from lsh_jax.report.measured import of_baseline
from lsh_jax.report.run import Run, given
from lsh_jax.search.ledger import Record

FLOOR = Preparation().floor
"""Where the LS distance takes an exponent below it to lie, nats per step; it is drawn there."""
_MOST_NUMBERS = 150_000  # exponents in the charts of one page: about a megabyte
_FEWEST = 24  # exponents to which a curve is thinned
_LOOKS: dict[str, Look] = {
    "winner": "winner",
    "best so far": "winner",
    "other finalists": "finalist",
    "other candidates": "other",
}
_ORDER = ("other candidates", "other finalists", "winner", "best so far")  # the last on top


def spectra_charts(run: Run) -> Iterator[Chart]:
    """The spectra of each layer, an epoch a frame: the dense network and the candidates."""
    keys = _chosen(run)
    # A network that was given has epoch 0, which is no place of the slider: it is in every frame.
    epochs = sorted({epoch for _, epoch in keys} - {0}) or [0]
    total = sum(run.spectra[key].size for key in keys)
    share = min(1.0, _MOST_NUMBERS / max(1, total))
    for layer in range(len(run.spectra[keys[0]]) if keys else 0):
        frames = [
            Frame(
                f"epoch {epoch}",
                [_spectrum(run, key, layer, share) for key in keys if key[1] in (0, epoch)],
            )
            for epoch in epochs
        ]
        labels = "index of the exponent, i/K", "exponent, nats per step"
        yield Chart(f"Layer {layer + 1}", *labels, frames, floor=FLOOR)


def _chosen(run: Run) -> list[tuple[str, int]]:
    """The spectra to show, in the order in which they are drawn."""
    dense = sorted(key for key in run.spectra if key[0] == "dense")
    trials = plots.trials_of(run)
    known: dict[int, list[tuple[str, int]]] = {}
    for trial, epoch in sorted(run.spectra):
        if trial.isdecimal() and int(trial) in run.candidates:
            known.setdefault(int(trial), []).append((trial, epoch))
    # Those that came furthest are the last to be left out.
    kept = sorted(known, key=lambda trial: (_place(trials, trial), -len(known[trial]), trial))
    width = max((run.spectra[key].shape[1] for key in run.spectra), default=1)
    size = max((run.spectra[key].size for key in run.spectra), default=1)
    room = _MOST_NUMBERS / (size * min(1.0, _FEWEST / width)) - len(dense)
    chosen: list[tuple[str, int]] = []
    for number in kept:
        if len(chosen) + len(known[number]) > room:
            break
        chosen = [*known[number], *chosen]
    return [*chosen, *dense]


def _place(trials: plots.Trials, trial: int) -> int:
    return -_ORDER.index(plots.role(trials, trial))


def _spectrum(run: Run, key: tuple[str, int], layer: int, share: float) -> Line:
    exponents = run.spectra[key][layer]
    count = len(exponents)
    places = plots.spread(count, max(share, min(1.0, _FEWEST / count)))
    x, y = (places + 1) / count, exponents[places]
    name, group = "dense", "dense"
    look: Look = "dense"
    error: Sequence[float] = ()
    if key[0] != "dense":
        group = plots.role(plots.trials_of(run), int(key[0]))
        name, look = f"trial {key[0]}", _LOOKS[group]
    elif given(run):
        name = group = "dense, as given"
    known = run.std_errors.get(key)
    if look in ("dense", "winner") and known is not None and known.shape == run.spectra[key].shape:
        error = known[layer][places].tolist()
    return Line(name, group, look, x.tolist(), y.tolist(), error)


def curves_chart(
    run: Run,
    title: str,
    y_label: str,
    value: plots.Value,
    further: Iterable[Line] = (),
    only: Mapping[int, Sequence[Record]] | None = None,
    wide: float = math.inf,
) -> Chart:
    """A value of every candidate by epoch.

    Args:
      run: the search.
      title: of the chart.
      y_label: what the value is.
      value: of a record.
      further: lines beside those of the candidates.
      only: histories to draw, all where they are not given.
      wide: ratio of the largest to the smallest above which the axis is logarithmic.
    """
    trials = plots.trials_of(run)
    histories = run.candidates if only is None else only
    lines = [
        _history(f"trial {trial}", role, _LOOKS[role], histories[trial], value)
        for role in _ORDER
        for trial in sorted(histories)
        if plots.role(trials, trial) == role
    ]
    lines = [line for line in [*lines, *further] if line.x]
    values = [y for line in lines for y in line.y if y is not None and y > 0]
    epochs = [x for line in lines for x in line.x]
    return Chart(
        title,
        "epoch",
        y_label,
        [Frame("all epochs", lines)],
        log_x=bool(epochs) and max(epochs) > plots.LONG_RUN and min(epochs) > 0,
        log_y=bool(values) and max(values) > wide * min(values),
        cuts=trials.cuts,
    )


def _history(
    name: str, group: str, look: Look, history: Sequence[Record], value: plots.Value
) -> Line:
    found = [record for record in history if value(record) is not None]
    x, y = [record.epoch for record in found], [value(record) for record in found]
    errors = [r.ls_std_error for r in found if r.ls_std_error is not None]
    own = value is _distance and len(errors) == len(x)  # they are errors of the distance
    failed = history[-1].status == "failed"
    return Line(name, group, look, x, y, errors if own else (), failed)


def measure_chart(run: Run) -> Chart:
    """How well the dense network and candidates do on validation by epoch."""
    measure = run.measure
    epochs = [r.epoch for h in run.candidates.values() for r in h] or [1]
    span = [max(1, min(epochs)), max(epochs)]
    further = []
    dense = run.dense[0] if run.dense else []
    if given(run):
        level = [measure.of_record(dense[0])] * 2
        further.append(Line("dense, as given", "dense, as given", "dense", span, level))
    elif dense:
        further.append(_history("dense", "dense", "dense", dense, measure.of_record))
    baseline = of_baseline(measure, run.result, "validation")
    if baseline is not None:
        name = measure.baseline
        further.append(Line(name, name, "baseline", span, [baseline] * 2))
    title, label = f"Validation {measure.name}", f"validation {measure.label}"
    wide = plots.WIDE if measure.has_ratios else math.inf
    return curves_chart(run, title, label, measure.of_record, further, wide=wide)


def distance_chart(run: Run) -> Chart:
    """The LS distance of candidates and of dense networks from other seeds by epoch."""
    further = [
        _history(str(history[0].trial), "dense, other seeds", "seed", history, _distance)
        for history in run.dense[1:]
    ]
    noise = plots.noise_levels(plots.trials_of(run))
    if noise:
        words = "2.8 standard errors (median)"
        further.append(Line(words, words, "noise", list(noise), list(noise.values())))
    title, label = "LS distance to dense", "LS distance, nats per step"
    return curves_chart(run, title, label, _distance, further, wide=plots.VERY_WIDE)


def _distance(record: Record) -> float | None:
    return record.ls_distance


def scatter_chart(run: Run, title: str, y_label: str, points: Sequence[plots.Point]) -> Chart:
    """A mark a candidate: how well it does against its distance."""
    trials = plots.trials_of(run)
    lines = [
        Line(f"trial {p.trial}", role, _LOOKS[role], [p.distance], [p.value], [p.std_error])
        for role in _ORDER
        for p in points
        if plots.role(trials, p.trial) == role
    ]
    x_label = "LS distance at the first score, nats per step"
    return Chart(title, x_label, y_label, [Frame("all", lines)], marks=True)


def density_charts(
    epochs: Sequence[int], panels: Mapping[str, Mapping[str, Sequence[float]]], whole: list[float]
) -> Iterator[Chart]:
    """The density of the parts of one network by epoch, a chart a leaf."""
    labels = list(dict.fromkeys(label for lines in panels.values() for label in lines))
    limits = plots.density_limits(panels, whole)
    for title, parts in panels.items():
        lines = [Line("whole network", "whole network", "whole", epochs, whole)]
        for label, densities in parts.items():
            look = colour(labels.index(label))
            lines.append(Line(label, label, look, epochs, list(densities)))
        frames = [Frame("all epochs", lines)]
        log = max(epochs) > plots.LONG_RUN and min(epochs) > 0
        yield Chart(title, "epoch", "density", frames, log_x=log, y_range=limits)
