"""Language modelling as a task: corpus, model, recipe and spectrum behind the protocol."""

import functools
import hashlib
import json
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lsh_jax.config import ConfigError, ModelConfig, SpectrumConfig, TrainConfig
from lsh_jax.data import Corpus
from lsh_jax.data.batching import Windows, columns, evaluation_windows, unigram_nll, windows
from lsh_jax.evaluation import measure_spectrum, spectrum_tokens
from lsh_jax.language_models import (
    LanguageModel,
    leaf_gates,
    make_language_model,
    uses_per_token,
)
from lsh_jax.saved_model import save_model
from lsh_jax.search.fingerprint import surroundings
from lsh_jax.search.measure import PERPLEXITY
from lsh_jax.search.space import check_space
from lsh_jax.search.stacked_training import StackedPrograms, compile_stacked, make_side_by_side
from lsh_jax.search.task import Split, Task, Topology, TrainInfo, segments_between_updates
from lsh_jax.sparsity import Controls, count_live, dynamic_sparsity
from lsh_jax.sparsity.counting import counted_leaves
from lsh_jax.training import (
    TrainState,
    end_epoch,
    evaluate_windows,
    evaluated_params,
    init_train_state,
    is_averaged,
    train_segment,
    update_topology,
    without_averages,
)
from lsh_jax.types import Hyper, Key


class _Programs(NamedTuple):
    """The jitted functions of a task; tasks that differ in their seed alone share them."""

    init: Callable[..., Any]
    train: Callable[..., Any]
    update: Callable[..., Any]
    end_epoch: Callable[..., Any]
    evaluate: Callable[..., Any]
    evaluated_params: Callable[..., Any]
    is_averaged: Callable[..., Any]
    spectrum: Callable[..., Any]
    count: Callable[..., Any]
    stacked: StackedPrograms


def make_language_model_task(
    corpus: Corpus,
    model_config: ModelConfig,
    train_config: TrainConfig,
    spectrum_config: SpectrumConfig | None = None,
    seed: int = 0,
) -> Task:
    """Builds the task of training a language model on a corpus.

    Args:
      corpus: from `load_corpus`.
      model_config: sizes; `vocab_size` must not be below the corpus's number of types.
      train_config: the recipe.
      spectrum_config: the recipe of the spectra; the default one if not given.
      seed: of initial weights and dropout.

    Returns:
      A Task.

    Raises:
      ConfigError: when the corpus is too short for the batches, segments or spectra.
    """
    spectrum_config = spectrum_config or SpectrumConfig()
    if len(corpus.vocabulary) > model_config.vocab_size:
        raise ConfigError(
            f"`vocab_size` must be at least {len(corpus.vocabulary)}, the corpus's types, got "
            f"{model_config.vocab_size}."
        )
    if len(set(model_config.widths)) > 1:
        raise ConfigError(
            "`layer_sizes` must be equal in a search, which keeps spectra as [L, K], got "
            f"{model_config.widths}: `rnn_lyapunov_spectrum` and `ls_distance` take unequal layers."
        )
    corpus = shorten(corpus, train_config)
    model = make_language_model(model_config)
    data = _batches(corpus, train_config, spectrum_config)
    programs = _compile(model, train_config, spectrum_config)
    settings = {
        "model": model_config.to_json(),
        "recipe": train_config.to_json(),
        "data": _corpus_hash(corpus),
        "spectrum": spectrum_config.to_json(),
        **surroundings(),
    }
    baseline = {
        split: unigram_nll(corpus.train, getattr(corpus, split), model_config.vocab_size)
        for split in ("validation", "test")
    }
    return _make_task(model, corpus, train_config, data, programs, settings, baseline, seed)


class _Batches(NamedTuple):
    """The corpus as windows."""

    train: Windows  # [S, W, bptt, B]
    splits: dict[str, Windows]  # [W, bptt, B]
    spectrum: np.ndarray  # [T, B]


