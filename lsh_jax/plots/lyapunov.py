"""The pictures of Lyapunov runs: convergence with error bars, spectra, and the length it takes."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lsh_jax.lyapunov import LyapunovResult
from lsh_jax.lyapunov.convergence import running_exponents
from lsh_jax.plots.style import COLOURS, DASHES, FAINT, SIZE, house_style


@house_style
def plot_convergence(result: LyapunovResult, which: Sequence[int] | None = None) -> Figure:
    """What some exponents would have read, had the run ended earlier, with a band of two errors.

    Args:
      result: of one system; `select_layer` takes that of a layer from a language model's.
      which: indices of exponents, 0 the largest; the first, the last and two between if not given.

    Returns:
      A Figure, exponents against steps.
    """
    figure = Figure(figsize=SIZE, layout="constrained")
    draw_convergence(figure.add_subplot(), result, which)
    return figure


def draw_convergence(
    axes: Axes,
    result: LyapunovResult,
    which: Sequence[int] | None = None,
    relative: bool = False,
) -> None:
    """`plot_convergence` into given axes; `relative` to the final value of each exponent."""
    running = np.asarray(running_exponents(result))
    final = np.asarray(result.exponents)
    if relative:
        running, final = running - final, np.zeros_like(final)
    count, every = running.shape[1], int(result.qr_every)
    steps = np.minimum(np.arange(1, len(running) + 1) * every, int(result.num_steps))
    if which is None:
        which = sorted({0, count // 3, 2 * count // 3, count - 1})
    for number, index in enumerate(which):
        look: dict[str, Any] = {"color": COLOURS[number % 5], "ls": DASHES[number % 5]}
        axes.plot(steps, running[:, index], label=f"exponent {index + 1}", **look)
        # The error at an earlier time follows from the last by its 1 / sqrt(T).
        error = float(result.std_error[index]) * np.sqrt(steps[-1] / steps)
        low, high = final[index] - 2 * error, final[index] + 2 * error
        axes.fill_between(steps, low, high, color=look["color"], alpha=0.12, lw=0)
    axes.axhline(0, color=FAINT, lw=0.8, zorder=0)
    axes.set(xscale="log", xlabel="steps averaged", ylabel=_unit(result))
    axes.legend(fontsize="small")


def draw_spectra(axes: Axes, spectra: Mapping[str, LyapunovResult]) -> None:
    """Exponents of one layer by name, against their index, with a band of two standard errors."""
    for number, (label, result) in enumerate(spectra.items()):
        values, error = np.asarray(result.exponents), np.asarray(result.std_error)
        draw_spectrum(axes, number, label, values, error)
    axes.axhline(0, color=FAINT, lw=0.8, zorder=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="index of the exponent", ylabel=_unit(next(iter(spectra.values()))))
    axes.legend(fontsize="small")


def draw_spectrum(
    axes: Axes, number: int, label: str, exponents: np.ndarray, std_error: np.ndarray | None
) -> None:
    """Exponents against their index, with a band of two standard errors, if they are known.

    Args:
      axes: to draw into.
      number: of the curve, which gives its look.
      label: in the legend; none where it is empty.
      exponents: [K].
      std_error: [K].
    """
    index = np.arange(1, len(exponents) + 1)
    look: dict[str, Any] = {"color": COLOURS[number % 5], "ls": DASHES[number % 5]}
    axes.plot(index, exponents, label=label or None, **look)
    if std_error is not None:
        low, high = exponents - 2 * std_error, exponents + 2 * std_error
        axes.fill_between(index, low, high, color=look["color"], alpha=0.2)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


@house_style
def plot_layers(results: Sequence[LyapunovResult]) -> Figure:
    """The spectra of a language model's layers in one picture.

    Args:
      results: of each layer, from the input upwards.

    Returns:
      A Figure, exponents against their index, each with a band of two standard errors.
    """
    figure = Figure(figsize=SIZE, layout="constrained")
    draw_spectra(
        figure.add_subplot(), {f"layer {number}": run for number, run in enumerate(results)}
    )
    return figure


def _unit(result: LyapunovResult) -> str:
    """The label of an axis of exponents."""
    names = {1.0: ", nats per step", math.log(2): ", bits per step"}
    unit = float(result.unit)
    known = [name for value, name in names.items() if math.isclose(value, unit, rel_tol=1e-6)]
    return "exponent" + (known[0] if known else "")


def draw_errors(
    axes: Axes, lengths: Sequence[int], errors: Mapping[str, tuple[Sequence[float], Any]]
) -> None:
    """True errors as points and reported standard errors as lines, against the length of a run.

    Args:
      axes: to draw into.
      lengths: steps of the runs.
      errors: by name, the errors that were found by repetition, and those that the runs reported.
    """
    for number, (label, (found, reported)) in enumerate(errors.items()):
        look: dict[str, Any] = {"color": COLOURS[number % 5]}
        axes.plot(lengths, found, "o", label=f"{label}: between texts", **look)
        axes.plot(lengths, reported, ls=DASHES[number % 5], label=f"{label}: reported", **look)
    first = next(iter(errors.values()))[0][0]
    guide = [first * math.sqrt(lengths[0] / length) for length in lengths]
    axes.plot(lengths, guide, color="#A9BCCD", lw=0.8, label="1 / sqrt(T)")
    axes.set(xscale="log", yscale="log", xlabel="steps averaged", ylabel="rms error, nats per step")
    axes.legend(fontsize="small")
