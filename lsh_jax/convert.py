"""Language models trained in PyTorch, from their state dicts.

The models meant are an embedding, a stack of torch.nn.LSTM, GRU or RNN and a linear decoder, as in
the word-language-model scripts and in code after AWD-LSTM. Nothing here needs torch.

torch multiplies by the transposed weight, so `weight_ih` [G, E] is our "W" [E, G] and `weight_hh`
[G, H] is "U" [H, G]; the gates stand in the same order. `cells` says how two biases become one.
"""

import collections
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from lsh_jax.config import ConfigError, ModelConfig, check, check_flag
from lsh_jax.language_models import layer_names, make_language_model
from lsh_jax.saved_model import SavedModel
from lsh_jax.state_dict import Entry, Layer, Parts, take_apart

_Array = npt.NDArray[np.float32]
_CELLS: dict[int, Literal["lstm", "gru", "tanh"]] = {4: "lstm", 3: "gru", 1: "tanh"}  # by gates


def from_torch(
    state_dict: Mapping[str, Any],
    vocabulary: Sequence[str],
    *,
    embedding: str | None = None,
    recurrent: str | Sequence[str] | None = None,
    decoder: str | None = None,
    pruned: bool = False,
) -> SavedModel:
    """Takes over a language model that was trained in PyTorch.

    Entries are told apart by their names' last part and by their shapes: `weight_hh_l0` belongs to
    a recurrent layer (`weight_hh` to a torch.nn.LSTMCell and its like), of the other matrices the
    embedding is as wide as the input of the first layer and the decoder as the last layer. Where
    this leaves a choice, the one with a bias is the decoder, then the one that is called like an
    embedding is it; else name them. Modules with numbers in their names (`rnns.0`, `rnns.1`) are
    stacked in the order of the numbers. `module.` of DataParallel, `_orig_mod.` of torch.compile
    and the `_raw` of weight-dropped matrices are passed over in names. Embedding and decoder are
    tied where they are equal, or where the decoder has a bias alone.

    The cell follows from the shape of `weight_hh`. A state dict does not tell the nonlinearity of a
    torch.nn.RNN: it is taken for tanh, and a network with `nonlinearity="relu"` comes out wrong.
    Nor does it tell what else `forward` does: dropout plays no part in evaluation, but a sum with a
    skip connection, say, would go unnoticed. Compare the logits once.

    Args:
      state_dict: arrays by name, whatever `numpy.asarray` takes: of a module,
        `{name: tensor.cpu().numpy() for name, tensor in module.state_dict().items()}`.
        They are cast to float32.
      vocabulary: the word of each row of the embedding. To read a corpus by it (`load_corpus`,
        `--dense`), name the line end `<eos>` and the word for unknown words, if any, `<unk>`.
      embedding: name of the embedding's module, "encoder" for "encoder.weight".
      recurrent: name of the recurrent module, or the names from the input upwards.
      decoder: name of the decoder's module; that of the embedding for a tied one without a bias
        whose matrix the state dict has once only.
      pruned: False makes a dense model, whose weights of zero are weights like others; True takes
        all zeros of matrices, the embedding's too, as pruned.

    Returns:
      A SavedModel, which `save_model(path, *from_torch(...))` writes. `two_biases` is set in its
      config where the layers had biases; without them the biases are zeros.

    Raises:
      ConfigError: when the entries are not the whole of such a model, do not fit one another or
        the vocabulary, or are not finite; for two directions, projections and reparametrized
        weights; when which is which cannot be told.
    """
    check_flag("pruned", pruned)
    words = _check_vocabulary(vocabulary)
    parts = take_apart(state_dict, embedding, recurrent, decoder)
    config = _config(parts)
    params = jax.tree.map(jnp.asarray, _convert(parts, config))
    if len(words) != config.vocab_size:
        raise ConfigError(
            f"`vocabulary` must name the {config.vocab_size} rows of {parts.table.name!r}, got "
            f"{len(words)} words: name the word of every row, of unused ones too."
        )
    masks = jax.tree.map(
        lambda leaf: leaf != 0 if pruned and leaf.ndim >= 2 else jnp.ones(leaf.shape, bool), params
    )
    return SavedModel(make_language_model(config), params, masks, words)


