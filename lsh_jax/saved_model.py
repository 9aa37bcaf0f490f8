"""Models to release: safetensors, JSON and a vocabulary.

Nothing here reads or writes executable formats: a directory from a stranger is safe to open.
"""

import hashlib
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lsh_jax.checkpoint import write_json
from lsh_jax.config import ConfigError, ModelConfig
from lsh_jax.language_models import LanguageModel, make_language_model
from lsh_jax.types import Masks, Params, PyTree

_FORMAT = 1  # of a saved model; raised when an older reader would misread it


class SavedModel(NamedTuple):
    """A pruned model as `load_model` returns it."""

    model: LanguageModel
    params: Params  # masked
    masks: Masks
    vocabulary: tuple[str, ...]  # id -> word


def save_model(
    path: pathlib.Path | str,
    model: LanguageModel,
    params: Params,
    masks: Masks,
    vocabulary: Sequence[str],
) -> None:
    """Writes a pruned model for release: only live weights, and one bit a weight for the mask.

    `weights.safetensors` holds `<leaf>/values`, the live values in C order, and `<leaf>/mask`,
    `numpy.packbits` of the mask in little-endian bit order, for every leaf with a pruned weight;
    a dense leaf is kept whole as `<leaf>`. `vocabulary.json` holds the words by id, `model.json`
    the sizes and the checksums of the other two.

    Args:
      path: directory to write; made if missing.
      model: gives the sizes.
      params: nested dict of arrays.
      masks: bool tree like `params`.
      vocabulary: words by id, at most V.

    Raises:
      ConfigError: when the vocabulary has more words than the model.
    """
    if len(vocabulary) > model.config.vocab_size:
        raise ConfigError(
            f"`vocabulary` must have at most vocab_size={model.config.vocab_size} words, "
            f"got {len(vocabulary)}."
        )
    path = pathlib.Path(path)
    path.mkdir(parents=True, exist_ok=True)
    (path / "model.json").unlink(missing_ok=True)  # written last: without it, no model
    tensors: dict[str, np.ndarray] = {}
    flat_masks = flatten(masks)
    for name, leaf in flatten(params).items():
        mask = flat_masks[name]
        if mask.all():
            tensors[name] = np.ascontiguousarray(leaf)
        else:
            tensors[f"{name}/values"] = leaf[mask]
            tensors[f"{name}/mask"] = pack_mask(mask)
    save_tensors(path / "weights.safetensors", tensors)
    write_json(path / "vocabulary.json", list(vocabulary))
    header = {"format": _FORMAT, "config": model.config.to_json(), "sha256": _model_hashes(path)}
    write_json(path / "model.json", header)


def _model_hashes(path: pathlib.Path) -> dict[str, str]:
    names = ("weights.safetensors", "vocabulary.json")
    return {name: hashlib.sha256((path / name).read_bytes()).hexdigest() for name in names}


def load_model(path: pathlib.Path | str) -> SavedModel:
    """Reads a model that `save_model` wrote.

    Args:
      path: the directory; a run directory stands for the `model` folder in it.

    Returns:
      A SavedModel.

    Raises:
      ConfigError: when the directory holds no model, or one that does not fit its own sizes.
    """
    path = pathlib.Path(path)
    if not (path / "model.json").is_file() and (path / "model" / "model.json").is_file():
        path = path / "model"
    if not (path / "model.json").is_file():
        if any((folder / "params.json").is_file() for folder in (path, path / "model")):
            raise ConfigError(
                f"`path` must be a saved language model, got {str(path)!r}, which holds the "
                "parameters of a task of one's own: read them with `load_params`."
            )
        raise ConfigError(f"`path` must be a saved model with a model.json, got {str(path)!r}.")
    try:
        header = _read_json(path / "model.json", dict)
        if header.get("format") != _FORMAT:
            raise ValueError(f"its format is {header.get('format')}, this version reads {_FORMAT}")
        model = make_language_model(ModelConfig.from_json(header.get("config")))
        words = _read_json(path / "vocabulary.json", list)
        vocabulary = checked_words(words, model.config.vocab_size)
        shapes = jax.eval_shape(model.init, jax.random.key(0))
        params, masks = _unpack(shapes, load_tensors(path / "weights.safetensors"))
        if header.get("sha256") != _model_hashes(path):
            raise ValueError("its files differ from what was saved: their checksums are others")
    except (OSError, ValueError, TypeError, OverflowError) as error:
        reason = str(error).rstrip(".")
        raise ConfigError(f"The model at {str(path)!r} cannot be read: {reason}.") from error
    return SavedModel(model, params, masks, vocabulary)


