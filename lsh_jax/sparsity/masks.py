"""Masks over a tree of parameters: which leaves have one, how it is applied and counted."""

import jax
import jax.numpy as jnp

from lsh_jax.config import ConfigError
from lsh_jax.sparsity.selection import count, counts
from lsh_jax.types import Array, Masks, Params, Predicate, PyTree

MAX_WEIGHTS = 2**31 - 2  # counts are int32, and one more than a count is looked up


def has_two_axes(path: tuple[str, ...], leaf: Array) -> bool:
    """The default choice of prunable leaves: matrices and above, embeddings included."""
    del path
    return leaf.ndim >= 2


def prunable_indices(params: Params, prunable: Predicate | None) -> tuple[int, ...]:
    """Lists the prunable leaves by their position in `jax.tree.leaves(params)`.

    Args:
      params: any pytree of arrays.
      prunable: predicate on (path, leaf), the path a tuple of the keys as strings; None for
        `has_two_axes`.

    Raises:
      ConfigError: if no leaf is prunable, or their weights are too many for an int32 count.
    """
    choose = has_two_axes if prunable is None else prunable
    leaves = jax.tree.leaves(params)
    paths = leaf_paths(params)
    indices = [i for i, leaf in enumerate(leaves) if choose(paths[i], leaf)]
    if not indices:
        raise ConfigError(
            f"`prunable` must choose at least one leaf, got 0 of {len(leaves)}; by default "
            "it chooses those of two axes or more."
        )
    total = sum(leaves[i].size for i in indices)
    if total > MAX_WEIGHTS:
        raise ConfigError(f"`params` must have at most 2^31 - 2 prunable weights, got {total}.")
    return tuple(indices)


def leaf_paths(tree: PyTree) -> list[tuple[str, ...]]:
    """The keys on the way to each leaf, as strings."""
    return [
        tuple(jax.tree_util.keystr((entry,), simple=True) for entry in path)
        for path, _ in jax.tree_util.tree_leaves_with_path(tree)
    ]


def leaves_like(params: Params, tree: PyTree, name: str) -> list[Array]:
    """Lists the leaves of `tree`, which must have the structure and the shapes of `params`.

    Raises:
      ConfigError: if it has not; `name` is what the message calls it.
    """
    wanted, got = (jax.tree.map(jnp.shape, x) for x in (params, tree))
    if wanted != got:
        raise ConfigError(f"`{name}` must have the shapes of `params`, {wanted}, got {got}.")
    return jax.tree.leaves(tree)


def apply_masks(params: Params, masks: Masks) -> Params:
    """Returns `params` with exact zeros where the mask is false, whatever stood there.

    A product would keep NaN and inf (and the sign of zero); a choice removes them.

    Args:
      params: any pytree of arrays.
      masks: bool tree of the same structure and shapes.

    Raises:
      ConfigError: if they are not of the same structure and shapes.
    """
    leaves_like(params, masks, "masks")
    return jax.tree.map(
        lambda param, mask: jnp.where(mask, param, jnp.zeros_like(param)), params, masks
    )


def count_live(masks: Masks, prunable: Predicate | None = None) -> Array:
    """Counts the live weights of the prunable leaves.

    Args:
      masks: bool tree; leaves that stay dense are left out of the count.
      prunable: the predicate that `dynamic_sparsity` was given; it sees the leaves of `masks`.

    Returns:
      An int32 scalar.
    """
    leaves = jax.tree.leaves(masks)
    return count(counts([leaves[i] for i in prunable_indices(masks, prunable)]))
