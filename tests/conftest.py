"""A strict session: rank promotion raises, dtype promotion is strict, warnings are errors."""

import json
import os
import pathlib

# Tests compile much and compute little; several threads a test wait for each other.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_multi_thread_eigen=false",
)
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")


@pytest.fixture(scope="session")
def penn_treebank() -> pathlib.Path:
    """The folder of the reader's own copy of Penn Treebank; tests that need it skip without it."""
    default = pathlib.Path(__file__).resolve().parents[2] / "shared" / "data" / "ptb"
    folder = pathlib.Path(os.environ.get("LSH_JAX_PTB", default))
    if not (folder / "ptb.train.txt").is_file():
        pytest.skip("no Penn Treebank: set LSH_JAX_PTB to the folder that holds ptb.train.txt")
    return folder


@pytest.fixture(scope="session")
def runs(tmp_path_factory) -> pathlib.Path:
    """What the documents' examples find: a run whose model has random weights, a model of torch.

    The model of runs/RUN is pruned by half; model.npz is a state dict, of the words in words.txt.
    """
    import numpy as np

    from lsh_jax import ModelConfig, apply_masks, make_language_model, save_model

    words = ["the", "state", "of", "union", "<eos>", "<unk>"]
    model = make_language_model(ModelConfig(vocab_size=6, embed_size=4, hidden_size=4))
    params = model.init(jax.random.key(0))
    masks = jax.tree.map(lambda leaf: abs(leaf) > 0.05, params)
    folder = tmp_path_factory.mktemp("documents")
    save_model(folder / "runs" / "RUN" / "model", model, apply_masks(params, masks), masks, words)
    tests = pathlib.Path(__file__).parent
    references = (tests / "references" / "torch_language_models.json").read_text()
    np.savez(folder / "model.npz", **json.loads(references)["lstm"]["state_dict"])
    (folder / "words.txt").write_text("\n".join([*words, *"abcde"]))
    return folder