def checked_words(words: Sequence[Any], vocab_size: int) -> tuple[str, ...]:
    """A vocabulary that was read; ValueError when it is none, or has more words than the model."""
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ValueError("its vocabulary must hold words")
    if len(words) > vocab_size:
        raise ValueError(f"it has {len(words)} words, more than its vocab_size")
    return tuple(words)


def _read_json(path: pathlib.Path, kind: type) -> Any:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path.name} is damaged ({error})") from error
    if not isinstance(value, kind):
        raise ValueError(f"{path.name} must hold a {kind.__name__}")
    return value


def save_tensors(
    path: pathlib.Path,
    tensors: Mapping[str, np.ndarray],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes contiguous arrays by name as a safetensors file, with `metadata` in its header."""
    import safetensors.numpy

    safetensors.numpy.save_file(dict(tensors), path, *([dict(metadata)] if metadata else []))
    path.chmod(0o644)  # it comes readable for its owner alone


def load_tensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads the arrays of a safetensors file; ValueError when it is damaged."""
    import safetensors
    import safetensors.numpy

    try:
        return safetensors.numpy.load_file(path)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path.name} is damaged ({error})") from error


def load_metadata(path: pathlib.Path) -> dict[str, str]:
    """Reads the words in the header of a safetensors file; ValueError when it is damaged."""
    import safetensors

    try:
        with safetensors.safe_open(path, "np") as file:
            return file.metadata() or {}
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path.name} is damaged ({error})") from error


def _unpack(shapes: PyTree, tensors: dict[str, np.ndarray]) -> tuple[Params, Masks]:
    params, masks = {}, {}
    for name, leaf in flatten(shapes).items():
        params[name], masks[name] = _unpack_leaf(tensors, name, leaf)
    if tensors:
        raise ValueError(f"its sizes leave no place for {min(tensors)}")
    return unflatten(params), unflatten(masks)


def _unpack_leaf(
    tensors: dict[str, np.ndarray], name: str, leaf: jax.ShapeDtypeStruct
) -> tuple[np.ndarray, np.ndarray]:
    """Takes a leaf out of `tensors`: its values in place, and its mask."""
    if name in tensors:
        value, mask = tensors.pop(name), np.ones(leaf.shape, bool)
        fits = value.shape == leaf.shape and value.dtype == leaf.dtype
    elif f"{name}/values" in tensors and f"{name}/mask" in tensors:
        values, packed = tensors.pop(f"{name}/values"), tensors.pop(f"{name}/mask")
        mask = unpack_mask(name, packed, leaf.shape)
        value = np.zeros(leaf.shape, np.float32)
        fits = values.shape == (mask.sum(),) and values.dtype == leaf.dtype
        if fits:
            value[mask] = values
    else:
        raise ValueError(f"{name} is missing")
    if not fits:
        raise ValueError(f"{name} does not fit its sizes, which ask for {leaf.shape}")
    return value, mask


def pack_mask(mask: np.ndarray) -> np.ndarray:
    """A bit for each entry in C order, the lowest of a byte first; uint8."""
    return np.packbits(mask.ravel(), bitorder="little")


def unpack_mask(name: str, packed: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The inverse of `pack_mask`; ValueError, with the name, for bits that do not fit the shape."""
    size = int(np.prod(shape))
    bits = np.unpackbits(packed, bitorder="little").astype(bool)
    # Bits are whole bytes, the last of them filled up with zeros.
    if len(bits) != -(-size // 8) * 8 or bits[size:].any():
        raise ValueError(f"the mask of {name} does not fit its sizes, which ask for {shape}")
    return bits[:size].reshape(shape)


def flatten(tree: PyTree) -> dict[str, Any]:
    """Leaves of a nested dict by their path, "layers_0/W"; arrays come to the host."""
    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {
        "/".join(str(entry.key) for entry in path): (
            leaf if isinstance(leaf, jax.ShapeDtypeStruct) else np.asarray(leaf)
        )
        for path, leaf in flat
    }


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`; arrays go to the device."""
    tree: dict[str, Any] = {}
    for name, leaf in flat.items():
        *parents, last = name.split("/")
        inner = tree
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[last] = jnp.asarray(leaf)
    return tree
