"""The authors' recipe for a layer's spectrum, as their published code computes it.

Zheng & Shlizerman (arXiv 2506.07975), with its departures from Benettin's method: the frame starts
from the identity and is multiplied by transposed Jacobians in the order of time, so that the
product is reversed (for an RHN their two transpositions cancel); warm-up multiplies without QR;
the text then starts again with the advanced state. With the identity and block-triangular
Jacobians the frame of a stack stays block-diagonal, so that their spectrum of the stack is that of
the layers, one after another. To reproduce numbers, not to measure with.
"""

from typing import Any

import jax
import jax.numpy as jnp

from lsh_jax.lyapunov.benettin import Linearize
from lsh_jax.lyapunov.orthonormalize import householder, log_diagonal
from lsh_jax.types import Array, Carry


def growth(
    linearize: Linearize, carry: Carry, size: int, drive: Array, warm_up: int, reverse: bool
) -> tuple[Carry, Array, Array]:
    """Log growth of the columns of one layer along one column of text.

    Args:
      linearize: the layer's hidden tangent map.
      carry: the first one, zeros.
      size: N, units of the layer.
      drive: of the warm-up and then of the T steps, [warm_up + T, G].
      warm_up: steps whose product makes the first frame.
      reverse: whether to multiply by the transposed Jacobian.

    Returns:
      The last carry, the last frame [N, N], and log R_kk of the T steps in nats, [T, N].
    """
    identity = jnp.eye(size, dtype=drive.dtype)

    def push(carry: Carry, q: Array, x: Array) -> tuple[Carry, Array]:
        carry, apply = linearize(carry, x)
        J = apply(identity)
        return carry, jnp.dot(J.T if reverse else J, q)

    def multiply(state: tuple[Carry, Array], x: Array) -> tuple[Any, None]:
        return push(*state, x), None

    def step(state: tuple[Carry, Array], x: Array) -> tuple[Any, Array]:
        carry, z = push(*state, x)
        q, r = householder(z)
        return (carry, q), log_diagonal(r)

    with jax.default_matmul_precision("highest"):
        (carry, product), _ = jax.lax.scan(multiply, (carry, identity), drive[:warm_up])
        state, logs = jax.lax.scan(step, (carry, householder(product)[0]), drive[warm_up:])
    return *state, logs
