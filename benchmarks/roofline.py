"""The bare operations that a spectrum cannot avoid, at its sizes: products and a factorization.

A loop over the steps with a constant J, batched over layers and columns as the library batches:
no model, no Jacobian to build, no logarithms. Each step's frame comes from the one before, so that
the compiler can take nothing out of the loop.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from cases import Case
from flops import num_blocks


def _householder(Z: jax.Array) -> tuple[jax.Array, jax.Array]:
    Q, R = jnp.linalg.qr(Z)
    return Q, jnp.diagonal(R, axis1=-2, axis2=-1)


def _lu(Z: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The unit lower triangle as the next frame, its rows left in pivot order: bare LU."""
    packed, _, _ = jax.lax.linalg.lu(Z)
    unit = jnp.eye(*Z.shape[-2:], dtype=Z.dtype)
    return jnp.tril(packed, -1) + unit, jnp.diagonal(packed, axis1=-2, axis2=-1)


FACTORIZATIONS: dict[str, Callable[[Any], Any]] = {"roofline_qr": _householder, "roofline_lu": _lu}
FLOPS_NAMES = {"roofline_qr": "householder", "roofline_lu": "lu"}


def make(case: Case, name: str) -> Callable[[], Any]:
    """A function that runs `case.bare_length` steps of bare operations and waits for them.

    Args:
      case: the sizes. Blocks [blocks, layers * B, H, H] meet a frame [layers * B, N, K] one after
        the other; with the full state of an LSTM both meet its upper half.
      name: "roofline_qr" (products and Householder QR) or "roofline_lu" (products and LU).
    """
    copies = case.num_layers * case.batch
    H, N, K = case.hidden_size, case.size, case.num_exponents
    blocks_key, frame_key = jax.random.split(jax.random.key(0))
    blocks = jax.random.normal(blocks_key, (num_blocks(case), copies, H, H)) / H**0.5
    frame = jnp.linalg.qr(jax.random.normal(frame_key, (copies, N, K)))[0]
    run = jax.jit(
        functools.partial(
            _run,
            factorize=FACTORIZATIONS[name],
            stacked=N == 2 * H,
            num_steps=case.bare_length,
        )
    )
    return lambda: jax.block_until_ready(run(blocks, frame))


def _run(
    blocks: jax.Array,
    frame: jax.Array,
    *,
    factorize: Callable[[Any], Any],
    stacked: bool,
    num_steps: int,
) -> tuple[jax.Array, jax.Array]:
    """The last frame, and the diagonals of R (or of U) [T, layers * B, K]."""

    def step(Q: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
        if stacked:
            upper = Q[:, : Q.shape[1] // 2]
            # The lower half joins in, so that no part of the frame is ever constant.
            Q = Q + jnp.concatenate([jnp.matmul(block, upper) for block in blocks], axis=1)
        else:
            for block in blocks:
                Q = jnp.matmul(block, Q)
        return factorize(Q)

    with jax.default_matmul_precision("highest"):
        return jax.lax.scan(step, frame, None, length=num_steps)
