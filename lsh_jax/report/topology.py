"""The sections on what pruning saves and where the live weights are.

A run of a task that does not tell its masks, or of an older version, has neither.
"""

import math
from collections.abc import Iterator
from typing import Any

from lsh_jax import plots
from lsh_jax.report import series
from lsh_jax.report.formatting import MISSING, percent, plural
from lsh_jax.report.page import Block, Picture, Pictures, Section, Table, Text
from lsh_jax.report.run import Run
from lsh_jax.report.svg import to_svg
from lsh_jax.search.ledger import Record

_PANELS = 16  # leaves that a picture has room for
_TOKEN = (
    "FLOPs: two for each live weight that a token meets, its multiplication and addition; looking "
    "a word up costs none, and biases, gates and softmax are left out. "
)
_STEP = (
    "FLOPs: two for each live weight, its multiplication and addition, as if each were used once "
    "a step; biases and gates are left out. "
)
_NOTE = (
    "Training takes the forward "
    "FLOPs three times; where growth ranks dead weights by their gradient, the dense gradient is "
    "needed on top. That is what the method needs in principle. What is executed here is dense: "
    "this library multiplies by matrices with zeros in them, and takes one gradient more at each "
    "topology update. So the FLOPs are saved by hardware and kernels that can use the zeros, not "
    "by this run; the bytes are saved. Values are float32; bit masks are what the model folder "
    "holds, CSR (int32 columns and row pointers) is for comparison."
)


def size_sections(run: Run) -> Iterator[Section]:
    """Weights, FLOPs and bytes of the dense network and the winner, if the run has counts."""
    counts = run.result.get("counts")
    if not counts:
        return
    of_words = run.measure.kind == "perplexity"
    per = "token" if of_words else "step"
    dense, best = _amounts(counts["dense"], per), _amounts(counts["best"], per)
    rows = [
        [words, f"{whole:,}", f"{own:,}", percent(own / whole) if whole else MISSING]
        for (words, whole), (_, own) in zip(dense, best, strict=True)
    ]
    if run.model_bytes is not None:
        rows.append(
            ["bytes of model/weights.safetensors", MISSING, f"{run.model_bytes:,}", MISSING]
        )
    columns = ("what", "#dense", "#winner", "#winner / dense")
    yield Section(
        "Size and cost of the networks",
        [Table(columns, rows), Text((_TOKEN if of_words else _STEP) + _NOTE, "note")],
    )


def _amounts(network: dict[str, Any], per: str) -> list[tuple[str, int]]:
    training, stored = network["flops_training"], network["bytes"]
    return [
        ("live weights", network["live"]),
        ("weights that are never pruned", network["unmasked"]),
        (f"FLOPs a {per}, forward", network["flops_forward"]),
        (f"FLOPs a {per}, training: the method's need", training["needed"]),
        (f"FLOPs a {per}, training: executed here", training["executed"]),
        ("bytes stored: values and bit masks", stored["stored"]),
        ("bytes in CSR: values and indices", stored["csr"]),
    ]


def topology_sections(run: Run) -> Iterator[Section]:
    """Density by layer and gate, and how the masks moved, if the run has counts."""
    counts = run.result.get("counts")
    if not counts:
        return
    best = counts["best"]
    parts = best["parts"]
    blocks: list[Block] = [Text(_where(run)), _density_table(parts)]
    own = run.candidates.get(run.result["best"]["trial"], [])
    history = [record for record in own if record.topology and record.nonzeros]
    if history:
        blocks += [
            _density_pictures(history, parts, best["weights"]),
            _share_pictures(run),
            Text(_moved(history, best["live"] / best["weights"])),
        ]
    yield Section("Where the live weights are", blocks)


def _where(run: Run) -> str:
    epoch = run.result["best"].get("epoch")
    when = f" after epoch {epoch}, its best" if epoch is not None else ""
    return (
        f"The winner, trial {run.winner}{when}: the density (share of live weights) of every leaf, "
        "of each layer in all, and of the gates side by side in a leaf. Explored: the share of "
        "the weights that have lived at any time, whether they live now or not."
    )


def _density_table(parts: list[dict[str, Any]]) -> Table:
    """A row a leaf, and one a layer with several of them, with a column a gate."""
    gates = list(dict.fromkeys(part["gate"] for part in parts if part["gate"] is not None))
    layers: dict[str, list[dict[str, Any]]] = {}
    for part in parts:
        layers.setdefault(part["leaf"].partition("/")[0], []).append(part)
    rows = []
    for layer, own in layers.items():
        leaves = list(dict.fromkeys(part["leaf"] for part in own))
        if len(leaves) > 1:
            rows.append(_density_row(f"{layer}, all", own, gates))
        for leaf in leaves:
            rows.append(_density_row(leaf, [part for part in own if part["leaf"] == leaf], gates))
    rows.append(_density_row("whole network", parts, gates))
    columns = ("leaf", "#weights", "#live", "#explored", "#density", *(f"#{g}" for g in gates))
    return Table(columns, rows)


