"""Parameters of any network to release: live weights and one bit a weight, as safetensors.

The layout of `lsh_jax.saved_model`, for a network of which only the tree is known. Nothing here
reads or writes executable formats: a directory from a stranger is safe to open.
"""

import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lsh_jax.checkpoint import write_json
from lsh_jax.config import ConfigError
from lsh_jax.sparsity.masks import leaf_paths
from lsh_jax.types import Masks, Params

_FORMAT = 1  # raised when an older reader would misread it
_WEIGHTS, _HEADER = "weights.safetensors", "params.json"


def save_params(
    path: pathlib.Path | str, params: Params, masks: Masks, notes: Mapping[str, Any] | None = None
) -> None:
    """Writes the parameters of a pruned network.

    `weights.safetensors` holds `<leaf>/values`, the live values in C order, and `<leaf>/mask`,
    `numpy.packbits` of the mask in little-endian bit order, for every leaf with a pruned weight;
    a dense leaf is kept whole as `<leaf>`. `params.json` holds its checksum and the notes.

    Args:
      path: directory to write; made if missing.
      params: any pytree of arrays whose leaves have distinct paths.
      masks: bool tree like it.
      notes: JSON values to keep beside the weights.
    """
    import safetensors.numpy

    path = pathlib.Path(path)
    path.mkdir(parents=True, exist_ok=True)
    (path / _HEADER).unlink(missing_ok=True)  # written last: without it, no parameters
    tensors: dict[str, np.ndarray] = {}
    leaves = zip(_names(params), jax.tree.leaves(params), jax.tree.leaves(masks), strict=True)
    for name, leaf, mask in leaves:
        values, live = np.asarray(leaf), np.asarray(mask)
        if live.all():
            tensors[name] = np.ascontiguousarray(values)
        else:
            tensors[f"{name}/values"] = values[live]
            tensors[f"{name}/mask"] = np.packbits(live.ravel(), bitorder="little")
    safetensors.numpy.save_file(tensors, path / _WEIGHTS)
    (path / _WEIGHTS).chmod(0o644)  # it comes readable for its owner alone
    header = {"format": _FORMAT, "notes": dict(notes or {}), "sha256": _hash(path)}
    write_json(path / _HEADER, header)


def load_params(path: pathlib.Path | str, like: Params) -> tuple[Params, Masks, dict[str, Any]]:
    """Reads what `save_params` wrote.

    Args:
      path: the directory; a run directory stands for the `model` folder in it.
      like: a tree of arrays, or of `jax.ShapeDtypeStruct` as `jax.eval_shape(init, key)` has them.

    Returns:
      The parameters, with exact zeros where they are dead, their masks, and the notes.

    Raises:
      ConfigError: when there are none, or they are damaged, or of another tree.
    """
    path = pathlib.Path(path)
    if not (path / _HEADER).is_file() and (path / "model" / _HEADER).is_file():
        path = path / "model"
    if not (path / _HEADER).is_file():
        raise ConfigError(
            f"`path` must hold {_HEADER}, as `save_params` writes, got {str(path)!r}."
        )
    try:
        header, tensors = _read(path)
        pairs = [
            _unpack(tensors, name, leaf)
            for name, leaf in zip(_names(like), jax.tree.leaves(like), strict=True)
        ]
        if tensors:
            raise ValueError(f"`like` has no place for {min(tensors)}")
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"The parameters at {str(path)!r} cannot be read: {error}.") from error
    treedef: Any = jax.tree.structure(like)
    params, masks = (treedef.unflatten(map(jnp.asarray, side)) for side in zip(*pairs, strict=True))
    return params, masks, header["notes"]


def _read(path: pathlib.Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    import safetensors
    import safetensors.numpy

    header = json.loads((path / _HEADER).read_text(encoding="utf-8"))
    if not isinstance(header, dict) or header.get("format") != _FORMAT:
        raise ValueError(f"{_HEADER} is of another format than {_FORMAT}")
    if not isinstance(header.get("notes"), dict):
        raise ValueError(f"{_HEADER} holds no notes")
    if header.get("sha256") != _hash(path):
        raise ValueError(f"{_WEIGHTS} differs from what was saved: its checksum is another")
    try:
        return header, safetensors.numpy.load_file(path / _WEIGHTS)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{_WEIGHTS} is damaged ({error})") from error


def _unpack(tensors: dict[str, np.ndarray], name: str, leaf: Any) -> tuple[np.ndarray, np.ndarray]:
    """Takes a leaf out of `tensors`: its values in place, and its mask."""
    size = int(np.prod(leaf.shape, dtype=np.int64))
    if name in tensors:
        value, live = tensors.pop(name), np.ones(leaf.shape, bool)
        if value.shape != leaf.shape or value.dtype != leaf.dtype:
            raise ValueError(f"{name} is {value.dtype}{value.shape}, not that of `like`")
        return value, live
    if f"{name}/values" not in tensors or f"{name}/mask" not in tensors:
        raise ValueError(f"{name} is missing")
    values, packed = tensors.pop(f"{name}/values"), tensors.pop(f"{name}/mask")
    bits = np.unpackbits(packed, bitorder="little").astype(bool)
    live = bits[:size]
    fits = len(bits) == -(-size // 8) * 8 and values.shape == (int(live.sum()),)
    if not fits or values.dtype != leaf.dtype:
        raise ValueError(f"{name} does not fit the {leaf.dtype}{leaf.shape} of `like`")
    value = np.zeros(size, leaf.dtype)
    value[live] = values
    return value.reshape(leaf.shape), live.reshape(leaf.shape)


def _names(tree: Params) -> list[str]:
    return ["/".join(path) for path in leaf_paths(tree)]


def _hash(path: pathlib.Path) -> str:
    return hashlib.sha256((path / _WEIGHTS).read_bytes()).hexdigest()
