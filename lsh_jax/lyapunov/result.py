"""The result of a Lyapunov run: means over time, their standard errors, and joining two runs."""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lsh_jax.config import check
from lsh_jax.types import Array, State

_MOST_WAVES = 16  # the standard error is then itself known to 1 / sqrt(32) = 18 %


class LyapunovResult(NamedTuple):
    """A Lyapunov spectrum and what it takes to continue the run.

    A batch that was run under `jax.vmap` has its axis in front of every field:
    `jax.tree.map(lambda leaf: leaf[i], result)` is the run of its element i. `select_layer` is the
    run of one layer of a language model.

    Attributes:
      exponents: [K], largest first, in log_base units per dt.
      std_error: standard errors of the exponents, [K], in their order (see `summarize`); NaN where
        fewer than 4 intervals of a single column were averaged.
      local_exponents: finite-time rates, [num_qr, K], one row for each interval between two QRs;
        the columns in the order of the exponents.
      state: after the last step.
      q: the frame after the last step, [N, K]; its columns in QR order, never sorted.
      num_steps: steps averaged over, int, without the burn-in.
      qr_every: steps of an interval, int; the last interval may be shorter.
      order: int32 [K], the column in QR order that each exponent belongs to.
      unit: nats in one unit of the exponents, times dt: dt * log(log_base).
      q_history: frames after each QR, in QR order, [num_qr, N, K]; None unless asked for.
      r_history: their triangular factors R, [num_qr, K, K]; None unless asked for.
    """

    exponents: Array
    std_error: Array
    local_exponents: Array
    state: State
    q: Array
    num_steps: Any
    qr_every: Any = 1
    order: Any = None
    unit: Any = 1.0
    q_history: Any = None
    r_history: Any = None


