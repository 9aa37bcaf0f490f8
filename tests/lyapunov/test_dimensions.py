import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsh_jax.lyapunov.dimensions import kaplan_yorke_dimension, ks_entropy

dimension = jax.jit(kaplan_yorke_dimension, static_argnames="dim")


@pytest.mark.parametrize(
    ("exponents", "expected"),
    [
        ([0.9051, 0.0, -14.5719], 2 + 0.9051 / 14.5719),  # Lorenz: 2.0621
        ([-14.5719, 0.9051, 0.0], 2 + 0.9051 / 14.5719),  # in any order
        ([0.41922, -1.62319], 1 + 0.41922 / 1.62319),  # Henon: 1.2583
        ([-0.1, -0.2, -3.0], 0.0),  # a fixed point
        ([0.0, -1.0], 1.0),  # a limit cycle
        ([0.5, -0.5], 2.0),  # a map that keeps the area fills it
        ([0.7, 0.2], 2.0),  # no sum is negative
        ([2.0], 1.0),
        ([0.5, 0.25, -1.5], 2.5),  # (0.5 + 0.25) / 1.5
        ([0.5, -math.inf], 1.0),  # a singular direction adds nothing
        ([math.nan, -1.0], math.nan),
    ],
)
def test_the_kaplan_yorke_dimension_of_a_whole_spectrum(exponents, expected):
    values = jnp.array(exponents)
    np.testing.assert_allclose(dimension(values), expected, rtol=1e-6)


def test_a_truncated_spectrum_has_a_dimension_only_if_it_reaches_the_crossing():
    assert np.isnan(dimension(jnp.array([0.9, 0.0]), dim=3))
    assert float(dimension(jnp.array([0.9, -1.8]), dim=3)) == 1.5
    assert float(dimension(jnp.array([-0.9, -1.0]), dim=3)) == 0.0
    assert float(dimension(jnp.array([0.9, 0.0]), dim=2)) == 2.0


def test_the_dimension_does_not_depend_on_the_unit():
    values = np.random.default_rng(0).normal(-0.2, 1, (8, 5)).astype(np.float32)
    bits = dimension(values / math.log(2))
    np.testing.assert_allclose(bits, dimension(values), rtol=1e-5)
    np.testing.assert_allclose(dimension(values[3]), dimension(values)[3], rtol=1e-6)
    assert ((dimension(values) >= 0) & (dimension(values) <= 5)).all()


def test_the_gradient_of_the_dimension_is_finite_and_that_of_the_formula():
    gradient = jax.jit(jax.grad(kaplan_yorke_dimension))
    # d / d lambda of 2 + (l1 + l2) / |l3|: 1 / |l3| twice, and (l1 + l2) / l3^2.
    np.testing.assert_allclose(gradient(jnp.array([0.5, 0.25, -1.5])), [2 / 3, 2 / 3, 1 / 3], 1e-6)
    np.testing.assert_array_equal(gradient(jnp.array([0.5, 0.0])), [0, 0])
    np.testing.assert_array_equal(gradient(jnp.array([-0.5, -1.0])), [0, 0])


def test_the_entropy_is_the_sum_of_the_positive_exponents():
    assert float(ks_entropy([0.5, -1.0, 0.25])) == 0.75
    assert float(ks_entropy([-0.5, -1.0])) == 0.0
    np.testing.assert_array_equal(ks_entropy(np.array([[1.0, -2.0], [3.0, 4.0]])), [1.0, 7.0])
    assert np.isnan(ks_entropy([np.nan, 1.0]))


def test_the_entropy_of_a_truncated_spectrum_needs_an_exponent_that_is_not_positive():
    assert np.isnan(ks_entropy([0.5, 0.25], dim=3))
    assert float(ks_entropy([0.5, 0.0], dim=3)) == 0.5


@pytest.mark.parametrize("function", [kaplan_yorke_dimension, ks_entropy])
def test_what_cannot_be_met_is_refused(function):
    with pytest.raises(ValueError, match=r"`dim` must be at least the 3 exponents given, got 2"):
        function(jnp.zeros(3), dim=2)
    with pytest.raises(ValueError, match=r"`exponents` must be \[..., K\], K >= 1, got \(0,\)"):
        function(jnp.zeros(0))
    with pytest.raises(ValueError, match=r"`exponents` must be exponents alone, e.g. the first of"):
        function((jnp.zeros((1, 3)), jnp.ones((1, 3))))
    assert jnp.isfinite(function((0.5, -1.0)))  # a tuple of numbers is one spectrum
