"""Dynamic sparse training: exact, jit- and vmap-able topology updates of any parameter tree."""

from lsh_jax.sparsity import counting
from lsh_jax.sparsity.masks import apply_masks, count_live
from lsh_jax.sparsity.presets import preset
from lsh_jax.sparsity.traced_controls import Controls, controls
from lsh_jax.sparsity.updater import (
    SparsityInfo,
    SparsityState,
    SparsityUpdater,
    dynamic_sparsity,
)

__all__ = (
    "Controls",
    "SparsityInfo",
    "SparsityState",
    "SparsityUpdater",
    "apply_masks",
    "controls",
    "count_live",
    "counting",
    "dynamic_sparsity",
    "preset",
)
