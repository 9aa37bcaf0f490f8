"""The tangent map of a whole stack of layers as one system: a check of the layer-by-layer one."""

from collections.abc import Callable
from typing import Any

import jax
from jax.flatten_util import ravel_pytree

from lsh_jax.cells import CELLS
from lsh_jax.config import ModelConfig
from lsh_jax.language_models import layer_names
from lsh_jax.lyapunov.benettin import Linearize, jvp_tangent
from lsh_jax.lyapunov.tangents import rows_per_unit
from lsh_jax.types import Array, Carry, Params


def tangent(config: ModelConfig, params: Params, state: str) -> Linearize:
    """The tangent map of all layers together, by automatic differentiation.

    Args:
      config: of the model.
      params: of the model, masked.
      state: "full", or "hidden", which holds the memory of every LSTM layer on its path.

    Returns:
      `(carries, x) -> (next carries, Q -> J Q)` with the tuple of the layers' carries, [H] each
      part, x the embedded input [E], and Q's rows in the order of the layers.
    """
    cell = CELLS[config.cell]

    def step(carries: Carry, x: Array) -> Carry:
        new_carries = []
        for name, carry in zip(layer_names(config), carries, strict=True):
            layer = params[name]
            carry = cell.step(cell.recurrent(layer), carry, cell.project(layer, x))
            new_carries.append(carry)
            x = cell.output(carry)
        return tuple(new_carries)

    if rows_per_unit(config.cell, state) == rows_per_unit(config.cell, "full"):
        return jvp_tangent(step)
    return _memory_held(step)


def _memory_held(step: Callable[[Carry, Array], Carry]) -> Linearize:
    """The tangent map of the hidden states alone: the memories are an outer drive."""

    def linearize(carries: Carry, x: Array) -> tuple[Carry, Any]:
        memories = [c for _, c in carries]

        def hidden_step(hidden: tuple[Array, ...]) -> tuple[tuple[Array, ...], Carry]:
            new = step(tuple(zip(hidden, memories, strict=True)), x)
            return tuple(h for h, _ in new), new

        hidden = tuple(h for h, _ in carries)
        _, push, new_carries = jax.linearize(hidden_step, hidden, has_aux=True)
        _, unravel = ravel_pytree(hidden)

        def push_column(column: Array) -> Array:
            return ravel_pytree(push(unravel(column)))[0]

        return new_carries, jax.vmap(push_column, in_axes=1, out_axes=1)

    return linearize
