"""A language model as a PyTorch state dict, the inverse of `convert`. Nothing here needs torch.

It fits a module with `torch.nn.Embedding` as `embedding`, `torch.nn.LSTM`, `GRU` or `RNN` as `rnn`,
and `torch.nn.Linear` as `decoder`; layers of unequal width are a `torch.nn.ModuleList` `rnns` with
one layer each. A row of the input and of the recurrent weights is a column of ours, the gates in
the same order, and the bias of the input holds the sum of the two.
"""

import json
import pathlib
from typing import Any

import numpy as np
import numpy.typing as npt

from lsh_jax.config import ConfigError, ModelConfig, check
from lsh_jax.convert import from_torch
from lsh_jax.language_models import layer_names, make_language_model
from lsh_jax.model_archive import leaf_shapes, masked_leaves, unreadable
from lsh_jax.saved_model import (
    SavedModel,
    checked_words,
    flatten,
    load_metadata,
    load_tensors,
    save_tensors,
    unflatten,
)
from lsh_jax.types import Masks, Params

_FORMAT = 1  # raised when an older reader would misread it
_HEADER = "lsh_jax"  # in the metadata of the file
_Array = npt.NDArray[Any]


def to_torch(config: ModelConfig, params: Params) -> dict[str, _Array]:
    """The state dict of the same model in PyTorch; `from_torch` reads it back bit for bit.

    Args:
      config: the model's.
      params: its parameters, masked where the model is pruned.

    Returns:
      Contiguous float32 arrays by the names of torch. A tied table is there twice, under
      "embedding.weight" and "decoder.weight", as the state dict of a module that ties them has it.

    Raises:
      ConfigError: for a cell that torch.nn does not have.
    """
    check_torch_has(config)
    leaves = flatten(params)
    state_dict = {torch: _turned(leaves[ours], ours) for ours, torch in torch_names(config).items()}
    for name, prefix, suffix in _layers(config):
        bias = leaves[f"{name}/b"]
        # Of any number and -0.0 the sum is that number, the sign of zero included.
        other = np.full_like(bias, -0.0)
        if config.cell == "gru":  # the recurrent bias of n, the last gate, acts inside the reset
            other[-len(leaves[f"{name}/b_n"]) :] = leaves[f"{name}/b_n"]
        state_dict[f"{prefix}bias_ih{suffix}"] = np.array(bias)
        state_dict[f"{prefix}bias_hh{suffix}"] = other
    if config.tied:
        state_dict["decoder.weight"] = state_dict["embedding.weight"]
    state_dict["decoder.bias"] = np.array(leaves["decoder/b"])
    return state_dict


def export_torch(path: pathlib.Path | str, saved: SavedModel) -> None:
    """Writes a model as a safetensors file that PyTorch loads.

        module.load_state_dict(safetensors.torch.load_file("model.torch.safetensors"))

    Of a pruned model a second file, `masks_path(path)`, holds bool masks by the same names: live
    weights that are zero differ from pruned ones by them alone. The words are in the metadata of
    the first.

    Args:
      path: the file to write, over what is there.
      saved: from `load_model` or `from_torch`; what its masks exclude is written as zero.

    Raises:
      ConfigError: for a cell that torch.nn does not have, and for pruned biases.
      OSError: when a file cannot be written.
    """
    path, config = pathlib.Path(path), saved.model.config
    check_torch_has(config)
    leaves = masked_leaves(saved)
    biases = [name for name, (_, mask) in leaves.items() if mask.ndim < 2 and not mask.all()]
    check(not biases, "saved", "have no pruned biases, of which torch has two for one", biases)
    params = unflatten({name: value for name, (value, _) in leaves.items()})
    masks = {
        torch: _turned(leaves[ours][1], ours)
        for ours, torch in torch_names(config).items()
        if not leaves[ours][1].all()
    }
    header = {
        "format": _FORMAT,
        "config": config.to_json(),
        "vocabulary": list(saved.vocabulary),
        "pruned": sorted(masks),
    }
    text = json.dumps(header, ensure_ascii=False)
    save_tensors(path, to_torch(config, params), {"format": "pt", _HEADER: text})
    masks_path(path).unlink(missing_ok=True)
    if masks:
        save_tensors(masks_path(path), masks)


