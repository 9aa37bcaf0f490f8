"""QR back-ends for the deviation vectors, behind one signature.

A spectrum needs Z = Q R with an upper triangular R and a small residual; the logarithms of R's
diagonal telescope over the steps whatever the columns of Q are, as long as the frame at the two
ends of a run is orthonormal. So there is a choice, flops for Z of N x K:

  householder  4 N K^2 - 4 K^3 / 3   backward stable for every Z, orthonormal at rank deficiency
  solve        3 N K^2 - 2 K^3 / 3   the R of Householder, then Q = Z R^-1
  cholesky     3 N K^2 + K^3 / 3     R from the Gram matrix, Q = Z R^-1; NaN beyond 1 / sqrt(eps)
  lu             N K^2 - K^3 / 3     Q is a row-permuted unit lower triangle: not orthonormal

"lu" is the treppeniteration of Bauer (1957) with partial pivoting: no entry of its Q exceeds one in
absolute value, so the frame stays well conditioned, for a quarter of Householder's flops. It
stands between two orthonormalizations (`qr_every` of `lyapunov_spectrum`), never for one.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from lsh_jax.config import check_choice
from lsh_jax.types import Array, Key

Orthonormalize = Callable[[Array], tuple[Array, Array]]  # Z [N, K] -> Q [N, K], R [K, K]


def householder(Z: Array) -> tuple[Array, Array]:
    """Householder QR: backward stable for every Z, and Q stays orthonormal at rank deficiency."""
    Q, R = _qr(Z)
    signs = _signs(R)
    return Q * signs[None, :], R * signs[:, None]


@jax.custom_jvp
def _qr(Z: Array) -> tuple[Array, Array]:
    Q, R = jnp.linalg.qr(Z)
    return Q, R


@_qr.defjvp
def _qr_jvp(primals: tuple[Array], tangents: tuple[Array]) -> Any:
    """The derivative of QR, at the highest precision wherever it is taken (JAX's own is not).

    With A = Q^T dZ R^-1 and the skew W = L - L^T of its strictly lower part L: dR = (A - W) R and
    dQ = dZ R^-1 - Q (A - W).
    """
    (Z,), (dZ,) = primals, tangents
    Q, R = _qr(Z)
    dot = functools.partial(jnp.dot, precision="highest")
    scaled = jax.lax.linalg.triangular_solve(R, dZ, left_side=False, lower=False)
    A = dot(Q.T, scaled)
    lower = jnp.tril(A, -1)
    upper = A - lower + lower.T
    return (Q, R), (scaled - dot(Q, upper), dot(upper, R))


def solve(Z: Array) -> tuple[Array, Array]:
    """R by Householder, then Q = Z R^-1 by a triangular solve: no Q is ever formed by reflections.

    Z = Q R holds to the last digits, which is what the exponents depend on, while Q is orthonormal
    only up to eps cond(Z). Where R_kk is (nearly) zero the divisor is held at eps max |R|, so that
    a direction which the map wipes out reads a large negative number and spoils no other.
    """
    R = _triangle(Z)
    R = R * _signs(R)[:, None]
    return _divide(Z, R), R


@jax.custom_jvp
def _triangle(Z: Array) -> Array:
    return jnp.linalg.qr(Z, mode="r")


@_triangle.defjvp
def _triangle_jvp(primals: tuple[Array], tangents: tuple[Array]) -> Any:
    (_, R), (_, dR) = _qr_jvp(primals, tangents)
    return R, dR


def cholesky(Z: Array) -> tuple[Array, Array]:
    """R from the Cholesky factor of Z^T Z, then Q = Z R^-1: matrix products alone, for K << N.

    Squaring Z squares its condition number: beyond about 3e3 in float32 (7e7 in float64) the Gram
    matrix loses its smallest eigenvalues and the factor is NaN.
    """
    lower = jax.lax.linalg.cholesky(jnp.dot(Z.T, Z), symmetrize_input=False)
    R = lower.T
    return _divide(Z, R), R


def lu(Z: Array) -> tuple[Array, Array]:
    """LU with partial pivoting: Z = Q R with Q = P^T L and R = U, but for signs.

    A column without a pivot keeps its unit entry, so that the frame has full rank at any Z.
    """
    size, num_columns = Z.shape
    packed, _, permutation = jax.lax.linalg.lu(Z)
    upper = jnp.triu(packed[:num_columns])
    signs = _signs(upper)
    index = jnp.arange(size, dtype=permutation.dtype)
    # The row of the packed factors that belongs to each row of Z. The indices are known to be valid
    # and distinct, which spares XLA a check of every element.
    promise: dict[str, Any] = {"mode": "promise_in_bounds", "unique_indices": True}
    row = jnp.zeros_like(permutation).at[permutation].set(index, **promise)
    rows, column = packed.at[row].get(**promise), index[None, :num_columns]
    unit = jnp.where(column == row[:, None], 1, 0).astype(Z.dtype)
    return jnp.where(column < row[:, None], rows, unit) * signs[None, :], upper * signs[:, None]


BACKENDS: dict[str, Orthonormalize] = {
    "householder": householder,
    "solve": solve,
    "cholesky": cholesky,
}
NAMES = ("auto", *BACKENDS, "lu")


def auto(Z: Array) -> tuple[Array, Array]:
    """The back-end that orthonormalizes best on the platform which the program is lowered for.

    CPU and TPU: Householder. GPU: solve, which needs no product of reflections, that XLA makes for
    one matrix at a time. None of them breaks down; Cholesky, which is faster for K much smaller
    than N, may, and is left to be asked for. The rule for the GPU is reasoned, not measured.
    """
    return jax.lax.platform_dependent(Z, cuda=solve, rocm=solve, default=householder)


def orthonormalizer(name: str) -> Orthonormalize:
    """The back-end that orthonormalizes under that name; "lu" leaves it to Householder.

    Raises:
      ConfigError: for an unknown name.
    """
    check_choice("qr", name, NAMES)
    return {**BACKENDS, "auto": auto, "lu": householder}[name]


def log_diagonal(R: Array) -> Array:
    """log |R_kk| [K], with |R_kk| held above the smallest normal number of its type.

    A singular direction so reads about -87 (float32) or -708 (float64) nats when its R_kk is an
    exact zero, and about the log of the rounding unit, -16 or -36, when rounding blurs the zero:
    never -inf or NaN. `ls_distance` lifts all of these to one floor.
    """
    return jnp.log(jnp.maximum(jnp.abs(jnp.diagonal(R)), jnp.finfo(R.dtype).tiny))


@functools.partial(jax.jit, static_argnames=("size", "num_columns", "dtype"))
def random_frame(key: Key, size: int, num_columns: int, dtype: Any = jnp.float32) -> Array:
    """K orthonormal deviation vectors, uniform over all such frames, [N, K].

    A random frame has a share of every direction, so none of the leading ones is missed, as
    happens with columns of the identity when the tangent map is block-triangular. The draw is made
    in float32, so that float64 starts from the same frame.
    """
    draw = jax.random.normal(key, (size, num_columns), jnp.float32)
    return householder(draw.astype(dtype))[0]


def _signs(R: Array) -> Array:
    """Signs [K] that make R_kk positive; sign(0) := +1, as 0 would wipe out a column."""
    return jnp.where(jnp.diagonal(R) < 0, -1, 1).astype(R.dtype)


def _divide(Z: Array, R: Array) -> Array:
    """Z R^-1, with |R_kk| held above eps max |R| in the divisor."""
    diagonal = jnp.diagonal(R)
    least = jnp.finfo(R.dtype).eps * jnp.max(jnp.abs(R))
    safe = jnp.maximum(diagonal, jnp.maximum(least, jnp.finfo(R.dtype).tiny))
    divisor = R + jnp.diag(safe - diagonal)
    return jax.lax.linalg.triangular_solve(divisor, Z, left_side=False, lower=False)
