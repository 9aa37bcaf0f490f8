import math

import hypothesis.extra.numpy as hnp
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lsh_jax.distance import (
    Preparation,
    count_floored,
    ls_distance,
    ls_distance_std_error,
    num_leading,
    prepare_spectrum,
)

LAYERS, SIZE = 2, 6
SPECTRA = hnp.arrays(np.float32, (LAYERS, SIZE), elements=st.floats(-20, 3, width=32))


compiled = jax.jit(ls_distance, static_argnames=("metric", "share"))


def random_spectra(seed, *shape):
    return np.random.default_rng(seed).normal(-2, 1.5, shape).astype(np.float32)


@settings(max_examples=25, deadline=None)
@given(SPECTRA, SPECTRA, SPECTRA, st.sampled_from(["l2", "w1"]), st.sampled_from([0.4, 1.0]))
def test_it_is_a_metric_on_sorted_and_floored_spectra(a, b, c, metric, share):
    def distance(a, b):
        return float(compiled(a, b, metric=metric, share=share))

    assert distance(a, a) == 0
    assert distance(a, b) >= 0
    assert distance(a, b) == distance(b, a)
    assert distance(a, c) <= distance(a, b) + distance(b, c) + 1e-4  # float32 rounding
    assert distance(a, np.ascontiguousarray(a[:, ::-1])) == 0


def test_it_equals_a_value_derived_by_hand():
    # Sorted: (1, -2) and (4, -2) in the first layer, (0, -3) and (0, -7) in the second one.
    a, b = [[-2.0, 1.0], [0.0, -3.0]], [[4.0, -2.0], [-7.0, 0.0]]
    assert float(ls_distance(a, b)) == 5.0  # sqrt(3^2 + 4^2)
    assert float(ls_distance(a, b, metric="w1")) == 1.75  # (3 + 4) / 4
    assert float(ls_distance(a, b, normalize=True)) == 2.5  # 5 / sqrt(4)
    assert float(ls_distance(a, b, share=0.5)) == 3.0  # 1 of 2 exponents in each layer
    assert float(ls_distance(a, b, floor=-5.0)) == pytest.approx(math.sqrt(13))
    # Unsorted: differences -6, 3, 7 and -3.
    assert float(ls_distance(a, b, sort=False)) == pytest.approx(math.sqrt(36 + 9 + 49 + 9))


def test_layers_are_sorted_and_cut_on_their_own():
    # Sorted over both layers these spectra would be the same.
    a, b = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[3.0, 4.0], [1.0, 2.0]])
    assert float(ls_distance(a, b)) == 4.0
    assert float(ls_distance(a.ravel(), b.ravel())) == 0.0


def test_normalized_l2_and_w1_are_wasserstein_distances():
    a, b = random_spectra(0, 40), random_spectra(1, 40)
    w2 = math.sqrt(np.mean((np.sort(a) - np.sort(b)) ** 2))
    np.testing.assert_allclose(ls_distance(a, b, normalize=True), w2, rtol=1e-5)
    w1 = stats.wasserstein_distance(a, b)
    np.testing.assert_allclose(ls_distance(a, b, metric="w1"), w1, rtol=1e-5)


def test_spectra_of_unequal_length_are_compared_by_their_quantiles():
    a, b = random_spectra(2, 12), random_spectra(3, 8)
    # 24 points hold every step of both quantile functions, so the value is exact.
    w1 = stats.wasserstein_distance(a, b)
    np.testing.assert_allclose(ls_distance(a, b, metric="w1", num_points=24), w1, rtol=1e-5)
    # With as many points as exponents nothing changes; doubled spectra are the same measure.
    np.testing.assert_allclose(ls_distance(a, -a, num_points=12), ls_distance(a, -a), rtol=1e-6)
    assert float(ls_distance(a, np.repeat(a, 2), num_points=12)) == 0.0