def _make_task(
    model: LanguageModel,
    corpus: Corpus,
    config: TrainConfig,
    data: _Batches,
    programs: _Programs,
    settings: dict[str, Any],
    baseline: dict[str, float],
    seed: int,
) -> Task:
    init_key, dropout_key = jax.random.split(jax.random.key(seed))
    segments = config.segments_per_epoch

    def init(key: Key, controls: Controls, hyper: Hyper) -> TrainState:
        del hyper
        return programs.init(init_key, key, controls)

    def train(
        state: TrainState, controls: Controls, hyper: Hyper, num_segments: int
    ) -> tuple[TrainState, TrainInfo]:
        info = TrainInfo(0.0, 0.0, 0.0, 0, int(programs.count(state.sparsity.masks)))
        interval = segments_between_updates(float(controls.update_every), segments)
        for _ in range(num_segments):
            done = int(state.num_segments)
            batch = Windows(*(array[done % segments] for array in data.train))
            churn, updates = 0.0, 0
            if done > 0 and interval and done % interval == 0:
                first = Windows(*(array[0] for array in batch))
                state, update = programs.update(state, controls, first)
                churn, updates = float(update.churn), 1
            state, nll, num_tokens = programs.train(
                state, _traced(hyper), batch, dropout_key, averaging=bool(state.averaging)
            )
            info = TrainInfo(
                nll_sum=info.nll_sum + float(nll),
                num_tokens=info.num_tokens + float(num_tokens),
                churn_sum=info.churn_sum + churn,
                num_updates=info.num_updates + updates,
                nonzeros=int(programs.count(state.sparsity.masks)),
            )
        return state, info

    def block_nll(state: TrainState, split: Split) -> tuple[np.ndarray, np.ndarray]:
        sums, counts = programs.evaluate(state, data.splits[split])
        return np.asarray(sums, np.float64), np.asarray(counts, np.float64)

    def evaluate(state: TrainState, split: Split) -> float:
        sums, counts = block_nll(state, split)
        return float(sums.sum() / counts.sum())

    def spectrum(state: TrainState) -> tuple[np.ndarray, np.ndarray]:
        exponents, std_error = programs.spectrum(state, data.spectrum)
        return np.asarray(exponents), np.asarray(std_error)

    def unaveraged(state: TrainState) -> TrainState | None:
        return without_averages(state) if programs.is_averaged(state) else None

    def fingerprint() -> str:
        return json.dumps({**settings, "seed": seed}, sort_keys=True)

    def with_seed(other: int) -> Task:
        return _make_task(model, corpus, config, data, programs, settings, baseline, other)

    def save(state: TrainState, path: pathlib.Path) -> None:
        params = programs.evaluated_params(state)
        save_model(path, model, params, state.sparsity.masks, corpus.vocabulary)

    return Task(
        init=init,
        train=train,
        evaluate=evaluate,
        block_nll=block_nll,
        spectrum=spectrum,
        fingerprint=fingerprint,
        segments_per_epoch=segments,
        hyper=config.hyper(),
        with_seed=with_seed,
        save=save,
        baseline_nll=baseline,
        end_epoch=lambda state, val_nll: programs.end_epoch(state, val_nll),
        unaveraged=unaveraged,
        patience=config.patience,
        side_by_side=make_side_by_side(programs.stacked, init, config, data.train, dropout_key),
        topology=_topology(model, data),
        check_space=functools.partial(
            check_space,
            momentum=config.momentum > 0,
            gates=model.config.cell != "tanh",
            matrices=True,
        ),
        measure=PERPLEXITY,
    )


def _topology(model: LanguageModel, data: _Batches) -> Topology:
    params = jax.eval_shape(model.init, jax.random.key(0))
    gates, uses = leaf_gates(model.config), uses_per_token(model.config)
    segments, windows_each = data.train.inputs.shape[:2]
    return Topology(
        state=lambda state: state.sparsity,
        leaves=counted_leaves(params, gates=gates, uses=uses),
        steps_per_epoch=segments * windows_each,
    )


def _traced(hyper: Hyper) -> Hyper:
    return Hyper(*(jnp.asarray(value, jnp.float32) for value in hyper))


def _compile(
    model: LanguageModel, config: TrainConfig, spectrum_config: SpectrumConfig
) -> _Programs:
    updater = dynamic_sparsity(gates=leaf_gates(model.config), track_signs=True)

    def evaluate(state: TrainState, windows: Windows) -> tuple[jax.Array, jax.Array]:
        return evaluate_windows(model, evaluated_params(state), windows)

    def spectrum(state: TrainState, tokens: jax.Array) -> tuple[jax.Array, jax.Array]:
        result = measure_spectrum(model, evaluated_params(state), tokens, spectrum_config)
        return result.exponents, result.std_error

    return _Programs(
        init=jax.jit(functools.partial(init_train_state, model, updater, config)),
        train=jax.jit(functools.partial(train_segment, model, config), static_argnames="averaging"),
        update=jax.jit(functools.partial(update_topology, model, updater, config)),
        end_epoch=jax.jit(functools.partial(end_epoch, config)),
        evaluate=jax.jit(evaluate),
        evaluated_params=jax.jit(evaluated_params),
        is_averaged=jax.jit(is_averaged),
        spectrum=jax.jit(spectrum),
        count=jax.jit(count_live),
        stacked=compile_stacked(model, updater, config),
    )


def shorten(corpus: Corpus, config: TrainConfig) -> Corpus:
    """The first tokens of each split, as many as the recipe asks for; 0 asks for all."""
    longest = config.max_eval_tokens or None
    return corpus._replace(
        train=corpus.train[: config.max_train_tokens or None],
        validation=corpus.validation[:longest],
        test=corpus.test[:longest],
    )


def _batches(corpus: Corpus, config: TrainConfig, spectrum: SpectrumConfig) -> _Batches:
    segmented = windows(
        columns(corpus.train, config.batch_size), config.bptt, config.segments_per_epoch
    )
    splits = {}
    for name in ("validation", "test"):
        tokens = getattr(corpus, name)
        whole = evaluation_windows(tokens, config.eval_batch_size, config.bptt)
        splits[name] = Windows(*(array[0] for array in whole))
        if len(splits[name].inputs) < 2:
            raise ConfigError(
                f"`eval_batch_size` must leave at least two windows of bptt={config.bptt} steps, "
                f"got {config.eval_batch_size} columns for the {len(tokens)} {name} tokens: use "
                "fewer columns, a smaller bptt, or more text."
            )
    return _Batches(
        train=segmented,
        splits=splits,
        spectrum=spectrum_tokens(corpus.validation, spectrum),
    )


def _corpus_hash(corpus: Corpus) -> str:
    digest = hashlib.sha256("\n".join(corpus.vocabulary).encode())
    for tokens in (corpus.train, corpus.validation, corpus.test):
        digest.update(f"\n{len(tokens)} tokens\n".encode())
        digest.update(np.ascontiguousarray(tokens).tobytes())
    return digest.hexdigest()
