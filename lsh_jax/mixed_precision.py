"""Products in bfloat16 of float32 arrays, summed in float32, forward and backward."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from lsh_jax.config import Precision
from lsh_jax.types import Array

Dot = Callable[[Array, Array], Array]  # as `jnp.dot` of [..., n] and [n, m]


def rounded(array: Array, precision: Precision) -> Array:
    """What enters a product: the array itself, or rounded to bfloat16."""
    return array.astype(jnp.bfloat16) if precision == "bfloat16" else array


def make_dot(precision: Precision) -> Dot:
    """The product of a precision.

    In bfloat16 both factors are rounded, in the gradient too, and the sums are float32. Weights and
    what a network carries stay float32, so no step is lost by being small against its weight
    (Micikevicius et al., 2018, arXiv 1710.03740, section 3.1).

    Args:
      precision: "float32" or "bfloat16".

    Returns:
      `dot(a [..., n], b [n, m]) -> [..., m]`, in the dtype of its arguments.
    """
    product = jnp.dot if precision == "float32" else _dot

    def dot(a: Array, b: Array) -> Array:
        # As matrices: XLA on a CPU transposes what enters products of more axes.
        return product(a.reshape(-1, a.shape[-1]), b).reshape(*a.shape[:-1], b.shape[-1])

    return dot


@jax.custom_vjp
def _dot(a: Array, b: Array) -> Array:
    low = rounded(a, "bfloat16"), rounded(b, "bfloat16")
    return jnp.dot(*low, preferred_element_type=jnp.float32).astype(a.dtype)


def _dot_forward(a: Array, b: Array) -> tuple[Array, tuple[Array, Array]]:
    return _dot(a, b), (a, b)


def _dot_backward(factors: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array]:
    a, b = factors
    return _dot(cotangent, b.T), _dot(a.T, cotangent)


_dot.defvjp(_dot_forward, _dot_backward)
