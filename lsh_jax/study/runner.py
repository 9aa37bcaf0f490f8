"""Runs a study: what the table does not hold yet, network by network."""

import datetime
import json
import math
import pathlib
import platform
from collections.abc import Callable
from typing import Any

import jax

from lsh_jax._version import __version__
from lsh_jax.checkpoint import write_json
from lsh_jax.config import ConfigError, ModelConfig
from lsh_jax.data import Corpus
from lsh_jax.data.batching import unigram_nll
from lsh_jax.machine import locked, visible_cores
from lsh_jax.search.language_model_task import shorten
from lsh_jax.study.settings import Network, StudyConfig, networks
from lsh_jax.study.table import STUDY, append, describe_study, finished
from lsh_jax.study.trajectories import Workshop, open_workshop, train_to_the_end

Job = tuple[Network, int]  # network, seed


def jobs(study: StudyConfig) -> list[Job]:
    """Every network with every seed: all of a seed before the next, baselines last."""
    all_networks = networks(study).values()
    baselines = [network for network in all_networks if network.name in study.baselines]
    compared = [network for network in all_networks if network.name not in study.baselines]
    seeds = range(study.num_seeds)
    first = [(network, seed) for seed in seeds for network in compared]
    return first + [(network, seed) for seed in seeds for network in baselines]


def run_study(
    study: StudyConfig,
    corpus: Corpus,
    directory: pathlib.Path,
    *,
    part: tuple[int, int] = (1, 1),
    machine: dict[str, Any] | None = None,
    workshops: dict[ModelConfig, Workshop] | None = None,
    on_line: Callable[[str, dict[str, Any]], None] = lambda text, line: None,
) -> None:
    """Trains what is missing.

    Args:
      study: the setting.
      corpus: with the vocabulary of its model.
      directory: of the table; made if missing.
      part: (i, n), to train every n-th network from the i-th on, so that n processes share a study.
      machine: what study.json says of the machine.
      workshops: programs of an earlier call for the same study and text, by size; kept up to date.
      on_line: told of every epoch: which network of how many, and its line.

    Raises:
      ConfigError: when the folder holds the table of another setting.
    """
    text = _describe_text(study, corpus)
    record_study(study, directory, {"text": text, "machine": machine or {}})
    index, count = part
    due = jobs(study)[index - 1 :: count]
    workshops = {} if workshops is None else workshops
    for number, (network, seed) in enumerate(due, start=1):
        if (network.name, seed) in finished(directory):
            continue
        if network.model not in workshops:
            workshops[network.model] = open_workshop(study, network, corpus)
        lines, spectra = [], {}
        for line, found in train_to_the_end(workshops[network.model], network, seed):
            lines.append(line)
            if found is not None:
                spectra[line["epoch"]] = found
            on_line(f"{number}/{len(due)}", line)
        append(directory, lines, spectra)


def _describe_text(study: StudyConfig, corpus: Corpus) -> dict[str, Any]:
    short = shorten(corpus, study.train)
    nll = unigram_nll(short.train, short.validation, study.model.vocab_size)
    return {
        "train_tokens": len(short.train),
        "validation_tokens": len(short.validation),
        "test_tokens": len(short.test),
        "unigram_perplexity": float(f"{math.exp(nll):.3f}"),
        "source_sha256": corpus.source_sha256,
    }


def record_study(study: StudyConfig, directory: pathlib.Path, extra: dict[str, Any]) -> None:
    """Writes study.json, or holds the one that is there against the setting.

    Raises:
      ConfigError: when they differ in more than the machine.
    """
    own = describe_study(study, extra)
    path = directory / STUDY
    with locked(directory, wait=True):
        if not path.is_file():
            write_json(path, own)
            return
    recorded = json.loads(path.read_text())
    differing = [name for name in ("study", "networks", "text") if recorded[name] != own[name]]
    if differing:
        raise ConfigError(
            f"`out` must hold the table of this very study, got {str(directory)!r}, whose "
            f"{' and '.join(differing)} differ: take another folder."
        )


def describe_machine() -> dict[str, Any]:
    """What the numbers depend on beside the setting."""
    return {
        "day": datetime.date.today().isoformat(),
        "backend": jax.default_backend(),
        "cores_a_process": visible_cores(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "lsh_jax": __version__,
    }
