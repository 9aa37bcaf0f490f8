"""Checkpoints to resume from (Orbax, with checksums) and models to release (safetensors).

Nothing here reads or writes executable formats: a directory from a stranger is safe to open.
"""

import contextlib
import hashlib
import json
import pathlib
import shutil
import signal
import threading
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lsh_jax.config import ConfigError, ModelConfig
from lsh_jax.language_models import LanguageModel, make_language_model
from lsh_jax.types import Masks, Params, PyTree

_FORMAT = 1  # of a saved model; raised when an older reader would misread it


class CheckpointError(RuntimeError):
    """A checkpoint that is missing or differs from what was written."""


class SavedModel(NamedTuple):
    """A pruned model as `load_model` returns it."""

    model: LanguageModel
    params: Params  # masked
    masks: Masks
    vocabulary: tuple[str, ...]  # id -> word


def save_checkpoint(path: pathlib.Path, state: PyTree) -> None:
    """Writes a pytree of arrays, replacing what is there.

    The manifest `<path>.json`, checksums and kinds of leaves, is written last: a checkpoint
    without it was cut short.

    Args:
      path: directory to write.
      state: any pytree of JAX arrays, typed keys included.

    Raises:
      OSError: when the disk is full or not writable.
    """
    import orbax.checkpoint as ocp

    remove_checkpoint(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _uninterrupted(), ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(path.absolute(), state)
            checkpointer.wait_until_finished()  # a full disk shows only here
    except ValueError as error:  # as which Orbax reports a full disk
        reason = str(error).split("\n")[0][:300]
        raise OSError(f"The checkpoint at {path} could not be written: {reason}") from error
    write_json(_manifest(path), {"sha256": _checksums(path), "leaves": _leaf_kinds(state)})


def restore_checkpoint(path: pathlib.Path, template: PyTree) -> PyTree:
    """Reads what `save_checkpoint` wrote and verifies every byte of it.

    Args:
      path: directory to read.
      template: a pytree of the same structure, shapes and dtypes, arrays or `ShapeDtypeStruct`;
        Orbax by itself would convert to other dtypes in silence.

    Returns:
      The pytree.

    Raises:
      CheckpointError: when it is missing, cut short or damaged, or the template does not fit.
    """
    import orbax.checkpoint as ocp

    if check_checkpoint(path) != _leaf_kinds(template):
        raise CheckpointError(
            f"The checkpoint at {path} is of another state: its leaves, shapes or dtypes differ."
        )
    try:
        with _uninterrupted(), ocp.StandardCheckpointer() as checkpointer:
            state = checkpointer.restore(path.absolute(), jax.eval_shape(lambda: template))
    except ValueError as error:
        raise CheckpointError(f"The checkpoint at {path} cannot be read.") from error
    return jax.tree.map(_uncommitted, state)


def check_checkpoint(path: pathlib.Path) -> dict[str, str]:
    """Verifies every byte of a checkpoint.

    Returns:
      The dtype and shape of every leaf by its path.

    Raises:
      CheckpointError: when it is missing, cut short or damaged.
    """
    if not _manifest(path).is_file():
        raise CheckpointError(f"There is no complete checkpoint at {path}.")
    try:
        manifest = json.loads(_manifest(path).read_text())
        checksums, leaves = manifest["sha256"], manifest["leaves"]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"The checkpoint at {path} is damaged: its manifest.") from error
    if checksums != _checksums(path):
        raise CheckpointError(f"The checkpoint at {path} is damaged: its checksums differ.")
    return leaves


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Puts Ctrl-C off to the end of the block: an interrupt would leave Orbax's threads at work."""
    if threading.current_thread() is not threading.main_thread():  # only it receives signals
        yield
        return
    received = False

    def remember(number: int, frame: Any) -> None:
        nonlocal received
        del number, frame
        received = True

    before = signal.signal(signal.SIGINT, remember)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if received:
        raise KeyboardInterrupt


def _uncommitted(array: Any) -> jax.Array:
    """A copy that is bound to no device, as a freshly computed array: Orbax hands out bound ones,
    for which every program would be compiled a second time.
    """
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        data = jax.device_put(np.asarray(jax.random.key_data(array)))
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(array))
    return jax.device_put(np.asarray(array))


def has_checkpoint(path: pathlib.Path) -> bool:
    """Whether a checkpoint was written whole."""
    return _manifest(path).is_file()


def remove_checkpoint(path: pathlib.Path) -> None:
    """Deletes a checkpoint, its checksums first, so that a half-deleted one is never read."""
    _manifest(path).unlink(missing_ok=True)
    shutil.rmtree(path, ignore_errors=True)


def _manifest(path: pathlib.Path) -> pathlib.Path:
    return path.with_name(path.name + ".json")


def _checksums(path: pathlib.Path) -> dict[str, str]:
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return {
        file.relative_to(path).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
    }


def _leaf_kinds(tree: PyTree) -> dict[str, str]:
    """The dtype and shape of every leaf by its path, "key<fry>[]" for a typed key."""
    leaves = jax.tree_util.tree_leaves_with_path(jax.eval_shape(lambda: tree))
    return {jax.tree_util.keystr(path): f"{leaf.dtype}{list(leaf.shape)}" for path, leaf in leaves}


