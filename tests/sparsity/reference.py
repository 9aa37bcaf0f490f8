"""One topology update in plain NumPy, Python integers and fractions: with sorts, unit by unit.

Written from SPARSITY.md and the docstrings, not from the code. Shared with the engine are only the
random bits of growth, which are drawn from the documented key. Lists are over the prunable leaves.
"""

import functools
import math
from fractions import Fraction
from typing import Any, NamedTuple

import jax
import numpy as np

BILLION = 10**9


def apportion(total, weights, caps):
    """Proportional shares with caps in exact fractions; largest remainders, then first leaf."""
    full = set()
    while True:
        open_ = [i for i in range(len(caps)) if i not in full]
        left = total - sum(caps[i] for i in full)
        shares = {i: weights[i] for i in open_}
        if not any(shares.values()):
            shares = {i: caps[i] for i in open_}
        whole = sum(shares.values()) or 1
        quotas = {i: Fraction(left * shares[i]) / whole for i in open_}
        over = {i for i in open_ if quotas[i] > caps[i]}
        if not over:
            break
        full |= over
    counts = [caps[i] if i in full else math.floor(quotas[i]) for i in range(len(caps))]
    by_remainder = sorted(open_, key=lambda i: counts[i] - quotas[i])  # stable
    for i in by_remainder[: total - sum(counts)]:
        counts[i] += 1
    return counts


def progress(config, num_updates):
    """How far the schedules have run, in whole billionths."""
    horizon = max(1, round(config.stop_fraction * config.horizon))
    return BILLION * min(num_updates, horizon) // horizon


def death_rate(config, num_updates):
    """The rate at an update; its curve is cut to nine decimals."""
    x = progress(config, num_updates) / BILLION
    curve = {"cosine": (1 + math.cos(math.pi * x)) / 2, "linear": 1 - x, "constant": 1}
    start = Fraction(str(config.death_rate))
    floor = min(start, Fraction(str(config.rate_floor)))
    return floor + (start - floor) * Fraction(round(BILLION * curve[config.schedule]), BILLION)


def allocation(config, shapes, densities, total):
    """Live weights of each unit, of the sum `total`."""
    sizes = [math.prod(shape) for shape in shapes]
    if config.init == "given":
        quotas = [n * Fraction(str(d)) for n, d in zip(sizes, densities, strict=True)]
        weights = apportion(round(sum(quotas)), quotas, sizes)
    elif config.init == "er":  # the shapes of the tests that come here are of two axes
        weights = [sum(shape[-2:]) * math.prod(shape[:-2]) for shape in shapes]
    else:
        weights = {"uniform": sizes, "erk": [sum(shape) for shape in shapes]}[config.init]
    return apportion(total, weights, sizes)


def final_total(config, shapes, densities):
    """K, the number of live weights that is held or reached."""
    sizes = [math.prod(shape) for shape in shapes]
    if config.init == "given":
        return round(sum(n * Fraction(str(d)) for n, d in zip(sizes, densities, strict=True)))
    return round((1 - Fraction(str(config.sparsity))) * sum(sizes))


def cubic_total(config, shapes, densities, num_updates):
    """K + (N - K) (1 - x)^3, the cube in billionths and the product rounded down."""
    end, dense = final_total(config, shapes, densities), sum(map(math.prod, shapes))
    left = BILLION - progress(config, num_updates)
    cube = BILLION
    for _ in range(3):
        cube = cube * left // BILLION
    return end + (dense - end) * cube // BILLION


def ranks(x):
    """Integers in the order of x, equal ones for equal entries."""
    return np.unique(x, return_inverse=True)[1].reshape(np.shape(x))


def magnitude(x):
    """|x| as doubles, inf above all finite numbers and NaN above inf."""
    size = abs(np.asarray(x, np.float32)).astype(np.float64)
    return np.where(np.isnan(size), 1e300, np.minimum(size, 1e200))


def mean(x, chosen):
    """Mean |x| of the chosen, as a fraction; not finite entries count as zero."""
    finite = [Fraction(float(v)) for v in abs(x[chosen]) if np.isfinite(v)]
    return sum(finite) / max(1, int(chosen.sum())) if finite else Fraction(0)


def inverse_norm(x, chosen):
    """1 / the L2 norm, every weight cut to 16 bits below the largest one's leading bit."""
    values = abs(x[chosen & np.isfinite(x)]).astype(np.float64)
    if not values.any():
        return np.float32(1)
    unit = 2.0 ** (math.floor(math.log2(values.max())) - 15)
    square = np.float32(sum(math.floor(value / unit) ** 2 for value in values))
    return np.float32(1) / np.sqrt(square) / np.float32(unit)


