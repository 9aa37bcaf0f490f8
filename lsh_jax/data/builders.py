"""The TFDS builders of our corpora: one text record a split, in array_record, no TensorFlow.

Imported only when a corpus is loaded, since the classes need TFDS to exist. One record a split
keeps the order of the sentences, which TFDS would shuffle, and reads ten times faster.
"""

import abc
from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds

from lsh_jax.data import sotu, sources


class WordCorpus(tfds.core.GeneratorBasedBuilder):
    """A corpus of three splits; a subclass says where the text comes from.

    Raise `VERSION` when the text that is made from the same source changes: prepared copies are
    kept by the source's SHA-256 and this version.
    """

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> Any:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Sentences, one a line, words separated by blanks.",
            features=tfds.features.FeaturesDict({"text": tfds.features.Text()}),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        texts = self._read_texts(dl_manager)
        return {split: self._generate_examples(text) for split, text in texts.items()}

    def _generate_examples(self, text: str) -> Iterator[tuple[int, dict[str, str]]]:
        yield 0, {"text": text}

    @abc.abstractmethod
    def _read_texts(self, dl_manager: Any) -> dict[str, str]:
        """The text of each split."""


class Sotu(WordCorpus):
    """State of the Union addresses, normalized, from the installed package `sotu`."""

    def _read_texts(self, dl_manager: Any) -> dict[str, str]:
        texts = sotu.read_addresses().texts
        return {split: sotu.normalize(text) for split, text in texts.items()}


class Ptb(WordCorpus):
    """Penn Treebank as prepared by Mikolov, from the user's folder, text as it is."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = "The folder with ptb.train.txt, ptb.valid.txt, ptb.test.txt."

    def _read_texts(self, dl_manager: Any) -> dict[str, str]:
        return sources.read_folder("ptb", dl_manager.manual_dir).texts


class Text(WordCorpus):
    """Any text, from the user's folder, as it is."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = "The folder with train.txt, valid.txt, test.txt."

    def _read_texts(self, dl_manager: Any) -> dict[str, str]:
        return sources.read_folder("text", dl_manager.manual_dir).texts


BUILDERS = {"sotu": Sotu, "ptb": Ptb, "text": Text}
