"""Checkpoints to resume from: Orbax, with checksums.

Nothing here reads or writes executable formats: a directory from a stranger is safe to open.
"""

import contextlib
import hashlib
import itertools
import json
import logging
import pathlib
import shutil
import signal
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lsh_jax.types import PyTree

_SMALL = 2**20  # bytes of a leaf that is joined with others
_FULL = "No space left on device"


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be used."""


class DamagedCheckpointError(CheckpointError):
    """A checkpoint that is missing, cut short, or differs from what was written."""


def save_checkpoint(
    path: pathlib.Path, state: PyTree, notes: Mapping[str, Any] | None = None
) -> None:
    """Writes a pytree of arrays, replacing what is there.

    The manifest `<path>.json`, checksums, kinds of leaves and notes, is written last: a
    checkpoint without it was cut short.

    Args:
      path: directory to write.
      state: any pytree of JAX arrays, typed keys included.
      notes: JSON values to keep beside it.

    Raises:
      OSError: when the disk is full or not writable.
    """
    import orbax.checkpoint as ocp

    remove_checkpoint(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _uninterrupted(), _quiet(), _checkpointer() as checkpointer:
            checkpointer.save(path.absolute(), args=ocp.args.StandardSave(_pack(state)))
    except ValueError as error:  # as which Orbax reports a full disk
        reason = str(error).split("\n")[0][:300]
        if _FULL in str(error):
            reason = f"{_FULL}. Make room, then go on with --resume"
        raise OSError(f"The checkpoint at {path} could not be written: {reason}.") from error
    manifest = {"sha256": _checksums(path), "leaves": _leaf_kinds(state), "notes": notes or {}}
    write_json(_manifest(path), manifest)


def restore_checkpoint(path: pathlib.Path, template: PyTree) -> PyTree:
    """Reads what `save_checkpoint` wrote and verifies every byte of it.

    Args:
      path: directory to read.
      template: a pytree of the same structure, shapes and dtypes, arrays or `ShapeDtypeStruct`;
        Orbax by itself would convert to other dtypes in silence.

    Returns:
      The pytree.

    Raises:
      DamagedCheckpointError: when it is missing, cut short, damaged, or of another format.
      CheckpointError: when it is of another state than the template.
    """
    import orbax.checkpoint as ocp

    if check_checkpoint(path) != _leaf_kinds(template):
        raise CheckpointError(
            f"The checkpoint at {path} is of another state: its leaves, shapes or dtypes differ."
        )
    try:
        with _uninterrupted(), _checkpointer() as checkpointer:
            shapes = ocp.args.StandardRestore(_pack_shapes(template))
            packed = checkpointer.restore(path.absolute(), args=shapes)
    except ValueError as error:
        raise DamagedCheckpointError(f"The checkpoint at {path} cannot be read.") from error
    return _unpack(packed, template)


def _pack(state: PyTree) -> dict[str, Any]:
    """Joins small leaves of one type to one array: Orbax takes milliseconds for every array."""
    packed: dict[str, Any] = {}
    small: dict[str, list[np.ndarray]] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        if _is_small(leaf):
            small.setdefault(str(leaf.dtype), []).append(np.asarray(leaf).ravel())
        else:
            packed[jax.tree_util.keystr(path)] = leaf
    return packed | {_joined(dtype): np.concatenate(leaves) for dtype, leaves in small.items()}


def _pack_shapes(template: PyTree) -> dict[str, jax.ShapeDtypeStruct]:
    """The shapes of `_pack` of such a tree."""
    shapes: dict[str, jax.ShapeDtypeStruct] = {}
    sizes: dict[str, int] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(jax.eval_shape(lambda: template)):
        if _is_small(leaf):
            sizes[str(leaf.dtype)] = sizes.get(str(leaf.dtype), 0) + leaf.size
        else:
            shapes[jax.tree_util.keystr(path)] = leaf
    joined = {_joined(name): jax.ShapeDtypeStruct((size,), name) for name, size in sizes.items()}
    return shapes | joined


def _unpack(packed: Mapping[str, Any], template: PyTree) -> PyTree:
    """The tree that was packed, every leaf bound to no device."""
    taken: dict[str, int] = {}
    host: dict[str, np.ndarray] = {}

    def leaf_of(path: Any, leaf: Any) -> jax.Array:
        if not _is_small(leaf):
            return _uncommitted(packed[jax.tree_util.keystr(path)])
        name = _joined(str(leaf.dtype))
        if name not in host:
            host[name] = np.asarray(packed[name])
        start = taken.get(name, 0)
        taken[name] = start + leaf.size
        return _uncommitted(host[name][start : taken[name]].reshape(leaf.shape))

    return jax.tree_util.tree_map_with_path(leaf_of, jax.eval_shape(lambda: template))


def _joined(dtype: str) -> str:
    return f"joined {dtype}"


def _is_small(leaf: Any) -> bool:
    """Whether a leaf is joined with others; keys are not, which are no plain arrays."""
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return not is_key and leaf.size * leaf.dtype.itemsize <= _SMALL


def check_checkpoint(path: pathlib.Path) -> dict[str, str]:
    """Verifies every byte of a checkpoint.

    Returns:
      The dtype and shape of every leaf by its path.

    Raises:
      DamagedCheckpointError: when it is missing, cut short or damaged.
    """
    manifest = _read_manifest(path)
    if manifest["sha256"] != _checksums(path):
        raise DamagedCheckpointError(f"The checkpoint at {path} is damaged: its checksums differ.")
    return manifest["leaves"]


def read_notes(path: pathlib.Path) -> dict[str, Any]:
    """The notes of a checkpoint.

    Raises:
      DamagedCheckpointError: when it is missing or cut short, or its manifest damaged.
    """
    return _read_manifest(path)["notes"]


def _read_manifest(path: pathlib.Path) -> dict[str, dict[str, Any]]:
    if not _manifest(path).is_file():
        raise DamagedCheckpointError(f"There is no complete checkpoint at {path}.")
    try:
        manifest = json.loads(_manifest(path).read_text(encoding="utf-8"))
        parts = {name: manifest[name] for name in ("sha256", "leaves", "notes")}
        if all(isinstance(part, dict) for part in parts.values()):
            return parts
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise DamagedCheckpointError(f"The checkpoint at {path} is damaged: its manifest.")


def _checkpointer() -> Any:
    """Orbax's that waits for the disk; the other one takes a third longer until it is done."""
    import orbax.checkpoint as ocp

    return ocp.Checkpointer(ocp.StandardCheckpointHandler())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps Orbax from printing the traceback of each of its threads: one error is raised here."""
    logger = logging.getLogger("absl")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Puts Ctrl-C off to the end of the block: an interrupt would leave Orbax's threads at work."""
    if threading.current_thread() is not threading.main_thread():  # only it receives signals
        yield
        return
    received: list[Any] = []

    def remember(number: int, frame: Any) -> None:
        del number
        received.append(frame)

    before = signal.signal(signal.SIGINT, remember)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if received and callable(before):
        before(signal.SIGINT, received[0])


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


def quarantine_checkpoint(path: pathlib.Path, folder: pathlib.Path) -> pathlib.Path | None:
    """Moves what is left of a damaged checkpoint out of the way, for somebody to look at.

    Args:
      path: of the checkpoint.
      folder: to move it to, under a name that is free; made if missing.

    Returns:
      Where it lies now; None where there was nothing to move.
    """
    parts = [part for part in (_manifest(path), path) if part.exists()]  # the manifest goes first
    if not parts:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    stem = "-".join(path.parts[-2:])
    names = itertools.chain([stem], (f"{stem}.{count}" for count in itertools.count(2)))
    target = next(
        folder / name
        for name in names
        if not (folder / name).exists() and not _manifest(folder / name).exists()
    )
    for part in parts:
        shutil.move(part, _manifest(target) if part == _manifest(path) else target)
    return target


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
