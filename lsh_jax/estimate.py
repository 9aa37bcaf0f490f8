"""What a search will cost, before it starts: epochs, disk, and time from a few windows."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from lsh_jax.config import SpectrumConfig
from lsh_jax.data import Corpus
from lsh_jax.presets import Settings
from lsh_jax.search.language_model_task import make_language_model_task
from lsh_jax.search.successive_halving import num_epochs, plan
from lsh_jax.search.trial import DENSE
from lsh_jax.sparsity import controls

_WINDOWS = 2  # trained and evaluated for the measurement
_STEPS = 4  # of the spectrum that is measured


class Estimate(NamedTuple):
    """The cost of a search."""

    epochs: int  # of the candidates
    epochs_dense: int
    epochs_full_search: int  # if every candidate were trained to the end
    seconds_per_epoch: float  # with evaluation and spectrum, without compiling
    bytes_on_disk: int  # at its largest
    num_weights: int  # prunable, of the dense network

    @property
    def seconds(self) -> float:
        """Of the whole search, without compiling."""
        return (self.epochs + self.epochs_dense) * self.seconds_per_epoch


def estimate(settings: Settings, corpus: Corpus) -> Estimate:
    """Measures a few windows of the training that `settings` asks for, and multiplies.

    Topology updates and compiling are left out: the first are a small share, the second is paid
    once.

    Args:
      settings: the search.
      corpus: its data.

    Returns:
      The estimate; it costs the compilation of three programs.
    """
    config, train = settings.search(), settings.train
    rounds = plan(config)
    short = _short_corpus(settings, corpus)
    spectrum = SpectrumConfig(settings.spectrum.state, settings.spectrum.share, _STEPS, 0, 1)
    recipe = dataclasses.replace(train, segments_per_epoch=1, max_train_tokens=0, max_eval_tokens=0)
    task = make_language_model_task(short, settings.model, recipe, spectrum, config.seed)
    state = task.init(jax.random.key(0), controls(DENSE), task.hyper)
    nonzeros = task.train(state, controls(DENSE), task.hyper, 0)[1].nonzeros
    windows = _num_tokens(corpus.train, train.max_train_tokens) / (train.batch_size * train.bptt)
    evaluations = _num_tokens(corpus.validation, train.max_eval_tokens) / (
        train.eval_batch_size * train.bptt
    )
    steps = (settings.spectrum.length + settings.spectrum.burn_in) * settings.spectrum.batch
    seconds = (
        _seconds(lambda: task.train(state, controls(DENSE), task.hyper, 1)) / _WINDOWS * windows
        + _seconds(lambda: task.evaluate(state, "validation")) / _WINDOWS * evaluations
        + _seconds(lambda: task.spectrum(state)) / _STEPS * steps
    )
    state_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(state) if hasattr(leaf, "nbytes"))
    # Each candidate of the pool keeps its latest and its best state, so does the dense network.
    states = 2 * (config.max_evals + config.dense_seeds) + 1
    return Estimate(
        epochs=num_epochs(config, rounds),
        epochs_dense=config.dense_seeds * config.final_epochs,
        epochs_full_search=config.max_evals * config.final_epochs,
        seconds_per_epoch=seconds,
        bytes_on_disk=states * state_bytes,
        num_weights=nonzeros,
    )


def _short_corpus(settings: Settings, corpus: Corpus) -> Corpus:
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


def _num_tokens(tokens: Any, longest: int) -> int:
    return min(len(tokens), longest or len(tokens))


def _seconds(function: Callable[[], Any]) -> float:
    """The shorter of two runs, after one that compiles."""
    jax.block_until_ready(function())
    times = []
    for _ in range(2):
        started = time.perf_counter()
        jax.block_until_ready(function())
        times.append(time.perf_counter() - started)
    return min(times)
