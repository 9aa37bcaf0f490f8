"""A strict session: rank promotion raises, dtype promotion is strict, warnings are errors."""

import os
import pathlib

# Tests compile much and compute little; several threads a test wait for each other.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_multi_thread_eigen=false",
)
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")


@pytest.fixture(scope="session")
def penn_treebank() -> pathlib.Path:
    """The folder of the reader's own copy of Penn Treebank; tests that need it skip without it."""
    default = pathlib.Path(__file__).resolve().parents[2] / "shared" / "data" / "ptb"
    folder = pathlib.Path(os.environ.get("LSH_JAX_PTB", default))
    if not (folder / "ptb.train.txt").is_file():
        pytest.skip("no Penn Treebank: set LSH_JAX_PTB to the folder that holds ptb.train.txt")
    return folder
