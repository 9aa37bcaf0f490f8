"""Lyapunov-spectrum-based hyperpruning of recurrent networks in JAX."""
from lsh_jax._version import __version__
