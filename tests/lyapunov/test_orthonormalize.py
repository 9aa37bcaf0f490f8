import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsh_jax.lyapunov.orthonormalize import (
    BACKENDS,
    log_diagonal,
    orthonormalizer,
    random_frame,
)


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("shape", [(6, 6), (6, 2), (5, 1), (1, 1)])
def test_the_factors_multiply_to_the_matrix_and_the_diagonal_is_positive(name, shape):
    Z = jax.random.normal(jax.random.key(1), shape)
    Q, R = jax.jit(orthonormalizer(name))(Z)
    # A few rounding units of float32 (1.2e-7) times the size of the entries.
    np.testing.assert_allclose(np.asarray(Q) @ np.asarray(R), Z, atol=2e-6)
    np.testing.assert_allclose(np.asarray(Q).T @ np.asarray(Q), np.eye(shape[1]), atol=2e-6)
    np.testing.assert_array_equal(np.tril(R, -1), 0)
    assert (np.diagonal(R) > 0).all()


@pytest.mark.parametrize("name", BACKENDS)
def test_a_zero_direction_keeps_an_orthonormal_frame_and_a_finite_logarithm(name):
    Z = jnp.array([[1.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    Q, R = BACKENDS[name](Z)
    np.testing.assert_allclose(np.asarray(Q).T @ np.asarray(Q), np.eye(2), atol=1e-6)
    logs = log_diagonal(R)
    np.testing.assert_allclose(logs[0], np.log(2) / 2, rtol=1e-6)
    assert np.isfinite(logs[1])
    assert logs[1] < -80  # log of the smallest normal float32 is -87.3


def test_a_random_frame_is_orthonormal_and_a_function_of_its_key():
    frame = random_frame(jax.random.key(3), 7, 4)
    np.testing.assert_allclose(np.asarray(frame).T @ np.asarray(frame), np.eye(4), atol=1e-6)
    np.testing.assert_array_equal(frame, random_frame(jax.random.key(3), 7, 4))
    assert not np.allclose(frame, random_frame(jax.random.key(4), 7, 4))


def test_auto_is_householder_and_an_unknown_backend_is_refused_with_the_valid_names():
    assert orthonormalizer("auto") is BACKENDS["householder"]
    with pytest.raises(ValueError, match=r"`qr` must be one of auto, householder, got 'lu'"):
        orthonormalizer("lu")
