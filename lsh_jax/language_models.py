"""Word-level language models: embedding, stacked recurrent layers, dropout, decoder.

The model of Zaremba et al. (2014, arXiv 1409.2329): dropout on the embedded input, between the
layers and before the decoder, never on the recurrent path.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lsh_jax.cells import CELLS, run_layer
from lsh_jax.config import ModelConfig
from lsh_jax.types import Array, Carry, Hyper, Key, Params

Path = tuple[str, ...]  # the keys of a leaf
_EMBEDDING_BOUND = 0.1  # U(-0.1, 0.1), as the PyTorch word-language-model scripts and the authors


class LanguageModel(NamedTuple):
    """A model as pure functions.

    Attributes:
      config: the sizes.
      init: `init(key) -> params`, a plain dict: {"embedding": {"table" [V, E]}, "layers_0": {...},
        ..., "decoder": {"W" [H, V], "b" [V]}}. A layer holds the parameters of its cell's module in
        `cells`, {"W" [E, 4H], "U" [H, 4H], "b" [4H]} of an LSTM; a tied decoder holds "b" alone.
      init_carry: `init_carry(batch_size) -> carry`, zeros: a tuple with the carry of each layer,
        (h, c) of an LSTM and h of the other cells, [B, H] each.
      apply: `apply(params, tokens [T, B], carry, *, key=None, dropout=None) -> (logits [T, B, V],
        carry)`. A key together with `dropout`, a `Hyper` whose four rates are read, turns dropout
        on.
    """

    config: ModelConfig
    init: Callable[[Key], Params]
    init_carry: Callable[[int], Carry]
    apply: Callable[..., tuple[Array, Carry]]


def make_language_model(config: ModelConfig) -> LanguageModel:
    """Builds the pure functions of a language model.

    Args:
      config: the sizes; `ModelConfig` has checked them.

    Returns:
      A LanguageModel.
    """

    def init(key: Key) -> Params:
        return _init(config, key)

    def init_carry(batch_size: int) -> Carry:
        zeros = CELLS[config.cell].init_carry
        return tuple(zeros((batch_size, width)) for width in config.widths)

    def apply(
        params: Params,
        tokens: Array,
        carry: Carry,
        *,
        key: Key | None = None,
        dropout: Hyper | None = None,
    ) -> tuple[Array, Carry]:
        return _apply(config, params, tokens, carry, key, dropout)

    return LanguageModel(config, jax.jit(init), init_carry, apply)


def layer_names(config: ModelConfig) -> tuple[str, ...]:
    """The keys of the recurrent layers in the parameters, from the input upwards."""
    return tuple(f"layers_{layer}" for layer in range(config.num_layers))


def leaf_gates(config: ModelConfig) -> Callable[[Path, Array], tuple[str, ...]]:
    """Names the gates that stand side by side in the last axis of a leaf.

    Args:
      config: the model.

    Returns:
      `gates(path, leaf)`, the path a tuple of the keys: the names in their order, `widths[l]`
      columns each, of a matrix of layer l; none of embedding, decoder and biases.
    """
    widths = dict(zip(layer_names(config), config.widths, strict=True))

    def gates(path: Path, leaf: Array) -> tuple[str, ...]:
        if path[0] not in widths or leaf.ndim < 2:
            return ()
        return CELLS[config.cell].gates[: leaf.shape[-1] // widths[path[0]]]

    return gates


def uses_per_token(config: ModelConfig) -> Callable[[Path, Array], int]:
    """Says in how many multiplications a weight takes part for a token, forward.

    A matrix is used once: a table that embeds only is looked up (0), a tied one is the decoder as
    well (1), and each micro-step of an RHN has a matrix of its own. Biases are added (0): additions
    of their own and the arithmetic of the gates are not counted.

    Args:
      config: the model.

    Returns:
      `uses(path, leaf)`, the path a tuple of the keys.
    """

    def uses(path: Path, leaf: Array) -> int:
        looked_up = path[0] == "embedding" and not config.tied
        return int(leaf.ndim >= 2 and not looked_up)

    return uses


def _init(config: ModelConfig, key: Key) -> Params:
    embedding_key, decoder_key, *layer_keys = jax.random.split(key, 2 + config.num_layers)
    vocab, embed, cell = config.vocab_size, config.embed_size, CELLS[config.cell]

    def uniform(key: Key, shape: tuple[int, ...]) -> Array:
        return jax.random.uniform(key, shape, jnp.float32, -_EMBEDDING_BOUND, _EMBEDDING_BOUND)

    params: dict[str, Any] = {"embedding": {"table": uniform(embedding_key, (vocab, embed))}}
    below = embed
    for name, layer_key, width in zip(layer_names(config), layer_keys, config.widths, strict=True):
        module = cell.module(width, config.depth, config.coupled)
        inputs = jnp.zeros(below, jnp.float32)
        variables = module.init(layer_key, cell.init_carry((width,)), inputs)
        params[name] = dict(variables["params"])
        below = width
    params["decoder"] = {"b": jnp.zeros(vocab, jnp.float32)}
    if not config.tied:
        params["decoder"]["W"] = uniform(decoder_key, (below, vocab))
    return params


def _apply(
    config: ModelConfig,
    params: Params,
    tokens: Array,
    carry: Carry,
    key: Key | None,
    dropout: Hyper | None,
) -> tuple[Array, Carry]:
    cell, table = CELLS[config.cell], params["embedding"]["table"]
    if key is None or dropout is None:
        x = table[tokens]
        layer_keys: list[Any] = [None] * config.num_layers
        rates: list[Any] = [0.0] * config.num_layers
    else:
        embed_key, input_key, *layer_keys = jax.random.split(key, 2 + config.num_layers)
        kept = _dropout_mask(embed_key, dropout.dropout_embed, (table.shape[0], 1))
        x = table[tokens] * kept[tokens]
        x = x * _dropout_mask(input_key, dropout.dropout_input, x.shape)
        rates = [dropout.dropout_hidden] * (config.num_layers - 1) + [dropout.dropout_output]
    carries = []
    for name, layer_carry, layer_key, rate in zip(
        layer_names(config), carry, layer_keys, rates, strict=True
    ):
        x, layer_carry = run_layer(cell, params[name], x, layer_carry)
        if layer_key is not None:
            x = x * _dropout_mask(layer_key, rate, x.shape)
        carries.append(layer_carry)
    decoder = params["decoder"]
    # A tied decoder keeps the words that dropout took from the input, as Zilly et al.'s code does.
    W = table.T if config.tied else decoder["W"]
    return jnp.dot(x, W) + decoder["b"][None, None, :], tuple(carries)


def _dropout_mask(key: Key, rate: Any, shape: tuple[int, ...]) -> Array:
    """0 with probability `rate`, else 1 / (1 - rate): inverted dropout with a traced rate."""
    kept = jax.random.bernoulli(key, 1.0 - rate, shape)
    return kept.astype(jnp.float32) / (1.0 - rate)
