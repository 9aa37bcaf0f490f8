import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from lsh_jax.lyapunov.orthonormalize import (
    BACKENDS,
    auto,
    log_diagonal,
    lu,
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
    # "solve" and "cholesky" are orthonormal up to eps cond(Z) and eps cond(Z)^2; cond(Z) is 14.
    atol = 2e-6 if name == "householder" else 2e-4
    np.testing.assert_allclose(np.asarray(Q).T @ np.asarray(Q), np.eye(shape[1]), atol=atol)
    np.testing.assert_array_equal(np.tril(R, -1), 0)
    assert (np.diagonal(R) > 0).all()


@pytest.mark.parametrize("shape", [(6, 6), (6, 2), (5, 1), (1, 1)])
def test_lu_is_triangular_and_no_entry_of_its_frame_exceeds_one(shape):
    Z = jax.random.normal(jax.random.key(1), shape)
    Q, R = jax.jit(lu)(Z)
    np.testing.assert_allclose(np.asarray(Q) @ np.asarray(R), Z, atol=2e-6)
    np.testing.assert_array_equal(np.tril(R, -1), 0)
    assert np.abs(Q).max() == 1.0
    assert np.linalg.cond(Q) < 20


def test_a_zero_direction_keeps_an_orthonormal_frame_and_a_finite_logarithm():
    Z = jnp.array([[1.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    Q, R = BACKENDS["householder"](Z)
    np.testing.assert_allclose(np.asarray(Q).T @ np.asarray(Q), np.eye(2), atol=1e-6)
    logs = log_diagonal(R)
    np.testing.assert_allclose(logs[0], np.log(2) / 2, rtol=1e-6)
    assert np.isfinite(logs[1])
    assert logs[1] < -80  # log of the smallest normal float32 is -87.3


@pytest.mark.parametrize("factorize", [BACKENDS["solve"], lu])
def test_a_zero_direction_spoils_no_other(factorize):
    Z = jnp.array([[1.0, 0.0, 2.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    Q, R = factorize(Z)
    assert np.isfinite(Q).all()
    np.testing.assert_allclose(np.asarray(Q) @ np.asarray(R), Z, atol=1e-6)
    assert log_diagonal(R)[1] < -80


def test_a_random_frame_is_orthonormal_and_a_function_of_its_key():
    frame = random_frame(jax.random.key(3), 7, 4)
    np.testing.assert_allclose(np.asarray(frame).T @ np.asarray(frame), np.eye(4), atol=1e-6)
    np.testing.assert_array_equal(frame, random_frame(jax.random.key(3), 7, 4))
    assert not np.allclose(frame, random_frame(jax.random.key(4), 7, 4))


@pytest.mark.parametrize(
    ("rule", "num_columns", "calls"),
    [
        (auto, 16, {"cpu": "geqrf orgqr", "cuda": "geqrf trsm", "tpu": "Qr"}),
        (auto, 2, {"cpu": "geqrf orgqr", "cuda": "geqrf trsm", "tpu": "Qr"}),
        (lu, 16, {"cpu": "getrf", "cuda": "getrf", "tpu": "LuDecomposition"}),
        (BACKENDS["cholesky"], 2, {"cpu": "potrf", "cuda": "potrf trsm", "tpu": "cholesky"}),
    ],
)
def test_every_platform_has_its_kernels(rule, num_columns, calls):
    Z = jax.ShapeDtypeStruct((16, num_columns), jnp.float32)
    for platform, names in calls.items():
        text = export.export(jax.jit(rule), platforms=[platform])(Z).mlir_module()
        text = text.replace("stablehlo.triangular_solve", "trsm")
        for name in names.split():
            assert re.search(name, text, re.IGNORECASE), f"{name} on {platform}"


def test_an_unknown_backend_is_refused_with_the_valid_names():
    message = r"`qr` must be one of auto, householder, solve, cholesky, lu, got 'givens'"
    with pytest.raises(ValueError, match=message):
        orthonormalizer("givens")
