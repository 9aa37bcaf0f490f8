"""What a corpus is made from: the text of three splits, and the SHA-256 that identifies it."""

import hashlib
import os
import pathlib
from collections.abc import Iterable
from typing import NamedTuple

from lsh_jax.config import ConfigError

_FILES = {"train": "train.txt", "validation": "valid.txt", "test": "test.txt"}
SPLITS = tuple(_FILES)

# Tried in this order; one prefix must serve all three files, so that two corpora that share a
# folder are never mixed.
_PREFIXES = {"ptb": ("ptb.", ""), "text": ("", "ptb.")}


class Source(NamedTuple):
    """The text of a corpus before it is prepared."""

    texts: dict[str, str]  # by split: train, validation, test; lines end in "\n"
    sha256: str  # of the bytes that the texts were read from


def read_folder(name: str, data_dir: str | os.PathLike[str] | None) -> Source:
    """Reads the three splits of a user's own folder.

    The files are `train.txt`, `valid.txt` and `test.txt`, or the same with the prefix `ptb.`
    (which is looked for first if `name` is ptb). They are UTF-8, with or without a byte-order
    mark; lines end in LF, CRLF or CR.

    Args:
      name: ptb or text.
      data_dir: the folder.

    Raises:
      ConfigError: if there is no such folder, or a file is missing, unreadable, empty or not UTF-8.
    """
    folder = _existing_folder(name, data_dir)
    prefixes = _PREFIXES[name]
    has_train = [prefix for prefix in prefixes if (folder / f"{prefix}train.txt").is_file()]
    prefix = has_train[0] if has_train else prefixes[0]
    contents = {split: _read_bytes(folder / f"{prefix}{file}") for split, file in _FILES.items()}
    texts = {
        split: decode(content, folder / f"{prefix}{_FILES[split]}", argument="data_dir")
        for split, content in contents.items()
    }
    for split, text in texts.items():
        if not text.strip():
            path = folder / f"{prefix}{_FILES[split]}"
            raise ConfigError(
                f"`data_dir` must hold three files of words, got an empty {path}: "
                "put one sentence a line into it, words separated by blanks."
            )
    return Source(texts, combined_sha256(contents.items()))


def decode(content: bytes, path: pathlib.Path, *, argument: str) -> str:
    """Decodes UTF-8, without the byte-order mark and with every line end as "\\n".

    Raises:
      ConfigError: names the `argument` that led to the file, the file and the offset in bytes.
    """
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"`{argument}` must hold UTF-8 text, got {path} with byte 0x{content[error.start]:02x} "
            f"at offset {error.start}: convert the file (iconv -t UTF-8)."
        ) from None
    # Not `splitlines`, which also breaks at form feeds and other characters within a sentence.
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def combined_sha256(contents: Iterable[tuple[str, bytes]]) -> str:
    """One SHA-256 (64 hexadecimal digits) of several named contents, in their order."""
    whole = hashlib.sha256()
    for name, content in contents:
        whole.update(f"{name} {hashlib.sha256(content).hexdigest()}\n".encode())
    return whole.hexdigest()


def _existing_folder(name: str, data_dir: str | os.PathLike[str] | None) -> pathlib.Path:
    files = ", ".join(_PREFIXES[name][0] + file for file in _FILES.values())
    if not data_dir:
        raise ConfigError(
            f"`data_dir` must be given for the corpus {name}, got {data_dir!r}: "
            f"name the folder that holds {files}."
        )
    folder = pathlib.Path(data_dir).expanduser().absolute()
    if not folder.is_dir():
        found = "which is not a folder" if folder.exists() else "which does not exist"
        raise ConfigError(
            f"`data_dir` must be a folder, got {str(data_dir)!r}, {found}: "
            f"name the folder that holds {files}."
        )
    return folder


def _read_bytes(path: pathlib.Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ConfigError(
            f"`data_dir` must hold {path.name}, got {str(path.parent)!r} without it: "
            "the folder needs train.txt, valid.txt and test.txt, or ptb.train.txt and so on."
        ) from None
    except OSError as error:
        raise ConfigError(
            f"`data_dir` must hold readable files, got {str(path)!r}: {error.strerror}."
        ) from None
