"""Pictures in one style: of a search (`search`), masks (`topology`) and spectra (`lyapunov`).

Their functions take records or arrays and return a `matplotlib` Figure that belongs to no global
state. Those of `views` take a run directory or arrays, draw into the caller's axes or into new
ones, and return the axes. `import lsh_jax` leaves this alone.
"""

from lsh_jax.plots.comparison import Pair, plot_intervals, plot_pairs
from lsh_jax.plots.cost import plot_budget
from lsh_jax.plots.lyapunov import plot_convergence
from lsh_jax.plots.search import (
    MOST_POINTS,
    SIGNIFICANT,
    VERY_WIDE,
    WIDE,
    Best,
    Others,
    Point,
    Trials,
    Value,
    noise_levels,
    plot_distance,
    plot_measure,
    plot_rounds,
    plot_scatter,
    plot_spectra,
    role,
    spread,
)
from lsh_jax.plots.style import LONG_RUN, house_style
from lsh_jax.plots.topology import density_limits, plot_density, plot_explored, plot_overlap
from lsh_jax.plots.views import (
    plot_distances,
    plot_gate_density,
    plot_halving,
    plot_spectra_over_training,
    plot_spectrum,
    trials_of,
)

__all__ = (
    "LONG_RUN",
    "MOST_POINTS",
    "SIGNIFICANT",
    "VERY_WIDE",
    "WIDE",
    "Best",
    "Others",
    "Pair",
    "Point",
    "Trials",
    "Value",
    "density_limits",
    "house_style",
    "noise_levels",
    "plot_budget",
    "plot_convergence",
    "plot_density",
    "plot_distance",
    "plot_distances",
    "plot_explored",
    "plot_gate_density",
    "plot_halving",
    "plot_intervals",
    "plot_measure",
    "plot_overlap",
    "plot_pairs",
    "plot_rounds",
    "plot_scatter",
    "plot_spectra",
    "plot_spectra_over_training",
    "plot_spectrum",
    "role",
    "spread",
    "trials_of",
)
