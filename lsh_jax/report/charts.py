"""Charts as data: what the script of a page draws from the one JSON that the page holds.

Without the script the same is seen as pictures. All text from a run is escaped here, so that none
can end the element that holds it.
"""

import json
import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

_DIGITS = 5  # significant ones, as many as a reader is shown

Look = Literal["dense", "seed", "winner", "finalist", "other", "baseline", "noise", "whole"]
"""What a line is, which page.css gives a colour; others are told apart by `colour`."""


class Line(NamedTuple):
    """One curve, or one mark.

    Attributes:
      name: what a reader is told who points at it.
      group: its name in the legend.
      look: a `Look`, or that of a `colour`.
      x: along the axis, rising.
      y: at each of `x`; where it is not finite the curve has a gap.
      error: standard error at each of `x`, or none; of a mark, that of its place across.
      failed: whether it ends with a cross.
    """

    name: str
    group: str
    look: str
    x: Sequence[float]
    y: Sequence[float | None]
    error: Sequence[float] = ()
    failed: bool = False


class Frame(NamedTuple):
    """What a chart shows at one place of its slider."""

    name: str
    lines: list[Line]


class Chart(NamedTuple):
    """A chart; with several frames it has a slider.

    Attributes:
      title: of the chart.
      x_label: of the axis across.
      y_label: of the axis up.
      frames: at least one.
      log_x: whether the axis across is logarithmic.
      log_y: whether the axis up is.
      marks: whether lines are drawn as marks.
      cuts: places across with a vertical line.
      y_range: of the axis up, for charts to be compared; that of the values if not given.
      floor: where values below it are drawn; they are told as they are.
    """

    title: str
    x_label: str
    y_label: str
    frames: list[Frame]
    log_x: bool = False
    log_y: bool = False
    marks: bool = False
    cuts: Sequence[float] = ()
    y_range: tuple[float, float] | None = None
    floor: float | None = None


def colour(number: int) -> str:
    """The look of the `number`-th of lines that are told apart by a legend only."""
    return f"colour-{number % 5}"


def to_json(charts: Sequence[Chart]) -> str:
    """The charts as JSON that may stand in a <script> element.

    Returns:
      ASCII without `<`, `>` and `&`: no text can end the element or begin a comment.
    """
    text = json.dumps({"charts": [_chart(chart) for chart in charts]}, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _chart(chart: Chart) -> dict[str, Any]:
    """Places across and names of the legend are told once, and the lines refer to them."""
    grids: dict[tuple[float | None, ...], int] = {}
    groups: dict[tuple[str, str], int] = {}
    frames = [
        {"name": frame.name, "lines": [_line(line, grids, groups) for line in frame.lines]}
        for frame in chart.frames
    ]
    found: dict[str, Any] = {} if chart.y_range is None else {"range": chart.y_range}
    if chart.floor is not None:
        found["floor"] = chart.floor
    return found | {
        "title": chart.title,
        "x": chart.x_label,
        "y": chart.y_label,
        "log": [chart.log_x, chart.log_y],
        "marks": chart.marks,
        "cuts": [_short(cut) for cut in chart.cuts],
        "grids": [list(grid) for grid in grids],
        "groups": [list(group) for group in groups],
        "frames": frames,
    }


def _line(
    line: Line, grids: dict[tuple[float | None, ...], int], groups: dict[tuple[str, str], int]
) -> dict[str, Any]:
    grid = tuple(_short(x) for x in line.x)
    found: dict[str, Any] = {
        "name": line.name,
        "group": groups.setdefault((line.group, line.look), len(groups)),
        "grid": grids.setdefault(grid, len(grids)),
        "y": [_short(y) for y in line.y],
    }
    if len(line.error):
        found["error"] = [_short(error) for error in line.error]
    return found | ({"failed": True} if line.failed else {})


def _short(value: float | None) -> float | None:
    """A number as short as a reader needs it; None where it is none."""
    if value is None or not math.isfinite(value):
        return None
    short = float(f"{value:.{_DIGITS}g}")
    return int(short) if short == int(short) and abs(short) < 1e15 else short