def smallest(keys, candidates, k):
    """Mask of the k smallest candidates; of equal ones the highest flat index first."""
    index = np.arange(keys.size)
    order = np.lexsort((-index, keys.ravel()))
    order = order[candidates.ravel()[order]][:k]
    mask = np.zeros(keys.size, bool)
    mask[order] = True
    return mask.reshape(keys.shape)


@functools.cache
def _bits(shape):
    def draw(key, num_updates, index):
        own = jax.random.fold_in(jax.random.fold_in(key, num_updates), index)
        return jax.random.bits(own, shape, np.uint32)

    return jax.jit(draw)


@functools.cache
def random_scores(seed, num_updates, index, shape):
    """31 random bits for each weight of a unit, from the key of `seed`."""
    bits = _bits(shape)(jax.random.key(seed), num_updates, index)
    return (np.asarray(bits) >> 1).astype(np.int64)


class World(NamedTuple):
    """What an update is given: lists over the prunable leaves."""

    weights: list
    masks: list
    gradients: list
    momentum: list
    signs: list
    threshold: float
    num_updates: int  # before this one
    num_gates: list
    densities: list
    by_gate: bool = False  # counts are of gates
    pattern: Any = None  # (N, M)


class Outcome(NamedTuple):
    """What it gives back."""

    weights: list
    masks: list
    threshold: float
    num_removed: int
    num_grown: int


