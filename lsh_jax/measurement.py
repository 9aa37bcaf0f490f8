"""A few windows of a training, measured here: seconds, bytes, and how fast the machine computes."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from lsh_jax.config import SpectrumConfig
from lsh_jax.data import Corpus
from lsh_jax.flops import num_tokens, passes
from lsh_jax.presets import TrainingSettings
from lsh_jax.search.language_model_task import make_language_model_task
from lsh_jax.search.task import Task
from lsh_jax.search.trial import DENSE
from lsh_jax.sizes import model_sizes
from lsh_jax.sparsity import controls

_WINDOWS = 2  # trained and evaluated for the measurement
_STEPS = 16  # of the spectrum that is measured: the fewest at which LU takes the place of QR
_TOKEN_BYTES = 12  # of a window: word, next word and weight


class Measured(NamedTuple):
    """What a few windows tell of an epoch."""

    seconds: float  # of an epoch with evaluation and spectra
    flops_per_second: float  # of training, by dense products
    state_bytes: int  # of the state of training


def measure(settings: TrainingSettings, corpus: Corpus, task: Task | None = None) -> Measured:
    """Trains, evaluates and takes a spectrum over a few windows, and multiplies.

    An epoch that averages weights has two spectra. The speed is 3 x 2 x multiply-adds x tokens of
    the windows trained, over their seconds.

    Args:
      settings: the training.
      corpus: its data.
      task: from `short_task`, made if not given.

    Returns:
      The measurement; it costs the compilation of three programs.
    """
    train = settings.train
    task = task or short_task(settings, corpus)
    state = task.init(jax.random.key(0), controls(DENSE), task.hyper)
    windows = num_tokens(corpus.train, train.max_train_tokens) / (train.batch_size * train.bptt)
    evaluations = num_tokens(corpus.validation, train.max_eval_tokens) / (
        train.eval_batch_size * train.bptt
    )
    steps = (settings.spectrum.length + settings.spectrum.burn_in) * settings.spectrum.batch
    steps *= 1 if train.averaging == "none" else 2
    trained = _seconds(lambda: task.train(state, controls(DENSE), task.hyper, 1))
    seconds = (
        trained / _WINDOWS * windows
        + _seconds(lambda: task.evaluate(state, "validation")) / _WINDOWS * evaluations
        + _seconds(lambda: task.spectrum(state)) / _STEPS * steps
    )
    tokens = _WINDOWS * train.bptt * train.batch_size
    return Measured(
        seconds=seconds,
        flops_per_second=6 * model_sizes(settings.model).multiply_adds * tokens / trained,
        state_bytes=sum(leaf.nbytes for leaf in jax.tree.leaves(state) if hasattr(leaf, "nbytes")),
    )


def measure_epoch(settings: TrainingSettings, corpus: Corpus) -> tuple[float, int]:
    """Seconds of an epoch with evaluation and spectra, and bytes of the state of training.

    Args:
      settings: the training.
      corpus: its data.

    Returns:
      Both; it costs the compilation of three programs.
    """
    found = measure(settings, corpus)
    return found.seconds, found.state_bytes


def program_bytes(settings: TrainingSettings, corpus: Corpus, task: Task) -> int:
    """Memory that a device needs to train one network, as the compiler has it.

    Args:
      settings: the training.
      corpus: its data.
      task: from `short_task`, whose segment is shorter: the rest of its windows comes on top.

    Returns:
      Bytes; it costs the compilation of a program.
    """
    assert task.side_by_side is not None
    train = settings.train
    longer = passes(settings, corpus).windows - _WINDOWS
    window_bytes = _TOKEN_BYTES * train.bptt * train.batch_size
    return task.side_by_side.num_bytes(1) + max(longer, 0) * window_bytes


def short_task(settings: TrainingSettings, corpus: Corpus) -> Task:
    """The task of the settings with few windows and steps of a spectrum."""
    spectrum = SpectrumConfig(settings.spectrum.state, settings.spectrum.share, _STEPS, 0, 1)
    recipe = dataclasses.replace(
        settings.train, segments_per_epoch=1, max_train_tokens=0, max_eval_tokens=0
    )
    short = _short_corpus(settings, corpus)
    return make_language_model_task(short, settings.model, recipe, spectrum, settings.seed)


def _short_corpus(settings: TrainingSettings, corpus: Corpus) -> Corpus:
    """Enough tokens for the windows that are measured, and no more."""
    train = settings.train
    trained = train.batch_size * (_WINDOWS * train.bptt + 1)
    evaluated = train.eval_batch_size * (_WINDOWS * train.bptt + 1)
    evaluated = max(evaluated, _STEPS + 1)
    return corpus._replace(
        train=corpus.train[:trained],
        validation=corpus.validation[:evaluated],
        test=corpus.test[:evaluated],
    )


def _seconds(function: Callable[[], Any]) -> float:
    """The shorter of two runs, after one that compiles."""
    jax.block_until_ready(function())
    times = []
    for _ in range(2):
        started = time.perf_counter()
        jax.block_until_ready(function())
        times.append(time.perf_counter() - started)
    return min(times)
