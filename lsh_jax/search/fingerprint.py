"""What a result depends on besides the settings of a task: machine, versions, data, programs."""

import hashlib
import importlib.metadata
import os
from typing import Any

import jax
import numpy as np

from lsh_jax.machine import visible_cores
from lsh_jax.types import PyTree

_VERSIONS = ("jax", "jaxlib", "flax", "optax", "numpy", "lsh-jax")


def surroundings() -> dict[str, Any]:
    """What numbers go by that no setting names: cores, threads, backend and versions."""
    return {
        "cores": visible_cores(),
        "blas_threads": os.environ.get("OPENBLAS_NUM_THREADS", "unset"),  # QR changes bits with it
        "backend": jax.default_backend(),
        "versions": {name: importlib.metadata.version(name) for name in _VERSIONS},
    }


def hash_arrays(tree: PyTree) -> str:
    """The SHA-256 of a tree of arrays: its structure, shapes, types and bytes."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.ascontiguousarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def hash_programs(*lowered: Any) -> str:
    """The SHA-256 of lowered programs, as text: all that they compute, constants included.

    Args:
      *lowered: from `jax.jit(...).lower(...)`.

    Returns:
      The hash; the same in every process of the same versions and backend.
    """
    digest = hashlib.sha256()
    for program in lowered:
        digest.update(program.as_text().encode())
    return digest.hexdigest()
