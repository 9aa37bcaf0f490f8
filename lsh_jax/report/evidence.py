"""The sections with pictures of the paper's Figure 1: spectra, distances, perplexities."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from lsh_jax import plots
from lsh_jax.report.formatting import number, percent, plural, signed
from lsh_jax.report.page import Block, Picture, Pictures, Section, Text
from lsh_jax.report.run import Run
from lsh_jax.report.svg import to_svg
from lsh_jax.statistics import bootstrap_interval, spearman

_FEW = 4  # candidates below which a rank correlation says nothing
_ROUGH = 10  # candidates below which the bootstrap interval is no more than a hint
_LEVEL = 0.95
_REFERENCES = {
    "same-epoch": "to the dense network after as many epochs",
    "final": "to the dense network after its last epoch",
    "same-loss": "to the dense network at its epoch of the nearest validation nll",
}


def spectra_section(run: Run) -> Section:
    """Lyapunov spectra of dense and candidates, layer by layer, at the first score and the end."""
    title = "Lyapunov spectra over the epochs"
    dense_epochs = sorted(epoch for trial, epoch in run.spectra if trial == "dense")
    if not dense_epochs:
        return Section(title, [Text("The run holds no spectra.")])
    last = dense_epochs[-1]
    shown = sorted({run.first_epoch, last} & set(dense_epochs))
    ends = {trial: _last_spectrum(run, trial) for trial in run.finalists}
    pictures = []
    for layer in range(run.spectra["dense", last].shape[0]):
        dense = {f"dense, epoch {epoch}": run.spectra["dense", epoch][layer] for epoch in shown}
        first = {
            trial: run.spectra[str(trial), run.first_epoch][layer]
            for trial in run.candidates
            if (str(trial), run.first_epoch) in run.spectra
        }
        name = f"Layer {layer + 1}, after epoch {run.first_epoch}"
        pictures.append(_spectra_picture(run, name, dense, first, "other candidates"))
        later = {trial: end[1][layer] for trial, end in ends.items() if end is not None}
        epoch = max((end[0] for end in ends.values() if end is not None), default=0)
        if epoch > run.first_epoch:
            name = f"Layer {layer + 1}, finalists after epoch {epoch}"
            pictures.append(_spectra_picture(run, name, dense, later, "other finalists"))
    caption = (
        "Each curve is one network: its exponents in falling order, the rates at which nearby "
        "states approach each other (below 0) or part (above 0). Look for how closely a thin curve "
        "follows the black ones: the LS distance is the gap between the curves. The index runs "
        "over the exponents that were computed, the leading ones of each layer."
    )
    return Section(title, [Pictures(pictures, caption)])


def _spectra_picture(
    run: Run,
    title: str,
    dense: Mapping[str, np.ndarray],
    spectra: Mapping[int, np.ndarray],
    others: plots.Others,
) -> Picture:
    rest = [exponents for trial, exponents in spectra.items() if trial != run.winner]
    figure = plots.plot_spectra(title, dense, rest, spectra.get(run.winner), others)
    alt = f"Lyapunov exponents. {title}: {plural(len(spectra), 'pruned network')} and the dense one"
    return _picture(figure, alt)


def _last_spectrum(run: Run, trial: int) -> tuple[int, np.ndarray] | None:
    epochs = [epoch for name, epoch in run.spectra if name == str(trial)]
    return (max(epochs), run.spectra[str(trial), max(epochs)]) if epochs else None


def curves_section(run: Run) -> Section:
    """Distance to dense and perplexity over the epochs."""
    trials, dense = _trials(run), run.dense[0] if run.dense else []
    reference = _REFERENCES.get(run.search.get("reference", ""), "to the dense network")
    perplexity = plots.plot_perplexity(trials, dense, run.result.get("unigram_perplexity"))
    pictures = []
    if _at(run, run.first_epoch):
        distance = plots.plot_distance(trials, run.dense[1:])
        alt = "LS distance of every candidate to the dense network by epoch"
        pictures.append(_picture(distance, alt))
    alt = "Validation perplexity of the dense network and candidates by epoch"
    pictures.append(_picture(perplexity, alt))
    caption = (
        "A candidate's curve ends with a dot where it was cut, with a cross where it failed; grey "
        f"vertical lines are the ends of rounds. Distance: {reference}; candidates that differ by "
        "less than the upper edge of the orange band, the median standard error of a distance, "
        "cannot be ranked (where no band is seen, it is thinner than a line). Perplexity: lower is "
        "better; a network above the unigram line has not begun to learn."
    )
    return Section(
        "Distance to dense and perplexity over the epochs",
        [Pictures(pictures, caption), Text(_noise_floor(run))],
    )


def _noise_floor(run: Run) -> str:
    """The spread of the distances at the first score beside what noise alone would give."""
    records = _at(run, run.first_epoch)
    distances = [record.ls_distance for record in records]
    errors = [record.ls_std_error for record in records if record.ls_std_error is not None]
    if not distances:
        return "No distances were recorded at the first score."
    text = (
        f"Noise floor. After epoch {run.first_epoch} the distances of "
        f"{plural(len(distances), 'candidate')} lie between {number(min(distances))} and "
        f"{number(max(distances))}"
    )
    if errors:
        text += f"; the median standard error of one is {number(float(np.median(errors)), 2)}"
    seeds = [
        record.ls_distance
        for history in run.dense[1:]
        for record in history
        if record.epoch == run.first_epoch and record.ls_distance is not None
    ]
    if seeds:
        listed = ", ".join(number(value) for value in seeds)
        return (
            f"{text}. Dense networks trained from other seeds lie {listed} from the reference at "
            "the same epoch: a candidate no farther than that is as near as a dense network gets."
        )
    return f"{text}. Only one dense network was trained, so its seed-to-seed distance is unknown."


def correlation_section(run: Run) -> Section:
    """Whether the distance at the first score foretells the perplexity."""
    early = _at(run, run.first_epoch)
    distances = {record.trial: record for record in early}
    late_epoch = _furthest_epoch(run, set(distances))
    blocks: list[Block] = []
    pictures = []
    for epoch in [run.first_epoch] + [late_epoch] * (late_epoch > run.first_epoch):
        points = [
            plots.Point(
                trial,
                distances[trial].ls_distance,
                distances[trial].ls_std_error or 0.0,
                record.val_perplexity,
            )
            for trial, history in run.candidates.items()
            for record in history
            if record.epoch == epoch and record.val_perplexity is not None and trial in distances
        ]
        if points:
            pictures.append(_scatter(run, epoch, points))
        blocks.append(Text(_correlation(points, epoch)))
    caption = (
        f"Across: how far a candidate's spectrum lay from the dense network's after epoch "
        f"{run.first_epoch}, with its standard error. Up: its validation perplexity, at an epoch "
        "that all candidates in the picture have reached. If the distance is a good judge, the "
        "marks rise from left to right. The later picture holds only those that the search kept, "
        "so its range is narrower and its correlation not comparable with the first."
    )
    head: list[Block] = [Pictures(pictures, caption)] if pictures else []
    return Section("Does a small distance mean a low perplexity?", head + blocks)


def _scatter(run: Run, epoch: int, points: list[plots.Point]) -> Picture:
    label = f"validation perplexity, epoch {epoch}"
    title = f"Perplexity at epoch {epoch}"
    figure = plots.plot_scatter(title, points, label, _trials(run))
    alt = (
        f"Validation perplexity at epoch {epoch} against LS distance at epoch {run.first_epoch}, "
        f"{plural(len(points), 'candidate')}"
    )
    return _picture(figure, alt)


def _correlation(points: list[plots.Point], epoch: int) -> str:
    head = f"Perplexity at epoch {epoch}, {plural(len(points), 'candidate')}: "
    if len(points) < _FEW:
        return f"{head}too few for a rank correlation."
    x, y = [p.distance for p in points], [p.perplexity for p in points]
    rho = spearman(x, y)
    low, high = bootstrap_interval(spearman, x, y, level=_LEVEL, num_resamples=500)
    if not np.isfinite([rho, low, high]).all():
        return f"{head}all values are equal, so there is no rank correlation."
    caution = " So few candidates make the interval itself rough." if len(points) < _ROUGH else ""
    return (
        f"{head}Spearman rank correlation {signed(rho, 2)}, {percent(_LEVEL, 0)} bootstrap "
        f"interval {signed(low, 2)} to {signed(high, 2)}. Above 0, nearer spectra go with lower "
        f"perplexity.{caution}"
    )


def _at(run: Run, epoch: int) -> list[Any]:
    """The candidates' records of an epoch that hold a distance."""
    return [
        record
        for history in run.candidates.values()
        for record in history
        if record.epoch == epoch and record.ls_distance is not None
    ]


def _furthest_epoch(run: Run, trials: set[int]) -> int:
    """The last epoch with enough candidates to correlate; failing that, the last of any."""
    counts: dict[int, int] = {}
    for trial in trials:
        for record in run.candidates[trial]:
            if record.val_perplexity is not None:
                counts[record.epoch] = counts.get(record.epoch, 0) + 1
    enough = [epoch for epoch, count in counts.items() if count >= _FEW]
    later = [epoch for epoch in enough if epoch > run.first_epoch]
    return max(later or counts, default=run.first_epoch)


def _trials(run: Run) -> plots.Trials:
    cuts = [entry["epochs"] for entry in run.rounds]
    return plots.Trials(run.candidates, run.winner, run.finalists, cuts)


def _picture(figure: Any, alt: str) -> Picture:
    return Picture(to_svg(figure, alt), alt)
