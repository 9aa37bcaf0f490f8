"""The commands, one file each: flags in, run directory or tables out. `main` is the search."""

import os

# The many small QR factorizations of a spectrum: OpenBLAS's threads and XLA's wait for each other,
# which on a busy machine costs a factor of 2 to 10 (benchmarks/README.md). Read when NumPy loads.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from lsh_jax.cli.hypersearch import main, parse

__all__ = ("main", "parse")
