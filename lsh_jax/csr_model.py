"""A pruned model that multiplies live weights alone: one token at a time, by NumPy and SciPy."""

import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse

from lsh_jax.config import ModelConfig, check
from lsh_jax.language_models import layer_names
from lsh_jax.model_archive import PARTS, TABLE, fit, leaf_shapes, read_archive, unreadable

_Vector = npt.NDArray[np.float32]
_Leaves = dict[str, Any]


class CSRModel(NamedTuple):
    """A model as `read_csr` returns it."""

    config: ModelConfig
    leaves: _Leaves  # by path, "layers_0/W": pruned matrices [outputs, inputs] as scipy's
    # csr_array, other matrices the same way round, the embedding's table [V, E]; vectors
    vocabulary: tuple[str, ...]  # id -> word


def read_csr(path: pathlib.Path | str) -> CSRModel:
    """Reads a file that `export_csr` wrote, its matrices as they are there.

    Raises:
      ConfigError: when the file is no such model.
    """
    config, vocabulary, arrays = read_archive(path, "csr")
    try:
        shapes = leaf_shapes(config)
        leaves = {name: _read_leaf(arrays, name, shape) for name, shape in shapes.items()}
    except (ValueError, TypeError, OverflowError) as error:
        raise unreadable(path, error) from error
    return CSRModel(config, leaves, vocabulary)


def _read_leaf(arrays: dict[str, npt.NDArray[Any]], name: str, shape: tuple[int, ...]) -> Any:
    """A leaf as it multiplies; of a matrix in compressed sparse rows every index is checked."""
    turned = len(shape) == 2 and name != TABLE
    if name in arrays:
        leaf = arrays[name].T if turned else arrays[name]
    elif all(f"{name}/{part}" in arrays for part in PARTS):
        *parts, lies = (arrays[f"{name}/{part}"] for part in PARTS)
        leaf = sparse.csr_array(tuple(parts), shape=tuple(lies))
        leaf.check_format(full_check=True)
    else:
        raise ValueError(f"{name} is missing")
    fit(name, leaf, shape[::-1] if turned else shape)
    return leaf


def csr_carry(model: CSRModel) -> tuple[Any, ...]:
    """The carry before the first token: zeros, for each layer (h, c) of an LSTM, else h, [H]."""
    zeros = [np.zeros(width, np.float32) for width in model.config.widths]
    return tuple((h, h) if model.config.cell == "lstm" else h for h in zeros)


def csr_step(
    model: CSRModel, token: int, carry: tuple[Any, ...]
) -> tuple[_Vector, tuple[Any, ...]]:
    """Reads a token.

    Args:
      model: from `read_csr`.
      token: its id, in [0, V).
      carry: from `csr_carry`, or of the step before.

    Returns:
      The logits of the next token, float32 [V], and the next carry; those of `model.apply` up to
      the order of the sums.

    Raises:
      ConfigError: for an id out of its range.
    """
    size = model.config.vocab_size
    check(0 <= token < size, "token", f"lie in [0, {size})", token)
    leaves = model.leaves
    x = _row(leaves[TABLE], token)
    step = _STEPS[model.config.cell]
    carries = []
    for name, layer_carry in zip(layer_names(model.config), carry, strict=True):
        own = {
            leaf.removeprefix(f"{name}/"): value
            for leaf, value in leaves.items()
            if leaf.startswith(f"{name}/")
        }
        x, layer_carry = step(own, own["W"] @ x + own["b"], layer_carry)
        carries.append(layer_carry)
    W = leaves[TABLE if model.config.tied else "decoder/W"]
    return W @ x + leaves["decoder/b"], tuple(carries)


def _row(table: Any, row: int) -> _Vector:
    """A row of a matrix, dense."""
    if isinstance(table, np.ndarray):
        return table[row]
    live = slice(table.indptr[row], table.indptr[row + 1])
    values = np.zeros(table.shape[1], np.float32)
    values[table.indices[live]] = table.data[live]
    return values


def _sigmoid(x: _Vector) -> _Vector:
    return 0.5 + 0.5 * np.tanh(0.5 * x)  # exp would overflow


def _lstm(own: _Leaves, drive: _Vector, carry: Any) -> tuple[_Vector, Any]:
    h, c = carry
    i, f, g, o = np.split(drive + own["U"] @ h, 4)
    c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
    h = _sigmoid(o) * np.tanh(c)
    return h, (h, c)


def _gru(own: _Leaves, drive: _Vector, h: _Vector) -> tuple[_Vector, _Vector]:
    x_r, x_z, x_n = np.split(drive, 3)
    h_r, h_z, h_n = np.split(own["U"] @ h, 3)
    z = _sigmoid(x_z + h_z)
    n = np.tanh(x_n + _sigmoid(x_r + h_r) * (h_n + own["b_n"]))
    h = (1 - z) * n + z * h
    return h, h


def _tanh(own: _Leaves, drive: _Vector, h: _Vector) -> tuple[_Vector, _Vector]:
    h = np.tanh(drive + own["U"] @ h)
    return h, h


def _rhn(own: _Leaves, drive: _Vector, s: _Vector) -> tuple[_Vector, _Vector]:
    for depth in range(sum(name.startswith("R_") for name in own)):
        given = own[f"b_{depth}"] if depth else drive
        gates = given + own[f"R_{depth}"] @ s
        h, t, *c = np.split(gates, len(gates) // len(s))
        t = _sigmoid(t)
        s = np.tanh(h) * t + s * (_sigmoid(c[0]) if c else 1 - t)
    return s, s


_STEPS: dict[str, Callable[[_Leaves, _Vector, Any], tuple[_Vector, Any]]] = {
    "lstm": _lstm,
    "gru": _gru,
    "tanh": _tanh,
    "rhn": _rhn,
}
