"""All that is measured of a saved model: perplexities, Lyapunov spectrum, and what it weighs."""

import math
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import numpy.typing as npt

from lsh_jax.config import ConfigError, SpectrumConfig
from lsh_jax.data import Corpus
from lsh_jax.data.batching import Windows, columns, evaluation_windows, unigram_nll
from lsh_jax.data.vocabulary import unknown_share
from lsh_jax.distance import num_leading
from lsh_jax.language_models import LanguageModel
from lsh_jax.lyapunov import LyapunovResult, rnn_lyapunov_spectrum
from lsh_jax.lyapunov.dimensions import kaplan_yorke_dimension
from lsh_jax.lyapunov.tangents import rows_per_unit
from lsh_jax.saved_model import SavedModel
from lsh_jax.sizes import ModelSizes, model_sizes
from lsh_jax.training import evaluate_windows
from lsh_jax.types import Array, Params

_LARGEST = 3  # exponents that are told one by one


class SplitScore(NamedTuple):
    """A model on one split of a text."""

    perplexity: float  # inf where it is beyond numbers
    unigram_perplexity: float  # of the training split's word frequencies
    tokens: int
    unknown_share: float  # of the tokens that the vocabulary does not know


class LayerSpectrum(NamedTuple):
    """The leading exponents of a layer, in nats per step, in words of few numbers."""

    largest: tuple[float, ...]
    std_error: tuple[float, ...]  # of those
    mean: float  # of all that were computed
    computed: int
    size: int  # exponents that there are
    kaplan_yorke: float | None  # None where those computed do not settle it


class LeafCount(NamedTuple):
    """A leaf of the parameters."""

    name: str  # "layers_0/U"
    shape: tuple[int, ...]
    live: int


class Weight(NamedTuple):
    """What a model weighs."""

    sizes: ModelSizes  # of the dense network
    leaves: tuple[LeafCount, ...]
    live_weights: int  # of matrices
    density: float  # of them
    bytes_on_disk: int  # weights with their masks, without names of words
    bytes_in_memory: int  # parameters, as dense as they are multiplied
    multiply_adds: int  # of a token, by live weights


def evaluate_splits(
    saved: SavedModel,
    corpus: Corpus,
    splits: Sequence[str],
    *,
    batch_size: int,
    bptt: int,
    max_tokens: int = 0,
) -> dict[str, SplitScore]:
    """Perplexities with carried state; every token but each column's first counts.

    Args:
      saved: the model.
      corpus: in its vocabulary.
      splits: of "train", "validation" and "test".
      batch_size: columns that are read side by side.
      bptt: tokens of a window.
      max_tokens: read only the first so many of each split; 0 for all.

    Raises:
      ConfigError: when a split has too few tokens for the columns.
    """
    nll = jax.jit(lambda params, windows: evaluate_windows(saved.model, params, windows))
    scores = {}
    for split in splits:
        tokens = getattr(corpus, split)[: max_tokens or None]
        whole = evaluation_windows(tokens, batch_size, bptt)
        sums, counts = nll(saved.params, Windows(*(array[0] for array in whole)))
        mean = np.asarray(sums, np.float64).sum() / np.asarray(counts, np.float64).sum()
        scores[split] = SplitScore(
            perplexity=math.exp(mean) if mean < 700 else math.inf,
            unigram_perplexity=math.exp(
                unigram_nll(corpus.train, tokens, saved.model.config.vocab_size)
            ),
            tokens=len(tokens),
            unknown_share=unknown_share(tokens, corpus.vocabulary),
        )
    return scores


def spectrum_tokens(
    validation: npt.NDArray[np.int32], recipe: SpectrumConfig
) -> npt.NDArray[np.int32]:
    """The part of the validation text that spectra are taken of, [burn_in + length, batch].

    Raises:
      ConfigError: when the text is too short for the recipe.
    """
    steps = recipe.burn_in + recipe.length
    if len(validation) < steps * recipe.batch:
        raise ConfigError(
            f"`spectrum.length` must leave burn_in + length = {steps} steps in each of "
            f"spectrum.batch={recipe.batch} columns of {len(validation)} validation tokens: "
            "shorten it, or take fewer columns."
        )
    return columns(validation, recipe.batch)[:steps]


def measure_spectrum(
    model: LanguageModel, params: Params, tokens: Array, recipe: SpectrumConfig
) -> LyapunovResult:
    """The Lyapunov spectra of the layers by the recipe of a search.

    Args:
      model: the language model.
      params: masked.
      tokens: from `spectrum_tokens`.
      recipe: of the spectrum.

    Returns:
      The result, exponents [L, K]; tuples of arrays where layers differ in width, each with the
      share of its own exponents.
    """
    config = model.config
    rows = rows_per_unit(config.cell, recipe.state)
    counts = [num_leading(recipe.share, width * rows) for width in config.widths]
    return rnn_lyapunov_spectrum(
        model,
        params,
        tokens,
        state=recipe.state,
        num_exponents=counts[0] if len(set(config.widths)) == 1 else counts,
        burn_in=recipe.burn_in,
    )


def describe_layer(result: LyapunovResult, size: int) -> LayerSpectrum:
    """Sums up the spectrum of a layer that has `size` exponents in all."""
    exponents, error = np.asarray(result.exponents), np.asarray(result.std_error)
    dimension = float(kaplan_yorke_dimension(exponents, dim=size))
    return LayerSpectrum(
        largest=tuple(exponents[:_LARGEST].tolist()),
        std_error=tuple(error[:_LARGEST].tolist()),
        mean=float(exponents.mean()),
        computed=len(exponents),
        size=size,
        kaplan_yorke=None if math.isnan(dimension) else dimension,
    )


def weigh(saved: SavedModel, directory: pathlib.Path) -> Weight:
    """Counts the weights of a model, its bytes and its products.

    Args:
      saved: the model.
      directory: of its files.
    """
    sizes = model_sizes(saved.model.config)
    masks = [np.asarray(mask) for mask in jax.tree.leaves(saved.masks)]
    live = [int(mask.sum()) for mask in masks]
    pairs = list(zip(sizes.leaves, live, strict=True))
    weights = sum(alive for leaf, alive in pairs if len(leaf.shape) > 1)
    return Weight(
        sizes=sizes,
        leaves=tuple(LeafCount(leaf.name, leaf.shape, alive) for leaf, alive in pairs),
        live_weights=weights,
        density=weights / sizes.weights,
        bytes_on_disk=(directory / "weights.safetensors").stat().st_size,
        bytes_in_memory=sum(leaf.nbytes for leaf in jax.tree.leaves(saved.params)),
        multiply_adds=sum(alive * leaf.uses for leaf, alive in pairs),
    )


def to_json(
    scores: dict[str, SplitScore], layers: Sequence[LayerSpectrum], weight: Weight
) -> dict[str, Any]:
    """The measurements as JSON values; numbers beyond finite ones become None."""
    sizes = weight.sizes
    return {
        "splits": {
            split: {
                name: value if math.isfinite(value) else None
                for name, value in score._asdict().items()
            }
            for split, score in scores.items()
        },
        "spectrum": [layer._asdict() for layer in layers],
        "weights": sizes.weights,
        "biases": sizes.biases,
        "torch_biases": sizes.torch_biases,
        "live_weights": weight.live_weights,
        "density": weight.density,
        "leaves": [leaf._asdict() for leaf in weight.leaves],
        "bytes_on_disk": weight.bytes_on_disk,
        "bytes_in_memory": weight.bytes_in_memory,
        "multiply_adds": weight.multiply_adds,
        "multiply_adds_dense": sizes.multiply_adds,
    }