def test_layers_may_be_of_unequal_width():
    a = (random_spectra(4, 5), random_spectra(5, 3))
    b = (random_spectra(6, 5), random_spectra(7, 3))
    parts = [float(ls_distance(x, y)) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(ls_distance(a, b), math.hypot(*parts), rtol=1e-5)
    np.testing.assert_allclose(ls_distance(a, b, num_points=15), ls_distance(b, a, num_points=15))


def test_what_lies_below_the_floor_does_not_count():
    a = np.array([0.0, -1.0, -16.0, -90.0], np.float32)
    b = np.array([0.0, -1.0, -np.inf, -35.0], np.float32)
    assert float(ls_distance(a, b)) == 0.0
    assert float(ls_distance(a, b, floor=-36.0)) > 1
    assert int(count_floored(a)) == 2
    assert int(count_floored((a, b[:3]))) == 3
    assert int(count_floored(a, floor=-1.0)) == 3
    assert count_floored(a).dtype == jnp.int32


def test_an_embedding_is_applied_before_the_comparison():
    a, b = random_spectra(8, 2, 3), random_spectra(9, 2, 3)
    projection = random_spectra(10, 2, 6)
    embedded = projection @ np.sort(a)[:, ::-1].ravel() - projection @ np.sort(b)[:, ::-1].ravel()
    distance = ls_distance(a, b, embed=lambda x: jnp.dot(projection, x))
    np.testing.assert_allclose(distance, np.linalg.norm(embedded), rtol=1e-4)


def test_weights_scale_squares_in_l2_and_average_in_w1():
    # Sorted: differences -3 and 0 in the first layer, 0 and 4 in the second one.
    a, b = [[-2.0, 1.0], [0.0, -3.0]], [[4.0, -2.0], [-7.0, 0.0]]
    weights = [[4.0, 9.0], [1.0, 0.25]]
    assert float(ls_distance(a, b, weights=weights)) == pytest.approx(math.sqrt(4 * 9 + 4))
    w1 = (4 * 3 + 0.25 * 4) / 14.25
    assert float(ls_distance(a, b, metric="w1", weights=weights)) == pytest.approx(w1)
    normalized = math.sqrt((4 * 9 + 4) / 14.25)
    assert float(ls_distance(a, b, weights=weights, normalize=True)) == pytest.approx(normalized)
    # One for each compared exponent: the first of each layer, and then those of its quantiles.
    assert float(ls_distance(a, b, share=0.5, weights=[[4.0], [1.0]])) == 6.0
    options = {"num_points": 1, "weights": ([4.0], [1.0])}
    assert float(ls_distance(a, b, **options)) == pytest.approx(math.sqrt(16))


def test_equal_weights_are_none():
    a, b = random_spectra(20, LAYERS, SIZE), random_spectra(21, LAYERS, SIZE)
    ones = np.ones((LAYERS, SIZE), np.float32)
    for metric in ("l2", "w1"):
        plain = ls_distance(a, b, metric=metric, normalize=True)
        weighted = ls_distance(a, b, metric=metric, normalize=True, weights=3 * ones)
        np.testing.assert_allclose(weighted, plain, rtol=1e-6)


def test_a_weight_of_zero_leaves_an_exponent_out():
    a, b = random_spectra(22, SIZE), random_spectra(23, SIZE)
    weights = np.array([1, 1, 0, 0, 0, 0], np.float32)
    np.testing.assert_allclose(
        ls_distance(a, b, weights=weights), ls_distance(a, b, share=1 / 3), rtol=1e-6
    )


def test_a_result_of_a_run_stands_for_its_exponents():
    import types

    a, b = jnp.array([1.0, 0.0]), jnp.array([0.0, 0.0])
    runs = [types.SimpleNamespace(exponents=x) for x in (a, b)]
    assert float(ls_distance(*runs)) == float(ls_distance(a, b)) == 1.0


def test_a_spectrum_is_prepared_as_it_is_compared():
    spectrum = ([-1.0, 2.0, -40.0], [0.0, 5.0])
    prepared = prepare_spectrum(spectrum, Preparation(share=0.6))
    np.testing.assert_array_equal(prepared, [2.0, -1.0, 5.0, 0.0])
    plain = prepare_spectrum(spectrum, Preparation(sort=False))
    np.testing.assert_array_equal(plain, [-1.0, 2.0, -15.0, 0.0, 5.0])
    points = prepare_spectrum(spectrum, Preparation(num_points=1, floor=-50.0))
    np.testing.assert_array_equal(points, [-1.0, 0.0])


def test_nan_is_not_hidden():
    a = np.array([0.0, np.nan], np.float32)
    assert np.isnan(ls_distance(a, np.zeros(2, np.float32)))
    assert np.isnan(ls_distance(a, np.zeros(2, np.float32), metric="w1"))


@pytest.mark.parametrize("metric", ["l2", "w1"])
def test_the_gradient_between_equal_spectra_is_exactly_zero(metric):
    a = random_spectra(11, LAYERS, SIZE)
    gradient = jax.jit(jax.grad(lambda x: ls_distance(x, a, metric=metric)))(jnp.asarray(a))
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("metric", ["l2", "w1"])
@pytest.mark.parametrize("weights", [None, [[2.0, 0.5, 0.0], [1.0, 3.0, 0.1]]])
def test_the_gradient_agrees_with_finite_differences(metric, weights):
    with jax.enable_x64(True):
        a, b, direction = np.random.default_rng(12).normal(size=(3, LAYERS, SIZE))
        distance = jax.jit(
            lambda x: ls_distance(x, b, metric=metric, share=0.5, weights=weights, normalize=True)
        )
        slope = jnp.vdot(jax.grad(distance)(a), direction)
        step = 1e-6 * direction
        difference = (distance(a + step) - distance(a - step)) / 2e-6
        np.testing.assert_allclose(slope, difference, atol=1e-8)


def test_a_batch_of_candidates_is_compared_at_once():
    pool, dense = random_spectra(13, 4, LAYERS, SIZE), random_spectra(14, LAYERS, SIZE)
    distances = jax.jit(jax.vmap(lambda a: ls_distance(a, dense)))(pool)
    expected = [float(ls_distance(a, dense)) for a in pool]
    np.testing.assert_allclose(distances, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("share", "size", "expected"), [(0.3, 64, 20), (0.1, 30, 3), (1.0, 7, 7), (1e-3, 5, 1)]
)
def test_the_leading_share_is_rounded_up(share, size, expected):
    assert num_leading(share, size) == expected


def test_the_standard_error_agrees_with_simulated_noise():
    a, b = random_spectra(15, LAYERS, SIZE), random_spectra(16, LAYERS, SIZE)
    error_a, error_b = np.random.default_rng(17).uniform(0.005, 0.02, (2, LAYERS, SIZE))
    generator = np.random.default_rng(18)
    noise_a, noise_b = generator.normal(size=(2, 4000, LAYERS, SIZE))
    options = {"share": 0.5, "floor": -2.0}
    distances = jax.vmap(lambda a, b: ls_distance(a, b, **options))(
        jnp.asarray(a + noise_a * error_a, jnp.float32),
        jnp.asarray(b + noise_b * error_b, jnp.float32),
    )
    error = ls_distance_std_error(a, error_a, b, error_b, **options)
    # The spread of 4000 draws is known to 1.1 %, and the second order adds as little here.
    np.testing.assert_allclose(error, np.std(distances), rtol=0.05)


def test_the_standard_error_equals_a_value_derived_by_hand():
    # d = 5, gradient (3, 4) / 5; errors follow their exponents when these are sorted.
    a, error_a = np.array([-3.0, 4.0]), np.array([0.1, 0.3])
    b, error_b = np.array([1.0, -7.0]), np.array([0.4, 0.2])
    expected = math.sqrt(9 * (0.3**2 + 0.4**2) + 16 * (0.1**2 + 0.2**2)) / 5
    np.testing.assert_allclose(ls_distance_std_error(a, error_a, b, error_b), expected, rtol=1e-6)
    # Once -7 lies on the floor of -6 it is certain: d = sqrt(18).
    floored = ls_distance_std_error(a, error_a, b, error_b, floor=-6.0)
    expected = math.sqrt(9 * (0.3**2 + 0.4**2) + 9 * 0.1**2) / math.sqrt(18)
    np.testing.assert_allclose(floored, expected, rtol=1e-6)


def test_the_standard_error_of_a_weighted_distance_equals_a_value_derived_by_hand():
    # d = sqrt(4 * 9 + 16) for differences 3 and 4; gradient (4 * 3, 4) / d.
    error = ls_distance_std_error(
        np.array([4.0, -3.0]), [0.3, 0.0], np.array([1.0, -7.0]), [0.0, 0.2], weights=[4.0, 1.0]
    )
    expected = math.sqrt((12 * 0.3) ** 2 + (4 * 0.2) ** 2) / math.sqrt(52)
    np.testing.assert_allclose(error, expected, rtol=1e-6)


def test_the_standard_error_between_equal_spectra_is_zero_and_so_is_its_gradient():
    a, error = jnp.asarray(random_spectra(19, 4)), jnp.full(4, 0.1)
    value, gradient = jax.jit(
        jax.value_and_grad(lambda x: ls_distance_std_error(x, error, a, error))
    )(a)
    assert float(value) == 0
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize(
    ("a", "b", "options", "message"),
    [
        (np.ones(3), np.ones(3), {"metric": "l1"}, r"`metric` must be one of l2, w1, got 'l1'"),
        (np.ones(3), np.ones(3), {"share": 0.0}, r"`share` must lie in \(0, 1\], got 0.0"),
        (np.ones(3), np.ones(3), {"share": 1.5}, r"`share` must lie in \(0, 1\], got 1.5"),
        (np.ones(3), np.ones(4), {}, r"`a` must have the layer lengths of `b`, \[4\].*num_points"),
        (np.ones((2, 3)), np.ones((1, 3)), {}, r"`a` must have as many layers as `b`"),
        (np.ones((2, 3, 1)), np.ones(3), {}, r"`a` must be \[K\], \[L, K\] or a tuple"),
        (np.ones(3), np.ones(0), {}, r"`b` must be \[K\], \[L, K\] or a tuple"),
        (np.ones(3), (np.ones(3), 1.0), {}, r"`b` must be \[K\], \[L, K\] or a tuple"),
        (np.ones(3), np.ones(4), {"num_points": 0}, r"`num_points` must be at least 1, got 0"),
        (np.ones(3), np.ones(4), {"num_points": 5, "sort": False}, r"`sort` must be True"),
        (
            np.ones(3),
            np.ones(3),
            {"weights": np.ones(2)},
            r"`weights` must have one entry for.*\[3\]",
        ),
        (np.ones(3), np.ones(3), {"weights": [1, -1, 1]}, r"`weights` must be at least 0, and not"),
        (np.ones(3), np.ones(3), {"weights": [0, 0, 0]}, r"`weights` must be at least 0, and not"),
        (
            np.ones(3),
            np.ones(3),
            {"weights": np.ones(3), "embed": jnp.sin},
            r"`weights` must be None where `embed` is given",
        ),
    ],
)
def test_what_cannot_be_met_is_refused(a, b, options, message):
    with pytest.raises(ValueError, match=message):
        ls_distance(a, b, **options)


def test_standard_errors_must_have_the_shape_of_their_exponents():
    with pytest.raises(ValueError, match=r"`a` must have the layer lengths of `std_error_a`"):
        ls_distance_std_error(np.ones(3), np.ones(2), np.ones(3), np.ones(3))
    with pytest.raises(ValueError, match=r"`a` must have the layer lengths of `b`"):
        ls_distance_std_error(np.ones(3), np.ones(3), np.ones(2), np.ones(2))
