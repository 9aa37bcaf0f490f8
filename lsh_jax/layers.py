"""A recurrent layer over time, with the gradient of its weights formed in one product.

Differentiated as it stands, a scan adds h^T da to the gradient of the recurrent matrix at every
step: a read and a write of the whole matrix for a product of B columns. Here the backward scan
hands out da alone, and the gradient is one product over all T B of them afterwards (as cuDNN does;
Appleyard et al., 2016, arXiv 1604.01946, section 3). Nothing is computed a second time but the
elementwise arithmetic of the cells.

Inside the scans the state lies as [H, B] and is multiplied from the left by the transposed matrix:
on a CPU the product of a tall matrix with a few columns is up to 1.5 times as fast as that of a few
rows with a wide one (`benchmarks/train_step.py`).
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from lsh_jax.cells import Cell
from lsh_jax.config import Precision
from lsh_jax.mixed_precision import make_dot, rounded
from lsh_jax.types import Array, Carry, Params

_Residuals = Any


def run_layer(
    cell: Cell,
    params: Params,
    inputs: Array,
    carry: Carry,
    *,
    kept: Array | None = None,
    precision: Precision = "float32",
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

    Returns:
      The outputs h at every step, [T, ..., H], and the last carry. It can be differentiated in
      reverse mode alone: for forward mode scan `cell.step`.
    """
    recurrent = cell.recurrent(params)
    drive = cell.project(params, inputs, make_dot(precision))
    leading, last = inputs.shape[1:-1], drive.shape[-1]
    columns = jax.tree.map(lambda part: part.reshape(-1, part.shape[-1]).T, carry)
    mask = None if kept is None else kept.reshape(-1, kept.shape[-1]).T
    flat = drive.reshape(drive.shape[0], -1, last)
    outputs, columns = _scan(cell, precision, recurrent, flat, columns, mask)
    carry = jax.tree.map(lambda part: part.T.reshape(*leading, -1), columns)
    return outputs.reshape(outputs.shape[0], *leading, -1), carry


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _scan(
    cell: Cell, precision: Precision, params: Params, drive: Array, carry: Carry, kept: Array | None
) -> tuple[Array, Carry]:
    """The layer behind its input product.

    Args:
      cell: the cell.
      precision: of the products.
      params: its recurrent parameters.
      drive: [T, B, G].
      carry: [H, B] each part.
      kept: [H, B], or None.

    Returns:
      The outputs, [T, B, H], and the last carry, [H, B] each part.
    """
    return _forward(cell, precision, params, drive, carry, kept)[0]


def _forward(
    cell: Cell, precision: Precision, params: Params, drive: Array, carry: Carry, kept: Array | None
) -> tuple[tuple[Array, Carry], _Residuals]:
    names = cell.matrices(params)
    transposed = [rounded(params[name], precision).T for name in names]

    def step(carry: Carry, drive: Array) -> tuple[Carry, Any]:
        passed = []
        for micro_step, matrix in enumerate(transposed):
            state = rounded(_dropped(cell.output(carry), kept), precision)
            product = jnp.dot(matrix, state, preferred_element_type=drive.dtype)
            passed.append((product, carry))
            carry = _update(cell, params, micro_step, product, carry, drive)
        return carry, (cell.output(carry).T, passed)

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
        _, pull = jax.vjp(cell.output, d_carry)  # linear: wherever it is taken
        d_carry = jax.tree.map(jnp.add, d_carry, pull(d_output.T)[0])
        d_drive = jnp.zeros_like(drive)
        factors = []
        for micro_step in reversed(range(len(names))):
            product, carry = passed[micro_step]

            def update(*arguments: Any, micro_step: int = micro_step) -> Carry:
                own, product, carry, drive = arguments
                return _update(cell, {**params, **own}, micro_step, product, carry, drive)

            _, pull = jax.vjp(update, vectors, product, carry, drive)
            d_own, d_product, d_carry, d_input = pull(d_carry)
            state, pull = jax.vjp(lambda carry: _dropped(cell.output(carry), kept), carry)
            low = rounded(d_product, precision)
            d_state = jnp.dot(matrices[micro_step], low, preferred_element_type=drive.dtype)
            d_carry = jax.tree.map(jnp.add, d_carry, pull(d_state)[0])
            d_vectors = jax.tree.map(jnp.add, d_vectors, d_own)
            d_drive += d_input
            factors.append((rounded(state, precision).T, low.T))
        return (d_carry, d_vectors), (d_drive, factors[::-1])

    d_outputs, d_last = cotangents
    start = d_last, jax.tree.map(jnp.zeros_like, vectors)
    at = d_outputs, drive, passed
    (d_carry, d_vectors), (d_drive, factors) = jax.lax.scan(step, start, at, reverse=True)
    d_params = dict(d_vectors)
    for name, (states, d_products) in zip(names, factors, strict=True):
        d_params[name] = jnp.einsum(
            "tbh,tbg->hg", states, d_products, preferred_element_type=drive.dtype
        )
    return d_params, d_drive, d_carry, None if kept is None else jnp.zeros_like(kept)


_scan.defvjp(_forward, _backward)


def _update(
    cell: Cell, params: Params, micro_step: int, product: Array, carry: Carry, drive: Array
) -> Carry:
    """The cell's update of the columns of product [G, B] and carry [H, B], with drive [B, G]."""

    def one(product: Array, carry: Carry, drive: Array) -> Carry:
        return cell.update(params, micro_step, product, carry, drive)

    return jax.vmap(one, in_axes=(-1, -1, 0), out_axes=-1)(product, carry, drive)


def _dropped(state: Array, kept: Array | None) -> Array:
    return state if kept is None else state * kept
