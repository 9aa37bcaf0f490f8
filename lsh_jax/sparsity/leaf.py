"""What an update knows of one leaf, or of a stack of leaves."""

from typing import NamedTuple

from lsh_jax.types import Array


class Leaf(NamedTuple):
    """One leaf before an update; a stack of several has a leading axis."""

    weights: Array
    live: Array  # bool
    gradient: Array | None  # of the loss by the dense weights
    momentum: Array | None  # of the optimizer, by the dense weights
    sign: Array | None  # int8, of the weights after the last update; 0 where they were zero
