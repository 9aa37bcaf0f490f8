"""Pictures: of a search (`search`) and of Lyapunov spectra (`lyapunov`), in one style.

Every function takes records or arrays and returns a `matplotlib` Figure that belongs to no global
state. `import lsh_jax` leaves this alone.
"""

from lsh_jax.plots.lyapunov import plot_convergence
from lsh_jax.plots.search import (
    SIGNIFICANT,
    Others,
    Point,
    Trials,
    plot_budget,
    plot_distance,
    plot_perplexity,
    plot_rounds,
    plot_scatter,
    plot_spectra,
)
from lsh_jax.plots.style import house_style

__all__ = (
    "SIGNIFICANT",
    "Others",
    "Point",
    "Trials",
    "house_style",
    "plot_budget",
    "plot_convergence",
    "plot_distance",
    "plot_perplexity",
    "plot_rounds",
    "plot_scatter",
    "plot_spectra",
)
