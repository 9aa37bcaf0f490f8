"""Prepared corpora on disk, kept by the SHA-256 of their source and safe to share.

A changed source has another SHA-256, hence another folder. TFDS writes into a folder
`incomplete.*` and renames it when all is written; a file lock lets one process at a time do so.
"""

import contextlib
import io
import os
import pathlib
import shutil
from typing import Any

from lsh_jax.config import ConfigError
from lsh_jax.data.sources import SPLITS
from lsh_jax.machine import locked


def default_cache_dir() -> pathlib.Path:
    """`$XDG_CACHE_HOME/lsh_jax`, or `~/.cache/lsh_jax` where that variable is not set."""
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "lsh_jax"


def cached_texts(
    name: str, sha256: str, manual_dir: pathlib.Path | None, cache_dir: pathlib.Path
) -> dict[str, str]:
    """The text of each split, prepared by TFDS unless an earlier call has done so.

    Args:
      name: sotu, ptb or text.
      sha256: of the source; names the folder.
      manual_dir: the user's folder; None for sotu.
      cache_dir: where prepared corpora are kept; a prepared one is read without writing to it.

    Raises:
      ConfigError: if the cache cannot be written or holds a damaged copy.
    """
    from lsh_jax.data.builders import BUILDERS  # loads tensorflow_datasets: 0.3 s

    data_dir = cache_dir / "corpora" / sha256
    try:
        builder = BUILDERS[name](data_dir=data_dir, file_format="array_record")
        if not builder.data_path.is_dir():
            with locked(data_dir, wait=True):
                # Built again: while this process waited, another may have prepared the corpus.
                builder = BUILDERS[name](data_dir=data_dir, file_format="array_record")
                _prepare(builder, manual_dir)
    except (OSError, RuntimeError) as error:  # array_record reports a full disk as RuntimeError
        raise ConfigError(
            f"`cache_dir` must be a folder that can be written to, got {str(cache_dir)!r}: "
            f"{getattr(error, 'strerror', None) or error}. Free some space or name another folder."
        ) from error
    return {split: _read_split(builder, split) for split in SPLITS}


def _prepare(builder: Any, manual_dir: pathlib.Path | None) -> None:
    """Prepares under the lock, after sweeping up what a killed preparation has left."""
    import tensorflow_datasets as tfds

    for leftover in builder.data_path.parent.glob("incomplete.*"):
        shutil.rmtree(leftover)
    tfds.disable_progress_bar()
    with contextlib.redirect_stdout(io.StringIO()):  # TFDS announces downloads: there are none
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(manual_dir=manual_dir)
        )


def _read_split(builder: Any, split: str) -> str:
    try:
        return builder.as_data_source(split=split)[0]["text"].decode("utf-8")
    except Exception as error:  # array_record and protobuf raise errors of many kinds
        raise ConfigError(
            f"`cache_dir` must hold whole files, got a damaged copy of the {split} split "
            f"({error}): remove {str(builder.data_path)!r}, and it is prepared anew."
        ) from error
