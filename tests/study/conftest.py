import dataclasses

import numpy as np
import pytest

from lsh_jax.config import ModelConfig, SpaceConfig, TrainConfig
from lsh_jax.data import Corpus
from lsh_jax.study.runner import run_study
from lsh_jax.study.settings import StudyConfig
from lsh_jax.study.table import Table, Trajectory, describe_study, load_table

EPOCHS, EARLY = 6, (2, 3)


@pytest.fixture(scope="session")
def corpus():
    """A text of twelve words in which the next one mostly follows from the last."""
    generator = np.random.default_rng(0)
    words, text = 12, [0]
    for _ in range(1500):
        noisy = generator.random() < 0.2
        text.append(int(generator.integers(words)) if noisy else (text[-1] * 5 + 1) % words)
    ids = np.array(text, np.int32)
    vocabulary = tuple("abcdefghijkl")
    return Corpus(ids[:700], ids[700:1100], ids[1100:1500], vocabulary, "0" * 64)


@pytest.fixture(scope="session")
def tiny_study():
    """Three candidates, two seeds, six epochs of seconds."""
    recipe = TrainConfig(
        learning_rate=8.0,  # the dense network learns from it in six epochs
        averaging="nt-asgd",
        dropout_input=0.0,
        dropout_hidden=0.0,
        dropout_output=0.0,
        clip=1.0,
        batch_size=4,
        bptt=8,
        segments_per_epoch=1,
        eval_batch_size=4,
    )
    return StudyConfig(
        model=ModelConfig(vocab_size=12, embed_size=6, hidden_size=6),
        train=recipe,
        sparsity=0.5,
        space=SpaceConfig(death=("magnitude", "set"), death_rate=(0.3, 0.6)),
        num_candidates=3,
        num_seeds=2,
        early_epochs=EARLY,
        average_from=5,
        final_epochs=EPOCHS,
        lengths=(5, 100),
        full_lengths=(100,),
        burn_in=4,
        batch=2,
        baselines=("static-er",),
    )


@pytest.fixture(scope="session")
def workshops():
    """Compiled once for all tests."""
    return {}


@pytest.fixture(scope="session")
def trained(corpus, tiny_study, workshops, tmp_path_factory):
    """The folder of the tiny study, run in two parts one after the other."""
    directory = tmp_path_factory.mktemp("study") / "tiny"
    for part in ((1, 2), (2, 2)):
        run_study(tiny_study, corpus, directory, part=part, workshops=workshops)
    return directory


@pytest.fixture(scope="session")
def tiny_table(trained):
    return load_table(trained)


@pytest.fixture(scope="session")
def make_table(tiny_study):
    """Builds a table whose finals and spectra are given, without training anything.

    finals [S, n] are validation perplexities; gaps [S, n], one per candidate and seed, are what
    every exponent of it lies below the dense network's.
    """

    def make(finals, gaps, losses=None):
        finals, gaps = np.asarray(finals, float), np.asarray(gaps, float)
        losses = np.log(finals) if losses is None else np.asarray(losses, float)
        study = dataclasses.replace(
            tiny_study, num_candidates=finals.shape[1], num_seeds=len(finals), baselines=()
        )
        settings = describe_study(study, {"text": {"unigram_perplexity": 100.0}})
        trajectories = {}
        for seed in range(len(finals)):
            trajectories["dense", seed] = _trajectory("dense", seed, 4.0, np.log(5.0), 0.0)
            for n in range(finals.shape[1]):
                trajectories[str(n), seed] = _trajectory(
                    str(n), seed, losses[seed, n], np.log(finals[seed, n]), gaps[seed, n]
                )
        return Table(settings, trajectories)

    return make


def _trajectory(name, seed, early_nll, final_nll, gap):
    """Early losses alike until the last epoch, which has the final."""
    nll = np.full(EPOCHS, 100.0 + early_nll)
    nll[-1] = final_nll
    base = -np.linspace(0.5, 3.0, 12).reshape(2, 6)
    epochs = range(1, EPOCHS + 1)
    spectra = {
        "hidden": {e: np.stack([base - gap] * 2) for e in epochs},
        "hidden_std_error": {e: np.full((2, 2, 6), 0.1) for e in epochs},
        "averaged": dict.fromkeys(epochs, (base - gap)[None]),
        "paper": dict.fromkeys(epochs, base - gap),
        "full": {e: np.concatenate([base, base], axis=1)[None] - gap for e in epochs},
    }
    churn = np.where(np.arange(EPOCHS) > 0, 0.1, 0.0)
    same = np.full(EPOCHS, 7.0)
    return Trajectory(name, seed, nll, nll, nll, nll + 0.1, churn, same, same, spectra)
