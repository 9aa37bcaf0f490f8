"""The page that puts several searches side by side."""

import pathlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from lsh_jax import plots
from lsh_jax.config import ConfigError
from lsh_jax.report.charts import Chart, Frame, Line, colour
from lsh_jax.report.controls import control, heading
from lsh_jax.report.formatting import MISSING, duration, number, percent, plural, signed
from lsh_jax.report.measured import of_network
from lsh_jax.report.page import Block, Picture, Pictures, Section, Table, Text
from lsh_jax.report.run import Run, round_name
from lsh_jax.report.sections import headline, list_settings
from lsh_jax.report.svg import to_svg
from lsh_jax.search.ledger import Record, best_epoch
from lsh_jax.search.measure import Measure

Runs = Mapping[str, Run]

_COST_COLUMNS = (
    "run",
    "#epochs of candidates",
    "#of dense networks",
    "#of a full search",
    "#spent / full",
    "#with dense networks",
    "#wall time",
)
_DOTTED = "Dotted and thin: the dense network of the same run."


def name_runs(paths: Sequence[pathlib.Path]) -> list[str]:
    """What to call each run: the end of its path, as long as it takes to tell them apart.

    Raises:
      ConfigError: when one is given twice.
    """
    parts = [path.resolve().parts for path in paths]
    if len(set(parts)) < len(parts):
        raise ConfigError("`runs` must differ from each other; one was given twice.")
    depth = 1
    while len({part[-depth:] for part in parts}) < len(parts):
        depth += 1
    return [_legible("/".join(part[-depth:])) for part in parts]


def comparison_sections(runs: Runs) -> Iterator[Section]:
    """Everything that is compared.

    Args:
      runs: by name, in the order of the page.
    """
    yield _results_section(runs)
    yield _settings_section(runs)
    yield _budget_section(runs)
    yield _spectra_section(runs)
    yield _curves_section(runs)


def _results_section(runs: Runs) -> Section:
    blocks: list[Block] = [Text(f"{name}. {_verdict(run)}", "lead") for name, run in runs.items()]
    groups = _by_measure(runs)
    if len(groups) > 1:
        measures = "; ".join(f"{words}: {', '.join(own)}" for words, own in groups.items())
        text = f"The runs have different measures, which cannot be compared ({measures})."
        blocks.insert(0, Text(text, "warning"))
    for words, own in groups.items():
        heading_ = [Text(f"Runs measured by {words}:")] if len(groups) > 1 else []
        blocks += [*heading_, _results_table(own), *_intervals(own, words)]
    return Section("Results", blocks)


def _by_measure(runs: Runs) -> dict[str, dict[str, Run]]:
    """The runs whose numbers are of one kind, by what that is called."""
    found: dict[str, dict[str, Run]] = {}
    for name, run in runs.items():
        measure = run.measure
        scale = f" (scale {measure.scale:g})" if measure.kind == "rms" else ""
        found.setdefault(f"{measure.name}{scale}", {})[name] = run
    return found


def _measure_of(runs: Runs) -> Measure:
    return next(iter(runs.values())).measure


def _results_table(runs: Runs) -> Table:
    """Of runs of one measure."""
    measure = _measure_of(runs)
    columns = ["run", "winner", "#sparsity"]
    for split in ("val.", "test"):
        columns += [f"#{split} {measure.short}{words}" for words in ("", ", dense")]
    columns += [f"#difference, {measure.unit}", "#interval"]
    return Table(columns, [[name, *_result_cells(run)] for name, run in runs.items()])


def _intervals(runs: Runs, words: str) -> Iterator[Block]:
    """The picture of how far winners are from their dense networks, if there are any."""
    measure = _measure_of(runs)
    done = {name: run.result["beats_dense"] for name, run in runs.items() if _is_done(run)}
    if not done:
        return
    rows = [
        (_verbatim(name), own["difference"], own["low"], own["high"]) for name, own in done.items()
    ]
    alt = "Difference of the test nll of winner and dense network with its interval, by run"
    alt += f", of {words}"
    caption = (
        "Test nll of the winner less that of the dense network, paired over blocks of the test "
        f"{measure.data}: left of 0 the pruned network is better."
    )
    if measure.kind == "perplexity":
        caption += (
            " Runs on other data, or of another vocabulary, can be compared by this difference, "
            "not by their perplexities."
        )
    figure = plots.plot_intervals(rows, f"difference, {measure.unit}")
    yield Pictures([Picture(to_svg(figure, alt), alt)], caption)


