"""The LS distance between Lyapunov spectra, which ranks candidates (Hyperpruning, 2506.07975).

A spectrum is given as [K], as [L, K] with one row a layer, as a tuple of [K] arrays for layers of
unequal width, or as the LyapunovResult that holds any of these. Sorting, the leading share and
quantiles are taken within each layer, so that a layer is compared with itself; the layers are then
concatenated. Departures from the authors' code: it leaves the exponents unsorted, which compares a
direction of one network with an unrelated one of the other, and it has no floor, so that one dead
unit makes a distance infinite.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lsh_jax.config import check, check_choice
from lsh_jax.types import Array

Spectrum = Any  # [K], [L, K], or a tuple of [K] arrays

_METRICS = ("l2", "w1")


class Preparation(NamedTuple):
    """What is done to a spectrum before it is compared; the fields are those of `ls_distance`."""

    sort: bool = True
    share: float = 1.0
    num_points: int | None = None
    floor: float = -15.0


def ls_distance(
    a: Spectrum,
    b: Spectrum,
    *,
    metric: str = "l2",
    sort: bool = True,
    share: float = 1.0,
    normalize: bool = False,
    num_points: int | None = None,
    floor: float = -15.0,
    weights: Spectrum | None = None,
    embed: Callable[[Array], Array] | None = None,
) -> Array:
    """The distance between two Lyapunov spectra.

    Works under `jit`, `vmap` and `grad`; the gradient is zero, not NaN, where the spectra agree.
    The sorted l2 distance divided by the square root of the number of exponents is the
    Wasserstein-2 distance between the two sets of exponents of a layer; w1 is Wasserstein-1.

    Args:
      a: a spectrum, [K], [L, K] or a tuple of [K] arrays.
      b: the spectrum to compare it with, as many layers as `a`.
      metric: "l2", the root of the summed squares, or "w1", the mean absolute difference, which
        the strongly negative tail dominates less.
      sort: whether to sort each layer, largest first; False compares exponents as they stand.
      share: leading part of each layer that counts, in (0, 1]: ceil(share * K) exponents.
      normalize: whether to divide l2 by the root of the number of compared values, or of the sum
        of their weights.
      num_points: compare the quantile functions of each layer at this many midpoints (j - 1/2) /
        num_points, for layers of unequal length; needs `sort`.
      floor: lower bound for both spectra, in their unit. -15 nats lies above the log of float32's
        rounding unit, which is all that a wiped-out direction reads: without it, the distance
        would depend on the precision. Use -21.64 for spectra in bits.
      weights: one >= 0 for each compared exponent, in the layers of the spectra: [K'], [L, K'] or a
        tuple, with K' what `sort`, `share` and `num_points` leave of a layer. It scales the squared
        difference in l2; w1 becomes the weighted mean.
      embed: applied to the concatenated vectors before they are compared, [K'] -> [M]; without
        `weights`. Fit it
        once: a basis fitted for each pair gives distances that cannot be compared. One that was
        fitted by `lsh_jax.embeddings` knows how its spectra were prepared.

    Returns:
      The distance, a scalar >= 0; NaN if a spectrum holds NaN.

    Raises:
      ConfigError: (a ValueError) for shapes that do not match or an argument that cannot be met,
        or an embedding that was fitted to spectra prepared in another way.
    """
    check_choice("metric", metric, _METRICS)
    layers_a, layers_b = _layers("a", a), _layers("b", b)
    counts = (len(layers_a), len(layers_b))
    check(counts[0] == counts[1], "a", "have as many layers as `b`", counts)
    if num_points is None:
        _check_lengths(layers_a, layers_b)
    preparation = Preparation(sort, share, num_points, floor)
    prepared = _prepared(layers_a, preparation)
    vectors = jnp.concatenate(prepared), jnp.concatenate(_prepared(layers_b, preparation))
    if embed is not None:
        check(weights is None, "weights", "be None where `embed` is given", weights)
        fitted_to = getattr(embed, "preparation", preparation)
        check(fitted_to == preparation, "embed", f"be fitted with {preparation}", fitted_to)
        vectors = embed(vectors[0]), embed(vectors[1])
    difference = vectors[0] - vectors[1]
    # |x| as sign(x) x: jnp.abs has slope 1 at 0, this has the 0 that equal spectra need.
    terms = jnp.sign(difference) * difference if metric == "w1" else difference**2
    total: Any = terms.size
    if weights is not None:
        scale = _weights(weights, prepared)
        terms, total = scale * terms, scale.sum()
    if metric == "w1":
        return terms.sum() / total
    distance = _root(terms.sum())
    return distance / jnp.sqrt(jnp.asarray(total, distance.dtype)) if normalize else distance


def prepare_spectrum(spectrum: Spectrum, preparation: Preparation, name: str = "spectrum") -> Array:
    """The vector that stands for a spectrum in a distance: sorted, cut, floored and concatenated.

    Args:
      spectrum: [K], [L, K] or a tuple of [K] arrays.
      preparation: the options, as in `ls_distance`.
      name: what to call the spectrum in an error.

    Returns:
      [K'], the layers one after the other.

    Raises:
      ConfigError: (a ValueError) for a shape or an option that cannot be met.
    """
    return jnp.concatenate(_prepared(_layers(name, spectrum), preparation))


def num_leading(share: float, size: int) -> int:
    """How many exponents the leading `share` of a layer has: ceil(share * size).

    Raises:
      ConfigError: for a share outside (0, 1].
    """
    check(0 < share <= 1, "share", "lie in (0, 1]", share)
    return math.ceil(share * size - 1e-9)  # 0.1 * 30 is 3 and a rounding error: 3, not 4


def count_floored(a: Spectrum, floor: float = -15.0) -> Array:
    """The number of exponents at or below the floor of `ls_distance`: directions that die out.

    Args:
      a: a spectrum, [K], [L, K] or a tuple of [K] arrays.
      floor: in the unit of `a`.

    Returns:
      int32 scalar.
    """
    return jnp.sum(jnp.concatenate(_layers("a", a)) <= floor, dtype=jnp.int32)


def ls_distance_std_error(
    a: Spectrum,
    std_error_a: Spectrum,
    b: Spectrum,
    std_error_b: Spectrum,
    *,
    sort: bool = True,
    share: float = 1.0,
    floor: float = -15.0,
    weights: Spectrum | None = None,
) -> Array:
    """The standard error of the l2 `ls_distance`, propagated to first order.

    The errors of all exponents are taken for independent. Spectra estimated on the same tokens
    err alike, so that the true error of their distance tends to be smaller. An exponent at or
    below the floor has no error. Where the spectra agree the distance has no first order, and
    the result is 0.

    Args:
      a: a spectrum, [K], [L, K] or a tuple of [K] arrays.
      std_error_a: the standard errors of `a`, of the same shape and in the same order.
      b: the other spectrum, of the shape of `a`.
      std_error_b: its standard errors.
      sort: as in `ls_distance`; the errors follow their exponents.
      share: as in `ls_distance`.
      floor: as in `ls_distance`.
      weights: as in `ls_distance`.

    Returns:
      A scalar >= 0, in the unit of the spectra.

    Raises:
      ConfigError: (a ValueError) for shapes that do not match or a share outside (0, 1].
    """
    named = {"a": (a, std_error_a), "b": (b, std_error_b)}
    values, errors, w = compared_with_errors(named, sort, share, floor, weights)
    difference = values[0] - values[1]
    squared = jnp.sum(w * difference**2)
    variance = jnp.sum((w * difference) ** 2 * (errors[0] ** 2 + errors[1] ** 2))
    return jnp.where(squared == 0, 0, _root(variance / jnp.where(squared == 0, 1, squared)))


def compared_with_errors(
    named: dict[str, tuple[Spectrum, Spectrum]],
    sort: bool,
    share: float,
    floor: float,
    weights: Spectrum | None,
) -> tuple[list[Array], list[Array], Array]:
    """Clipped exponents and their errors, as `ls_distance` orders and cuts them, and the weights.

    Args:
      named: the name of each spectrum -> it and its standard errors, all of one shape.
      sort: whether to sort each layer, the errors with their exponents.
      share: leading part of each layer that counts.
      floor: lower bound; what lies on it has no error.
      weights: as in `ls_distance`.

    Returns:
      The exponents and the errors of each spectrum, lists of [K'], and the weights [K'].

    Raises:
      ConfigError: (a ValueError) for shapes that do not match or a share outside (0, 1].
    """
    first_values = _layers("a", named["a"][0])
    values, errors = [], []
    for name, (spectrum, std_error) in named.items():
        layers, layer_errors = _layers(name, spectrum), _layers(f"std_error_{name}", std_error)
        _check_lengths(layers, layer_errors, (name, f"std_error_{name}"))
        _check_lengths(first_values, layers, ("a", name))
        if sort:
            orders = [jnp.argsort(x, descending=True) for x in layers]
            layers = tuple(x[order] for x, order in zip(layers, orders, strict=True))
            layer_errors = tuple(x[order] for x, order in zip(layer_errors, orders, strict=True))
        leading = [_leading(x, share) for x in layers]
        value = jnp.concatenate(leading)
        error = jnp.concatenate([_leading(x, share) for x in layer_errors])
        values.append(jnp.maximum(value, floor))
        errors.append(jnp.where(value <= floor, 0, error))
    return values, errors, _weights(weights, leading)


def _prepared(layers: tuple[Array, ...], preparation: Preparation) -> list[Array]:
    """Each layer as it is compared, [K']."""
    sort, share, num_points, floor = preparation
    if num_points is not None:
        check(num_points >= 1, "num_points", "be at least 1", num_points)
        check(sort, "sort", "be True where `num_points` is given", sort)
    prepared = [jnp.sort(x, descending=True) if sort else x for x in layers]
    prepared = [_leading(x, share) for x in prepared]
    if num_points is not None:
        prepared = [_quantiles(x, num_points) for x in prepared]
    return [jnp.maximum(x, floor) for x in prepared]


def _weights(weights: Spectrum | None, compared: list[Array]) -> Array:
    """One weight for each compared value of all layers, [K'], of their type."""
    if weights is None:
        return jnp.ones_like(jnp.concatenate(compared))
    layers = _layers("weights", weights)
    expected, got = [x.size for x in compared], [x.size for x in layers]
    condition = f"have one entry for each compared exponent of the layers, {expected}"
    check(got == expected, "weights", condition, got)
    joined = jnp.concatenate(layers).astype(compared[0].dtype)
    if not isinstance(joined, jax.core.Tracer):  # what is traced cannot be looked at
        valid = bool((joined >= 0).all() and joined.sum() > 0)
        check(valid, "weights", "be at least 0, and not all 0", weights)
    return joined


def _layers(name: str, spectrum: Spectrum) -> tuple[Array, ...]:
    """The spectrum as a tuple of layers, [K] each."""
    spectrum = getattr(spectrum, "exponents", spectrum)  # of a LyapunovResult
    if isinstance(spectrum, (tuple, list)) and any(np.ndim(layer) for layer in spectrum):
        layers = tuple(_floats(layer) for layer in spectrum)
    else:
        array = _floats(spectrum)
        layers = tuple(array) if array.ndim == 2 else (array,)
    shapes = [layer.shape for layer in layers]
    valid = bool(layers) and all(layer.ndim == 1 and layer.size for layer in layers)
    check(valid, name, "be [K], [L, K] or a tuple of [K] arrays, with K >= 1", shapes)
    return layers


def _floats(values: Any) -> Array:
    array = jnp.asarray(values)
    return array if jnp.issubdtype(array.dtype, jnp.floating) else array.astype(float)


def _check_lengths(
    layers_a: tuple[Array, ...],
    layers_b: tuple[Array, ...],
    names: tuple[str, str] = ("a", "b"),
) -> None:
    lengths = [[layer.size for layer in layers] for layers in (layers_a, layers_b)]
    remedy = "" if names != ("a", "b") else " (`num_points` compares unequal ones in ls_distance)"
    condition = f"have the layer lengths of `{names[1]}`, {lengths[1]}{remedy}"
    check(lengths[0] == lengths[1], names[0], condition, lengths[0])


def _leading(layer: Array, share: float) -> Array:
    return layer[: num_leading(share, layer.size)]


def _quantiles(layer: Array, num_points: int) -> Array:
    """The quantile function of the exponents (a step function), largest first, at midpoints."""
    indices = (2 * np.arange(num_points) + 1) * layer.size // (2 * num_points)
    return layer[indices]


def _root(squared: Array) -> Array:
    """The square root, with gradient 0 instead of inf at 0; NaN stays NaN."""
    at_zero = squared == 0
    # Both branches of a `where` are differentiated, so the dangerous one is fed a safe value.
    return jnp.where(at_zero, 0, jax.lax.sqrt(jnp.where(at_zero, 1, squared)))
