"""The sum of all exponents of an LSTM in closed form: an exact check on its spectrum, step by step.

QR keeps volumes: the logs of the diagonal of R of a step add up to log |det J| of that step once
all K = N exponents are computed, whatever the frame.
"""

from typing import Any

import jax
import jax.numpy as jnp

from lsh_jax.cells import CELLS, LSTMCarry, lstm_update
from lsh_jax.config import check
from lsh_jax.language_models import LanguageModel, layer_names
from lsh_jax.types import Array, Params


def log_abs_det_lstm(model: LanguageModel, params: Params, tokens: Array) -> Array:
    """log |det J| of the full state (h, c) of every layer of an LSTM, at every step from rest.

    Subtracting diag(dh'/dc') times the rows of c from those of h leaves [diag(dh'/da_o) U_o, 0]
    over [dc'/dh, diag(f)], so that of the recurrent weights only the block U_o of the output gate
    enters:

      log |det J| = log |det U_o| + sum_units [log f + log |tanh c'| + log o + log(1 - o)].

    A stack is block-triangular: its determinant is the product over the layers. The sum of all
    exponents of a layer, from `rnn_lyapunov_spectrum(..., state="full", burn_in=n)`, is the mean of
    this over the columns and over the steps from n on.

    Under pruning U_o can be singular: -inf at every step where it has an empty row or column, a
    unit whose output gate hears nothing or whose output no such gate hears. Other rank defects are
    seen by an LU factorisation within rounding: a large negative number. The spectrum has at least
    H - rank(U_o) exponents at -inf then, which QR reads as rounding (see `lyapunov_spectrum`).

    Args:
      model: of cell "lstm".
      params: the parameters, already masked.
      tokens: word ids, int [T, B].

    Returns:
      Natural logarithms, [T, L, B].

    Raises:
      ConfigError: (a ValueError) for another cell, or tokens of another shape.
    """
    check(model.config.cell == "lstm", "model.config.cell", "be lstm", model.config.cell)
    check(jnp.ndim(tokens) == 2, "tokens", "be a batch of columns [T, B]", jnp.shape(tokens))
    inputs = params["embedding"]["table"][tokens]
    logs: list[Array] = []
    with jax.default_matmul_precision("highest"):
        for name in layer_names(model.config):
            inputs, by_step = _layer(params[name], inputs)
            logs.append(by_step)
    return jnp.stack(logs, axis=1)


def _layer(params: Params, inputs: Array) -> tuple[Array, Array]:
    """Outputs [T, B, H] and log |det J| [T, B] of one layer that is driven by inputs [T, B, E]."""
    cell, U = CELLS["lstm"], params["U"]
    zeros = cell.init_carry((inputs.shape[1], U.shape[0]), inputs.dtype)

    def advance(carry: LSTMCarry, drive: Array) -> tuple[LSTMCarry, Any]:
        preactivation = drive + jnp.dot(carry[0], U)
        carry = lstm_update(preactivation, carry)
        _, a_f, _, a_o = jnp.split(preactivation, 4, axis=-1)
        gates = jax.nn.log_sigmoid(a_f) + jax.nn.log_sigmoid(a_o) + jax.nn.log_sigmoid(-a_o)
        units = gates + jnp.log(jnp.abs(jnp.tanh(carry[1])))
        return carry, (carry[0], units.sum(axis=-1))

    _, (outputs, logs) = jax.lax.scan(advance, zeros, cell.project(params, inputs))
    return outputs, logs + jnp.linalg.slogdet(jnp.split(U, 4, axis=1)[3])[1]
