"""Which dead weights are brought to life at a topology update, an exact number in each leaf.

The weights that just died are candidates as well and keep their value if they return, as in the
authors' code and RigL's; so of a share rho removed at density d only
rho (1 - rho d / (1 - d + rho d)) is replaced under random growth. All others start at zero.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from lsh_jax.sparsity.selection import magnitude_keys, top_k_mask
from lsh_jax.types import Array, Key


class Leaf(NamedTuple):
    """What a growth rule may look at."""

    key: Key
    kept: Array  # bool, the live weights that death left
    gradient: Array | None  # of the loss by the dense weights


def random(leaf: Leaf) -> Array:
    """Uniform among the dead: the largest of independent random numbers are a random subset.

    The authors draw each dead weight by itself and so grow a random number of them.
    """
    return jax.random.bits(leaf.key, leaf.kept.shape, jnp.uint32)


def gradient(leaf: Leaf) -> Array:
    """The dead with the largest |gradient| (RigL, Evci et al. 2020, section 3)."""
    return random(leaf) if leaf.gradient is None else magnitude_keys(leaf.gradient)


RULES: dict[str, Callable[[Leaf], Array]] = {"random": random, "gradient": gradient}
NEEDS_GRADIENT = tuple(RULES).index("gradient")


def grow(mode: Array, leaf: Leaf, num_grown: Array) -> Array:
    """Chooses `num_grown` of the dead weights of a leaf by the rule of `mode`.

    Args:
      mode: int32 scalar, index into `RULES`.
      leaf: of any shape.
      num_grown: int32 scalar, at most the number of dead weights.

    Returns:
      The mask of the leaf with the chosen weights added to the kept ones.
    """
    scores = jax.lax.select_n(mode, *[rule(leaf) for rule in RULES.values()])
    return leaf.kept | top_k_mask(scores, ~leaf.kept, num_grown)
