"""The result of a Lyapunov run: means over time, their standard errors, and joining two runs."""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lsh_jax.config import check
from lsh_jax.types import Array, State


class LyapunovResult(NamedTuple):
    """A Lyapunov spectrum and what it takes to continue the run."""

    exponents: Array  # [K], largest first, in log_base units per dt
    std_error: Array  # [K], of the exponents, in their order; NaN below 4 averaged intervals
    local_exponents: Array  # [num_qr, K], finite-time rates, one row for each interval between QRs
    state: State  # after the last step
    q: Array  # [N, K], the frame after the last step; columns in QR order, never sorted
    num_steps: Any  # int, steps averaged over, without burn_in
    qr_every: Any = 1  # int, steps of an interval; the last one may be shorter
    order: Any = None  # int32 [K], the column in QR order that each exponent belongs to
    q_history: Any = None  # [num_qr, N, K], frames after each QR, in QR order; on request
    r_history: Any = None  # [num_qr, K, K], their R


def interval_lengths(num_steps: Any, qr_every: Any, num_intervals: int) -> Array:
    """Steps in each interval between two QRs, float32 [num_qr]: the last takes what is left."""
    index = jnp.arange(num_intervals)
    return jnp.minimum(qr_every, num_steps - qr_every * index).astype(jnp.float32)


class Summary(NamedTuple):
    """Averages over time and batch, in the order of the exponents."""

    exponents: Array  # [K], largest first
    std_error: Array  # [K]
    local_exponents: Array  # [num_qr, K], averaged over the batch
    order: Array  # int32 [K]


@functools.partial(jax.jit, static_argnames=("num_steps", "qr_every", "sort"))
def summarize(local: Array, num_steps: int, qr_every: int = 1, sort: bool = True) -> Summary:
    """Means over time and batch, sorted, with their standard errors.

    Batch means: the intervals of each column of the batch, M of equal length, are cut into
    floor(sqrt(M)) blocks of neighbours (what is left over at the start is not used), long enough
    to be nearly independent; the standard error is that of the mean of all block means. NaN for
    fewer than two of them.

    Args:
      local: finite-time exponents in QR order, [num_qr, B, K].
      num_steps: T, the steps that they cover.
      qr_every: the steps of an interval; the last one has what is left of T.
      sort: whether to order by size; False leaves the QR order.

    Returns:
      A Summary.
    """
    num_intervals, _, num_exponents = local.shape
    weights = interval_lengths(num_steps, qr_every, num_intervals).astype(local.dtype) / num_steps
    std_error = _std_error(local[: max(num_steps // qr_every, 1)])
    local = local.mean(axis=1)
    exponents = jnp.sum(weights[:, None] * local, axis=0)
    # Of the negated ones, as NaN then comes last.
    order = jnp.argsort(-exponents) if sort else jnp.arange(num_exponents)
    return Summary(exponents[order], std_error[order], local[:, order], order.astype(jnp.int32))


def _std_error(local: Array) -> Array:
    """Standard error [K] of the mean of equally long intervals, [M, B, K]."""
    num_intervals, _, num_exponents = local.shape
    num_blocks = math.isqrt(num_intervals)
    length = num_intervals // num_blocks
    blocks = local[num_intervals - num_blocks * length :]
    means = blocks.reshape(num_blocks, length, -1, num_exponents).mean(axis=1)
    means = means.reshape(-1, num_exponents)
    count = means.shape[0]
    if count < 2:
        return jnp.full((num_exponents,), jnp.nan, local.dtype)
    return means.std(axis=0, ddof=1) / math.sqrt(count)


def join_results(first: LyapunovResult, second: LyapunovResult) -> LyapunovResult:
    """The result of one run that was made in two: `second` started from `first.state` and `.q`.

    Args:
      first: the earlier part, of a single trajectory; a whole number of intervals long.
      second: the later part, with the same `qr_every` and units, and no burn-in.

    Returns:
      The LyapunovResult that the whole run would have given.

    Raises:
      ConfigError: when the parts differ in `qr_every` or K, or the first ends within an interval.
    """
    every, shapes = int(first.qr_every), (first.exponents.shape, second.exponents.shape)
    check(every == int(second.qr_every), "second", f"have qr_every={every}", second.qr_every)
    check(shapes[0] == shapes[1] and len(shapes[0]) == 1, "second", "have the K of `first`", shapes)
    whole = int(first.num_steps) % every == 0
    check(whole, "first", f"end on a multiple of qr_every={every} steps", first.num_steps)
    local = jnp.concatenate([_in_qr_order(first), _in_qr_order(second)])
    num_steps = int(first.num_steps) + int(second.num_steps)
    summary = summarize(local[:, None, :], num_steps, every)
    histories = (first.q_history is None) or (second.q_history is None)
    return LyapunovResult(
        exponents=summary.exponents,
        std_error=summary.std_error,
        local_exponents=summary.local_exponents,
        state=second.state,
        q=second.q,
        num_steps=num_steps,
        qr_every=every,
        order=summary.order,
        q_history=None if histories else jnp.concatenate([first.q_history, second.q_history]),
        r_history=None if histories else jnp.concatenate([first.r_history, second.r_history]),
    )


def _in_qr_order(result: LyapunovResult) -> Array:
    return result.local_exponents[:, jnp.argsort(result.order)]