def _verdict(run: Run) -> str:
    if _is_done(run):
        return headline(run.result)
    best = "" if run.leader is None else f"; the best so far is trial {run.leader}"
    where = round_name(run, len(run.rounds))
    count = plural(len(run.candidates), "candidate")
    return f"Not finished: {count} on record, {where} under way{best}."


def _is_done(run: Run) -> bool:
    return run.winner is not None


def _result_cells(run: Run) -> list[str]:
    best = _best(run)
    if not _is_done(run):
        history = run.candidates.get(best, []) if best is not None else []
        known, dense = (
            _points(own, run.measure.of_record).values()
            for own in (history, run.dense[0] if run.dense else [])
        )
        lowest = [number(min(values, default=None)) for values in (known, dense)]
        return [MISSING if best is None else f"trial {best}", MISSING, *lowest, *[MISSING] * 4]
    own, dense_, compared = (run.result[key] for key in ("best", "dense", "beats_dense"))
    return [
        f"trial {best}",
        percent(own["sparsity"]),
        *(number(of_network(run.measure, network, "val")) for network in (own, dense_)),
        *(number(of_network(run.measure, network, "test")) for network in (own, dense_)),
        signed(compared["difference"]),
        f"{signed(compared['low'])} to {signed(compared['high'])}",
    ]


def _best(run: Run) -> int | None:
    return run.leader if run.winner is None else run.winner


def _settings_section(runs: Runs) -> Section:
    """The settings that are not the same in all runs, and the controls of the winners."""
    own = {name: dict(list_settings(run)) for name, run in runs.items()}
    rows = _differing(own)
    blocks: list[Block] = [Text("All settings are the same.")]
    if rows:
        blocks = [Table(("setting", *own), rows)]
    controls = {name: _controls(run) for name, run in runs.items()}
    rows = _differing(controls)
    words = "The winners' controls are the same."
    blocks.append(Text("The winners' controls, where they differ:" if rows else words))
    if rows:
        blocks.append(Table(("control", *controls), rows))
    return Section("Settings that differ", blocks)


def _differing(columns: Mapping[str, Mapping[str, str]]) -> list[list[str]]:
    names = dict.fromkeys(name for column in columns.values() for name in column)
    rows = [[name, *(own.get(name, MISSING) for own in columns.values())] for name in names]
    return [row for row in rows if len(set(row[1:])) > 1]


def _controls(run: Run) -> dict[str, str]:
    best = _best(run)
    history = run.candidates.get(best, []) if best is not None else []
    if not history:
        return {}
    controls = history[-1].controls
    return {heading(name).removeprefix("#"): control(controls, name) for name in controls}


def _budget_section(runs: Runs) -> Section:
    rows = []
    for name, run in runs.items():
        spent = run.result.get("budget")
        if spent is None:
            epochs = sum(map(len, run.candidates.values()))
            rows.append([name, f"{epochs:,}", *[MISSING] * 5])
            continue
        counts = [f"{spent[f'epochs_{key}']:,.0f}" for key in ("spent", "dense", "full_search")]
        ratios = [percent(spent[key]) for key in ("ratio", "ratio_with_dense")]
        rows.append([name, *counts, *ratios, duration(run.result.get("wall_s"))])
    note = "A full search trains every candidate to the end."
    return Section("What they cost", [Table(_COST_COLUMNS, rows), Text(note, "note")])


def _spectra_section(runs: Runs) -> Section:
    title = "Lyapunov spectra of the winners"
    keys = {name: _spectrum_key(run) for name, run in runs.items()}
    shown = {name: (runs[name], key) for name, key in keys.items() if key is not None}
    if not shown:
        return Section(title, [Text("The runs hold no spectra.")])
    pictures, charts = [], []
    for layer in range(max(len(run.spectra[key]) for run, key in shown.values())):
        pairs = {
            name: _spectra_pair(run, key, layer)
            for name, (run, key) in shown.items()
            if layer < len(run.spectra[key])
        }
        labels = "index of the exponent, i/K", "exponent, nats per step"
        picture, chart = _draw(f"Layer {layer + 1}", *labels, pairs)
        pictures.append(picture)
        charts.append(chart)
    epochs = ", ".join(f"{name}: {key[1]}" for name, (_, key) in shown.items())
    caption = f"The best network of each run, after epoch ({epochs}). {_DOTTED}"
    return Section(title, [Pictures(pictures, caption, charts)])


def _spectrum_key(run: Run) -> tuple[str, int] | None:
    """The spectrum of the best network at its best epoch, or else the last that it has."""
    best = _best(run)
    epochs = sorted(epoch for trial, epoch in run.spectra if trial == str(best))
    if not epochs:
        return None
    history = run.candidates.get(best, []) if best is not None else []
    judged = any(r.status == "ok" and r.val_nll is not None for r in history)
    at = best_epoch(history) if judged else epochs[-1]
    return str(best), at if at in epochs else epochs[-1]


