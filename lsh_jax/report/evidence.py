"""The sections with pictures of the paper's Figure 1: spectra, distances, perplexities."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from lsh_jax import plots
from lsh_jax.report import series
from lsh_jax.report.formatting import number, percent, plural
from lsh_jax.report.measured import of_baseline
from lsh_jax.report.page import Block, Picture, Pictures, Section, Text
from lsh_jax.report.run import Run, at_epoch, given
from lsh_jax.report.svg import to_svg
from lsh_jax.report.values import is_number

_REFERENCES = {
    "same-epoch": "the dense network after as many epochs",
    "final": "the dense network after its last epoch",
    "same-loss": "the dense network at its epoch of the nearest validation nll",
}
_STATES = {
    "hidden": "the hidden state (a cell state is held on its path)",
    "full": "the whole state, cell state included",
}
_ALONE = "the chance of training, i.e. how far a dense network from another seed would lie,"


def spectra_section(run: Run) -> Section:
    """Lyapunov spectra of dense and candidates, layer by layer, at the first score and the end."""
    title = "Lyapunov spectra over the epochs"
    blocks: list[Block] = [Text(_definition(run))]
    epochs = sorted(epoch for trial, epoch in run.spectra if trial == "dense")
    if not epochs:
        return Section(title, [*blocks, Text("The run holds no spectra.")])
    last = epochs[-1]
    first = {str(trial): run.first_epoch for trial in run.candidates}
    final = {str(trial): _last_epoch(run, trial) for trial in run.finalists}
    end = max(final.values(), default=run.first_epoch)
    pictures = []
    for layer in range(run.spectra["dense", last].shape[0]):
        shown = [("after", run.first_epoch, first)]
        if end > run.first_epoch:
            shown.append(("finalists after", end, final))
        keys = [("dense", epoch) for epoch in (run.first_epoch, end, last)]
        keys += [key for _, _, trials in shown for key in trials.items()]
        limits = _limits([_drawn(run, key, layer) for key in keys if key in run.spectra])
        for words, epoch, trials in shown:
            name = f"Layer {layer + 1}, {words} epoch {epoch}"
            other = last if epoch == run.first_epoch else run.first_epoch
            dense = [e for e in dict.fromkeys((epoch, other)) if e in epochs] or [last]
            pictures.append(_spectra_picture(run, name, layer, dense, trials, limits))
    charts = list(series.spectra_charts(run))
    blocks.append(Pictures(pictures, _spectra_caption(run), charts))
    return Section(title, blocks)


def _definition(run: Run) -> str:
    """What the LS distance is, under the settings of the run."""
    settings = run.config.get("spectrum")
    settings = settings if isinstance(settings, dict) else {}
    share, state = settings.get("share"), settings.get("state")
    over = "the leading exponents of each layer that were computed"
    if is_number(share):
        over = f"the leading {percent(share, 0)} of each layer's exponents"
    words = _STATES.get(state) if isinstance(state, str) else None
    of = f" The exponents are those of {words}." if words else ""
    floor = number(series.FLOOR, 2)
    return (
        "The LS distance of two networks is the l2 norm of the difference between their Lyapunov "
        f"exponents in nats per step, sorted, layers one after the other, over {over}; values "
        f"below {floor} count as {floor}.{of} Here it is the distance to {_reference(run)}."
    )


def _reference(run: Run) -> str:
    if given(run):
        return "the dense network that was given, not trained here"
    return _REFERENCES.get(run.search.get("reference", ""), "the dense network")


def _spectra_caption(run: Run) -> str:
    dense = "Black, or white on a dark page: the dense network"
    if given(run):
        dense += ", given, not trained here"
    else:
        dense += "; in still pictures solid after the epoch in the title, dashed after the other"
    best = "best so far" if run.winner is None else "winner"
    first = [run.spectra.get((str(trial), run.first_epoch)) for trial in run.candidates]
    points = sum(spectrum.shape[1] for spectrum in first if spectrum is not None)
    crowd = ""
    if points > plots.MOST_POINTS:
        crowd = " So many curves are drawn through every few exponents only."
    floor = ""
    if any(float(spectrum.min()) < series.FLOOR for spectrum in run.spectra.values()):
        floor = (
            f" Exponents below {number(series.FLOOR, 2)} are drawn there, as the distance counts "
            "them."
        )
    bands = " Bands, where wide enough to be seen: two standard errors." if run.std_errors else ""
    return (
        "Each curve is one network: its exponents in falling order, the rates at which nearby "
        f"states approach each other (below 0) or part (above 0). {dense}; the thick orange curve "
        f"is the {best}, the thin ones are the others. Look for how closely a curve follows the "
        "dense one: the LS distance is the gap between them. The index runs over the "
        f"exponents that were computed, the leading ones of each layer.{floor}{crowd}{bands}"
    )


def _spectra_picture(
    run: Run,
    title: str,
    layer: int,
    dense_epochs: list[int],
    trials: Mapping[str, int],
    limits: tuple[float, float],
) -> Picture:
    """One layer: the dense network at some epochs, the first solid, and trials at one each."""
    labels = {
        "dense, as given" if given(run) else f"dense, epoch {epoch}": ("dense", epoch)
        for epoch in dense_epochs
    }
    dense = {label: _drawn(run, key, layer) for label, key in labels.items()}
    found = {key[0]: _drawn(run, key, layer) for key in trials.items() if key in run.spectra}
    best: plots.Best = "best so far" if run.winner is None else "winner"
    first = str(run.leader if run.winner is None else run.winner)
    keys = {
        next(iter(labels)): next(iter(labels.values())),
        best: (first, trials.get(first, 0)),
    }
    errors = {
        label: run.std_errors[key][layer]
        for label, key in keys.items()
        if key in run.std_errors and run.std_errors[key].shape == run.spectra[key].shape
    }
    others: plots.Others = "other finalists" if "finalists" in title else "other candidates"
    rest = [exponents for trial, exponents in found.items() if trial != first]
    figure = plots.plot_spectra(
        title, dense, rest, found.get(first), others, best, errors=errors, limits=limits
    )
    alt = f"Lyapunov exponents. {title}: {plural(len(found), 'pruned network')} and the dense one"
    return _picture(figure, alt)


def _drawn(run: Run, key: tuple[str, int], layer: int) -> np.ndarray:
    """Exponents as the distance counts them: few far below would flatten all other curves."""
    return np.maximum(run.spectra[key][layer], series.FLOOR)


def _limits(curves: list[np.ndarray]) -> tuple[float, float]:
    low = min(float(np.min(curve)) for curve in curves)
    high = max(float(np.max(curve)) for curve in curves)
    margin = 0.05 * (high - low) or 0.1
    return low - margin, high + margin


def _last_epoch(run: Run, trial: int) -> int:
    return max((epoch for name, epoch in run.spectra if name == str(trial)), default=0)


def curves_section(run: Run) -> Section:
    """Distance to dense, and how well the networks do, over the epochs."""
    measure = run.measure
    trials = plots.trials_of(run)
    dense = run.dense[0] if run.dense else []
    baseline = of_baseline(measure, run.result, "validation")
    measured = plots.plot_measure(trials, dense, baseline, measure)
    pictures, charts = [], []
    if any(record.ls_distance is not None for record in at_epoch(run, run.first_epoch)):
        distance = plots.plot_distance(trials, run.dense[1:])
        alt = "LS distance of every candidate to the dense network by epoch"
        pictures.append(_picture(distance, alt))
        charts.append(series.distance_chart(run))
    alt = f"Validation {measure.name} of the dense network and candidates by epoch"
    pictures.append(_picture(measured, alt))
    charts.append(series.measure_chart(run))
    return Section(
        f"Distance to dense and {measure.name} over the epochs",
        [Pictures(pictures, _curves_caption(run), charts), Text(_noise_floor(run))],
    )


def _curves_caption(run: Run) -> str:
    seeds = (
        "the grey band, or the dashed lines, reach up to the farthest dense network of another "
        "seed, the noise that counts; "
        if run.dense[1:]
        else ""
    )
    above = ""
    if of_baseline(run.measure, run.result, "validation") is not None:
        above = f"; a network above the {run.measure.baseline} line has not begun to learn"
    or_stands = " or stands now" if run.winner is None else ""
    return (
        f"A candidate's curve ends with a dot where it was cut{or_stands}, with a cross where it "
        "failed; grey vertical lines are the ends of rounds. Distance: to "
        f"{_reference(run)}; {seeds}the orange band, or dotted line, is 2.8 median standard errors "
        "high (where no band is seen, it is thinner than a line): two distances that differ by "
        "less cannot be ranked, as the difference of two has 1.4 times the error of one and must "
        "be twice that. "
        f"The standard error tells how well a spectrum was estimated; {_ALONE} is not in it. "
        f"{run.measure.title}: lower is better{above}."
    )


def _noise_floor(run: Run) -> str:
    """The spread of the distances at the first score beside what noise alone would give."""
    records = at_epoch(run, run.first_epoch)
    distances = [record.ls_distance for record in records if record.ls_distance is not None]
    errors = [record.ls_std_error for record in records if record.ls_std_error is not None]
    if not distances:
        return "No distances were recorded at the first score."
    spread = (
        f"Noise floor. After epoch {run.first_epoch} the distances of "
        f"{plural(len(distances), 'candidate')} lie between {number(min(distances))} and "
        f"{number(max(distances))}. "
    )
    seeds = [
        record.ls_distance
        for history in run.dense[1:]
        for record in history
        if record.epoch == run.first_epoch and record.ls_distance is not None
    ]
    error = float(np.median(errors)) if errors else None
    return spread + _chance(run, seeds, distances, error) + _estimation(error, known=bool(seeds))


def _chance(run: Run, seeds: list[float], distances: list[float], error: float | None) -> str:
    """The noise of training, where dense networks from other seeds show it."""
    if not seeds:
        return ""
    times = f", {number(max(seeds) / error, 2)} times the standard error" if error else ""
    near = sum(distance <= max(seeds) for distance in distances)
    apart = max(distances) - min(distances)
    text = (
        f"Dense networks trained from other seeds lie {', '.join(map(number, seeds))} from the "
        f"reference at the same epoch{times}: this is the main noise floor, for it holds the "
        "chance of training. A candidate no farther than that is as near as a dense network gets "
        f"({near} of {len(distances)} are), and candidates that differ by less could change places "
        "with another seed. "
    )
    if apart < max(seeds):
        text += "Here even the nearest and the farthest candidate differ by less. "
    return text


def _estimation(error: float | None, *, known: bool) -> str:
    """The noise of the spectra, and that it is not all."""
    if error is None:
        return "The standard errors of the distances are unknown."
    text = (
        f"The median standard error of a distance is {number(error, 2)}; two distances must "
        f"differ by 2.8 of it, {number(plots.SIGNIFICANT * error, 2)}, to be told apart"
    )
    if known:
        return f"{text} as spectra, leaving the chance of training aside."
    return (
        f"{text}. That covers the estimation of the spectra only; {_ALONE} comes on top. It was "
        "not measured here and can be many times larger: nearness and order of the candidates "
        "are proven only for the networks that were trained, not for their controls."
    )


def _picture(figure: Any, alt: str) -> Picture:
    return Picture(to_svg(figure, alt), alt)
