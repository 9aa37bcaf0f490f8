"""Word-level language models: embedding, stacked recurrent layers, dropout, decoder.

The model of Zaremba et al. (2014, arXiv 1409.2329): dropout on the embedded input, between the
layers and before the decoder. An RHN has it where Zilly et al. (2017, arXiv 1607.03474) put it: on
what every layer reads, on the state before every recurrent product, and before the decoder.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lsh_jax.cells import CELLS
from lsh_jax.config import ModelConfig, Precision
from lsh_jax.layers import run_layer
from lsh_jax.mixed_precision import make_dot
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
      apply: `apply(params, tokens [T, B], carry, *, key=None, dropout=None, locked=False,
        precision="float32", reverse_only=False) -> (logits [T, B, V], carry)`. A key together with
        `dropout`, a `Hyper` whose four rates are read, turns dropout on; `locked` takes one mask
        for all steps (variational dropout, Gal & Ghahramani, 2016, arXiv 1512.05287), as the state
        of an RHN has it in any case. `precision` is that of the products, and `reverse_only` has
        gradients computed faster, see `run_layer`.
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
        locked: bool = False,
        precision: Precision = "float32",
        reverse_only: bool = False,
    ) -> tuple[Array, Carry]:
        drop = None
        if key is not None and dropout is not None:
            drop = _make_dropout(config, key, dropout, tokens.shape, locked=locked)
        return _apply(config, params, tokens, carry, drop, precision, reverse_only=reverse_only)

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


def bias_copies(config: ModelConfig) -> Callable[[Path, Any], int | Array]:
    """Says how many parameters of torch.nn a parameter stands for.

    `torch.nn.LSTM` keeps a bias of the input's product and one of the state's, which only ever act
    as their sum: here they are that sum. It moves by the gradient of both.

    Args:
      config: the model; without `two_biases` every parameter stands for itself.

    Returns:
      `copies(path, leaf)`, the path a tuple of the keys, of the leaf the shape alone: 1, or of the
      biases "b" of a layer [G], 2 where torch has two (all gates but the n of a GRU, whose second
      is "b_n").
    """
    widths = dict(zip(layer_names(config), config.widths, strict=True))

    def copies(path: Path, leaf: Any) -> int | Array:
        if not config.two_biases or path[0] not in widths or path[-1] != "b":
            return 1
        doubled = CELLS[config.cell].num_doubled * widths[path[0]]
        return jnp.where(jnp.arange(leaf.shape[-1]) < doubled, 2, 1)

    return copies


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
    vocab, embed = config.vocab_size, config.embed_size

    def uniform(key: Key, shape: tuple[int, ...]) -> Array:
        bound = config.init_bound or _EMBEDDING_BOUND
        return jax.random.uniform(key, shape, jnp.float32, -bound, bound)

    params: dict[str, Any] = {"embedding": {"table": uniform(embedding_key, (vocab, embed))}}
    below = embed
    for name, layer_key, width in zip(layer_names(config), layer_keys, config.widths, strict=True):
        params[name] = _init_layer(config, layer_key, below, width)
        below = width
    params["decoder"] = {"b": jnp.zeros(vocab, jnp.float32)}
    if not config.tied:
        params["decoder"]["W"] = uniform(decoder_key, (below, vocab))
    return params


def _init_layer(config: ModelConfig, key: Key, below: int, width: int) -> Params:
    cell = CELLS[config.cell]
    module = cell.module(width, config)
    carry, inputs = cell.init_carry((width,)), jnp.zeros(below, jnp.float32)
    params = dict(module.init(key, carry, inputs)["params"])
    if config.two_biases:
        bound = config.init_bound or width**-0.5
        doubled = slice(0, cell.num_doubled * width)
        other = jax.random.uniform(
            jax.random.fold_in(key, 1), params["b"][doubled].shape, jnp.float32, -bound, bound
        )
        params["b"] = params["b"].at[doubled].add(other)
    return params


class _Dropout(NamedTuple):
    """What multiplies the activations, 0 or 1 / (1 - rate)."""

    table: Array  # of whole words, [V, 1]
    inputs: tuple[Array, ...]  # of every layer, [T or 1, B, E]
    states: tuple[Array | None, ...]  # of every layer of an RHN, [B, H]
    output: Array  # [T or 1, B, H]


def _make_dropout(
    config: ModelConfig, key: Key, rates: Hyper, shape: tuple[int, ...], *, locked: bool
) -> _Dropout:
    """Draws the masks for tokens of a shape [T, B]."""
    embed_key, *keys = jax.random.split(key, 2 + config.num_layers)  # below every layer, above all
    steps, batch_size = 1 if locked else shape[0], shape[1]
    widths = config.embed_size, *config.widths
    highway = config.cell == "rhn"
    between = rates.dropout_input if highway else rates.dropout_hidden
    kinds = [rates.dropout_input, *[between] * (config.num_layers - 1), rates.dropout_output]
    *inputs, output = (
        _dropout_mask(own, rate, (steps, batch_size, width))
        for own, rate, width in zip(keys, kinds, widths, strict=True)
    )
    states: tuple[Array | None, ...] = (None,) * config.num_layers
    if highway:
        states = tuple(
            _dropout_mask(jax.random.fold_in(own, 1), rates.dropout_hidden, (batch_size, width))
            for own, width in zip(keys, config.widths, strict=False)
        )
    return _Dropout(
        table=_dropout_mask(embed_key, rates.dropout_embed, (config.vocab_size, 1)),
        inputs=tuple(inputs),
        states=states,
        output=output,
    )


def _apply(
    config: ModelConfig,
    params: Params,
    tokens: Array,
    carry: Carry,
    dropout: _Dropout | None,
    precision: Precision,
    *,
    reverse_only: bool,
) -> tuple[Array, Carry]:
    table, dot = params["embedding"]["table"], make_dot(precision)
    x = table[tokens]
    if dropout is not None:
        x = x * dropout.table[tokens]
    carries = []
    for layer, (name, layer_carry) in enumerate(zip(layer_names(config), carry, strict=True)):
        kept = None
        if dropout is not None:
            x, kept = x * dropout.inputs[layer], dropout.states[layer]
        x, layer_carry = run_layer(
            CELLS[config.cell],
            params[name],
            x,
            layer_carry,
            kept=kept,
            precision=precision,
            reverse_only=reverse_only,
        )
        carries.append(layer_carry)
    if dropout is not None:
        x = x * dropout.output
    decoder = params["decoder"]
    # A tied decoder keeps the words that dropout took from the input, as Zilly et al.'s code does.
    W = table.T if config.tied else decoder["W"]
    return dot(x, W) + decoder["b"][None, None, :], tuple(carries)


def _dropout_mask(key: Key, rate: Any, shape: tuple[int, ...]) -> Array:
    """0 with probability `rate`, else 1 / (1 - rate): inverted dropout with a traced rate."""
    # The barrier has XLA draw them once, not again wherever they enter.
    kept = jax.lax.optimization_barrier(jax.random.bernoulli(key, 1.0 - rate, shape))
    return kept.astype(jnp.float32) / (1.0 - rate)
