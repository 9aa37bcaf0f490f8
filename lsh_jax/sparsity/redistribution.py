"""How many of the removed weights each leaf gets back.

A rule gives integer weights; `proportion.apportion` shares the removed weights out in proportion,
none beyond the free places of its leaf, and their sum exactly what was removed. The authors
spread overflow equally over all leaves, round down and correct the drift of the total by a
smoothed term at later updates: with exact counts there is no drift to correct.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from lsh_jax.sparsity.proportion import apportion
from lsh_jax.sparsity.selection import count
from lsh_jax.types import Array


class Leaves(NamedTuple):
    """What a redistribution rule may look at, int32 [L] each."""

    sizes: Array
    num_live: Array  # before death
    num_removed: Array  # by death
    owed: Array  # those of them that come back under `none`: not the ones that are gone for good
    mean_magnitude: Array  # of live weights, fixed point on one scale, as the next two
    mean_gradient: Array  # of live weights, in size; zeros without gradients
    mean_momentum: Array
    by_threshold: Array  # bool scalar: death is by a threshold that the leaves share


def none(leaves: Leaves) -> Array:
    """Each leaf gets back what it lost."""
    return leaves.owed


def none_authors(leaves: Leaves) -> Array:
    """As `none`, but every leaf gets the same count if death is by threshold.

    What the authors' code does, whatever the sizes of the leaves; it lets small leaves fill up.
    """
    return jnp.where(leaves.by_threshold, 1, leaves.owed)


def magnitude(leaves: Leaves) -> Array:
    """In proportion to the mean |w| of the live weights of a leaf."""
    return leaves.mean_magnitude


def nonzeros(leaves: Leaves) -> Array:
    """In proportion to the live weights of a leaf; the authors' count leaves out small ones."""
    return leaves.num_live


def survivors(leaves: Leaves) -> Array:
    """In proportion to the weights of a leaf that death left (DSR, Mostafa & Wang 2019)."""
    return leaves.num_live - leaves.num_removed


def momentum(leaves: Leaves) -> Array:
    """In proportion to the mean |momentum| of the live weights of a leaf (SNFS, section 3)."""
    return leaves.mean_momentum


def gradient(leaves: Leaves) -> Array:
    """In proportion to the mean |gradient| of the live weights of a leaf."""
    return leaves.mean_gradient


RULES: dict[str, Callable[[Leaves], Array]] = {
    "none": none,
    "none_authors": none_authors,
    "magnitude": magnitude,
    "nonzeros": nonzeros,
    "survivors": survivors,
    "momentum": momentum,
    "gradient": gradient,
}


def redistribute(mode: Array, leaves: Leaves, shrink: Array) -> Array:
    """Shares the removed weights out among the leaves by the rule of `mode`.

    Args:
      mode: int32 scalar, index into `RULES`.
      leaves: before and after death.
      shrink: how many of the removed weights no leaf gets back, int32 scalar.

    Returns:
      How many weights each leaf grows, int32 [L], of the sum of `num_removed` less `shrink`.
    """
    shares = jax.lax.select_n(mode, *[rule(leaves) for rule in RULES.values()])
    free = leaves.sizes - leaves.num_live + leaves.num_removed
    return apportion(count(leaves.num_removed) - shrink, shares, free)
