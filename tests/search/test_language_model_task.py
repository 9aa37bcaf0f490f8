import json

import numpy as np
import pytest

from lsh_jax.config import ConfigError, ModelConfig, SpaceConfig, TrainConfig
from lsh_jax.data import Corpus
from lsh_jax.search.language_model_task import make_language_model_task
from lsh_jax.search.task import segments_between_updates

TOKENS = np.random.default_rng(0).integers(20, size=4000).astype(np.int32)


def task(border=2000, **settings):
    corpus = Corpus(
        TOKENS[:border], TOKENS[border:3200], TOKENS[3200:], tuple(map(str, range(20))), "hash"
    )
    model = ModelConfig(vocab_size=20, embed_size=4, hidden_size=4, num_layers=1)
    return make_language_model_task(corpus, model, TrainConfig(batch_size=5, **settings))


def fingerprint(**settings):
    return json.loads(task(**settings).fingerprint())


def test_the_fingerprint_sees_where_the_splits_part():
    # Same words in the same order: only the border between training and validation moves.
    first, second = fingerprint(border=2000), fingerprint(border=2100)
    assert first["data"] != second["data"]
    assert first == fingerprint(border=2000)


def test_the_fingerprint_sees_the_recipe():
    assert fingerprint()["recipe"] != fingerprint(learning_rate=1.0)["recipe"]


def test_another_seed_is_another_fingerprint_of_the_same_programs():
    first = task()
    assert first.with_seed(1).fingerprint() != first.fingerprint()
    assert first.with_seed(0).fingerprint() == first.fingerprint()


def test_a_vocabulary_that_the_model_cannot_hold_is_refused():
    corpus = Corpus(TOKENS, TOKENS, TOKENS, tuple(map(str, range(20))), "hash")
    with pytest.raises(ConfigError, match="`vocab_size` must be at least 20"):
        make_language_model_task(corpus, ModelConfig(vocab_size=10), TrainConfig())


def test_a_space_with_modes_by_momentum_needs_it_in_the_recipe():
    space = SpaceConfig(redistribution=("none", "momentum"))
    task(momentum=0.9).check_space(space)
    with pytest.raises(ConfigError, match=r"`space.redistribution` must be without momentum"):
        task().check_space(space)


def test_a_space_with_er_under_two_names_is_refused():
    with pytest.raises(ConfigError, match=r"`space.init` must not hold both er and erk"):
        task().check_space(SpaceConfig(init=("er", "erk")))


@pytest.mark.parametrize("segments", range(1, 129))
def test_updates_at_every_segment_are_understood_in_float32(segments):
    assert segments_between_updates(float(np.float32(1 / segments)), segments) == 1


@pytest.mark.parametrize(("every", "segments"), [(0.3, 4), (0.1, 4), (1.5, 3), (0.333, 3)])
def test_updates_inside_a_segment_are_refused(every, segments):
    with pytest.raises(ConfigError, match="`update_every` must be a multiple"):
        segments_between_updates(every, segments)


@pytest.mark.parametrize(("every", "interval"), [(0.5, 2), (1.0, 4), (2.0, 8), (np.inf, 0)])
def test_the_interval_between_updates_is_counted_in_segments(every, interval):
    assert segments_between_updates(every, 4) == interval
