"""Pictures in one style: of a search (`search`), masks (`topology`) and spectra (`lyapunov`).

Every function takes records or arrays and returns a `matplotlib` Figure that belongs to no global
state. `import lsh_jax` leaves this alone.
"""

from lsh_jax.plots.cost import plot_budget
from lsh_jax.plots.lyapunov import plot_convergence
from lsh_jax.plots.search import (
    MOST_POINTS,
    SIGNIFICANT,
    Best,
    Others,
    Point,
    Trials,
    plot_distance,
    plot_perplexity,
    plot_rounds,
    plot_scatter,
    plot_spectra,
)
from lsh_jax.plots.style import house_style
from lsh_jax.plots.topology import plot_density, plot_explored, plot_overlap

__all__ = (
    "MOST_POINTS",
    "SIGNIFICANT",
    "Best",
    "Others",
    "Point",
    "Trials",
    "house_style",
    "plot_budget",
    "plot_convergence",
    "plot_density",
    "plot_distance",
    "plot_explored",
    "plot_overlap",
    "plot_perplexity",
    "plot_rounds",
    "plot_scatter",
    "plot_spectra",
)
