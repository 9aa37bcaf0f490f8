"""Word-level corpora as arrays of word ids, and the windows that training and evaluation read.

Light to import: TensorFlow Datasets is loaded by the first call of `load_corpus`.
"""

from lsh_jax.data.batching import Windows, columns, evaluation_windows, unigram_nll, windows
from lsh_jax.data.corpora import Corpus, load_corpus

__all__ = (
    "Corpus",
    "Windows",
    "columns",
    "evaluation_windows",
    "load_corpus",
    "unigram_nll",
    "windows",
)