def load_torch(path: pathlib.Path | str) -> SavedModel:
    """Reads a model that `export_torch` wrote; `from_torch` reads other state dicts.

    Raises:
      ConfigError: when the files are no such model, or do not fit their own sizes.
    """
    path = pathlib.Path(path)
    try:
        header = json.loads(load_metadata(path)[_HEADER])
        if header["format"] != _FORMAT:
            raise ValueError(f"its format is {header['format']}, this reads {_FORMAT}")
        config = ModelConfig.from_json(header["config"])
        words = checked_words(header["vocabulary"], config.vocab_size)
        rows = [str(row) for row in range(config.vocab_size)]  # some may have no word
        params = from_torch(
            load_tensors(path), rows, embedding="embedding", decoder="decoder"
        ).params
        shapes = leaf_shapes(config)
        if {name: leaf.shape for name, leaf in flatten(params).items()} != shapes:
            raise ValueError("its arrays do not fit its sizes")
        masks = _load_masks(path, config, header["pruned"])
    except (OSError, ValueError, TypeError, KeyError, OverflowError) as error:
        raise unreadable(path, error) from error
    return SavedModel(make_language_model(config), params, masks, words)


def masks_path(path: pathlib.Path) -> pathlib.Path:
    """Where the masks of a state dict are: beside it, "model.torch.masks.safetensors"."""
    return path.with_name(f"{path.name.removesuffix('.safetensors')}.masks.safetensors")


def torch_names(config: ModelConfig) -> dict[str, str]:
    """The names in torch of the matrices, by those of ours: "layers_0/U", "rnn.weight_hh_l0"."""
    names = {"embedding/table": "embedding.weight"}
    for name, prefix, suffix in _layers(config):
        names[f"{name}/W"] = f"{prefix}weight_ih{suffix}"
        names[f"{name}/U"] = f"{prefix}weight_hh{suffix}"
    return names if config.tied else {**names, "decoder/W": "decoder.weight"}


def check_torch_has(config: ModelConfig) -> None:
    """Refuses a cell that torch.nn does not have."""
    if config.cell == "rhn":
        raise ConfigError(
            "`cell` must be lstm, gru or tanh for a state dict of PyTorch, which has no recurrent "
            f"highway network, got {config.cell!r}: export it as npz, csr or safetensors."
        )


def _layers(config: ModelConfig) -> list[tuple[str, str, str]]:
    """Of every layer our name, and what stands before and after "weight_hh" in torch's."""
    if len(set(config.widths)) == 1:
        return [(name, "rnn.", f"_l{layer}") for layer, name in enumerate(layer_names(config))]
    return [(name, f"rnns.{layer}.", "_l0") for layer, name in enumerate(layer_names(config))]


def _turned(leaf: _Array, name: str) -> _Array:
    """A matrix as torch has it, [outputs, inputs]; the table of the embedding as it is."""
    return np.ascontiguousarray(leaf if name == "embedding/table" else leaf.T)


def _load_masks(path: pathlib.Path, config: ModelConfig, pruned: list[str]) -> Masks:
    masks = {name: np.ones(shape, bool) for name, shape in leaf_shapes(config).items()}
    ours = {torch: name for name, torch in torch_names(config).items()}
    tensors = load_tensors(masks_path(path)) if pruned else {}
    for torch in pruned:
        mask = _turned(tensors[torch], ours[torch])
        if mask.shape != masks[ours[torch]].shape or mask.dtype != bool:
            raise ValueError(f"the mask of {torch} does not fit its sizes")
        masks[ours[torch]] = mask
    return unflatten(masks)
