"""Benettin's method as nested scans: trajectory and frame, QR every few steps.

Benettin et al. (1980): push K deviation vectors through the tangent map of every step, make them
orthonormal again by QR, collect log R_kk. This file knows no model.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from lsh_jax.lyapunov.orthonormalize import Orthonormalize, log_diagonal
from lsh_jax.types import Array, PyTree, State, StepFn

Linearize = Callable[[State, Any], tuple[State, Callable[[Array], Array]]]
# (state, input of the step) -> the next state, and what takes Q [N, K] to J Q [N, K]


def jvp_tangent(step_fn: StepFn) -> Linearize:
    """The tangent map by automatic differentiation: linearised once a step, applied to K columns.

    Args:
      step_fn: `step_fn(state, x) -> state`, any pytree of floats of one type as state.

    Returns:
      `(state, x) -> (next state, Q [N, K] -> J Q [N, K])`, rows in the order of `ravel_pytree`.
    """

    def linearize(state: State, x: Any) -> tuple[State, Callable[[Array], Array]]:
        _, unravel = ravel_pytree(state)
        new_state, push = jax.linearize(lambda state: step_fn(state, x), state)

        def push_column(column: Array) -> Array:
            return ravel_pytree(push(unravel(column)))[0]

        return new_state, jax.vmap(push_column, in_axes=1, out_axes=1)

    return linearize


def jacobian_tangent(step_fn: StepFn) -> Linearize:
    """The tangent map as a dense N x N Jacobian a step, by N forward derivatives, then J Q.

    Costs N derivatives whatever K is, so that `jvp_tangent` is cheaper for K < N; the product is
    one matrix product, which suits a map whose derivative is slow to batch.
    """

    def linearize(state: State, x: Any) -> tuple[State, Callable[[Array], Array]]:
        flat, unravel = ravel_pytree(state)

        def step(flat: Array) -> tuple[Array, State]:
            new_state = step_fn(unravel(flat), x)
            return ravel_pytree(new_state)[0], new_state

        J, new_state = jax.jacfwd(step, has_aux=True)(flat)
        return new_state, lambda Q: jnp.dot(J, Q)

    return linearize


TANGENTS: dict[str, Callable[[StepFn], Linearize]] = {
    "jvp": jvp_tangent,
    "jacobian": jacobian_tangent,
}


class Growth(NamedTuple):
    """What every interval between two QRs leaves behind, with time leading."""

    logs: Array  # [num_qr, K], log growth over the interval in nats, in QR order
    q: Any = None  # [num_qr, N, K]
    r: Any = None  # [num_qr, K, K]


def benettin_scan(
    linearize: Linearize,
    orthonormalize: Orthonormalize,
    state: State,
    q: Array,
    inputs: PyTree,
    *,
    num_steps: int,
    burn_in: int = 0,
    qr_every: int = 1,
    between: Orthonormalize | None = None,
    hold_trajectory: bool = False,
    keep_vectors: bool = False,
) -> tuple[State, Array, Growth]:
    """Advances trajectory and frame by burn_in + num_steps steps.

    A scan over the intervals holds a scan over the steps of one. (A conditional QR within a single
    scan would make XLA copy the frame at every step.) Reverse-mode differentiation keeps one state
    and one frame for each interval and computes the rest again.

    Args:
      linearize: the tangent map, `(state, x) -> (next state, Q -> J Q)`.
      orthonormalize: a QR back-end.
      state: the first state.
      q: the first frame, [N, K].
      inputs: None, or a pytree with burn_in + num_steps entries along its leading axis.
      num_steps: steps whose growth is returned.
      burn_in: steps before them.
      qr_every: steps of an interval; the last one has what is left of `num_steps`.
      between: triangular factorization of every step within an interval, which keeps the frame
        well conditioned; None lets the columns grow until the interval ends.
      hold_trajectory: whether no derivative flows from one state to the next.
      keep_vectors: whether to return Q and R of every interval.

    Returns:
      The last state, the last frame [N, K], and the Growth of the num_steps.
    """

    def step(carry: tuple[State, Array], x: Any) -> tuple[tuple[State, Array], Array | None]:
        state, q = carry
        if hold_trajectory:
            state = jax.lax.stop_gradient(state)
        state, push = linearize(state, x)
        q = push(q)
        if between is None or qr_every == 1:
            return (state, q), None
        q, r = between(q)
        return (state, q), log_diagonal(r)

    def interval(carry: tuple[State, Array], xs: PyTree, length: int) -> Any:
        if qr_every == 1:
            carry, logs = step(carry, jax.tree.map(lambda leaf: leaf[0], xs))
        else:
            carry, logs = jax.lax.scan(step, carry, xs, length=length)
        state, q = carry
        q, r = orthonormalize(q)
        total = log_diagonal(r) if logs is None else log_diagonal(r) + logs.sum(axis=0)
        return (state, q), Growth(total, q, r) if keep_vectors else Growth(total)

    def run(carry: Any, start: int, num_intervals: int, length: int) -> Any:
        stop = start + num_intervals * length
        xs = jax.tree.map(
            lambda leaf: leaf[start:stop].reshape(num_intervals, length, *leaf.shape[1:]), inputs
        )
        body = jax.checkpoint(lambda carry, xs: interval(carry, xs, length), prevent_cse=False)
        return jax.lax.scan(body, carry, xs, length=num_intervals)

    carry: Any = (state, q)
    whole, rest = divmod(num_steps, qr_every)
    skipped, ragged = divmod(burn_in, qr_every)
    with jax.default_matmul_precision("highest"):
        if ragged:
            carry, _ = run(carry, 0, 1, ragged)
        carry, growth = run(carry, ragged, skipped + whole, qr_every)
        # One loop for burn-in and averages compiles in half the time of two.
        growth = jax.tree.map(lambda leaf: leaf[skipped:], growth)
        if rest:
            carry, last = run(carry, burn_in + whole * qr_every, 1, rest)
            growth = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), growth, last)
    return *carry, growth
