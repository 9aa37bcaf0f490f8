import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsh_jax.distance import Preparation, ls_distance, prepare_spectrum
from lsh_jax.embeddings import fit_pca

LAYERS, SIZE, COUNT = 2, 5, 8
OPTIONS = ("sort", "share", "num_points", "floor")
compiled = jax.jit(ls_distance, static_argnames=OPTIONS)


def history(seed=0, count=COUNT):
    return np.random.default_rng(seed).normal(-4, 4, (count, LAYERS, SIZE)).astype(np.float32)


def test_all_components_keep_the_distances_between_the_spectra_of_the_fit():
    spectra = history()
    pca = fit_pca(spectra, COUNT - 1)
    assert pca.components.shape == (COUNT - 1, LAYERS * SIZE)

    def distance(a, b):
        return compiled(a, b), compiled(a, b, embed=pca)

    for a, b in itertools.pairwise(spectra):
        plain, embedded = distance(a, b)
        np.testing.assert_allclose(embedded, plain, rtol=1e-4)
    # A new spectrum may lie off their span: never farther than it is.
    plain, embedded = distance(history(1)[0], spectra[0])
    assert float(embedded) < float(plain)


def test_components_are_orthonormal_ordered_and_of_a_definite_sign():
    pca = fit_pca(history(), 3)
    np.testing.assert_allclose(pca.components @ pca.components.T, np.eye(3), atol=1e-6)
    assert (np.diff(pca.explained) < 0).all()
    assert 0 < float(pca.explained.sum()) < 1
    largest = np.take_along_axis(
        np.asarray(pca.components), np.abs(pca.components).argmax(axis=1)[:, None], axis=1
    )
    assert (largest > 0).all()


def test_the_fit_is_that_of_the_covariance_and_the_mean_lies_at_zero():
    spectra = history()
    pca = fit_pca(list(spectra), 2, share=0.6)
    rows = np.stack([prepare_spectrum(x, Preparation(share=0.6)) for x in spectra]).astype(float)
    values, vectors = np.linalg.eigh(np.cov(rows.T))
    cosines = np.abs(np.asarray(pca.components) @ vectors[:, [-1, -2]])
    np.testing.assert_allclose(cosines, np.eye(2), atol=1e-4)
    np.testing.assert_allclose(pca.explained, values[[-1, -2]] / values.sum(), rtol=1e-4)
    coordinates = np.stack([pca.coordinates(x) for x in spectra])
    np.testing.assert_allclose(coordinates.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(pca.coordinates(spectra[0]), pca(jnp.asarray(rows[0], "float32")))


def test_it_may_be_closed_over_or_passed_as_a_static_or_a_traced_argument():
    a, b = history(2)[:2]
    pca = fit_pca(history(), 3)
    closed = jax.jit(functools.partial(ls_distance, embed=pca))(a, b)
    static = jax.jit(ls_distance, static_argnames="embed")(a, b, embed=pca)
    traced = compiled(a, b, embed=pca)
    np.testing.assert_array_equal([closed, static], traced)
    difference = pca.coordinates(a) - pca.coordinates(b)
    np.testing.assert_allclose(closed, np.linalg.norm(difference), rtol=1e-5)
    np.testing.assert_array_equal(fit_pca(history(), 3).components, pca.components)


def test_a_distance_that_prepares_its_spectra_in_another_way_is_refused():
    a, b = history(3)[:2]
    pca = fit_pca(history(), 3, share=0.6, floor=-8.0)
    assert float(compiled(a, b, share=0.6, floor=-8.0, embed=pca)) > 0
    for options in ({"share": 0.6}, {"floor": -8.0}, {"share": 0.6, "floor": -8, "sort": False}):
        with pytest.raises(ValueError, match=r"`embed` must be fitted with Preparation\(sort="):
            compiled(a, b, embed=pca, **options)
    with pytest.raises(ValueError, match=r"`prepared` must have the 6 compared exponents"):
        compiled(a[:, :3], b[:, :3], share=0.6, floor=-8.0, embed=pca)


def test_spectra_of_unequal_length_are_embedded_by_their_quantiles():
    lengths = (5, 7, 9, 5)
    spectra = [history(4)[i].ravel()[:length] for i, length in enumerate(lengths)]
    pca = fit_pca(spectra, 2, num_points=6)
    assert float(compiled(spectra[0], spectra[1], num_points=6, embed=pca)) > 0


def test_the_gradient_agrees_with_finite_differences():
    with jax.enable_x64(True):
        a, b, direction = np.random.default_rng(5).normal(size=(3, LAYERS, SIZE))
        pca = fit_pca(history().astype(np.float64), 3)
        distance = jax.jit(lambda x: ls_distance(x, b, embed=pca))
        slope = jnp.vdot(jax.jit(jax.grad(distance))(a), direction)
        step = 1e-6 * direction
        difference = (distance(a + step) - distance(a - step)) / 2e-6
        np.testing.assert_allclose(slope, difference, atol=1e-8)


@pytest.mark.parametrize(
    ("spectra", "num_components", "message"),
    [
        (history(count=3), 0, r"`num_components` must lie in \[1, 2\]"),
        (history(count=3), 3, r"`num_components` must lie in \[1, 2\], the dimensions that the 3"),
        (np.repeat(history(count=2), 3, axis=0), 2, r"`num_components` must lie in \[1, 1\]"),
        (history(count=1), 1, r"`spectra` must be 2 or more of one size"),
        ([np.ones(3), np.ones(4)], 1, r"`spectra` must be 2 or more of one size, got \[3, 4\]"),
        ([np.ones(3), np.full(3, np.nan)], 1, r"`spectra` must be finite above the floor"),
        (np.ones((3, 0)), 1, r"`spectra` must be \[K\], \[L, K\] or a tuple"),
    ],
)
def test_what_cannot_be_met_is_refused(spectra, num_components, message):
    with pytest.raises(ValueError, match=message):
        fit_pca(spectra, num_components)