def _spectra_pair(run: Run, key: tuple[str, int], layer: int) -> plots.Pair:
    own = run.spectra[key][layer]
    found = [("dense", key[1]), ("dense", 0)]
    dense = next((run.spectra[k][layer] for k in found if k in run.spectra), np.zeros(0))
    return plots.Pair(_index(own), own.tolist(), _index(dense), dense.tolist())


def _index(exponents: np.ndarray) -> list[float]:
    return [(place + 1) / len(exponents) for place in range(len(exponents))]


def _curves_section(runs: Runs) -> Section:
    """How well the winners do, a chart for each measure, and their distances."""
    groups = _by_measure(runs)
    parts: list[tuple[str, str, Runs, plots.Value | None]] = [
        (f"Validation {words}", f"validation {_measure_of(own).label}", own, None)
        for words, own in groups.items()
    ]
    parts.append(("LS distance to dense", "LS distance, nats per step", runs, _distance))
    pictures, charts = [], []
    for title, label, own, value in parts:
        pairs = {
            name: _curve_pair(run, value or run.measure.of_record) for name, run in own.items()
        }
        pairs = {name: pair for name, pair in pairs.items() if pair.x}
        if pairs:
            log = value is None and _measure_of(own).has_ratios and _is_wide(pairs)
            numbers = {name: list(runs).index(name) for name in pairs}
            drawn = _draw(title, "epoch", label, pairs, epochs=True, log_y=log, numbers=numbers)
            pictures.append(drawn[0])
            charts.append(drawn[1])
    names = [_measure_of(own).name for own in groups.values()]
    title = f"{names[0] if len(groups) == 1 else 'measure'} and distance of the winners"
    title = f"{title[0].upper()}{title[1:]} over the epochs"
    if not pictures:
        return Section(title, [Text("No epochs of the runs are on record yet.")])
    told = f"{_measure_of(runs).title}: lower" if len(groups) == 1 else "Lower"
    caption = f"The best network of each run. {_DOTTED} {told} is better."
    return Section(title, [Pictures(pictures, caption, charts)])


def _is_wide(pairs: Mapping[str, plots.Pair]) -> bool:
    """Whether a logarithmic axis would show more of some values."""
    values = [y for pair in pairs.values() for y in (*pair.y, *pair.reference_y)]
    return max(values) > plots.WIDE * min(values) > 0


def _distance(record: Record) -> float | None:
    return record.ls_distance


def _curve_pair(run: Run, value: plots.Value) -> plots.Pair:
    best = _best(run)
    own = _points(run.candidates.get(best, []) if best is not None else [], value)
    dense = _points(run.dense[0] if run.dense else [], value)
    return plots.Pair(list(own), list(own.values()), list(dense), list(dense.values()))


def _points(history: Sequence[Record], value: plots.Value) -> dict[int, float]:
    return {r.epoch: y for r in history if (y := value(r)) is not None}


def _draw(
    title: str,
    x: str,
    y: str,
    pairs: Mapping[str, plots.Pair],
    *,
    epochs: bool = False,
    log_y: bool = False,
    numbers: Mapping[str, int] | None = None,
) -> tuple[Picture, Chart]:
    """A picture and a chart of the same curves; of `numbers` as `plots.plot_pairs` has them."""
    numbers = numbers or {name: number for number, name in enumerate(pairs)}
    alt = f"{title} of the winners of {plural(len(pairs), 'run')}"
    figure = plots.plot_pairs(
        title,
        x,
        y,
        {_verbatim(name): pair for name, pair in pairs.items()},
        epochs=epochs,
        log_y=log_y,
        numbers={_verbatim(name): number for name, number in numbers.items()},
    )
    lines = []
    for name, pair in pairs.items():
        look = colour(numbers[name])
        if pair.reference_x:
            label = f"{name}, dense"
            dotted = f"{look} reference"
            lines.append(Line(label, label, dotted, pair.reference_x, pair.reference_y))
        lines.append(Line(name, name, look, pair.x, pair.y))
    last = max((x for pair in pairs.values() for x in (*pair.x, *pair.reference_x)), default=0)
    log_x = epochs and last > plots.LONG_RUN
    chart = Chart(title, x, y, [Frame("all", lines)], log_x=log_x, log_y=log_y)
    return Picture(to_svg(figure, alt), alt), chart


def _legible(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _verbatim(text: str) -> str:
    """Text for a picture, where dollars would enclose a formula."""
    return text.replace("$", r"\$")
