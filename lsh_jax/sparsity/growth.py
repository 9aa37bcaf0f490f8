"""Which dead weights are brought to life at a topology update, an exact number in each place.

The weights that just died are candidates as well and keep their value if they return, as in the
authors' code and RigL's; so of a share rho removed at density d only
rho (1 - rho d / (1 - d + rho d)) is replaced under random growth. With `exclude_dropped`, as in
DSR and DeepR, they return only where a leaf (a gate, if gates get shares of their own) has no
other dead weight left. All others start at zero.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from lsh_jax.sparsity.modes import is_mode
from lsh_jax.sparsity.proportion import apportion
from lsh_jax.sparsity.selection import (
    count_along,
    magnitude_keys,
    raised,
    top_k_mask,
    top_k_of_blocks,
)
from lsh_jax.types import Array, Key


class Place(NamedTuple):
    """What a growth rule may look at."""

    key: Key
    live: Array  # bool, before death
    kept: Array  # bool, the live weights that death left
    gradient: Array | None  # of the loss by the dense weights
    momentum: Array | None  # of the optimizer, by the dense weights


def random(place: Place) -> Array:
    """Uniform among the dead: the largest of independent random numbers are a random subset.

    The authors draw each dead weight by itself and so grow a random number of them.
    """
    return jax.random.bits(place.key, place.kept.shape, jnp.uint32) >> 1  # the highest bit is free


def gradient(place: Place) -> Array:
    """The dead with the largest |gradient| (RigL, Evci et al. 2020, section 3)."""
    return random(place) if place.gradient is None else magnitude_keys(place.gradient)


def momentum(place: Place) -> Array:
    """The dead with the largest |momentum| (SNFS, Dettmers & Zettlemoyer 2019, section 3).

    The authors' code multiplies the momentum by the mask at every step, after which dead weights
    have none; here it must be the dense one.
    """
    return random(place) if place.momentum is None else magnitude_keys(place.momentum)


RULES: dict[str, Callable[[Place], Array]] = {
    "random": random,
    # As `random`, but each gate gets an equal share, so far as it has room: the name is that of
    # a function that Selfish-RNN's code calls and nobody published.
    "random_gates": random,
    "gradient": gradient,
    "momentum": momentum,
}


def scores(mode: Array, place: Place, exclude_dropped: Array) -> Array:
    """Keys of a leaf's weights by the rule of `mode`, the largest grow first; uint32.

    Args:
      mode: int32 scalar, index into `RULES`.
      place: of any shape.
      exclude_dropped: bool scalar.
    """
    distinct = {rule: rule(place) for rule in dict.fromkeys(RULES.values())}
    keys = jax.lax.select_n(mode, *[distinct[rule] for rule in RULES.values()])
    return raised(keys, exclude_dropped & ~place.live)


def grow(mode: Array, kept: Array, keys: Array, num_grown: Array, num_gates: int) -> Array:
    """Chooses `num_grown` of the dead weights of a leaf by their scores.

    Args:
      mode: int32 scalar, index into `RULES`.
      kept: bool, the live weights that death left.
      keys: from `scores`, the same shape.
      num_grown: int32 scalar, at most the number of dead weights.
      num_gates: that stand side by side along the last axis.

    Returns:
      The mask of the leaf with the chosen weights added to the kept ones.
    """
    if num_gates == 1:
        return kept | top_k_mask(keys, ~kept, num_grown)
    of_column = count_along(~kept, tuple(range(kept.ndim - 1)))
    free = count_along(of_column.reshape(num_gates, -1), (1,))
    of_gate = apportion(num_grown, jnp.ones_like(free), free)
    by_gate = is_mode(mode, RULES, "random_gates")
    k = jnp.where(by_gate, of_gate, num_grown)
    return kept | top_k_of_blocks(keys, ~kept, k, pooled=~by_gate)
