"""Embeddings of Lyapunov spectra, in which `ls_distance` may compare them.

An embedding is fitted once, to the spectra of the dense network's history and of the pool. One
that is fitted for each pair, as the authors' PCA is, has another basis for each candidate, so that
their distances cannot be compared.
"""

import dataclasses
import functools
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np

from lsh_jax.config import check
from lsh_jax.distance import Preparation, Spectrum, prepare_spectrum
from lsh_jax.types import Array

_prepare = jax.jit(prepare_spectrum, static_argnames=("preparation", "name"))


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["components", "mean", "explained"],
    meta_fields=["preparation"],
)
@dataclasses.dataclass(frozen=True, eq=False)
class PrincipalComponents:
    """A projection onto principal components; pass it to `ls_distance` as `embed`.

    A pytree, so that it may be an argument of a compiled function, and hashable by identity, so
    that it may be a static one. `ls_distance` refuses it unless `sort`, `share`, `num_points` and
    `floor` are those that it was fitted with.
    """

    components: Array  # [M, K'], orthonormal rows, the largest variance first
    mean: Array  # [K'], of the prepared spectra
    explained: Array  # [M], share of the variance along each component
    preparation: Preparation  # what was done to the spectra

    def __call__(self, prepared: Array) -> Array:
        """Coordinates [M] of a prepared spectrum [K'], as `prepare_spectrum` returns it.

        Raises:
          ConfigError: (a ValueError) for another number of exponents than it was fitted to.
        """
        shape = jnp.shape(self.mean)
        expected = f"have the {shape[0]} compared exponents that the embedding was fitted to"
        check(prepared.shape == shape, "prepared", expected, prepared.shape)
        centred = prepared - self.mean.astype(prepared.dtype)
        return jnp.dot(self.components.astype(prepared.dtype), centred, precision="highest")

    def coordinates(self, spectrum: Spectrum) -> Array:
        """Coordinates [M] of a spectrum as it was estimated: [K], [L, K] or a tuple of [K]."""
        return self(_prepare(spectrum, self.preparation))


def fit_pca(
    spectra: Iterable[Spectrum],
    num_components: int,
    *,
    sort: bool = True,
    share: float = 1.0,
    num_points: int | None = None,
    floor: float = -15.0,
) -> PrincipalComponents:
    """Fits principal components to spectra, by an exact singular value decomposition.

    The spectra are prepared by the very function that `ls_distance` uses, and centred. In l2, the
    distance between coordinates is never above the distance between the spectra, and equal to it
    between those of the fit once all their components are kept. Deterministic: of each component
    the entry largest in size is positive. Runs on the host, in float64.

    Args:
      spectra: S >= 2 of them, each [K], [L, K] or a tuple of [K] arrays: [S, K] or [S, L, K] too.
      num_components: M, from 1 to the number of dimensions that the spectra span around their mean,
        at most S - 1.
      sort: as in `ls_distance`, like all that follow; give that the same values.
      share: leading part of each layer that counts.
      num_points: quantiles of each layer.
      floor: lower bound of the exponents.

    Returns:
      A PrincipalComponents, the `embed` of `ls_distance`.

    Raises:
      ConfigError: (a ValueError) for spectra of different sizes or not finite above the floor, or
        more components than they span.
    """
    preparation = Preparation(sort, share, num_points, floor)
    rows = [np.asarray(_prepare(x, preparation, "spectra")) for x in spectra]
    sizes = sorted({row.size for row in rows})
    check(len(rows) >= 2 and len(sizes) == 1, "spectra", "be 2 or more of one size", sizes)
    matrix = np.stack(rows).astype(np.float64)
    finite = bool(np.isfinite(matrix).all())
    check(finite, "spectra", "be finite above the floor", "NaN or an infinity")
    mean = matrix.mean(axis=0)
    _, singular, components = np.linalg.svd(matrix - mean, full_matrices=False)
    # Below this a singular value is the rounding of the spectra, and its direction arbitrary.
    rounding = np.finfo(rows[0].dtype).eps * max(matrix.shape) * np.abs(matrix).max()
    rank = int((singular > rounding).sum())
    spanned = f"lie in [1, {rank}], the dimensions that the {len(rows)} spectra span"
    check(1 <= num_components <= rank, "num_components", spanned, num_components)
    components = components[:num_components]
    largest = np.abs(components).argmax(axis=1)
    signs = np.sign(components[np.arange(num_components), largest])
    explained = singular[:num_components] ** 2 / np.sum(singular**2)
    dtype = rows[0].dtype
    return PrincipalComponents(
        components=jnp.asarray(components * signs[:, None], dtype),
        mean=jnp.asarray(mean, dtype),
        explained=jnp.asarray(explained, dtype),
        preparation=preparation,
    )
