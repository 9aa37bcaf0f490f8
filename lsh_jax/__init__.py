"""Hyperpruning of recurrent networks by their Lyapunov spectra, in JAX.

Three layers, each of use without the ones above it: Lyapunov spectra of any map or recurrent
network (`lyapunov_spectrum`, `rnn_lyapunov_spectrum`, `ls_distance`), dynamic sparse training of
any parameter tree (`dynamic_sparsity`), and the search for the pruned network to train
(`hyperprune`, and the command `experiments/hypersearch.py`).
"""

import importlib
from typing import TYPE_CHECKING, Any

from lsh_jax._version import __version__

if TYPE_CHECKING:
    from lsh_jax import sparsity
    from lsh_jax.config import (
        ConfigError,
        ModelConfig,
        SearchConfig,
        SpaceConfig,
        SparsityConfig,
        SpectrumConfig,
        TrainConfig,
    )
    from lsh_jax.convert import from_torch
    from lsh_jax.data import Corpus, load_corpus
    from lsh_jax.distance import ls_distance
    from lsh_jax.distance_noise import debiased_squared_distance, distance_gap_z
    from lsh_jax.embeddings import fit_pca
    from lsh_jax.generation import generate
    from lsh_jax.language_models import LanguageModel, make_language_model
    from lsh_jax.lyapunov import (
        LyapunovResult,
        convergence,
        covariant_lyapunov_vectors,
        flow_spectrum,
        kaplan_yorke_dimension,
        ks_entropy,
        lyapunov_from_jacobians,
        lyapunov_spectrum,
        max_lyapunov_exponent,
        rank_mask,
        rnn_lyapunov_spectrum,
        running_exponents,
    )
    from lsh_jax.model_archive import export_csr, export_npz, load_csr, load_npz
    from lsh_jax.optimizers import reset_slots
    from lsh_jax.saved_model import load_model, save_model
    from lsh_jax.saved_params import load_params, save_params
    from lsh_jax.search.hyperpruning import hyperprune
    from lsh_jax.search.language_model_task import make_language_model_task
    from lsh_jax.search.measure import Measure
    from lsh_jax.search.process_executor import ProcessExecutor
    from lsh_jax.search.ray_executor import RayExecutor
    from lsh_jax.search.sequence_batches import SequenceBatches, cut_batches
    from lsh_jax.search.sequence_task import SequenceNetwork, make_sequence_task
    from lsh_jax.search.task import Task, Topology, TrainInfo
    from lsh_jax.sequence_models import closed_loop_spectrum, driven_spectrum
    from lsh_jax.sparsity import apply_masks, dynamic_sparsity
    from lsh_jax.torch_export import export_torch, load_torch, to_torch
    from lsh_jax.types import Hyper

__all__ = (
    "ConfigError",
    "Corpus",
    "Hyper",
    "LanguageModel",
    "LyapunovResult",
    "Measure",
    "ModelConfig",
    "ProcessExecutor",
    "RayExecutor",
    "SearchConfig",
    "SequenceBatches",
    "SequenceNetwork",
    "SpaceConfig",
    "SparsityConfig",
    "SpectrumConfig",
    "Task",
    "Topology",
    "TrainConfig",
    "TrainInfo",
    "__version__",
    "apply_masks",
    "closed_loop_spectrum",
    "convergence",
    "covariant_lyapunov_vectors",
    "cut_batches",
    "debiased_squared_distance",
    "distance_gap_z",
    "driven_spectrum",
    "dynamic_sparsity",
    "export_csr",
    "export_npz",
    "export_torch",
    "fit_pca",
    "flow_spectrum",
    "from_torch",
    "generate",
    "hyperprune",
    "kaplan_yorke_dimension",
    "ks_entropy",
    "load_corpus",
    "load_csr",
    "load_model",
    "load_npz",
    "load_params",
    "load_torch",
    "ls_distance",
    "lyapunov_from_jacobians",
    "lyapunov_spectrum",
    "make_language_model",
    "make_language_model_task",
    "make_sequence_task",
    "max_lyapunov_exponent",
    "rank_mask",
    "reset_slots",
    "rnn_lyapunov_spectrum",
    "running_exponents",
    "save_model",
    "save_params",
    "sparsity",
    "to_torch",
)

_MODULES = {
    "lsh_jax.config": (
        "ConfigError",
        "ModelConfig",
        "SearchConfig",
        "SpaceConfig",
        "SparsityConfig",
        "SpectrumConfig",
        "TrainConfig",
    ),
    "lsh_jax.convert": ("from_torch",),
    "lsh_jax.data": ("Corpus", "load_corpus"),
    "lsh_jax.distance": ("ls_distance",),
    "lsh_jax.distance_noise": ("debiased_squared_distance", "distance_gap_z"),
    "lsh_jax.embeddings": ("fit_pca",),
    "lsh_jax.generation": ("generate",),
    "lsh_jax.language_models": ("LanguageModel", "make_language_model"),
    "lsh_jax.lyapunov": (
        "LyapunovResult",
        "convergence",
        "covariant_lyapunov_vectors",
        "flow_spectrum",
        "kaplan_yorke_dimension",
        "ks_entropy",
        "lyapunov_from_jacobians",
        "lyapunov_spectrum",
        "max_lyapunov_exponent",
        "rank_mask",
        "rnn_lyapunov_spectrum",
        "running_exponents",
    ),
    "lsh_jax.model_archive": ("export_csr", "export_npz", "load_csr", "load_npz"),
    "lsh_jax.optimizers": ("reset_slots",),
    "lsh_jax.saved_model": ("load_model", "save_model"),
    "lsh_jax.saved_params": ("load_params", "save_params"),
    "lsh_jax.search.hyperpruning": ("hyperprune",),
    "lsh_jax.search.language_model_task": ("make_language_model_task",),
    "lsh_jax.search.measure": ("Measure",),
    "lsh_jax.search.process_executor": ("ProcessExecutor",),
    "lsh_jax.search.ray_executor": ("RayExecutor",),
    "lsh_jax.search.sequence_batches": ("SequenceBatches", "cut_batches"),
    "lsh_jax.search.sequence_task": ("SequenceNetwork", "make_sequence_task"),
    "lsh_jax.search.task": ("Task", "Topology", "TrainInfo"),
    "lsh_jax.sequence_models": ("closed_loop_spectrum", "driven_spectrum"),
    "lsh_jax.sparsity": ("apply_masks", "dynamic_sparsity"),
    "lsh_jax.torch_export": ("export_torch", "load_torch", "to_torch"),
    "lsh_jax.types": ("Hyper",),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}


if not TYPE_CHECKING:  # so that a misspelt name is an error to type checkers

    def __getattr__(name: str) -> Any:
        """Imports a public name when it is first used: `import lsh_jax` itself stays light."""
        if name == "sparsity":
            return importlib.import_module("lsh_jax.sparsity")
        if name not in _HOMES:
            raise AttributeError(f"module 'lsh_jax' has no attribute {name!r}")
        return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """The public names, also those that are not imported yet."""
    return list(__all__)
