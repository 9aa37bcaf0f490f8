"""Structured Jacobians of our cells, applied to deviation vectors.

For an LSTM with preactivation a = x W + b + h U, gates i, f, g, o, and the next
c' = f c + i g, h' = o tanh(c'), all products below in the order J Q (the authors' code multiplies
by the transpose of J, which reverses the product over time). One column of a batch; `jax.vmap`
serves a batch.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from lsh_jax.cells import LSTMCarry, lstm_update
from lsh_jax.lyapunov.spectrum import Linearize
from lsh_jax.types import Array


class _Slopes(NamedTuple):
    """Partial derivatives at one step, unit by unit, [H] each; a_i is the preactivation of i."""

    c_i: Array  # dc'/da_i
    c_f: Array  # dc'/da_f
    c_g: Array  # dc'/da_g
    c_c: Array  # dc'/dc along the memory alone, the forget gate
    h_c: Array  # dh'/dc'
    h_o: Array  # dh'/da_o


def _lstm_slopes(preactivation: Array, c: Array, new_c: Array) -> _Slopes:
    a_i, a_f, a_g, a_o = jnp.split(preactivation, 4)
    i, f, o = jax.nn.sigmoid(a_i), jax.nn.sigmoid(a_f), jax.nn.sigmoid(a_o)
    g, tanh_c = jnp.tanh(a_g), jnp.tanh(new_c)
    return _Slopes(
        c_i=g * i * (1 - i),
        c_f=c * f * (1 - f),
        c_g=i * (1 - g**2),
        c_c=f,
        h_c=o * (1 - tanh_c**2),
        h_o=tanh_c * o * (1 - o),
    )


def lstm_full_tangent(U: Array) -> Linearize:
    """The tangent map of a layer with everything it carries, (h, c): N = 2 H, rows of h first.

    4 H^2 K multiply-adds' worth of flops a step: the blocks of U behind i, f and g enter only
    as their row-scaled sum A = dc'/dh, so that [dh; dc] becomes

      dc' = A dh + f dc,    dh' = (dh'/dc') dc' + (dh'/da_o) U_o dh.

    Args:
      U: recurrent weights, gates in the order i, f, g, o, [H, 4H].

    Returns:
      `(state, x) -> (next state, Q -> J Q)` with state (h, c), [H] each, x the input's part of
      the preactivation, x W + b, [4H], and Q [2H, K].
    """
    U_i, U_f, U_g, U_o = jnp.split(U.T, 4)  # [H, H], a row belongs to the unit that receives

    def linearize(state: LSTMCarry, x: Array) -> tuple[LSTMCarry, Callable[[Array], Array]]:
        preactivation = x + jnp.dot(state[0], U)
        new_state = lstm_update(preactivation, state)
        slopes = _lstm_slopes(preactivation, state[1], new_state[1])
        A = slopes.c_i[:, None] * U_i + slopes.c_f[:, None] * U_f + slopes.c_g[:, None] * U_g

        def push(Q: Array) -> Array:
            Q_h, Q_c = jnp.split(Q, 2)
            dc = jnp.dot(A, Q_h) + slopes.c_c[:, None] * Q_c
            dh = slopes.h_c[:, None] * dc + slopes.h_o[:, None] * jnp.dot(U_o, Q_h)
            return jnp.concatenate([dh, dc])

        return new_state, push

    return linearize


def lstm_hidden_tangent(U: Array) -> Linearize:
    """The tangent map of h alone, with the memory c held on its path: N = H.

    This is the object whose spectrum Hyperpruning (arXiv 2506.07975) compares: J = dh'/dh, c an
    outer drive like the tokens. It loses the slow modes of the memory, so it is not the spectrum
    of the LSTM as a dynamical system, and costs 2 H^2 K flops a step.

    Args:
      U: recurrent weights, gates in the order i, f, g, o, [H, 4H].

    Returns:
      As `lstm_full_tangent`, with Q [H, K].
    """
    U_i, U_f, U_g, U_o = jnp.split(U.T, 4)

    def linearize(state: LSTMCarry, x: Array) -> tuple[LSTMCarry, Callable[[Array], Array]]:
        preactivation = x + jnp.dot(state[0], U)
        new_state = lstm_update(preactivation, state)
        slopes = _lstm_slopes(preactivation, state[1], new_state[1])
        J = (
            (slopes.h_c * slopes.c_i)[:, None] * U_i
            + (slopes.h_c * slopes.c_f)[:, None] * U_f
            + (slopes.h_c * slopes.c_g)[:, None] * U_g
            + slopes.h_o[:, None] * U_o
        )
        return new_state, lambda Q: jnp.dot(J, Q)

    return linearize


LSTM_TANGENTS = {"full": lstm_full_tangent, "hidden": lstm_hidden_tangent}