def update(seed, world, config):
    """One update by the rules of `config` with the key of `seed`."""
    cuts = world.num_gates if world.by_gate else [1] * len(world.weights)

    def cut(leaves):
        pairs = zip(leaves, cuts, strict=True)
        return [unit for leaf, n in pairs for unit in np.split(np.asarray(leaf), n, axis=-1)]

    def join(units):
        units = iter(units)
        return [np.concatenate([next(units) for _ in range(n)], axis=-1) for n in cuts]

    weights, live, slopes, momentum, signs = map(cut, world[:5])
    gates = [n // c for n, c in zip(world.num_gates, cuts, strict=True) for _ in range(c)]
    densities = [d for d, c in zip(world.densities, cuts, strict=True) for _ in range(c)]
    t = world.num_updates + 1
    num_live = [int(mask.sum()) for mask in live]
    shrink = _shrink(config, [w.shape for w in weights], densities, num_live, t)
    rate = death_rate(config, t)
    target = sum(shrink) + math.ceil(rate * (sum(num_live) - sum(shrink)))

    horizon = max(1, round(config.stop_fraction * config.horizon))
    if config.stop_fraction < 1 and t > horizon:
        return Outcome(world.weights, world.masks, world.threshold, 0, 0)
    lost, threshold = _losses(config, world, weights, live, signs, shrink, rate, target)
    dead = [
        _dying(config.death, w, a, g, s, r)
        for w, a, g, s, r in zip(weights, live, slopes, signs, lost, strict=True)
    ]
    kept = [a & ~d for a, d in zip(live, dead, strict=True)]

    free = [int((~mask).sum()) for mask in kept]
    owed = [max(r - s, 0) for r, s in zip(lost, shrink, strict=True)]
    shares = {
        "none": owed,
        "none_authors": [1] * len(lost) if config.death == "threshold" else owed,
        "nonzeros": num_live,
        "survivors": [a - r for a, r in zip(num_live, lost, strict=True)],
        "magnitude": map(mean, weights, live),
        "momentum": map(mean, momentum, live),
        "gradient": map(mean, slopes, live),
    }
    num_grown = apportion(sum(lost) - sum(shrink), list(shares[config.redistribution]), free)
    masks = []
    for i, mask in enumerate(kept):
        ranked = {"gradient": slopes[i], "momentum": momentum[i]}.get(config.growth)
        if ranked is None:
            score = random_scores(seed, t, i, mask.shape)
        else:
            score = ranks(magnitude(ranked))
        if config.exclude_dropped:
            score = score + np.where(live[i], 0, 2**40)
        masks.append(_grow(config, world.pattern, mask, score, num_grown[i], gates[i]))
    masks = join(masks)
    stays = [new & np.asarray(old) for new, old in zip(masks, world.masks, strict=True)]
    values = [np.where(m, w, 0) for m, w in zip(stays, world.weights, strict=True)]
    return Outcome(values, masks, threshold, sum(lost), sum(num_grown))


def _shrink(config, shapes, densities, num_live, t):
    if config.sparsity_schedule == "constant":
        return [0] * len(num_live)
    wanted = cubic_total(config, shapes, densities, t)
    goal = allocation(config, shapes, densities, wanted)
    excess = [max(a - g, 0) for a, g in zip(num_live, goal, strict=True)]
    return apportion(max(sum(num_live) - wanted, 0), excess, num_live)


def _losses(config, world, weights, live, signs, shrink, rate, target):
    """How many weights each unit loses, and the threshold afterwards."""
    num_live = [int(mask.sum()) for mask in live]
    if config.death in ("magnitude", "set", "set_authors", "taylor"):
        pairs = zip(num_live, shrink, strict=True)
        return [s + math.ceil(rate * (a - s)) for a, s in pairs], world.threshold
    if config.death == "sign_flip":
        trios = zip(live, weights, signs, strict=True)
        crossed = [int((a & (w * s < 0)).sum()) for a, w, s in trios]
        return list(map(max, crossed, shrink)), world.threshold
    scaled = [np.asarray(w, np.float32) for w in weights]
    if config.death == "global_normalized":
        scaled = [w * inverse_norm(w, a) for w, a in zip(scaled, live, strict=True)]
    entries = [
        (key, -l, -i)
        for l, (w, a) in enumerate(zip(scaled, live, strict=True))
        for i, key in enumerate(magnitude(w).ravel())
        if a.flat[i]
    ]
    entries.sort()
    lost = [0] * len(weights)
    for _, l, _ in entries[:target]:
        lost[-l] += 1
    if config.death != "threshold":
        return lost, world.threshold
    cut = _first_cut(entries, target)
    if world.threshold > 0 and config.sparsity_schedule == "constant":
        cut = world.threshold
        lost = [int((a & (magnitude(w) <= cut)).sum()) for w, a in zip(weights, live, strict=True)]
    if 50 * sum(lost) < 49 * target:
        cut = min(2 * cut, float(np.finfo(np.float32).max))
    elif 50 * sum(lost) > 51 * target:
        cut /= 2
    return lost, cut


def _first_cut(entries, target):
    """The largest of the weights that die, at most the largest float32; 0 if none dies."""
    if target == 0:
        return 0.0
    return min(entries[target - 1][0], float(np.finfo(np.float32).max))


def _dying(death, weights, live, slopes, signs, num_removed):
    """Mask of the weights of a unit that die."""
    keys = ranks(magnitude(weights * slopes if death == "taylor" else weights))
    if death == "sign_flip":  # those that have crossed zero before all others
        keys = keys + np.where(weights * signs < 0, 0, 2**40)
    if death not in ("set", "set_authors"):
        return smallest(keys, live, num_removed)
    negative = live & (weights < 0)
    others = live & ~negative
    from_others = math.ceil(num_removed / 2)
    from_negative = num_removed - from_others
    if from_negative > negative.sum():
        from_negative = int(negative.sum())
        from_others = num_removed - from_negative
    elif from_others > others.sum():
        from_others = int(others.sum())
        from_negative = num_removed - from_others
    of_negative = -keys if death == "set_authors" else keys
    return smallest(keys, others, from_others) | smallest(of_negative, negative, from_negative)


def _grow(config, pattern, kept, score, num_grown, num_gates):
    """The kept weights and those that grow: the highest score, then the lowest flat index."""
    if pattern is not None:
        return _fill(pattern, kept, score)
    if config.growth != "random_gates":
        return kept | _largest(score, ~kept, num_grown)
    blocks = np.split(kept, num_gates, axis=-1)
    of_gate = apportion(num_grown, [1] * num_gates, [int((~block).sum()) for block in blocks])
    scores = np.split(score, num_gates, axis=-1)
    parts = [
        block | _largest(own, ~block, k)
        for block, own, k in zip(blocks, scores, of_gate, strict=True)
    ]
    return np.concatenate(parts, axis=-1)


def _largest(score, candidates, k):
    order = np.argsort(-score.ravel(), kind="stable")
    order = order[candidates.ravel()[order]][:k]
    mask = np.zeros(score.size, bool)
    mask[order] = True
    return mask.reshape(score.shape)


def _fill(pattern, kept, score):
    """Adds the largest scores until N of the M weights along the last axis but one live."""
    num_live, size = pattern
    mask = kept.copy()
    for start in range(0, kept.shape[-2], size):
        for column in np.ndindex(*kept.shape[:-2], kept.shape[-1]):
            at = (*column[:-1], slice(start, start + size), column[-1])
            lacking = num_live - int(mask[at].sum())
            mask[at] |= _largest(score[at], ~mask[at], lacking)
    return mask
