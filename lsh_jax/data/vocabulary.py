"""Words, and the ids that stand for them."""

import collections
import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lsh_jax.config import ConfigError

UNK = "<unk>"
EOS = "<eos>"


def split_words(text: str) -> list[str]:
    """The words of a text whose lines end in "\\n", with <eos> at every line end.

    An empty line is one <eos>, as in the PyTorch language-model scripts; the last line
    need not end in "\\n".
    """
    return (text.removesuffix("\n") + "\n").replace("\n", f" {EOS} ").split()


def unknown_share(tokens: npt.NDArray[np.int32], vocabulary: Sequence[str]) -> float:
    """The share of tokens that the vocabulary does not know: its <unk>."""
    return float((tokens == vocabulary.index(UNK)).mean()) if UNK in vocabulary else 0.0


def build_vocabulary(
    train: Sequence[str], validation: Sequence[str], test: Sequence[str], vocab_size: int
) -> tuple[str, ...]:
    """Orders the types (distinct words) by first occurrence, cut to `vocab_size` of them.

    The order runs through train, then validation, then test, as in the PyTorch language-model
    scripts, which give words of validation and test an id too. If there are more types than
    `vocab_size`, the most frequent of the training split are kept, ties going to the
    one that occurs first; all others are read as <unk>, which counts as one of the `vocab_size`
    and stands where the first of them (or a literal <unk>) occurs. Nothing is exempt but <unk>.

    Returns:
      The word of each id; at most `vocab_size`.
    """
    types = dict.fromkeys(itertools.chain(train, validation, test))
    if len(types) <= vocab_size:
        return tuple(types)
    counts = collections.Counter(train)
    by_frequency = sorted(types, key=lambda word: -counts[word])  # stable: ties stay in order
    kept = set([word for word in by_frequency if word != UNK][: vocab_size - 1])
    return tuple(dict.fromkeys(word if word in kept else UNK for word in types))


def encode(words: Sequence[str], vocabulary: Sequence[str]) -> npt.NDArray[np.int32]:
    """The ids of `words`, int32 [tokens]; words outside the vocabulary become <unk>.

    Raises:
      ConfigError: if there are such words and the vocabulary has no <unk>, or if it names a word
        twice.
    """
    ids = {word: i for i, word in enumerate(vocabulary)}
    if len(ids) != len(vocabulary):
        raise ConfigError(
            f"`vocabulary` must name each word once, got {len(vocabulary)} entries of "
            f"{len(ids)} distinct words."
        )
    unknown = ids.get(UNK)
    if unknown is None:
        missing = list(dict.fromkeys(word for word in words if word not in ids))
        if missing:
            raise ConfigError(
                f"`vocabulary` must have {UNK} or every word of the text, got one without "
                f"{len(missing)} of its words ({', '.join(missing[:3])}, ...): "
                "use the corpus that the vocabulary was made from."
            )
        unknown = -1
    return np.fromiter(map(ids.get, words, itertools.repeat(unknown)), np.int32, len(words))
