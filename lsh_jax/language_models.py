"""Word-level language models: embedding, stacked recurrent layers, dropout, decoder.

The model of Zaremba et al. (2014, arXiv 1409.2329): dropout on the embedded input, between the
layers and before the decoder, never on the recurrent path.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lsh_jax.cells import LSTMCell, lstm_layer
from lsh_jax.config import ModelConfig
from lsh_jax.types import Array, Carry, Hyper, Key, Params

_EMBEDDING_BOUND = 0.1  # U(-0.1, 0.1), as the PyTorch word-language-model scripts and the authors


class LanguageModel(NamedTuple):
    """A model as pure functions.

    Attributes:
      config: the sizes.
      init: `init(key) -> params`, a plain dict: {"embedding": {"table" [V, E]}, "layers_0": {"W"
        [E, 4H], "U" [H, 4H], "b" [4H]}, ..., "decoder": {"W" [H, V], "b" [V]}}.
      init_carry: `init_carry(batch_size) -> carry`, zeros: a tuple of (h, c), [B, H] each.
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
        def zeros() -> Array:
            return jnp.zeros((batch_size, config.hidden_size))

        return tuple((zeros(), zeros()) for _ in range(config.num_layers))

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


def _init(config: ModelConfig, key: Key) -> Params:
    embedding_key, decoder_key, *layer_keys = jax.random.split(key, 2 + config.num_layers)
    vocab, embed, hidden = config.vocab_size, config.embed_size, config.hidden_size

    def uniform(key: Key, shape: tuple[int, ...]) -> Array:
        return jax.random.uniform(key, shape, jnp.float32, -_EMBEDDING_BOUND, _EMBEDDING_BOUND)

    params: dict[str, Any] = {"embedding": {"table": uniform(embedding_key, (vocab, embed))}}
    carry = (jnp.zeros(hidden), jnp.zeros(hidden))
    width = embed
    for name, layer_key in zip(layer_names(config), layer_keys, strict=True):
        params[name] = dict(LSTMCell(hidden).init(layer_key, carry, jnp.zeros(width))["params"])
        width = hidden
    params["decoder"] = {"W": uniform(decoder_key, (hidden, vocab)), "b": jnp.zeros(vocab)}
    return params


def _apply(
    config: ModelConfig,
    params: Params,
    tokens: Array,
    carry: Carry,
    key: Key | None,
    dropout: Hyper | None,
) -> tuple[Array, Carry]:
    table = params["embedding"]["table"]
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
        x, layer_carry = lstm_layer(params[name], x, layer_carry)
        if layer_key is not None:
            x = x * _dropout_mask(layer_key, rate, x.shape)
        carries.append(layer_carry)
    decoder = params["decoder"]
    return jnp.dot(x, decoder["W"]) + decoder["b"][None, None, :], tuple(carries)


def _dropout_mask(key: Key, rate: Any, shape: tuple[int, ...]) -> Array:
    """0 with probability `rate`, else 1 / (1 - rate): inverted dropout with a traced rate."""
    kept = jax.random.bernoulli(key, 1.0 - rate, shape)
    return kept.astype(jnp.float32) / (1.0 - rate)
