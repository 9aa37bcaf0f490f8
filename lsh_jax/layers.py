"""A recurrent layer over time, with the gradient of its weights formed in one product.

Differentiated as it stands, a scan adds h^T da to the gradient of the recurrent matrix at every
step: a read and a write of the whole matrix for a product of B columns. Here the backward scan
hands out da alone, and the gradient is one product over all T B of them afterwards, as cuDNN does
(Appleyard et al., 2016, arXiv 1604.01946). Nothing is computed a second time but the elementwise
arithmetic of the cells.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from lsh_jax.cells import Cell
from lsh_jax.config import Precision
from lsh_jax.mixed_precision import Dot, make_dot, rounded
from lsh_jax.types import Array, Carry, Params

_Passed = list[tuple[Array, Carry]]
_Residuals = Any


def run_layer(
    cell: Cell,
    params: Params,
    inputs: Array,
    carry: Carry,
    *,
    kept: Array | None = None,
    precision: Precision = "float32",
    reverse_only: bool = False,
) -> tuple[Array, Carry]:
    """Runs a layer over time, with the input product hoisted out of the scan.

    Args:
      cell: an entry of `CELLS`.
      params: the layer's parameters, as its module makes them.
      inputs: [T, ..., E].
      carry: of the cell, [..., H] each part.
      kept: what multiplies the state before every recurrent product, the same at all steps and
        micro-steps: a dropout mask of the state, [..., H]; no gradient flows to it. None for ones.
      precision: of the products.
      reverse_only: form the gradient of the recurrent weights in one product. It is what training
        wants; forward-mode differentiation, which Lyapunov exponents need, is refused then.

    Returns:
      The outputs h at every step, [T, ..., H], and the last carry.
    """
    recurrent = cell.recurrent(params)
    drive = cell.project(params, inputs, make_dot(precision))
    if reverse_only:
        return _scan(cell, precision, recurrent, drive, carry, kept)
    matrices = [recurrent[name] for name in cell.matrices(recurrent)]
    advance = functools.partial(_advance, cell, make_dot(precision), matrices, recurrent, kept)
    last, outputs = jax.lax.scan(lambda carry, drive: advance(carry, drive)[:2], carry, drive)
    return outputs, last


def _advance(
    cell: Cell,
    dot: Dot,
    matrices: list[Array],
    params: Params,
    kept: Array | None,
    carry: Carry,
    drive: Array,
) -> tuple[Carry, Array, _Passed]:
    """A step: the next carry, its output, and the product and the carry of every micro-step."""
    passed = []
    for micro_step, matrix in enumerate(matrices):
        product = dot(_dropped(cell.output(carry), kept), matrix)
        passed.append((product, carry))
        carry = cell.update(params, micro_step, product, carry, drive)
    return carry, cell.output(carry), passed


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _scan(
    cell: Cell, precision: Precision, params: Params, drive: Array, carry: Carry, kept: Array | None
) -> tuple[Array, Carry]:
    """The layer behind its input product.

    Args:
      cell: the cell.
      precision: of the products.
      params: its recurrent parameters.
      drive: [T, ..., G].
      carry: [..., H] each part.
      kept: [..., H], or None.

    Returns:
      The outputs, [T, ..., H], and the last carry.
    """
    return _forward(cell, precision, params, drive, carry, kept)[0]


def _forward(
    cell: Cell, precision: Precision, params: Params, drive: Array, carry: Carry, kept: Array | None
) -> tuple[tuple[Array, Carry], _Residuals]:
    matrices = [rounded(params[name], precision) for name in cell.matrices(params)]

    def dot(state: Array, matrix: Array) -> Array:
        return jnp.dot(rounded(state, precision), matrix, preferred_element_type=drive.dtype)

    def step(carry: Carry, drive: Array) -> tuple[Carry, Any]:
        carry, output, passed = _advance(cell, dot, matrices, params, kept, carry, drive)
        return carry, (output, passed)

    last, (outputs, passed) = jax.lax.scan(step, carry, drive)
    return (outputs, last), (params, drive, passed, kept)


def _backward(
    cell: Cell, precision: Precision, residuals: _Residuals, cotangents: tuple[Array, Carry]
) -> tuple[Params, Array, Carry, Array | None]:
    params, drive, passed, kept = residuals
    names = cell.matrices(params)
    matrices = [rounded(params[name], precision) for name in names]
    vectors = {name: leaf for name, leaf in params.items() if name not in names}

    def step(cotangents: Any, at: Any) -> tuple[Any, Any]:
        d_carry, d_vectors = cotangents
        d_output, drive, passed = at
        _, pull = jax.vjp(cell.output, d_carry)  # linear: the same wherever it is taken
        d_carry = jax.tree.map(jnp.add, d_carry, *pull(d_output))
        d_drive = jnp.zeros_like(drive)
        factors = []  # of the gradient of each matrix
        for micro_step in reversed(range(len(names))):

            def update(*arguments: Any, micro_step: int = micro_step) -> Carry:
                own, product, carry, drive = arguments
                return cell.update({**params, **own}, micro_step, product, carry, drive)

            product, carry = passed[micro_step]
            _, pull = jax.vjp(update, vectors, product, carry, drive)
            d_own, d_product, d_carry, d_input = pull(d_carry)
            state, pull = jax.vjp(lambda carry: _dropped(cell.output(carry), kept), carry)
            low = rounded(d_product, precision)
            d_state = _times_transposed(low, matrices[micro_step], drive.dtype)
            d_carry = jax.tree.map(jnp.add, d_carry, *pull(d_state))
            d_vectors = jax.tree.map(jnp.add, d_vectors, d_own)
            d_drive += d_input
            factors.append((rounded(state, precision), low))
        return (d_carry, d_vectors), (d_drive, factors[::-1])

    d_outputs, d_last = cotangents
    start = d_last, jax.tree.map(jnp.zeros_like, vectors)
    at = d_outputs, drive, passed
    (d_carry, d_vectors), (d_drive, factors) = jax.lax.scan(step, start, at, reverse=True)
    d_params = dict(d_vectors)
    for name, (states, d_products) in zip(names, factors, strict=True):
        d_params[name] = _transposed_times(states, d_products, drive.dtype)
    return d_params, d_drive, d_carry, None if kept is None else jnp.zeros_like(kept)


_scan.defvjp(_forward, _backward)


def _dropped(state: Array, kept: Array | None) -> Array:
    return state if kept is None else state * kept


def _times_transposed(a: Array, b: Array, dtype: Any) -> Array:
    """a b^T of [..., G] and [H, G]."""
    contracted = ((a.ndim - 1,), (1,)), ((), ())
    return jax.lax.dot_general(a, b, contracted, preferred_element_type=dtype)


def _transposed_times(a: Array, b: Array, dtype: Any) -> Array:
    """a^T b of [..., H] and [..., G], as matrices."""
    a, b = (factor.reshape(-1, factor.shape[-1]) for factor in (a, b))
    return jax.lax.dot_general(a, b, (((0,), (0,)), ((), ())), preferred_element_type=dtype)
