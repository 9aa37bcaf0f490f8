"""Pictures of a run directory, or of arrays, each drawn into axes of the caller's.

    from lsh_jax import plots
    plots.plot_distances("runs/quick").figure.savefig("distances.pdf")

Every function takes `ax`, the axes to draw into, or makes a figure of its own, and returns the
axes. It takes the directory of a search, finished or not, or what it would read there.
"""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lsh_jax.config import ConfigError
from lsh_jax.plots.lyapunov import draw_spectrum
from lsh_jax.plots.search import LOOKS, Trials, draw_distance, draw_rounds
from lsh_jax.plots.style import FAINT, SIZE, axes_legend, epoch_axis, house_style
from lsh_jax.plots.topology import look_of_line
from lsh_jax.search.ledger import Record

if TYPE_CHECKING:
    from lsh_jax.report.run import Run

Directory = str | os.PathLike[str]


def trials_of(run: "Run") -> Trials:
    """The candidates of a run as pictures want them."""
    cuts = [entry["epochs"] for entry in run.rounds]
    return Trials(run.candidates, run.winner, run.finalists, cuts, run.leader)


@house_style
def plot_spectrum(
    exponents: Any, std_error: Any = None, *, label: str | None = None, ax: Axes | None = None
) -> Axes:
    """A Lyapunov spectrum with a band of two standard errors.

    Args:
      exponents: [K] of one system or layer, or [L, K], one curve a layer; or the LyapunovResult, or
        what `driven_spectrum` returns, with its errors.
      std_error: of the exponents, in their shape; no band where neither is given.
      label: of the curve; layers are numbered.
      ax: the axes to draw into; those of a new figure if not given.

    Returns:
      The axes, with exponents against their index.

    Raises:
      ValueError: when a shape is another, or no exponent is finite.
    """
    if hasattr(exponents, "exponents"):
        std_error = exponents.std_error if std_error is None else std_error
        exponents = exponents.exponents
    if isinstance(exponents, tuple) and len({np.shape(layer) for layer in exponents}) > 1:
        raise ValueError("`exponents` must be [K] or [L, K], got layers of unequal length.")
    values = np.atleast_2d(np.asarray(exponents, float))
    if values.ndim != 2:
        raise ValueError(f"`exponents` must be [K] or [L, K], got shape {values.shape}.")
    if values.size and not np.isfinite(values).any():
        raise ValueError(f"`exponents` must hold a finite number, got {values.ravel()[0]} alone.")
    errors = None if std_error is None else np.atleast_2d(np.asarray(std_error, float))
    if errors is not None and errors.shape != values.shape:
        raise ValueError(f"`std_error` must have the shape {values.shape}, got {errors.shape}.")
    axes = _axes(ax, "Lyapunov spectrum", "index of the exponent", "exponent, nats per step")
    if not axes.lines:
        axes.axhline(0, color=FAINT, lw=0.8, zorder=0)
    first = len(axes.lines) - 1  # curves that are there already keep their looks to themselves
    for layer, own in enumerate(values):
        name = label or ""
        if len(values) > 1:
            name = f"{name} layer {layer + 1}".strip()
        draw_spectrum(axes, first + layer, name, own, None if errors is None else errors[layer])
    axes_legend(axes)
    return axes


