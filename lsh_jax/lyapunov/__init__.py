"""Lyapunov spectra: of any map or flow, and of recurrent language models layer by layer."""

from lsh_jax.lyapunov.convergence import Convergence, convergence, rank_mask, running_exponents
from lsh_jax.lyapunov.covariant import CovariantVectors, covariant_lyapunov_vectors
from lsh_jax.lyapunov.determinants import log_abs_det_lstm
from lsh_jax.lyapunov.dimensions import kaplan_yorke_dimension, ks_entropy
from lsh_jax.lyapunov.flow import flow_spectrum, rk4_step
from lsh_jax.lyapunov.result import LyapunovResult, join_results, select_layer
from lsh_jax.lyapunov.rnn import rnn_lyapunov_spectrum
from lsh_jax.lyapunov.spectrum import (
    lyapunov_from_jacobians,
    lyapunov_spectrum,
    max_lyapunov_exponent,
)

__all__ = (
    "Convergence",
    "CovariantVectors",
    "LyapunovResult",
    "convergence",
    "covariant_lyapunov_vectors",
    "flow_spectrum",
    "join_results",
    "kaplan_yorke_dimension",
    "ks_entropy",
    "log_abs_det_lstm",
    "lyapunov_from_jacobians",
    "lyapunov_spectrum",
    "max_lyapunov_exponent",
    "rank_mask",
    "rk4_step",
    "rnn_lyapunov_spectrum",
    "running_exponents",
    "select_layer",
)