def _density_row(name: str, parts: list[dict[str, Any]], gates: list[str]) -> list[str]:
    weights, live, explored = _sums(parts)
    row = [name, f"{weights:,}", f"{live:,}", _share(explored, weights), _share(live, weights)]
    for gate in gates:
        weights, live, _ = _sums([part for part in parts if part["gate"] == gate])
        row.append(_share(live, weights))
    return row


def _sums(parts: list[dict[str, Any]]) -> tuple[int, int, int]:
    weights, live, explored = (
        sum(part[name] for part in parts) for name in ("weights", "live", "explored")
    )
    return weights, live, explored


def _share(count: int, of: int) -> str:
    return f"{count / of:.3f}" if of else MISSING


def _density_pictures(history: list[Record], parts: list[dict[str, Any]], weights: int) -> Pictures:
    panels: dict[str, dict[str, list[float]]] = {}
    for part in parts:
        leaf, gate = part["leaf"], part["gate"]
        if leaf in panels or len(panels) < _PANELS:
            name = leaf if gate is None else f"{leaf}/{gate}"
            label = "leaf without gates" if gate is None else gate
            lines = panels.setdefault(leaf, {})
            lines[label] = [_density(record, name) for record in history]
    epochs = [record.epoch for record in history]
    whole = [(record.nonzeros or math.nan) / weights for record in history]
    alt = "Density of every leaf and gate of the winner by epoch"
    drawn = {
        _verbatim(leaf): {_verbatim(label): line for label, line in lines.items()}
        for leaf, lines in panels.items()
    }
    picture = Picture(to_svg(plots.plot_density(epochs, drawn, whole), alt), alt)
    caption = _density_caption(parts, moved=any(record.churn for record in history))
    return Pictures([picture], caption, list(series.density_charts(epochs, panels, whole)))


def _verbatim(text: str) -> str:
    """Text for a picture, where dollars would enclose a formula."""
    return text.replace("$", r"\$")


def _density(record: Record, name: str) -> float:
    return ((record.topology or {}).get("density") or {}).get(name, math.nan)


def _overlap(record: Record) -> float | None:
    return (record.topology or {}).get("overlap")


def _explored(record: Record) -> float | None:
    return (record.topology or {}).get("explored")


def _share_pictures(run: Run) -> Pictures:
    finalists = {
        trial: [record for record in history if record.topology]
        for trial, history in run.candidates.items()
        if trial == run.winner or trial in run.finalists
    }
    known = {trial: history for trial, history in finalists.items() if history}
    trials = plots.trials_of(run)._replace(histories=finalists, leader=None)
    pictures, charts = [], []
    for plot, words, label, value in (
        (plots.plot_overlap, "kept from the epoch before", "live weights", _overlap),
        (plots.plot_explored, "that have ever lived", "weights", _explored),
    ):
        title = f"Share of the {label} {words}"
        alt = f"{title}, {plural(len(finalists), 'finalist')} by epoch"
        pictures.append(Picture(to_svg(plot(trials), alt), alt))
        charts.append(series.curves_chart(run, title, "share", value, only=known))
    return Pictures(pictures, _SHARES_CAPTION, charts)


def _density_caption(parts: list[dict[str, Any]], *, moved: bool) -> str:
    left_out = len({part["leaf"] for part in parts}) - _PANELS
    rest = f" There is no room for the last {left_out} leaves." if left_out > 0 else ""
    drawn = (
        " A gate or a leaf that rises has drawn weights from others that fall; where lines start "
        "apart, that is the initial draw."
    )
    return f"Of the winner; the wide grey line is the whole network.{drawn * moved}{rest}"


_SHARES_CAPTION = (
    "Overlap: of the weights that lived after the epoch before, the share that live after this "
    "one; with a constant number of live weights and one topology update an epoch it is 1 less the "
    "churn. Explored: the share of all prunable weights that have lived at any time, the in-time "
    "over-parameterisation of Liu et al. (2021); it starts at the density."
)


def _moved(history: list[Record], density: float) -> str:
    last = history[-1]
    topology = last.topology or {}
    return (
        f"By epoch {last.epoch} the winner had tried {percent(topology['explored'])} of the "
        f"prunable weights, where masks that never move would have tried {percent(density)}; in "
        f"that epoch it kept {percent(topology['overlap'])} of its live weights."
    )
