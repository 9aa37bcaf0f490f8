"""A saved model as one .npz file, to read with NumPy alone: dense, or its matrices as CSR.

    file = numpy.load("model.npz")
    header = json.loads(bytes(file["header"]))  # {"format", "layout", "config", "vocabulary"}

A dense file holds "<leaf>", "layers_0/W" for instance, with zeros where a weight is pruned, and
"<leaf>/mask", the bits of `saved_model.pack_mask`, of every leaf with a pruned weight. In a CSR
file a pruned matrix is "<leaf>/data", "<leaf>/indices", "<leaf>/indptr" and "<leaf>/shape" instead,

    scipy.sparse.csr_array((file["<leaf>/data"], file["<leaf>/indices"], file["<leaf>/indptr"]),
                           shape=file["<leaf>/shape"])

with its live weights, those of zero too. It lies as [outputs, inputs], so that a step multiplies it
by a vector: transposed, but for the table of the embedding. No file holds a pickle.
"""

import json
import pathlib
import zipfile
import zlib
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
import numpy.typing as npt

from lsh_jax.config import ConfigError, ModelConfig
from lsh_jax.language_models import make_language_model
from lsh_jax.saved_model import (
    SavedModel,
    checked_words,
    flatten,
    pack_mask,
    unflatten,
    unpack_mask,
)

_FORMAT = 1  # raised when an older reader would misread it
TABLE = "embedding/table"  # the one matrix of which rows are looked up
PARTS = ("data", "indices", "indptr", "shape")  # of a CSR matrix

Layout = Literal["dense", "csr"]
_Arrays = dict[str, npt.NDArray[Any]]


class Archive(NamedTuple):
    """What a file holds, as it lies there."""

    config: ModelConfig
    vocabulary: tuple[str, ...]
    arrays: _Arrays  # by name, but for the header


def export_npz(path: pathlib.Path | str, saved: SavedModel) -> None:
    """Writes a model with dense matrices, zeros where a weight is pruned.

    Args:
      path: the file to write, over what is there.
      saved: from `load_model` or `from_torch`; what its masks exclude is written as zero.

    Raises:
      OSError: when the file cannot be written.
    """
    arrays: _Arrays = {}
    for name, (value, mask) in masked_leaves(saved).items():
        arrays |= _dense_arrays(name, value, mask)
    _write(pathlib.Path(path), "dense", saved, arrays)


def export_csr(path: pathlib.Path | str, saved: SavedModel) -> None:
    """Writes a model whose pruned matrices are in compressed sparse rows; others stay dense.

    A live weight takes 8 bytes, 4 of them for its column: less than a dense matrix above a sparsity
    of a half, and always more than the packed masks of `save_model`.

    Args:
      path: the file to write, over what is there.
      saved: from `load_model` or `from_torch`.

    Raises:
      OSError: when the file cannot be written.
    """
    arrays: _Arrays = {}
    for name, (value, mask) in masked_leaves(saved).items():
        pruned = value.ndim == 2 and not mask.all()
        arrays |= (_csr_arrays if pruned else _dense_arrays)(name, value, mask)
    _write(pathlib.Path(path), "csr", saved, arrays)


def load_npz(path: pathlib.Path | str) -> SavedModel:
    """Reads a model that `export_npz` wrote.

    Raises:
      ConfigError: when the file is none, or does not fit its own sizes.
    """
    return _load(path, "dense")


def load_csr(path: pathlib.Path | str) -> SavedModel:
    """Reads a model that `export_csr` wrote, into dense matrices; see `csr_model` to keep them so.

    Raises:
      ConfigError: when the file is none, or does not fit its own sizes.
    """
    return _load(path, "csr")


def read_archive(path: pathlib.Path | str, layout: Layout) -> Archive:
    """Reads the arrays of a file as they are.

    Raises:
      ConfigError: when the file is none of this layout.
    """
    path = pathlib.Path(path)
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        header = json.loads(bytes(arrays.pop("header")))
        found = header["format"], header["layout"]
        if found != (_FORMAT, layout):
            raise ValueError(f"its format is {found}, this reads {(_FORMAT, layout)}")
        config = ModelConfig.from_json(header["config"])
        words = checked_words(header["vocabulary"], config.vocab_size)
        return Archive(config, words, arrays)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, EOFError) as error:
        raise unreadable(path, error) from error
    except (zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise unreadable(path, error) from error


def leaf_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """The shapes of a model's parameters by path, [inputs, outputs] of a matrix that multiplies."""
    shapes = jax.eval_shape(make_language_model(config).init, jax.random.key(0))
    return {name: leaf.shape for name, leaf in flatten(shapes).items()}


def masked_leaves(
    saved: SavedModel,
) -> dict[str, tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]]:
    """The values of every leaf, zero where pruned, and its mask; on the host, by path."""
    masks = flatten(saved.masks)
    leaves = flatten(saved.params)
    return {
        name: (np.where(masks[name], leaf, np.float32(0)), masks[name])
        for name, leaf in leaves.items()
    }


