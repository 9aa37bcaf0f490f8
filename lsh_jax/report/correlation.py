"""The section that asks whether the distance at the first score foretells how well it goes."""

import numpy as np

from lsh_jax import plots
from lsh_jax.report import series
from lsh_jax.report.formatting import number, percent, plural, signed
from lsh_jax.report.page import Block, Picture, Pictures, Section, Text
from lsh_jax.report.run import Run, at_epoch
from lsh_jax.report.svg import to_svg
from lsh_jax.statistics import bootstrap_interval, spearman, spearman_p_value

_FEW = 4  # candidates below which a rank correlation says nothing
_RESAMPLED = 8  # candidates from which a bootstrap interval is no artefact of repeated draws
_ROUGH = 10  # candidates below which the bootstrap interval is no more than a hint
_LEVEL = 0.95


def correlation_section(run: Run) -> Section:
    """The measure against distance, at the first score and as late as enough candidates reach."""
    measure = run.measure
    early = {r.trial: r for r in at_epoch(run, run.first_epoch) if r.ls_distance is not None}
    late_epoch = _furthest_epoch(run, set(early))
    blocks: list[Block] = []
    pictures, charts = [], []
    for epoch in [run.first_epoch] + [late_epoch] * (late_epoch > run.first_epoch):
        points = [
            plots.Point(trial, first.ls_distance, first.ls_std_error or 0.0, value)
            for record in at_epoch(run, epoch)
            if isinstance(trial := record.trial, int)
            and (first := early.get(trial)) is not None
            and first.ls_distance is not None
            and (value := measure.of_record(record)) is not None
        ]
        if points:
            pictures.append(_scatter(run, epoch, points))
            charts.append(series.scatter_chart(run, *_labels(run, epoch), points))
        blocks.append(Text(_correlation(run, points, epoch)))
    caption = (
        f"Across: how far a candidate's spectrum lay from the dense network's after epoch "
        f"{run.first_epoch}, with its standard error. Up: its validation {measure.name}, at an "
        "epoch that all candidates in the picture have reached. If the distance is a good judge, "
        "the marks rise from left to right. The later picture holds only those that the search "
        "kept, so its range is narrower and its correlation not comparable with the first."
    )
    head: list[Block] = [Pictures(pictures, caption, charts)] if pictures else []
    return Section(f"Does a small distance mean a low {measure.name}?", head + blocks)


def _labels(run: Run, epoch: int) -> tuple[str, str]:
    """The title of a picture, and what its axis up is."""
    measure = run.measure
    return f"{measure.title} at epoch {epoch}", f"validation {measure.label}, epoch {epoch}"


def _scatter(run: Run, epoch: int, points: list[plots.Point]) -> Picture:
    trials = plots.trials_of(run)
    title, label = _labels(run, epoch)
    figure = plots.plot_scatter(title, points, label, trials)
    alt = (
        f"Validation {run.measure.name} at epoch {epoch} against LS distance at epoch "
        f"{run.first_epoch}, {plural(len(points), 'candidate')}"
    )
    return Picture(to_svg(figure, alt), alt)


def _correlation(run: Run, points: list[plots.Point], epoch: int) -> str:
    """The rank correlation with what it is worth, and which way it went."""
    name = run.measure.name
    head = f"{_labels(run, epoch)[0]}, {plural(len(points), 'candidate')}: "
    if len(points) < _FEW:
        return f"{head}too few for a rank correlation."
    x, y = [p.distance for p in points], [p.value for p in points]
    rho = spearman(x, y)
    if not np.isfinite(rho):
        return f"{head}all values are equal, so there is no rank correlation."
    text = f"{head}Spearman rank correlation {signed(rho, 2)}, "
    if len(points) < _RESAMPLED:
        value = number(spearman_p_value(x, y), 2)
        worth = (
            f"exact two-sided permutation p value {value}. {_direction(rho, name)} So few "
            "candidates, of one run, decide nothing, whichever way it went."
        )
        return text + worth
    low, high = bootstrap_interval(spearman, x, y, level=_LEVEL, num_resamples=500)
    text += (
        f"{percent(_LEVEL, 0)} bootstrap interval {signed(low, 2)} to {signed(high, 2)}. "
        f"{_direction(rho, name)}"
    )
    if low <= 0 <= high:
        text += " The interval holds 0: this does not settle whether there is a connection."
    caution = " So few candidates make the interval itself rough."
    return text + caution * (len(points) < _ROUGH)


def _direction(rho: float, name: str) -> str:
    if rho == 0:
        return f"Here nearer spectra went with neither lower nor higher {name}."
    return f"Here the nearer spectra went with the {'lower' if rho > 0 else 'HIGHER'} {name}."


def _furthest_epoch(run: Run, trials: set[int | str]) -> int:
    """The last epoch with enough candidates to correlate; failing that, the last of any."""
    counts: dict[int, int] = {}
    for trial, history in run.candidates.items():
        for record in history if trial in trials else ():
            if run.measure.of_record(record) is not None:
                counts[record.epoch] = counts.get(record.epoch, 0) + 1
    enough = [epoch for epoch, count in counts.items() if count >= _FEW]
    later = [epoch for epoch in enough if epoch > run.first_epoch]
    return max(later or counts, default=run.first_epoch)
