import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsh_jax import ModelConfig, SpectrumConfig, make_language_model
from lsh_jax.config import ConfigError
from lsh_jax.data import Corpus
from lsh_jax.evaluation import (
    describe_layer,
    evaluate_splits,
    measure_spectrum,
    spectrum_tokens,
    to_json,
    weigh,
)
from lsh_jax.lyapunov import LyapunovResult
from lsh_jax.saved_model import SavedModel

WORDS = ("a", "b", "<unk>", "<eos>", "c")


def corpus(length=60):
    tokens = (np.arange(length) % 4).astype(np.int32)
    return Corpus(tokens, tokens, tokens[:41], WORDS, "")


def saved(value=0.0, **sizes):
    """A model with all its parameters at one value."""
    model = make_language_model(ModelConfig("tanh", 8, 3, 4, num_layers=2, **sizes))
    params = jax.tree.map(lambda leaf: jnp.full_like(leaf, value), model.init(jax.random.key(0)))
    masks = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, bool), params)
    return SavedModel(model, params, masks, WORDS)


def test_a_model_that_knows_nothing_has_the_perplexity_of_its_vocabulary():
    scores = evaluate_splits(saved(), corpus(), ("train", "test"), batch_size=3, bptt=20)
    assert scores["train"].perplexity == pytest.approx(8.0, rel=1e-5)  # types of the model
    assert (scores["train"].tokens, scores["test"].tokens) == (60, 41)
    assert scores["train"].unknown_share == 0.25
    # Of 60 training tokens each of 4 types has 15, and of 8 types each has one more.
    assert scores["test"].unigram_perplexity == pytest.approx(68 / 16)


def test_only_the_first_tokens_are_read_where_that_is_asked_for():
    score = evaluate_splits(saved(), corpus(), ("test",), batch_size=2, bptt=5, max_tokens=10)
    assert score["test"].tokens == 10


def test_the_spectrum_of_a_model_is_that_of_its_layers():
    # h' = tanh(w sum(h) + drive) of equal weights has rank one: all exponents but one are -inf.
    recipe = SpectrumConfig(share=0.5, length=8, burn_in=2, batch=2)
    model, params, *_ = saved(0.01)
    result = measure_spectrum(model, params, spectrum_tokens(corpus().validation, recipe), recipe)
    assert result.exponents.shape == (2, 2)
    for first, second in result.exponents:
        assert first == pytest.approx(math.log(4 * 0.01), abs=0.01)
        assert second < -10


def test_layers_of_unequal_width_have_the_same_share_of_their_own_exponents():
    recipe = SpectrumConfig(share=0.5, length=8, burn_in=2, batch=2)
    tokens = spectrum_tokens(corpus().validation, recipe)
    model, params, *_ = saved(0.01, layer_sizes=(6, 4))
    result = measure_spectrum(model, params, tokens, recipe)
    assert [len(exponents) for exponents in result.exponents] == [3, 2]


def test_a_text_too_short_for_the_spectrum_is_refused():
    with pytest.raises(ConfigError, match=r"`spectrum\.length` must leave"):
        spectrum_tokens(corpus().validation, SpectrumConfig(length=50, burn_in=20, batch=2))


def spectrum(*exponents):
    values = jnp.array(exponents)
    error = 0.1 * jnp.ones_like(values)
    return LyapunovResult(values, error, values[None], values, values, 1)


@pytest.mark.parametrize(
    ("exponents", "size", "dimension"),
    [
        ((0.5, -0.25, -1.0), 3, 2.25),  # 0.5 - 0.25 is left for the third: 2 + 0.25 / 1
        ((0.5, -0.25), 3, None),  # more exponents would tell
        ((-0.1, -0.2), 3, 0.0),
    ],
)
def test_a_layer_is_told_in_a_few_numbers(exponents, size, dimension):
    layer = describe_layer(spectrum(*exponents), size)
    assert layer.largest == pytest.approx(exponents[:3])
    assert layer.std_error == pytest.approx((0.1,) * len(exponents))
    assert layer.mean == pytest.approx(sum(exponents) / len(exponents))
    assert (layer.computed, layer.size) == (len(exponents), size)
    assert layer.kaplan_yorke == (None if dimension is None else pytest.approx(dimension))


def test_what_is_not_a_number_is_null_in_json(tmp_path):
    (tmp_path / "weights.safetensors").write_bytes(b"12345")
    model = saved(1e9)
    scores = evaluate_splits(model, corpus(), ("test",), batch_size=2, bptt=5)
    bad = {"test": scores["test"]._replace(perplexity=math.inf)}
    values = to_json(bad, [], weigh(model, tmp_path))
    assert values["splits"]["test"]["perplexity"] is None
    assert values["bytes_on_disk"] == 5
    assert values["density"] == 1.0
