"""Exponents of systems that are not layers of one network: a flow and what has learnt it, say."""

from collections.abc import Mapping

from matplotlib.figure import Figure

from lsh_jax.lyapunov import LyapunovResult
from lsh_jax.plots.lyapunov import draw_spectra
from lsh_jax.plots.style import SIZE, house_style


@house_style
def plot_exponents(
    title: str, spectra: Mapping[str, LyapunovResult], unit: str = "nats per unit of time"
) -> Figure:
    """Exponents by name, against their index, with a band of two standard errors.

    Args:
      title: of the picture.
      spectra: of one system each, of any number of exponents.
      unit: of them all.

    Returns:
      A Figure.
    """
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.add_subplot()
    draw_spectra(axes, spectra)
    axes.set(title=title, ylabel=f"exponent, {unit}")
    return figure