def select_layer(result: LyapunovResult, layer: int) -> LyapunovResult:
    """The spectrum of one layer of `rnn_lyapunov_spectrum`, as a result of its own.

    Args:
      result: with layers along an axis, or as tuples.
      layer: its number, 0 the lowest.

    Returns:
      A LyapunovResult with exponents [K] and local exponents [num_qr, K]; state and q keep the
      batch of columns that the exponents were averaged over.
    """
    stacked = not isinstance(result.exponents, tuple)

    def part(field: Any) -> Any:
        return jax.tree.map(lambda leaf: leaf[layer], field) if stacked else field[layer]

    local = result.local_exponents
    return result._replace(
        exponents=part(result.exponents),
        std_error=part(result.std_error),
        local_exponents=local[:, layer] if stacked else local[layer],
        state=part(result.state),
        q=part(result.q),
        order=part(result.order),
    )


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
    """Means over time and batch, sorted, with their standard errors (`std_error_of_mean`).

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
    std_error = std_error_of_mean(local[: max(num_steps // qr_every, 1)], qr_every)
    local = local.mean(axis=1)
    # About the first row, as a long sum of equal numbers would lose digits in float32.
    exponents = local[0] + jnp.sum(weights[:, None] * (local - local[:1]), axis=0)
    # Of the negated ones, as NaN then comes last.
    order = jnp.argsort(-exponents) if sort else jnp.arange(num_exponents)
    return Summary(exponents[order], std_error[order], local[:, order], order.astype(jnp.int32))


def std_error_of_mean(series: Array, steps_each: int = 1) -> Array:
    """The standard error of the mean of correlated series, from their slowest cosine waves.

    The variance of a mean over M samples is 1/M of the power of the series at frequency zero, which
    is estimated by the mean power of the slowest waves cos(pi j (t + 1/2) / M), j = 1 ... m, of
    every column, and of the differences between the columns: the equally-weighted cosine estimator
    (Müller 2007; Lazarus, Lewis, Stock & Watson 2018, JBES 36). Means of blocks, which are more
    usual, let fast waves leak to frequency zero: they take the bounded oscillations of a flow's
    local exponents for noise, and overstate its errors many times.

    m is the root of the number of steps, at most 16 and half of M: the waves are long against the
    memory of the series.

    Args:
      series: [M, B, K], M equally long intervals of B columns that are taken for independent.
      steps_each: steps of an interval.

    Returns:
      [K]; NaN for a single column of fewer than 4 intervals.
    """
    num_intervals, num_columns, num_series = series.shape
    num_waves = min(math.isqrt(num_intervals * steps_each), num_intervals // 2, _MOST_WAVES)
    num_waves = num_waves if num_intervals >= 4 else 0
    freedom = num_waves * num_columns + num_columns - 1
    if freedom == 0:
        return jnp.full((num_series,), jnp.nan, series.dtype)
    phase = np.pi * np.outer(np.arange(1, num_waves + 1), np.arange(num_intervals) + 0.5)
    cosines = math.sqrt(2 / num_intervals) * np.cos(phase / num_intervals)
    means = series.mean(axis=0)  # [B, K]
    waves = jnp.asarray(cosines, series.dtype)
    power = jnp.einsum("jm,mbk->jbk", waves, series - means[None], precision="highest")
    between = num_intervals * jnp.sum((means - means.mean(axis=0)[None]) ** 2, axis=0)
    total = jnp.sum(power**2, axis=(0, 1)) + between
    return jnp.sqrt(total / (freedom * num_intervals * num_columns))


def join_results(first: LyapunovResult, second: LyapunovResult) -> LyapunovResult:
    """The result of one run that was made in two: `second` started from `first.state` and `.q`.

    Args:
      first: the earlier part, of `lyapunov_spectrum`, a whole number of intervals long; or a batch
        of them, under `jax.vmap`. Outside of `jit`.
      second: the later part, with the same `qr_every`, unit and K, without a burn-in. That it goes
        on where `first` stopped is not checked.

    Returns:
      The LyapunovResult that the whole run would have given.

    Raises:
      ConfigError: when the parts differ in `qr_every`, unit or K, or the first ends within an
        interval.
    """
    every, steps = _common(first.qr_every), _common(first.num_steps)
    shapes = (jnp.shape(first.exponents), jnp.shape(second.exponents))
    check(every == _common(second.qr_every), "second", f"have qr_every={every}", second.qr_every)
    check(shapes[0] == shapes[1], "second", "have the K of `first`", shapes)
    single = jnp.ndim(first.q) == len(shapes[0]) + 1
    check(single, "first", "be a result of `lyapunov_spectrum`", f"q {jnp.shape(first.q)}")
    units = (float(_common(first.unit)), float(_common(second.unit)))
    check(
        math.isclose(*units, rel_tol=1e-6), "second", "have the dt and log_base of `first`", units
    )
    check(steps % every == 0, "first", f"end on a multiple of qr_every={every} steps", steps)
    num_steps = int(steps + _common(second.num_steps))
    join = functools.partial(_join, num_steps, int(every))
    for _ in range(len(shapes[0]) - 1):
        join = jax.vmap(join)
    arrays = join(_arrays(first), _arrays(second))
    return arrays._replace(num_steps=num_steps, qr_every=int(every), unit=units[0])


def _arrays(result: LyapunovResult) -> LyapunovResult:
    return result._replace(num_steps=None, qr_every=None, unit=None)


def _join(
    num_steps: int, every: int, first: LyapunovResult, second: LyapunovResult
) -> LyapunovResult:
    local = jnp.concatenate([_in_qr_order(first), _in_qr_order(second)])
    exponents, std_error, local, order = summarize(local[:, None, :], num_steps, every)
    kept = first.q_history is not None and second.q_history is not None
    return LyapunovResult(
        exponents=exponents,
        std_error=std_error,
        local_exponents=local,
        state=second.state,
        q=second.q,
        num_steps=None,
        qr_every=None,
        order=order,
        unit=None,
        q_history=jnp.concatenate([first.q_history, second.q_history]) if kept else None,
        r_history=jnp.concatenate([first.r_history, second.r_history]) if kept else None,
    )


def _in_qr_order(result: LyapunovResult) -> Array:
    return result.local_exponents[:, jnp.argsort(result.order)]


def _common(value: Any) -> Any:
    """The one number that all runs of a batch share."""
    return np.unique(np.asarray(value)).max()
