"""Modes as integers: a rule is chosen by its place in a table, so that the choice can be traced."""

from collections.abc import Iterable

import jax.numpy as jnp

from lsh_jax.types import Array


def is_mode(mode: Array, table: Iterable[str], *names: str) -> Array:
    """Whether `mode`, an index into `table`, is one of those named; a bool scalar."""
    places = list(table)
    indices = jnp.array([places.index(name) for name in names], jnp.int32)
    return jnp.any(mode == indices)