def _check_vocabulary(vocabulary: Sequence[str]) -> tuple[str, ...]:
    listed = isinstance(vocabulary, Sequence) and not isinstance(vocabulary, (str, bytes))
    kind = type(vocabulary).__name__
    check(listed, "vocabulary", "be the words in the order of their ids", kind)
    for word in vocabulary:
        check(isinstance(word, str), "vocabulary", "hold words", word)
    counts = collections.Counter(vocabulary)
    twice = [word for word, count in counts.items() if count > 1]
    check(not twice, "vocabulary", "name each word once", twice[:3])
    return tuple(vocabulary)


def _config(parts: Parts) -> ModelConfig:
    widths = tuple(layer["weight_hh"].value.shape[1] for layer in parts.layers)
    vocab_size, embed_size = parts.table.value.shape
    return ModelConfig(
        cell=_CELLS[_num_gates(parts.layers[0]["weight_hh"])],
        vocab_size=vocab_size,
        embed_size=embed_size,
        hidden_size=max(widths),
        num_layers=len(widths),
        tied=np.array_equal(parts.table.value, parts.decoder.value),
        layer_sizes=widths if len(set(widths)) > 1 else (),
        two_biases=any("bias_ih" in layer for layer in parts.layers),
    )


def _num_gates(weight_hh: Entry) -> int:
    rows, columns = weight_hh.value.shape
    gates = rows // columns if columns and rows % columns == 0 else 0
    if gates not in _CELLS:
        raise ConfigError(
            "`state_dict` must have 4 (LSTM), 3 (GRU) or 1 (RNN) times as many rows as columns in "
            f"{weight_hh.name!r}, got {(rows, columns)}."
        )
    return gates


def _convert(parts: Parts, config: ModelConfig) -> dict[str, Any]:
    """The parameters, in float32 on the host."""
    params: dict[str, Any] = {"embedding": {"table": parts.table.value}}
    for name, layer in zip(layer_names(config), parts.layers, strict=True):
        params[name] = _convert_layer(layer, config.cell)
    bias = np.zeros(config.vocab_size, np.float32)
    if parts.bias is not None:
        _check_shape(parts.bias, (config.vocab_size,), f"a decoder of {config.vocab_size} words")
        bias = parts.bias.value
    params["decoder"] = {"b": bias} if config.tied else {"W": parts.decoder.value.T, "b": bias}
    return params


def _convert_layer(layer: Layer, cell: str) -> dict[str, _Array]:
    hidden = layer["weight_hh"].value.shape[1]
    rows = next(gates for gates, name in _CELLS.items() if name == cell) * hidden
    what = f"a layer of {hidden} {cell} units"
    for part in ("weight_hh", "weight_ih"):
        _check_shape(layer[part], (rows, layer[part].value.shape[1]), what)
    params = {"W": layer["weight_ih"].value.T, "U": layer["weight_hh"].value.T}
    b_ih, b_hh = np.zeros(rows, np.float32), np.zeros(rows, np.float32)
    if "bias_ih" in layer:
        _check_shape(layer["bias_ih"], (rows,), what)
        _check_shape(layer["bias_hh"], (rows,), what)
        b_ih, b_hh = layer["bias_ih"].value, layer["bias_hh"].value.copy()
    if cell == "gru":  # the recurrent bias of n, the last gate, acts inside the reset gate
        params["b_n"] = b_hh[2 * hidden :].copy()
        b_hh[2 * hidden :] = -0.0  # which keeps the sign of a zero that it is added to
    return {**params, "b": b_ih + b_hh}


def _check_shape(entry: Entry, shape: tuple[int, ...], what: str) -> None:
    if entry.value.shape != shape:
        raise ConfigError(
            f"`state_dict` must have the shape {shape} in {entry.name!r} for {what}, got "
            f"{entry.value.shape}."
        )