def write_json(path: pathlib.Path, values: Any) -> None:
    """Writes strict JSON in one step: a reader sees the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    text = json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def save_model(
    path: pathlib.Path | str,
    model: LanguageModel,
    params: Params,
    masks: Masks,
    vocabulary: Sequence[str],
) -> None:
    """Writes a pruned model for release: only live weights, and one bit a weight for the mask.

    `weights.safetensors` holds "<leaf>/values", the live values in C order, and "<leaf>/mask",
    `numpy.packbits` of the mask in little-endian bit order, for every leaf with a pruned weight;
    a dense leaf is kept whole as "<leaf>". `vocabulary.json` holds the words by id, `model.json`
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
    import safetensors.numpy

    if len(vocabulary) > model.config.vocab_size:
        raise ConfigError(
            f"`vocabulary` must have at most vocab_size={model.config.vocab_size} words, "
            f"got {len(vocabulary)}."
        )
    path = pathlib.Path(path)
    path.mkdir(parents=True, exist_ok=True)
    (path / "model.json").unlink(missing_ok=True)  # written last: without it, no model
    tensors: dict[str, np.ndarray] = {}
    flat_masks = _flatten(masks)
    for name, leaf in _flatten(params).items():
        mask = flat_masks[name]
        if mask.all():
            tensors[name] = np.ascontiguousarray(leaf)
        else:
            tensors[f"{name}/values"] = leaf[mask]
            tensors[f"{name}/mask"] = np.packbits(mask.ravel(), bitorder="little")
    safetensors.numpy.save_file(tensors, path / "weights.safetensors")
    (path / "weights.safetensors").chmod(0o644)  # it comes readable for its owner alone
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
        raise ConfigError(f"`path` must be a saved model with a model.json, got {str(path)!r}.")
    try:
        header = _read_json(path / "model.json", dict)
        if header.get("format") != _FORMAT:
            raise ValueError(f"its format is {header.get('format')}, this version reads {_FORMAT}")
        model = make_language_model(ModelConfig.from_json(header.get("config")))
        vocabulary = tuple(_read_json(path / "vocabulary.json", list))
        if len(vocabulary) > model.config.vocab_size:
            raise ValueError(f"it has {len(vocabulary)} words, more than its vocab_size")
        if not all(isinstance(word, str) for word in vocabulary):
            raise ValueError("vocabulary.json must hold words")
        shapes = jax.eval_shape(model.init, jax.random.key(0))
        params, masks = _unpack(shapes, _load_tensors(path / "weights.safetensors"))
        if header.get("sha256") != _model_hashes(path):
            raise ValueError("its files differ from what was saved: their checksums are others")
    except (OSError, ValueError, TypeError, OverflowError) as error:
        reason = str(error).rstrip(".")
        raise ConfigError(f"The model at {str(path)!r} cannot be read: {reason}.") from error
    return SavedModel(model, params, masks, vocabulary)


def _read_json(path: pathlib.Path, kind: type) -> Any:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path.name} is damaged ({error})") from error
    if not isinstance(value, kind):
        raise ValueError(f"{path.name} must hold a {kind.__name__}")
    return value


def _load_tensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    import safetensors
    import safetensors.numpy

    try:
        return safetensors.numpy.load_file(path)
    except safetensors.SafetensorError as error:
        raise ValueError(f"weights.safetensors is damaged ({error})") from error


def _unpack(shapes: PyTree, tensors: dict[str, np.ndarray]) -> tuple[Params, Masks]:
    params: dict[str, Any] = {}
    masks: dict[str, Any] = {}
    for name, leaf in _flatten(shapes).items():
        value, mask = _unpack_leaf(tensors, name, leaf)
        *parents, last = name.split("/")
        for tree, array in ((params, value), (masks, mask)):
            for parent in parents:
                tree = tree.setdefault(parent, {})
            tree[last] = jnp.asarray(array)
    if tensors:
        raise ValueError(f"its sizes leave no place for {min(tensors)}")
    return params, masks


def _unpack_leaf(
    tensors: dict[str, np.ndarray], name: str, leaf: jax.ShapeDtypeStruct
) -> tuple[np.ndarray, np.ndarray]:
    """Takes a leaf out of `tensors`: its values in place, and its mask."""
    if name in tensors:
        value, mask = tensors.pop(name), np.ones(leaf.shape, bool)
        fits = value.shape == leaf.shape and value.dtype == leaf.dtype
    elif f"{name}/values" in tensors and f"{name}/mask" in tensors:
        values, packed = tensors.pop(f"{name}/values"), tensors.pop(f"{name}/mask")
        bits = np.unpackbits(packed, bitorder="little").astype(bool)
        live = np.flatnonzero(bits)
        # Bits are whole bytes, the last of them filled up with zeros.
        fits = len(bits) == -(-leaf.size // 8) * 8 and not bits[leaf.size :].any()
        fits = fits and values.shape == live.shape and values.dtype == leaf.dtype
        value, mask = np.zeros(leaf.size, np.float32), bits[: leaf.size]
        if fits:
            value[live] = values
            value, mask = value.reshape(leaf.shape), mask.reshape(leaf.shape)
    else:
        raise ValueError(f"{name} is missing")
    if not fits:
        raise ValueError(f"{name} does not fit its sizes, which ask for {leaf.shape}")
    return value, mask


def _flatten(tree: PyTree) -> dict[str, Any]:
    """Leaves of a nested dict by their path, "layers_0/W"; arrays come to the host."""
    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {
        "/".join(str(entry.key) for entry in path): (
            leaf if isinstance(leaf, jax.ShapeDtypeStruct) else np.asarray(leaf)
        )
        for path, leaf in flat
    }
