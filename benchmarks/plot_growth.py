"""Draws how the cost of a spectrum grows with H, K, T and B, from the lines of the suite growth.

    python benchmarks/plot_growth.py results.jsonl --out benchmarks/growth.svg

Four log-log panels; a straight line is a power law, and what is written at its end is the power
over the last three points. Time per step, but for T: the whole run. A suffix .png draws pixels.
"""

import argparse
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
from make_tables import read
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from lsh_jax.plots import house_style

_FIELDS = {"H": "hidden_size", "K": "num_exponents", "T": "length", "B": "batch"}
_TITLES = {
    "H": "Units of a layer, H",
    "K": "Exponents of a layer, K",
    "T": "Steps, T",
    "B": "Columns of the batch, B",
}
# Label, colour (Okabe & Ito, 2008), line, marker, whether its slope is written.
_METHODS = {
    "torch_dense": ("PyTorch, dense diagonals", "#D55E00", "-", "^", True),
    "torch_rows": ("PyTorch, row-scaled blocks", "#E69F00", "-", "s", True),
    "library": ("lsh_jax", "#0072B2", "-", "o", True),
    "roofline_qr": ("bare products and QR", "#667788", "--", "", False),
    "roofline_lu": ("bare products and LU", "#667788", ":", "", False),
}
_FIT = 3  # points that a slope is fitted to, the largest: where the matrix work outweighs the rest


@house_style
def draw(records: list[dict[str, Any]], out: pathlib.Path | None = None) -> Figure:
    """The four panels.

    Args:
      records: the lines of the suite growth.
      out: a file to write, .svg or .png.
    """
    figure = Figure(figsize=(8.4, 6.8), layout="constrained")
    panels = figure.subplots(2, 2).flat
    for axes, sweep in zip(panels, _FIELDS, strict=True):
        _panel(axes, sweep, [r for r in records if r["case"]["sweep"] == sweep])
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, fontsize=9)
    if out is not None:
        metadata = {"Date": None} if out.suffix == ".svg" else {}
        figure.savefig(out, dpi=160, metadata=metadata)
    return figure


def _panel(axes: Axes, sweep: str, records: list[dict[str, Any]]) -> None:
    axes.set(xscale="log", yscale="log", xlabel=_TITLES[sweep])
    axes.set_title("Seconds in all" if sweep == "T" else "Milliseconds a step")
    axes.grid(True, which="major", color="#E4E8EC", linewidth=0.7)
    axes.set_axisbelow(True)
    records = sorted(records, key=lambda record: record["case"][_FIELDS[sweep]])
    ends = []
    for name, (label, colour, line, marker, sloped) in _METHODS.items():
        points = [_point(record, sweep, name) for record in records if name in record]
        if not points:
            continue
        x, y = np.array(points).T
        axes.plot(x, y, line, color=colour, marker=marker, markersize=4.5, label=label)
        if sloped and len(x) >= _FIT:
            slope = np.polyfit(np.log(x[-_FIT:]), np.log(y[-_FIT:]), 1)[0]
            ends.append((x[-1], y[-1], f"${sweep}^{{{slope:.1f}}}$", colour))
    if records:
        _ticks(axes, [record["case"][_FIELDS[sweep]] for record in records])
        held = _held(sweep, records[0]["case"])
        axes.set_title(held, loc="right", fontsize=9, color="#445566")
    _label_ends(axes, ends)


def _point(record: dict[str, Any], sweep: str, name: str) -> tuple[float, float]:
    milliseconds = record[name]["median_ms"]
    x = record["case"][_FIELDS[sweep]]
    return x, milliseconds * x / 1e3 if sweep == "T" else milliseconds


def _held(sweep: str, case: dict[str, Any]) -> str:
    """What stays the same in a panel."""
    values = {"H": case["hidden_size"], "K": case["num_exponents"], "B": case["batch"]}
    held = [f"{letter} = {value}" for letter, value in values.items() if letter != sweep]
    if sweep == "H":  # all exponents of every width
        held = [text if not text.startswith("K") else "K = H" for text in held]
    return ", ".join([f"{case['num_layers']} layers", *held])


def _ticks(axes: Axes, values: list[int]) -> None:
    plain: Callable[[float, int], str] = lambda value, _: f"{value:g}"  # noqa: E731
    axes.xaxis.set_major_locator(FixedLocator(values))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(plain))
    axes.yaxis.set_major_locator(LogLocator())
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(plain))


def _label_ends(axes: Axes, ends: list[tuple[float, float, str, str]]) -> None:
    """Writes each slope to the right of its line, none over another."""
    low, high = np.log10(axes.get_ylim())
    height, previous = (high - low) / 16, -np.inf
    for x, y, text, colour in sorted(ends, key=lambda end: end[1]):
        previous = max(np.log10(y), previous + height)
        axes.annotate(
            text,
            (x, 10**previous),
            xytext=(7, 0),
            textcoords="offset points",
            va="center",
            fontsize=11,
            color=colour,
            annotation_clip=False,
        )


def main() -> None:
    """Reads the flags and writes the picture."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("results", type=pathlib.Path, nargs="+", help="files of JSON lines")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("growth.svg"))
    args = parser.parse_args()
    records = read(args.results).get("growth", [])
    if not records:
        parser.error("there is no line of the suite growth in these files")
    draw(records, args.out)


if __name__ == "__main__":
    main()
