"""Trains one network of a study to the end, and measures everything a judge could ask for."""

import functools
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lsh_jax.config import SpectrumConfig
from lsh_jax.data import Corpus
from lsh_jax.data.batching import columns
from lsh_jax.language_models import LanguageModel, make_language_model
from lsh_jax.lyapunov import rnn_lyapunov_spectrum
from lsh_jax.lyapunov.result import std_error_of_mean
from lsh_jax.search.language_model_task import make_language_model_task, shorten
from lsh_jax.search.task import Task
from lsh_jax.sparsity import controls
from lsh_jax.study.settings import Network, StudyConfig, candidate_seed
from lsh_jax.training import TrainState, evaluated_params, without_averages
from lsh_jax.types import Array, Params

Line = dict[str, Any]
Spectra = dict[str, np.ndarray]  # see `Workshop.spectra`
AVERAGED_LENGTH = 100
_PAPER_STEPS, _PAPER_COLUMNS = 35, 2  # of the authors' recipe
_EVERY = 5  # steps from one QR of a hidden-state spectrum to the next


class Workshop(NamedTuple):
    """The compiled programs that networks of one size share.

    Attributes:
      task: of the size and recipe.
      spectra: `spectra(params, averaged) -> Spectra` of the weights and of their means: "hidden",
        "hidden_std_error" [lengths, L, H] and "full" [lengths, L, N] of the weights, "averaged"
        [1, L, H] of the means, by `AVERAGED_LENGTH` steps of the hidden state; in nats a step,
        sorted. "paper" [L, H] of the weights, in bits, by the authors' recipe and in its order.
    """

    task: Task
    spectra: Callable[[Params, Params], Spectra]


def open_workshop(study: StudyConfig, network: Network, corpus: Corpus) -> Workshop:
    """Compiles nothing yet; every program is compiled when it is first called.

    Args:
      study: the setting.
      network: of the size that is wanted.
      corpus: with the vocabulary of the study's model.
    """
    recipe = SpectrumConfig(length=max(study.lengths), burn_in=study.burn_in, batch=study.batch)
    task = make_language_model_task(corpus, network.model, study.train, recipe)
    validation = shorten(corpus, study.train).validation
    steps = study.burn_in + max(study.lengths)
    hidden = jnp.asarray(columns(validation, study.batch)[:steps])
    full = jnp.asarray(columns(validation, study.full_batch))
    full = full[: study.burn_in + max(study.full_lengths, default=0)]
    paper = jnp.asarray(columns(validation, _PAPER_COLUMNS)[:_PAPER_STEPS])
    model = make_language_model(network.model)
    measure = jax.jit(functools.partial(_spectra, study, model, hidden, full, paper))
    return Workshop(task, lambda *params: jax.tree.map(np.asarray, measure(*params)))


def _spectra(
    study: StudyConfig,
    model: LanguageModel,
    hidden: Array,
    full: Array,
    paper: Array,
    params: Params,
    averaged: Params,
) -> Mapping[str, Array]:
    spectrum = functools.partial(rnn_lyapunov_spectrum, model, params)
    short = hidden[: study.burn_in + AVERAGED_LENGTH]
    of_means = rnn_lyapunov_spectrum(model, averaged, short, state="hidden", burn_in=study.burn_in)
    found = spectrum(hidden, state="hidden", burn_in=study.burn_in, qr_every=_EVERY)
    local = found.local_exponents
    means = [_leading_mean(local, length // _EVERY) for length in study.lengths]
    spectra = {
        "hidden": jnp.stack([exponents for exponents, _ in means]),
        "hidden_std_error": jnp.stack([errors for _, errors in means]),
        "averaged": of_means.exponents[None],
        "paper": spectrum(paper, recipe="paper").exponents,
    }
    if study.full_lengths:
        found = spectrum(full, state="full", burn_in=study.burn_in, qr="solve")  # at every step
        means = [_leading_mean(found.local_exponents, length) for length in study.full_lengths]
        spectra["full"] = jnp.stack([exponents for exponents, _ in means])
    return spectra


def _leading_mean(local: Array, num_intervals: int) -> tuple[Array, Array]:
    """The mean of the first intervals [M, L, K], sorted, with the standard errors in that order."""
    local = local[:num_intervals]
    exponents = local.mean(axis=0)
    flat = local.reshape(num_intervals, 1, -1)
    errors = std_error_of_mean(flat, _EVERY).reshape(exponents.shape)
    order = jnp.argsort(-exponents, axis=-1)
    return (
        jnp.take_along_axis(exponents, order, axis=-1),
        jnp.take_along_axis(errors, order, axis=-1),
    )


def train_to_the_end(
    workshop: Workshop, network: Network, seed: int
) -> Iterator[tuple[Line, Spectra | None]]:
    """Trains a network epoch by epoch.

    Args:
      workshop: of its size.
      network: what is trained.
      seed: of initial weights, dropout, masks and growth.

    Yields:
      A line for each epoch, and the spectra of its last weights where the network has them. The
      line: "train_nll" with dropout on, "val_nll" of the weights, "val_nll_averaged" and
      "test_nll_averaged" of the mean of iterates, nats per token; "churn", the share of live
      weights that the epoch's updates replaced; "nonzeros"; "wall_s".
    """
    task = workshop.task.with_seed(seed)
    own = controls(network.sparsity)
    state = task.init(jax.random.key(candidate_seed(network, seed)), own, task.hyper)
    state = state._replace(averaging=jnp.ones((), bool))
    for epoch in range(1, network.final_epochs + 1):
        started = time.perf_counter()
        if epoch <= network.average_from:
            state = without_averages(state)
        state, info = task.train(state, own, task.hyper, task.segments_per_epoch)
        raw: TrainState = without_averages(state)
        line = {
            "network": network.name,
            "seed": seed,
            "epoch": epoch,
            "train_nll": info.nll_sum / info.num_tokens,
            "val_nll": task.evaluate(raw, "validation"),
            "val_nll_averaged": task.evaluate(state, "validation"),
            "test_nll_averaged": task.evaluate(state, "test"),
            "churn": info.churn_sum / info.num_updates if info.num_updates else None,
            "nonzeros": info.nonzeros,
        }
        spectra = None
        if epoch in network.spectra:
            spectra = workshop.spectra(raw.params, evaluated_params(state))
        yield line | {"wall_s": time.perf_counter() - started}, spectra
