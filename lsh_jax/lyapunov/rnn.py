"""Lyapunov spectra of a recurrent language model along the tokens it reads, layer by layer.

Without feedback from upper to lower layers the tangent map is block-triangular, so the spectrum
of the stack is the union of the layers' own spectra: L problems of the size of one layer.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp

from lsh_jax.cells import LSTMCarry, lstm_layer, lstm_project
from lsh_jax.config import ModelConfig, SpectrumState, check, check_choice, choices
from lsh_jax.language_models import LanguageModel, layer_names
from lsh_jax.lyapunov.orthonormalize import orthonormalizer, random_frame
from lsh_jax.lyapunov.spectrum import LyapunovResult, benettin_scan, summarize
from lsh_jax.lyapunov.tangents import LSTM_TANGENTS
from lsh_jax.types import Array, Key, Params

_ROWS_PER_UNIT = {"full": 2, "hidden": 1}  # of the tangent space, for an LSTM


def rnn_lyapunov_spectrum(
    model: LanguageModel,
    params: Params,
    tokens: Array,
    *,
    state: str = "full",
    num_exponents: int | None = None,
    burn_in: int = 10,
    per_layer: bool = True,
    qr: str = "auto",
    log_base: float = math.e,
    recipe: str | None = None,
    key: Key | None = None,
) -> LyapunovResult:
    """Estimates the Lyapunov spectrum of every layer of a language model driven by tokens.

    The model runs from a zero carry without dropout; a layer is driven by the one below. Every
    column of the batch and every layer starts from the same random frame. Compiled once for each
    set of sizes and options: masked candidates share the program.

    Departures from the authors' code, each of which changes their numbers: products in the order
    J Q instead of reversed, a random first frame instead of the identity, burn-in with QR at
    every step on tokens that are read once, exponents sorted within the layer, nats.

    Args:
      model: its `config` is read.
      params: the parameters, already masked.
      tokens: word ids, int32 [T, B].
      state: "full" differentiates everything that a layer carries, (h, c) of an LSTM, N = 2 H;
        "hidden" holds the memory c on its path, as the paper does, N = H.
      num_exponents: K of each layer, 1 <= K <= N; None computes all N.
      burn_in: first steps, left out of the mean, 0 <= burn_in < T.
      per_layer: True.
      qr: "auto" or "householder".
      log_base: base of the logarithm, > 1: e gives nats, 2 the bits of the authors' files.
      recipe: None.
      key: key of the random first frame; None is `jax.random.key(0)`.

    Returns:
      A LyapunovResult: `exponents` and `std_error` [L, K] (mean over the batch in QR order, then
      sorted within the layer; the error pools blocks of time and columns of the batch, see
      `spectrum.summarize`), `local_exponents` [T - burn_in, L, K] (averaged over the batch),
      `state` (h, c), [L, B, H] each, `q` [L, B, N, K].

    Raises:
      ConfigError: (a ValueError) for an argument that cannot be met; it names the argument, the
        value and the condition.
    """
    config = model.config
    check_choice("model.config.cell", config.cell, ("lstm",))
    check_choice("state", state, choices(SpectrumState))
    check(per_layer, "per_layer", "be True", per_layer)
    check(recipe is None, "recipe", "be None", recipe)
    check(1 < log_base < math.inf, "log_base", "be above 1 and finite", log_base)
    orthonormalizer(qr)
    size = _ROWS_PER_UNIT[state] * config.hidden_size
    num_exponents = size if num_exponents is None else num_exponents
    check(1 <= num_exponents <= size, "num_exponents", f"lie in [1, {size}]", num_exponents)
    tokens = _checked_tokens(tokens, burn_in)
    parts = _lstm_spectrum(
        params,
        tokens,
        jax.random.key(0) if key is None else key,
        config=config,
        state=state,
        size=size,
        num_exponents=num_exponents,
        burn_in=burn_in,
        qr=qr,
        log_base=log_base,
    )
    exponents, std_error, local, carry, q = parts
    return LyapunovResult(exponents, std_error, local, carry, q, tokens.shape[0] - burn_in)


def _checked_tokens(tokens: Array, burn_in: int) -> Array:
    tokens = jnp.asarray(tokens)
    shape = tokens.shape
    check(tokens.ndim == 2 and tokens.size > 0, "tokens", "be a batch of columns [T, B]", shape)
    integer = jnp.issubdtype(tokens.dtype, jnp.integer)
    check(integer, "tokens", "hold integers", str(tokens.dtype))
    check(0 <= burn_in < shape[0], "burn_in", f"lie in [0, {shape[0]})", burn_in)
    return tokens


@functools.partial(
    jax.jit,
    static_argnames=("config", "state", "size", "num_exponents", "burn_in", "qr", "log_base"),
)
def _lstm_spectrum(
    params: Params,
    tokens: Array,
    key: Key,
    *,
    config: ModelConfig,
    state: str,
    size: int,
    num_exponents: int,
    burn_in: int,
    qr: str,
    log_base: float,
) -> tuple[Array, Array, Array, LSTMCarry, Array]:
    """The fields of a LyapunovResult up to `q`."""
    drives, weights = _drives(config, params, tokens)
    q0 = random_frame(key, size, num_exponents, drives.dtype)
    zeros = jnp.zeros(config.hidden_size, drives.dtype)

    def column(U: Array, drive: Array) -> tuple[LSTMCarry, Array, Array]:
        return benettin_scan(
            LSTM_TANGENTS[state](U),
            orthonormalizer(qr),
            (zeros, zeros),
            q0,
            drive,
            num_steps=drive.shape[0] - burn_in,
            burn_in=burn_in,
        )

    columns = jax.vmap(column, in_axes=(None, 1), out_axes=(0, 0, 1))  # over [T, B, 4H]
    carry, q, logs = jax.vmap(columns)(weights, drives)
    exponents, std_error, local = jax.vmap(summarize, out_axes=(0, 0, 1))(logs / math.log(log_base))
    return exponents, std_error, local, carry, q


def _drives(config: ModelConfig, params: Params, tokens: Array) -> tuple[Array, Array]:
    """What the input sends into the gates of every layer, [L, T, B, 4H], and U, [L, H, 4H]."""
    zeros = jnp.zeros((tokens.shape[1], config.hidden_size), params["embedding"]["table"].dtype)
    inputs = params["embedding"]["table"][tokens]
    drives: list[Any] = []
    with jax.default_matmul_precision("highest"):
        for name in layer_names(config):
            drives.append(lstm_project(params[name], inputs))
            inputs, _ = lstm_layer(params[name], inputs, (zeros, zeros))
    weights = jnp.stack([params[name]["U"] for name in layer_names(config)])
    return jnp.stack(drives), weights
