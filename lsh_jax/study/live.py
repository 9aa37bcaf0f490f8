"""A study's setting as the task of a real search, to check that replayed searches are like it."""

import dataclasses
import json
import pathlib
from typing import Any

import jax.numpy as jnp
import numpy as np

from lsh_jax.config import Metric, SearchConfig, SpectrumConfig
from lsh_jax.data import Corpus
from lsh_jax.search.hyperpruning import hyperprune
from lsh_jax.search.language_model_task import make_language_model_task
from lsh_jax.search.task import Task, TrainInfo
from lsh_jax.sparsity import Controls
from lsh_jax.study.settings import StudyConfig
from lsh_jax.study.table import Table
from lsh_jax.training import TrainState, without_averages
from lsh_jax.types import Hyper, Key

_SHARE, _LENGTH = 1.0, 100  # of the spectra: those of the score "hidden 100%"


def live_task(study: StudyConfig, corpus: Corpus, seed: int) -> Task:
    """The language-model task with the averaging of a study.

    The mean of an epoch's iterates is evaluated, and the spectrum is that of the weights, as in the
    study; one of its candidates has the same course here as there.

    Args:
      study: the setting.
      corpus: with the vocabulary of its model.
      seed: of initial weights and dropout.
    """
    recipe = SpectrumConfig(share=_SHARE, length=_LENGTH, burn_in=study.burn_in, batch=study.batch)
    base = make_language_model_task(corpus, study.model, study.train, recipe, seed)

    def init(key: Key, controls: Controls, hyper: Hyper) -> TrainState:
        return base.init(key, controls, hyper)._replace(averaging=jnp.ones((), bool))

    def train(
        state: TrainState, controls: Controls, hyper: Hyper, num_segments: int
    ) -> tuple[TrainState, TrainInfo]:
        segments = base.segments_per_epoch
        starts = int(state.num_segments) % segments == 0
        if num_segments and starts and int(state.num_segments) // segments < study.average_from:
            state = without_averages(state)
        return base.train(state, controls, hyper, num_segments)

    def spectrum(state: TrainState) -> tuple[np.ndarray, np.ndarray]:
        return base.spectrum(without_averages(state))

    def fingerprint() -> str:
        own = {"average_from": study.average_from, "task": json.loads(base.fingerprint())}
        return json.dumps(own, sort_keys=True)

    return base._replace(
        init=init,
        train=train,
        spectrum=spectrum,
        fingerprint=fingerprint,
        with_seed=lambda other: live_task(study, corpus, other),
        end_epoch=lambda state, val_nll: state,
        unaveraged=lambda state: None,
        side_by_side=None,
    )


def search_live(
    study: StudyConfig,
    corpus: Corpus,
    table: Table,
    config: SearchConfig,
    metric: Metric,
    directory: pathlib.Path,
) -> dict[str, Any]:
    """Runs a search in a study's setting, and holds what it trained against the table.

    Args:
      study: the setting.
      corpus: with the vocabulary of its model.
      table: of the study.
      config: the search that is replayed, with seed 0.
      metric: that it is judged by.
      directory: of the run; a run that is there is gone on with.

    Returns:
      JSON values: the winner's test perplexity, the epochs spent, and how far the validation nll of
      candidates that the table holds too lies from theirs, at most.
    """
    found = hyperprune(
        live_task(study, corpus, config.seed),
        dataclasses.replace(config, metric=metric),
        out=directory,
        cache_dir=directory.parent / "cache",
        resume=(directory / "config.json").is_file(),
    )
    known = {json.dumps(own, sort_keys=True): n for n, own in table.settings["networks"].items()}
    differences: dict[str, list[float]] = {}
    for record in found.records:
        name = known.get(json.dumps(record.controls, sort_keys=True))
        if name is None or isinstance(record.trial, str) or record.val_nll is None:
            continue
        own = table.trajectories[name, config.seed].val_averaged[record.epoch - 1]
        differences.setdefault(name, []).append(abs(record.val_nll - float(own)))
    return {
        "metric": metric,
        "test_perplexity": found.result["best"]["test_perplexity"],
        "dense_test_perplexity": found.result["dense"]["test_perplexity"],
        "controls": found.result["best"]["controls"],
        "epochs": found.result["budget"]["epochs_spent"],
        "candidates_in_the_table": len(differences),
        "largest_difference": max((max(own) for own in differences.values()), default=None),
    }
