"""Recurrent cells: one pure update each, wrapped as a Flax linen module and scanned as a layer.

LSTM after Hochreiter & Schmidhuber (1997) with the forget gate of Gers et al. (2000).
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from lsh_jax.types import Array, Params

LSTMCarry = tuple[Array, Array]  # (h, c), each [..., H]


def lstm_update(preactivation: Array, carry: LSTMCarry) -> LSTMCarry:
    """The arithmetic of one step, shared by the module, the scanned layer and the tangents.

    Args:
      preactivation: x W + h U + b, gates in the order i, f, g, o of `torch.nn.LSTM`, [..., 4 H].
      carry: (h, c); only c is read, as h has entered the preactivation, [..., H] each.

    Returns:
      The next (h, c), [..., H] each.
    """
    _, c = carry
    i, f, g, o = jnp.split(preactivation, 4, axis=-1)
    c = nn.sigmoid(f) * c + nn.sigmoid(i) * jnp.tanh(g)
    return nn.sigmoid(o) * jnp.tanh(c), c


def uniform_of_width(hidden_size: int) -> Any:
    """Initializer U(-1/sqrt(H), 1/sqrt(H)), the default of `torch.nn.LSTM`."""
    bound = hidden_size**-0.5

    def init(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


class LSTMCell(nn.Module):
    """One LSTM step; parameters "W" [E, 4H], "U" [H, 4H] and "b" [4H].

    torch.nn.LSTM keeps two biases that only ever act as their sum; here they are that sum. Training
    departs by it: torch gives the gradient to both, so that its sum moves twice as far in a step.
    """

    hidden_size: int

    @nn.compact
    def __call__(self, carry: LSTMCarry, x: Array) -> tuple[LSTMCarry, Array]:
        """Advances (h, c) [..., H] by an input [..., E]; returns the new carry and h."""
        init = uniform_of_width(self.hidden_size)
        gates = 4 * self.hidden_size
        W = self.param("W", init, (x.shape[-1], gates))
        U = self.param("U", init, (self.hidden_size, gates))
        b = self.param("b", init, (gates,))
        carry = lstm_update(jnp.dot(x, W) + jnp.dot(carry[0], U) + _row(b, x.ndim), carry)
        return carry, carry[0]


def _row(b: Array, ndim: int) -> Array:
    """A bias with the leading axes that broadcasting needs, said openly (rank promotion is off)."""
    return b.reshape((1,) * (ndim - 1) + b.shape)


def lstm_project(params: Params, inputs: Array) -> Array:
    """The part of the preactivation that does not wait for h: x W + b, one product for all steps.

    Args:
      params: {"W" [E, 4H], "U" [H, 4H], "b" [4H]}.
      inputs: [..., E].

    Returns:
      [..., 4H].
    """
    return jnp.dot(inputs, params["W"]) + _row(params["b"], inputs.ndim)


def lstm_layer(params: Params, inputs: Array, carry: LSTMCarry) -> tuple[Array, LSTMCarry]:
    """Runs a layer over time, with the input product hoisted out of the scan.

    Args:
      params: {"W" [E, 4H], "U" [H, 4H], "b" [4H]}.
      inputs: [T, B, E] or [T, E].
      carry: (h, c), [B, H] each, or [H].

    Returns:
      The outputs h at every step, [T, B, H], and the last (h, c).
    """

    def step(carry: LSTMCarry, projected: Array) -> tuple[LSTMCarry, Array]:
        carry = lstm_update(projected + jnp.dot(carry[0], params["U"]), carry)
        return carry, carry[0]

    carry, outputs = jax.lax.scan(step, carry, lstm_project(params, inputs))
    return outputs, carry