def fit(name: str, leaf: Any, shape: tuple[int, ...]) -> None:
    """Raises a ValueError unless a leaf that was read has the shape of its place, in float32."""
    if leaf.shape != shape or leaf.dtype != np.float32:
        raise ValueError(f"{name} does not fit its sizes, which ask for {shape}")


def unreadable(path: pathlib.Path | str, error: Exception) -> ConfigError:
    """What to raise for a file that an error was found in."""
    reason = str(error).split("\n")[0].rstrip(".")
    return ConfigError(f"The model at {str(path)!r} cannot be read: {reason}.")


def _dense_arrays(
    name: str, value: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_]
) -> _Arrays:
    return {name: value} if mask.all() else {name: value, f"{name}/mask": pack_mask(mask)}


def _csr_arrays(name: str, value: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_]) -> _Arrays:
    if name != TABLE:
        value, mask = value.T, mask.T
    ends = np.cumsum(mask.sum(axis=1), dtype=np.int32)
    return {
        f"{name}/data": value[mask],
        f"{name}/indices": np.nonzero(mask)[1].astype(np.int32),
        f"{name}/indptr": np.concatenate([np.zeros(1, np.int32), ends]),
        f"{name}/shape": np.array(mask.shape, np.int64),
    }


def _write(path: pathlib.Path, layout: Layout, saved: SavedModel, arrays: _Arrays) -> None:
    header = {
        "format": _FORMAT,
        "layout": layout,
        "config": saved.model.config.to_json(),
        "vocabulary": list(saved.vocabulary),
    }
    text = json.dumps(header, ensure_ascii=False).encode()
    with path.open("wb") as file:  # a name alone would get another suffix
        np.savez(file, allow_pickle=False, header=np.frombuffer(text, np.uint8), **arrays)


def _load(path: pathlib.Path | str, layout: Layout) -> SavedModel:
    config, vocabulary, arrays = read_archive(path, layout)
    try:
        shapes = leaf_shapes(config)
        leaves = {name: _take_leaf(arrays, name, shape) for name, shape in shapes.items()}
        if arrays:
            raise ValueError(f"its sizes leave no place for {min(arrays)}")
    except (ValueError, TypeError, OverflowError) as error:
        raise unreadable(path, error) from error
    params = unflatten({name: value for name, (value, _) in leaves.items()})
    masks = unflatten({name: mask for name, (_, mask) in leaves.items()})
    return SavedModel(make_language_model(config), params, masks, vocabulary)


def _take_leaf(
    arrays: _Arrays, name: str, shape: tuple[int, ...]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Takes a leaf out of `arrays`: its values in place, and its mask."""
    turned = len(shape) == 2 and name != TABLE
    if name in arrays:
        value, packed = arrays.pop(name), arrays.pop(f"{name}/mask", None)
        fit(name, value, shape)
        return value, np.ones(shape, bool) if packed is None else unpack_mask(name, packed, shape)
    if not all(f"{name}/{part}" in arrays for part in PARTS):
        raise ValueError(f"{name} is missing")
    data, indices, indptr, lies = (arrays.pop(f"{name}/{part}") for part in PARTS)
    fit(name, data, data.shape)
    rows, columns = shape[::-1] if turned else shape
    if tuple(lies.tolist()) != (rows, columns):
        raise ValueError(f"{name} does not fit its sizes, which ask for {shape}")
    if not _is_csr(data, indices, indptr, rows, columns):
        raise ValueError(f"{name} is no matrix in compressed sparse rows")
    where = np.repeat(np.arange(rows), np.diff(indptr)), indices
    value, mask = np.zeros((rows, columns), np.float32), np.zeros((rows, columns), bool)
    value[where], mask[where] = data, True
    if mask.sum() != len(data):
        raise ValueError(f"{name} has two weights in one place")
    return (value.T, mask.T) if turned else (value, mask)


def _is_csr(
    data: npt.NDArray[np.float32],
    indices: npt.NDArray[Any],
    indptr: npt.NDArray[Any],
    rows: int,
    columns: int,
) -> bool:
    """Whether the arrays fit one another and the sizes."""
    if indptr.shape != (rows + 1,) or indptr[0] != 0 or (np.diff(indptr) < 0).any():
        return False
    if not data.shape == indices.shape == (indptr[-1],):
        return False
    return not ((indices < 0) | (indices >= columns)).any()
