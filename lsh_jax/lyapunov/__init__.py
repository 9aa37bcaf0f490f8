"""Lyapunov spectra: of any map, and of recurrent language models layer by layer."""

from lsh_jax.lyapunov.rnn import rnn_lyapunov_spectrum
from lsh_jax.lyapunov.spectrum import LyapunovResult, lyapunov_spectrum

__all__ = ("LyapunovResult", "lyapunov_spectrum", "rnn_lyapunov_spectrum")
