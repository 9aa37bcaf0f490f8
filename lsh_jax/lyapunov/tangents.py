"""Structured Jacobians of our cells, applied to deviation vectors.

One layer and one column of a batch (`jax.vmap` serves both), all products in the order J Q: the
authors' code multiplies by the transpose of J for the LSTM and the GRU, which reverses the product
over time. U_g below is the block of the recurrent matrix behind gate g, transposed: [H, H], a row
belongs to the unit that receives. The caller sets the precision of the products.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from lsh_jax.cells import CELLS, LSTMCarry, gru_gates, lstm_update, rhn_depth, rhn_gates
from lsh_jax.lyapunov.benettin import Linearize
from lsh_jax.types import Array, Params


def rows_per_unit(cell: str, state: str) -> int:
    """Rows of the tangent space for each unit of a layer.

    Args:
      cell: a name in `CELLS`.
      state: "full" or "hidden".

    Returns:
      2 for the full state (h, c) of an LSTM, else 1.
    """
    return 2 if cell == "lstm" and state == "full" else 1


class _Slopes(NamedTuple):
    """Partial derivatives of an LSTM, unit by unit, [H] each; a_i is the preactivation of i."""

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


def lstm_full_tangent(params: Params) -> Linearize:
    """The tangent map of a layer with everything it carries, (h, c): N = 2 H, rows of h first.

    With gates i, f, g, o and the next c' = f c + i g, h' = o tanh(c'), [dh; dc] becomes

      dc' = A dh + f dc,    dh' = (dh'/dc') dc' + (dh'/da_o) U_o dh,

    where the blocks of U behind i, f and g enter only as their row-scaled sum A = dc'/dh: 4 H^2 K
    flops a step, half of what two blocks for each of two rows would take.

    Args:
      params: {"U" [H, 4H]}, gates in the order i, f, g, o.

    Returns:
      `(state, drive) -> (next state, Q -> J Q)` with state (h, c), [H] each, drive the input's part
      of the preactivation, x W + b, [4H], and Q [2H, K].
    """
    U = params["U"]
    U_i, U_f, U_g, U_o = jnp.split(U.T, 4)

    def linearize(state: LSTMCarry, drive: Array) -> tuple[LSTMCarry, Callable[[Array], Array]]:
        preactivation = drive + jnp.dot(state[0], U)
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


def lstm_hidden_tangent(params: Params) -> Linearize:
    """The tangent map of h alone, with the memory c held on its path: N = H.

    This is the object whose spectrum Hyperpruning (arXiv 2506.07975) compares: J = dh'/dh, c an
    outer drive like the tokens. It loses the slow modes of the memory, so it is not the spectrum
    of the LSTM as a dynamical system, and costs 2 H^2 K flops a step.

    Args:
      params: {"U" [H, 4H]}, gates in the order i, f, g, o.

    Returns:
      As `lstm_full_tangent`, with Q [H, K].
    """
    U = params["U"]
    U_i, U_f, U_g, U_o = jnp.split(U.T, 4)

    def linearize(state: LSTMCarry, drive: Array) -> tuple[LSTMCarry, Callable[[Array], Array]]:
        preactivation = drive + jnp.dot(state[0], U)
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


def gru_tangent(params: Params) -> Linearize:
    """The tangent map of a GRU (Cho et al. 2014): N = H, 2 H^2 K flops a step.

    With h' = (1 - z) n + z h, n = tanh(a_n + r m), m = h U_n + b_n:

      dh' = z dh + A dh,
      A = (h - n) z (1 - z) U_z + (1 - z) (1 - n^2) [r U_n + m r (1 - r) U_r].

    Args:
      params: {"U" [H, 3H], "b_n" [H]}, gates in the order r, z, n.

    Returns:
      `(h [H], drive [3H]) -> (next h, Q [H, K] -> J Q)`.
    """
    U_r, U_z, U_n = jnp.split(params["U"].T, 3)

    def linearize(h: Array, drive: Array) -> tuple[Array, Callable[[Array], Array]]:
        r, z, n, m = gru_gates(params, jnp.dot(h, params["U"]), drive)
        by_n = (1 - z) * (1 - n**2)
        A = (
            ((h - n) * z * (1 - z))[:, None] * U_z
            + (by_n * r)[:, None] * U_n
            + (by_n * m * r * (1 - r))[:, None] * U_r
        )
        return (1 - z) * n + z * h, lambda Q: jnp.dot(A, Q) + z[:, None] * Q

    return linearize


def tanh_tangent(params: Params) -> Linearize:
    """The tangent map of h' = tanh(drive + h U): dh' = (1 - h'^2) U^T dh, 2 H^2 K flops a step.

    Args:
      params: {"U" [H, H]}.

    Returns:
      `(h [H], drive [H]) -> (next h, Q [H, K] -> J Q)`.
    """
    U = params["U"]

    def linearize(h: Array, drive: Array) -> tuple[Array, Callable[[Array], Array]]:
        new_h = CELLS["tanh"].step(params, h, drive)
        return new_h, lambda Q: (1 - new_h**2)[:, None] * jnp.dot(U.T, Q)

    return linearize


def rhn_tangent(params: Params) -> Linearize:
    """The tangent map of an RHN (Zilly et al. 2017, arXiv 1607.03474): N = H.

    The micro-steps s' = h t + s c follow one another within the step, and so do their tangents,

      ds' = c ds + A ds,    A = t (1 - h^2) R_h + (h - s) t (1 - t) R_t          coupled, c = 1 - t,
                            A = t (1 - h^2) R_h + h t (1 - t) R_t + s c (1 - c) R_c        else:

    2 H^2 K flops a micro-step, where multiplying their Jacobians first takes 2 H^3 more. All biases
    act, other than in the authors' code, whose spectrum is that of a map without some of them.

    Args:
      params: {"R_0", "R_1", ... [H, G], "b_1", ... [G]}, in the order h, t(, c); G = 2 H or 3 H.

    Returns:
      `(s [H], drive [G]) -> (next s, Q [H, K] -> J Q)`.
    """
    depth = rhn_depth(params)
    blocks = [_blocks(params[f"R_{d}"]) for d in range(depth)]

    def linearize(s: Array, drive: Array) -> tuple[Array, Callable[[Array], Array]]:
        factors = []
        for micro_step, (R_h, R_t, *R_c) in enumerate(blocks):
            product = jnp.dot(s, params[f"R_{micro_step}"])
            h, t, c = rhn_gates(params, micro_step, product, drive)
            A = (t * (1 - h**2))[:, None] * R_h
            A += ((h if R_c else h - s) * t * (1 - t))[:, None] * R_t
            if R_c:
                A += (s * c * (1 - c))[:, None] * R_c[0]
            factors.append((A, c))
            s = h * t + s * c

        def push(Q: Array) -> Array:
            for A, c in factors:
                Q = jnp.dot(A, Q) + c[:, None] * Q
            return Q

        return s, push

    return linearize


def _blocks(R: Array) -> list[Array]:
    """The transposed blocks of a recurrent matrix [H, G], [H, H] each."""
    return jnp.split(R.T, R.shape[1] // R.shape[0])


TANGENTS: dict[str, dict[str, Callable[[Params], Linearize]]] = {
    "lstm": {"full": lstm_full_tangent, "hidden": lstm_hidden_tangent},
    "rhn": {"full": rhn_tangent, "hidden": rhn_tangent},
    "gru": {"full": gru_tangent, "hidden": gru_tangent},
    "tanh": {"full": tanh_tangent, "hidden": tanh_tangent},
}
# By cell and state: recurrent params -> the tangent map of a layer.