@house_style
def plot_spectra_over_training(
    run: Directory | Mapping[int, Any],
    trial: int | str | None = None,
    *,
    layer: int = 0,
    ax: Axes | None = None,
) -> Axes:
    """The spectra of one network after each epoch, from light to dark.

    Args:
      run: the directory of a search; or exponents by epoch, [K] or [L, K] each.
      trial: its number, or "dense"; the winner, or who is best so far, if not given.
      layer: which one, 0 the nearest to the input.
      ax: the axes to draw into; those of a new figure if not given.

    Returns:
      The axes, with exponents against their index i/K.

    Raises:
      ConfigError: when the directory is not that of a search, or has no such spectra.
      LedgerError: when its ledger cannot be read.
    """
    if isinstance(run, Mapping):
        found, name = {epoch: np.atleast_2d(np.asarray(own)) for epoch, own in run.items()}, ""
    else:
        read = _read(run)
        chosen = _chosen(read, trial)
        found = {epoch: own for (t, epoch), own in read.spectra.items() if t == str(chosen)}
        name = chosen if isinstance(chosen, str) else f"trial {chosen}"
    count = min((len(own) for own in found.values()), default=0)
    if not 0 <= layer < count:
        raise ConfigError(
            f"`layer` must be from 0 to below {count}, the layers with spectra of "
            f"{name or 'the network'}, got {layer}."
        )
    title = f"Layer {layer + 1}{', ' * bool(name)}{name}"
    axes = _axes(ax, title, "index of the exponent, i/K", "exponent, nats per step")
    shades = colormaps["viridis_r"](np.linspace(0.1, 1, len(found)))
    for shade, (epoch, own) in zip(shades, sorted(found.items()), strict=True):
        index = np.arange(1, own.shape[1] + 1) / own.shape[1]
        axes.plot(index, own[layer], color=shade, lw=1.4, label=f"epoch {epoch}")
    # A few names tell the shades.
    lines = axes.lines[-len(found) :]
    shown = sorted({0, len(lines) // 3, 2 * len(lines) // 3, len(lines) - 1})
    axes.legend(handles=[lines[place] for place in shown], fontsize="small")
    return axes


@house_style
def plot_distances(run: Directory | Trials, *, ax: Axes | None = None) -> Axes:
    """The LS distance of every candidate to the dense network by epoch, above its noise.

    Args:
      run: the directory of a search, or its candidates.
      ax: the axes to draw into; those of a new figure if not given.

    Returns:
      The axes; `plot_distance` tells what its bands are.

    Raises:
      ConfigError: when the directory is not that of a search.
      LedgerError: when its ledger cannot be read.
    """
    trials, seeds = (run, []) if isinstance(run, Trials) else _trials_and_seeds(_read(run))
    axes = _axes(ax, "LS distance to dense", "epoch", "LS distance, nats per step")
    draw_distance(axes, trials, seeds)
    axes_legend(axes, reversed(LOOKS))
    return axes


@house_style
def plot_halving(
    run: Directory | Sequence[tuple[str, int, int, int]], *, ax: Axes | None = None
) -> Axes:
    """How many candidates each round of halving kept, cut and lost.

    Args:
      run: the directory of a search; or (what to call the round, survived, cut, failed) by round.
      ax: the axes to draw into; those of a new figure if not given.

    Returns:
      The axes, with a bar a round, the first on top.

    Raises:
      ConfigError: when the directory is not that of a search.
      LedgerError: when its ledger cannot be read.
    """
    if isinstance(run, str | os.PathLike):
        from lsh_jax.report.run import round_bars  # as in `_read`

        rows = round_bars(_read(run))
    else:
        rows = list(run)
    axes = _axes(ax, "Candidates in each round", "candidates", "")
    draw_rounds(axes, rows)
    axes_legend(axes)
    return axes


@house_style
def plot_gate_density(
    run: Directory | Mapping[str, Sequence[float]],
    trial: int | None = None,
    *,
    leaf: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """The density of the masks of each gate by epoch.

    Args:
      run: the directory of a search; or densities at epochs 1, 2, ... by gate.
      trial: its number; the winner, or who is best so far, if not given.
      leaf: of the parameters, such as "layers_0/U"; the first that has gates if not given.
      ax: the axes to draw into; those of a new figure if not given.

    Returns:
      The axes, with a line a gate.

    Raises:
      ConfigError: when the directory is not that of a search, or tells no such densities.
      LedgerError: when its ledger cannot be read.
    """
    if isinstance(run, Mapping):
        gates = {gate: dict(enumerate(own, start=1)) for gate, own in run.items()}
        title = leaf or "Density by gate"
    else:
        read = _read(run)
        chosen = _chosen(read, trial)
        gates, leaf = _gates(read.candidates.get(cast(int, chosen), []), leaf)
        title = f"{leaf}, trial {chosen}"
    axes = _axes(ax, title, "epoch", "density: share of live weights")
    epochs = sorted({epoch for own in gates.values() for epoch in own})
    for number, (gate, own) in enumerate(gates.items()):
        axes.plot(list(own), list(own.values()), label=gate, **look_of_line(number, epochs))
    epoch_axis(axes, epochs)
    axes_legend(axes)
    return axes


def _gates(history: Sequence[Record], leaf: str | None) -> tuple[dict[str, dict[int, float]], str]:
    """The densities of a leaf by gate and epoch, and which leaf it is."""
    found: dict[str, dict[str, dict[int, float]]] = {}
    for record in history:
        for name, density in ((record.topology or {}).get("density") or {}).items():
            whole, _, gate = name.rpartition("/")
            found.setdefault(whole, {}).setdefault(gate, {})[record.epoch] = density
    # A leaf with gates is one whose name other names go on from: "layers_0/U" of "layers_0/U/i".
    gated = {name: gates for name, gates in found.items() if "/" in name}
    if not gated or (leaf is not None and leaf not in gated):
        known = ", ".join(gated) or "none in this run"
        raise ConfigError(f"`leaf` must have gates and be on record: {known}; got {leaf!r}.")
    chosen = next(iter(gated)) if leaf is None else leaf
    return gated[chosen], chosen


def _read(run: Directory) -> "Run":
    # The report draws with this package, so this package cannot import it before it is whole.
    from lsh_jax.report.standing import read_any

    return read_any(pathlib.Path(run))


def _trials_and_seeds(run: "Run") -> tuple[Trials, list[list[Record]]]:
    return trials_of(run), run.dense[1:]


def _chosen(run: "Run", trial: int | str | None) -> int | str:
    if trial is None:
        best = run.leader if run.winner is None else run.winner
        return "dense" if best is None else best
    known: list[int | str] = [*run.candidates, *(str(h[0].trial) for h in run.dense)]
    if trial not in known:
        raise ConfigError(f"`trial` must be on record: one of {known}, got {trial!r}.")
    return trial


def _axes(ax: Axes | None, title: str, x_label: str, y_label: str) -> Axes:
    axes = ax
    if axes is None:
        axes = Figure(figsize=SIZE, layout="constrained").add_subplot()
    axes.set(title=title, xlabel=x_label, ylabel=y_label)
    return axes
