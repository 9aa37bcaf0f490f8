"""Rank correlations and bootstrap intervals, thin over scipy and numpy.

Everything here runs on the host, in float64, and is a function of its seed.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lsh_jax.config import check, check_choice

_RESAMPLES_AT_ONCE = 1000  # bounds the memory of a bootstrap over many blocks


def spearman(x: ArrayLike, y: ArrayLike) -> float:
    """Spearman's rank correlation; ties share their mean rank.

    Args:
      x: [n], n >= 2.
      y: [n].

    Returns:
      A value in [-1, 1]; NaN if x or y is constant, or holds NaN.

    Raises:
      ConfigError: (a ValueError) for samples of unequal length or fewer than two values.
    """
    from scipy import stats  # takes half a second to import

    x, y = _paired(x, y)
    check(x.size >= 2, "x", "hold at least 2 values", x.size)
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return math.nan
    return float(stats.spearmanr(x, y).statistic)


def rank_correlation(x: ArrayLike, y: ArrayLike, kind: str = "spearman") -> np.ndarray:
    """Rank correlations of many paired samples at once; ties share their mean rank.

    Args:
      x: [..., n], n >= 2.
      y: [..., n], of a shape that broadcasts with `x`.
      kind: "spearman", or "kendall" for tau-b.

    Returns:
      [...], each in [-1, 1]; NaN where a sample is constant.

    Raises:
      ConfigError: (a ValueError) for an unknown kind or samples of unequal length.
    """
    from scipy import stats

    check_choice("kind", kind, ("spearman", "kendall"))
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    check(x.shape[-1] == y.shape[-1] >= 2, "x", "be as long as `y`, 2 or more", x.shape)
    if kind == "spearman":
        a, b = (stats.rankdata(values, axis=-1) for values in (x, y))
        a, b = (ranks - ranks.mean(axis=-1, keepdims=True) for ranks in (a, b))
        axes: tuple[int, ...] = (-1,)
    else:
        a, b = (np.sign(v[..., :, None] - v[..., None, :]) for v in (x, y))
        axes = (-2, -1)
    scale = np.sqrt((a**2).sum(axis=axes) * (b**2).sum(axis=axes))
    with np.errstate(invalid="ignore"):
        return (a * b).sum(axis=axes) / np.where(scale == 0, np.nan, scale)


def partial_correlation(xy: ArrayLike, xz: ArrayLike, yz: ArrayLike) -> np.ndarray:
    """The correlation of x and y that is left given z, from the three correlations.

    Args:
      xy: of x and y, any shape.
      xz: of x and z.
      yz: of y and z.

    Returns:
      Of the same shape; NaN where z determines x or y.
    """
    xy, xz, yz = (np.asarray(r, np.float64) for r in (xy, xz, yz))
    left = (1 - xz**2) * (1 - yz**2)
    return (xy - xz * yz) / np.sqrt(np.where(left <= 1e-12, np.nan, left))


def spearman_p_value(x: ArrayLike, y: ArrayLike) -> float:
    """The exact two-sided permutation p value of Spearman's correlation, for few values.

    Args:
      x: [n], 2 <= n <= 9: all n! orders are tried.
      y: [n].

    Returns:
      The share of orders whose correlation is at least as far from 0, in (0, 1].

    Raises:
      ConfigError: for samples of unequal length, or too few or too many values.
    """
    from scipy import stats

    x, y = _paired(x, y)
    check(2 <= x.size <= 9, "x", "hold 2 to 9 values", x.size)
    a, b = (stats.rankdata(values) - (x.size + 1) / 2 for values in (x, y))
    orders = np.array(list(itertools.permutations(b)))
    # Sums of half-integers: what equals the observed value differs from it by rounding at most.
    return float(np.mean(np.abs(orders @ a) >= abs(b @ a) - 1e-9))


def bootstrap_interval(
    statistic: Callable[..., float],
    *samples: ArrayLike,
    level: float = 0.9,
    num_resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """The percentile bootstrap interval of a statistic of paired samples (Efron, 1979).

    Args:
      statistic: `statistic(*samples) -> float`.
      *samples: [n] each; entry i of all of them is drawn together.
      level: coverage, in (0, 1).
      num_resamples: draws; those whose statistic is NaN (all entries the same one, say) are
        dropped.
      seed: of the draws.

    Returns:
      The ends (low, high); NaN if the statistic of every draw is NaN.

    Raises:
      ConfigError: (a ValueError) for samples of unequal length or an argument that cannot be met.
    """
    _check_bootstrap(level, num_resamples)
    arrays = _paired(*samples)
    check(bool(arrays) and arrays[0].size > 0, "samples", "hold at least 1 value", samples)
    generator = np.random.default_rng(seed)
    size = arrays[0].size
    draws = (generator.integers(size, size=size) for _ in range(num_resamples))
    values = np.array([statistic(*(array[draw] for array in arrays)) for draw in draws])
    return _percentiles(values, level)


def paired_block_bootstrap(
    nll_a: ArrayLike,
    nll_b: ArrayLike,
    counts: ArrayLike,
    *,
    level: float = 0.95,
    num_resamples: int = 10_000,
    seed: int = 0,
) -> tuple[float, float, float]:
    """By how much two models differ on the same tokens, with a percentile bootstrap interval.

    Neighbouring tokens are correlated, so whole blocks of consecutive tokens are drawn, for both
    models at once: what makes a block hard for both cancels. Every draw is a ratio of sums, as
    the mean over tokens is.

    Args:
      nll_a: summed negative log-likelihoods of the blocks under the first model, nats, [N].
      nll_b: under the second model, [N].
      counts: tokens of the blocks, > 0, [N], N >= 2.
      level: coverage, in (0, 1).
      num_resamples: draws.
      seed: of the draws.

    Returns:
      (difference, low, high) of the mean nll, a minus b, nats per token: negative where the
      first model is the better one.

    Raises:
      ConfigError: (a ValueError) for arrays of unequal length or an argument that cannot be met.
    """
    _check_bootstrap(level, num_resamples)
    first, second, counts = _paired(nll_a, nll_b, counts)
    check(counts.size >= 2, "counts", "hold at least 2 blocks", counts.size)
    check(bool((counts > 0).all()), "counts", "be positive", counts.min())
    difference = first - second
    generator = np.random.default_rng(seed)
    ratios = []
    for start in range(0, num_resamples, _RESAMPLES_AT_ONCE):
        rows = min(_RESAMPLES_AT_ONCE, num_resamples - start)
        drawn = generator.integers(counts.size, size=(rows, counts.size))
        ratios.append(difference[drawn].sum(axis=1) / counts[drawn].sum(axis=1))
    low, high = _percentiles(np.concatenate(ratios), level)
    return float(difference.sum() / counts.sum()), low, high


def _paired(*samples: ArrayLike) -> tuple[np.ndarray[Any, np.dtype[np.float64]], ...]:
    arrays = tuple(np.asarray(sample, dtype=np.float64) for sample in samples)
    shapes = [array.shape for array in arrays]
    paired = len(set(shapes)) <= 1 and all(array.ndim == 1 for array in arrays)
    check(paired, "samples", "be vectors of one length", shapes)
    return arrays


def _check_bootstrap(level: float, num_resamples: int) -> None:
    check(0 < level < 1, "level", "lie in (0, 1)", level)
    check(num_resamples >= 1, "num_resamples", "be at least 1", num_resamples)


def _percentiles(
    values: np.ndarray[Any, np.dtype[np.float64]], level: float
) -> tuple[float, float]:
    values = values[~np.isnan(values)]
    if values.size == 0:
        return math.nan, math.nan
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
