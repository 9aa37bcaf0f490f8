"""What the scores of a study are worth: rank correlations with the finals, and regret.

A correlation is computed within each seed, as a search sees one seed only, and averaged over the
seeds. Intervals resample candidates (the same for all seeds) and seeds at once.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lsh_jax.statistics import partial_correlation, rank_correlation

LEVEL = 0.9
_RESAMPLES = 1000
_SPLITS = 400

Values = npt.NDArray[np.float64]  # [S, n] of S seeds and n candidates


class Estimate(NamedTuple):
    """A number with its bootstrap interval at `LEVEL`."""

    value: float
    low: float
    high: float


class Draws(NamedTuple):
    """Resampled candidates and seeds, shared by all estimates so that they can be compared."""

    candidates: npt.NDArray[np.int64]  # [R, n]
    seeds: npt.NDArray[np.int64]  # [R, S]

    def of(self, values: Values) -> Values:
        """The resampled values, [R, S, n]."""
        return values[self.seeds[:, :, None], self.candidates[:, None, :]]


def draw(num_candidates: int, num_seeds: int, seed: int = 0, resamples: int = _RESAMPLES) -> Draws:
    """Draws with replacement; the first draw is the sample itself."""
    generator = np.random.default_rng(seed)
    candidates = generator.integers(num_candidates, size=(resamples + 1, num_candidates))
    seeds = generator.integers(num_seeds, size=(resamples + 1, num_seeds))
    candidates[0], seeds[0] = np.arange(num_candidates), np.arange(num_seeds)
    return Draws(candidates, seeds)


def estimated(resampled: Values) -> Estimate:
    """The first of the resampled statistics, [R + 1], with the quantiles of the others."""
    others = resampled[1:][~np.isnan(resampled[1:])]
    if np.isnan(resampled[0]) or others.size == 0:
        return Estimate(float(resampled[0]), math.nan, math.nan)
    low, high = np.quantile(others, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(resampled[0]), float(low), float(high))


def correlation(scores: Values, final: Values, draws: Draws, kind: str = "spearman") -> Values:
    """The rank correlation of scores with finals, mean over seeds, of every draw [R + 1]."""
    return _mean(rank_correlation(draws.of(scores), draws.of(final), kind), -1)


def correlation_given(scores: Values, given: Values, final: Values, draws: Draws) -> Values:
    """The partial rank correlation of scores with finals given another score, [R + 1]."""
    x, z, y = (draws.of(values) for values in (scores, given, final))
    pairs = ((x, y), (x, z), (y, z))
    return _mean(partial_correlation(*(rank_correlation(*pair) for pair in pairs)), -1)


def correlation_within(
    scores: Values, final: Values, groups: Sequence[str], draws: Draws
) -> Values:
    """The rank correlation among candidates of one group, mean over groups and seeds, [R + 1].

    Groups of fewer than 4 different candidates are left out. Draws resample within groups.
    """
    labels = np.array(groups)
    found = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if members.size < 4:
            continue
        own = Draws(members[draws.candidates[:, : members.size] % members.size], draws.seeds)
        own.candidates[0] = members
        found.append(rank_correlation(own.of(scores), own.of(final)))
    if not found:
        return np.full(len(draws.seeds), np.nan)
    return _mean(np.stack(found), (0, 2))


def regret(scores: Values, final: Values, top: int, draws: Draws) -> Values:
    """By how much the best final of the `top` first falls short of the best of all, [R + 1].

    In the unit of the finals, mean over seeds.
    """
    x, y = draws.of(scores), draws.of(final)
    first = np.argsort(x, axis=-1, kind="stable")[..., :top]
    return (np.take_along_axis(y, first, axis=-1).min(-1) - y.min(-1)).mean(axis=-1)


def chance_regret(final: Values, top: int, draws: Draws) -> Values:
    """The regret of `top` candidates drawn by chance, in expectation, [R + 1]; of all at most."""
    y = np.sort(draws.of(final), axis=-1)
    n = y.shape[-1]
    top = min(top, n)
    # P(the best of `top` drawn without replacement is the k-th of n).
    weights = np.array([math.comb(n - 1 - k, top - 1) / math.comb(n, top) for k in range(n)])
    return ((y * weights).sum(-1) - y[..., 0]).mean(axis=-1)


def fitted_on_halves(
    parts: Sequence[Values], final: Values, seed: int = 0, splits: int = _SPLITS
) -> Estimate:
    """Rank correlation of a weighted sum of scores fitted on half of the candidates, on the others.

    Ranks within a seed are fitted by least squares to the ranks of the finals. The interval holds
    the middle `LEVEL` of the random splits.
    """
    generator = np.random.default_rng(seed)
    n = final.shape[-1]
    found = []
    for _ in range(splits):
        order = generator.permutation(n)
        fit, judge = order[: n // 2], order[n // 2 :]
        x, y = _design([part[:, fit] for part in parts]), _ranks(final[:, fit])
        weights, *_ = np.linalg.lstsq(x.reshape(-1, len(parts)), y.reshape(-1), rcond=None)
        predicted = _design([part[:, judge] for part in parts]) @ weights
        found.append(_mean(rank_correlation(predicted, final[:, judge]), -1))
    known = np.array(found)[~np.isnan(found)]
    if known.size == 0:
        return Estimate(math.nan, math.nan, math.nan)
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(known.mean()), float(low), float(high))


def _mean(values: Values, axis: int | tuple[int, ...]) -> Values:
    """The mean of what is not NaN; NaN where everything is."""
    known = ~np.isnan(values)
    count = known.sum(axis=axis)
    return np.where(known, values, 0).sum(axis=axis) / np.where(count == 0, np.nan, count)


def _design(parts: Sequence[Values]) -> Values:
    return np.stack([_ranks(part) for part in parts], axis=-1)


def _ranks(values: Values) -> Values:
    """Ranks within each seed, centred."""
    ranks = values.argsort(axis=-1).argsort(axis=-1).astype(float)
    return ranks - ranks.mean(axis=-1, keepdims=True)


class Spread(NamedTuple):
    """How much the finals differ, in perplexity.

    Attributes:
      candidates: standard deviation between candidates, of their means over seeds, without what
        the seeds add to it.
      seeds: standard deviation between seeds of one candidate, after the mean of the seed.
      best: of all finals.
      worst: of all finals.
    """

    candidates: float
    seeds: float
    best: float
    worst: float


def spread(final: Values) -> Spread:
    """The spread of finals [S, n] between candidates and between seeds; NaN for less than two."""
    num_seeds, n = final.shape
    if n < 2:
        return Spread(math.nan, math.nan, math.nan, math.nan)
    means = final.mean(axis=0)
    left = final - means - (final.mean(axis=1, keepdims=True) - final.mean())
    freedom = max((num_seeds - 1) * (n - 1), 1)
    within = float((left**2).sum() / freedom)
    between = max(float(means.var(ddof=1)) - within / num_seeds, 0.0)
    return Spread(math.sqrt(between), math.sqrt(within), float(final.min()), float(final.max()))
