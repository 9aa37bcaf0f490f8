"""QR back-ends for the deviation vectors, behind one signature.

Only Z = Q R with a small residual matters for a spectrum, and that every back-end makes the same
choice of sign: the diagonal of R is never negative, so that Q is unique where Z has full rank.
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
    Q, R = jnp.linalg.qr(Z)
    # sign(0) := +1, as a zero would wipe out a deviation vector for good.
    signs = jnp.where(jnp.diagonal(R) < 0, -1, 1).astype(R.dtype)
    return Q * signs[None, :], R * signs[:, None]


BACKENDS: dict[str, Orthonormalize] = {"householder": householder}


def orthonormalizer(name: str) -> Orthonormalize:
    """The back-end of that name; "auto" takes Householder, which serves every K <= N.

    Raises:
      ConfigError: for an unknown name.
    """
    check_choice("qr", name, ("auto", *BACKENDS))
    return BACKENDS["householder" if name == "auto" else name]


def log_diagonal(R: Array) -> Array:
    """log R_kk [K], with R_kk held above the smallest normal number of its type.

    A singular direction so reads about -87 (float32) or -708 (float64) nats when its R_kk is an
    exact zero, and about the log of the rounding unit, -16 or -36, when rounding blurs the zero:
    never -inf or NaN. `ls_distance` lifts all of these to one floor.
    """
    return jnp.log(jnp.maximum(jnp.abs(jnp.diagonal(R)), jnp.finfo(R.dtype).tiny))


@functools.partial(jax.jit, static_argnames=("size", "num_columns", "dtype"))
def random_frame(key: Key, size: int, num_columns: int, dtype: Any = jnp.float32) -> Array:
    """K orthonormal deviation vectors, uniform over all such frames, [N, K].

    A random frame has a share of every direction, so none of the leading ones is missed, as
    happens with columns of the identity when the tangent map is block-triangular.
    """
    return householder(jax.random.normal(key, (size, num_columns), dtype))[0]
