"""N:M sparsity: N live weights in every block of M, as sparse matrix units of GPUs want it (2:4).

A block runs along the last axis but one, over which a kernel [n_in, n_out] is contracted.
"""

from typing import NamedTuple

import jax.numpy as jnp

from lsh_jax.config import ConfigError, check
from lsh_jax.types import Array


class Pattern(NamedTuple):
    """N live weights in every block of M."""

    num_live: int
    size: int


def parse_pattern(granularity: str) -> Pattern | None:
    """Reads "2:4"; None for what is no pattern, "leaf" and "gate".

    Raises:
      ConfigError: for anything else.
    """
    if granularity in ("leaf", "gate"):
        return None
    parts = granularity.split(":")
    numbers = [int(part) for part in parts if part.isdecimal()]
    valid = len(parts) == len(numbers) == 2 and 0 < numbers[0] < numbers[1]
    check(valid, "granularity", "be leaf, gate or N:M with 0 < N < M, such as 2:4", granularity)
    return Pattern(*numbers)


def check_blocks(pattern: Pattern, path: tuple[str, ...], leaf: Array) -> None:
    """Raises a `ConfigError` unless a leaf can be cut into whole blocks."""
    if leaf.ndim < 2 or leaf.shape[-2] % pattern.size:
        raise ConfigError(
            f"`granularity` {pattern.num_live}:{pattern.size} needs leaves whose last axis but one "
            f"is a multiple of {pattern.size}, got {leaf.shape} at {'/'.join(path)}: leave it "
            "dense by `prunable`."
        )


def fill_blocks(pattern: Pattern, keys: Array, kept: Array) -> Array:
    """Adds to each block the entries with the largest keys until N of it live.

    Args:
      pattern: N and M.
      keys: uint32 [..., n_in, n_out].
      kept: bool, the same shape, at most N true entries in a block.

    Returns:
      A bool mask with exactly N true entries in every block, ties going to the first.
    """
    num_live, size = pattern
    blocks = (*kept.shape[:-2], kept.shape[-2] // size, size, kept.shape[-1])
    keys, open_ = keys.reshape(blocks), ~kept.reshape(blocks)
    ahead = jnp.zeros(blocks, jnp.int32)
    index = jnp.arange(size).reshape((size, 1))
    for j in range(size):
        other = keys[..., j : j + 1, :]
        earlier = (j < index).reshape((1,) * (kept.ndim - 2) + (1, size, 1))
        beats = (other > keys) | ((other == keys) & earlier)
        ahead += (open_[..., j : j + 1, :] & beats).astype(jnp.int32)
    quota = num_live - jnp.sum(~open_, axis=-2, keepdims=True, dtype=jnp.int32)
    return (~open_ | (ahead < quota)).reshape(kept.shape)
