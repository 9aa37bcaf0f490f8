"""What a command computes with: device, caches, corpus and task."""

import math
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from lsh_jax.accelerators import Accelerator, select_accelerator, use_compile_cache
from lsh_jax.data import Corpus, load_corpus
from lsh_jax.data.cache import default_cache_dir
from lsh_jax.data.vocabulary import unknown_share
from lsh_jax.machine import visible_cores
from lsh_jax.presets import TrainingSettings
from lsh_jax.search.language_model_task import make_language_model_task, shorten
from lsh_jax.search.task import Task


class Workplace(NamedTuple):
    """The data of a command and what is trained on them."""

    corpus: Corpus  # whole
    task: Task
    statistics: dict[str, Any]  # of the tokens that are used
    unigram: float  # perplexity on validation


def cache_directory(cache_dir: str | None) -> pathlib.Path:
    """Where corpora, dense networks and compiled programs are kept between runs."""
    return pathlib.Path(cache_dir) if cache_dir else default_cache_dir()


def open_device(accelerator: Accelerator, cache: pathlib.Path) -> jax.Device:
    """Chooses the device, keeps compiled programs in the cache, and prints what it is.

    Raises:
      ConfigError: when the accelerator is not there, or the cache cannot be made.
    """
    device = select_accelerator(accelerator)
    use_compile_cache(cache / "compiled")
    same = device.device_kind == device.platform
    name = device.platform if same else f"{device.device_kind} ({device.platform})"
    print(f"Device: {name}, {visible_cores()} cores")
    return device


def set_up(
    settings: TrainingSettings, cache: pathlib.Path, vocabulary: Sequence[str] | None = None
) -> Workplace:
    """Loads the corpus, builds the task, and prints what it is trained on.

    Args:
      settings: of the command.
      cache: from `cache_directory`.
      vocabulary: of a saved model.

    Raises:
      ConfigError: when the corpus cannot be had, or does not fit the settings.
    """
    vocab_size = settings.model.vocab_size
    corpus = load_corpus(settings.data, settings.data_dir, vocab_size, vocabulary, cache_dir=cache)
    task = make_language_model_task(
        corpus, settings.model, settings.train, settings.spectrum, settings.seed
    )
    statistics = corpus_statistics(shorten(corpus, settings.train))
    assert task.baseline_nll is not None
    unigram = math.exp(task.baseline_nll["validation"])
    print(
        f"Data: {settings.data}, {statistics['train_tokens']:,} training tokens of "
        f"{len(corpus.train):,}, {statistics['types']:,} types, unigram perplexity {unigram:.1f}"
    )
    return Workplace(corpus, task, statistics, unigram)


def corpus_statistics(corpus: Corpus) -> dict[str, Any]:
    """The tokens that are used, and the share of them that the vocabulary does not know."""
    splits = {name: getattr(corpus, name) for name in ("train", "validation", "test")}
    known = corpus.vocabulary
    return {
        **{f"{name}_tokens": len(tokens) for name, tokens in splits.items()},
        "types": len(known),
        "unknown_share": {name: unknown_share(tokens, known) for name, tokens in splits.items()},
    }


def recorded(settings: dict[str, Any], place: Workplace, device: jax.Device) -> dict[str, Any]:
    """What config.json holds of a command besides the fingerprint: JSON values."""
    return {
        **settings,
        "source_sha256": place.corpus.source_sha256,
        "corpus": place.statistics,
        "device": device.device_kind,
        "cores": visible_cores(),
    }
