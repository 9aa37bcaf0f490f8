import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsh_jax import ModelConfig, make_language_model
from lsh_jax.config import ConfigError
from lsh_jax.generation import _generate, allowed_words, decode, encode_prompt, generate

V = 9
CONFIGS = {
    "lstm": ModelConfig("lstm", V, 5, 6, 2),
    "gru": ModelConfig("gru", V, 5, 6, 1),
    "tanh": ModelConfig("tanh", V, 5, num_layers=2, layer_sizes=(4, 5), tied=True),
    "rhn": ModelConfig("rhn", V, 6, 6, 1, depth=2, tied=True),
}
MODELS = {name: make_language_model(config) for name, config in CONFIGS.items()}
PROMPT = np.array([[1, 2], [3, 8], [0, 4]])  # [T, B]


@functools.cache
def params_of(name):
    """Weights large enough that words differ much in probability."""
    params = MODELS[name].init(jax.random.key(0))
    return jax.tree.map(lambda leaf: 8 * leaf if leaf.ndim > 1 else leaf, params)


def write(name="lstm", prompt=PROMPT, length=6, seed=0, **options):
    return np.asarray(
        generate(MODELS[name], params_of(name), prompt, length, jax.random.key(seed), **options)
    )


def words_but(*excluded):
    return np.array([word not in excluded for word in range(V)])


@pytest.mark.parametrize("name", MODELS)
def test_without_temperature_every_word_is_the_likeliest_after_all_words_before(name):
    model, params = MODELS[name], params_of(name)
    drawn = write(name, temperature=0)
    assert drawn.shape == (6, 2)
    assert drawn.dtype == np.int32
    text = np.concatenate([PROMPT, drawn])
    logits, _ = model.apply(params, text[:-1], model.init_carry(2))  # the whole text at once
    np.testing.assert_array_equal(np.argmax(logits, axis=-1)[2:], drawn)


def test_the_frequencies_of_samples_are_the_softmax_at_that_temperature():
    # Chi-square of 4000 independent columns: V - 1 = 8 degrees of freedom, 26.1 at p = 0.001.
    model, params = MODELS["lstm"], params_of("lstm")
    logits = model.apply(params, PROMPT[:, :1], model.init_carry(1))[0][-1, 0]
    prompt = np.tile(PROMPT[:, :1], 4000)
    for temperature in (0.5, 1.0, 3.0):
        expected = 4000 * np.asarray(jax.nn.softmax(logits / temperature))
        seen = np.bincount(write(prompt=prompt, length=1, temperature=temperature)[0], minlength=V)
        assert expected.min() > 5 or temperature == 0.5
        common = expected > 5
        assert ((seen - expected)[common] ** 2 / expected[common]).sum() < 26.1


def test_the_second_word_follows_from_the_first():
    # Of columns that drew the same first word, the second has the softmax after that word.
    model, params = MODELS["gru"], params_of("gru")
    first, second = write("gru", prompt=np.tile(PROMPT[:, :1], 4000), length=2)
    word = np.bincount(first).argmax()
    text = np.append(PROMPT[:, 0], word)[:, None]
    logits = model.apply(params, text, model.init_carry(1))[0][-1, 0]
    seen = np.bincount(second[first == word], minlength=V)
    expected = seen.sum() * np.asarray(jax.nn.softmax(logits))
    common = expected > 5
    assert common.sum() > 3
    assert ((seen - expected)[common] ** 2 / expected[common]).sum() < 26.1


def test_the_same_key_draws_the_same_text_and_another_key_another():
    np.testing.assert_array_equal(write(seed=3), write(seed=3))
    assert (write(seed=3, length=20) != write(seed=4, length=20)).any()


def test_a_longer_text_begins_as_the_shorter_one():
    np.testing.assert_array_equal(write(length=12)[:5], write(length=5))


def test_a_low_temperature_comes_to_the_likeliest_words_without_overflow():
    for temperature in (1e-5, 1e-30, 1e-42):
        np.testing.assert_array_equal(write(temperature=temperature), write(temperature=0))


@pytest.mark.parametrize("temperature", [0.0, 1.0, 50.0])
@pytest.mark.parametrize("top_k", [None, 3, V])
def test_a_word_that_is_not_allowed_is_never_drawn(temperature, top_k):
    options = {"length": 300, "temperature": temperature, "top_k": top_k}
    for forbidden in (words_but(7, 8), words_but(*range(1, V))):
        drawn = write(allowed=forbidden, **options)
        assert forbidden[drawn].all()


def test_of_the_likeliest_words_only_so_many_are_drawn():
    model, params = MODELS["lstm"], params_of("lstm")
    drawn = write(length=200, temperature=20.0, top_k=3)
    text = np.concatenate([PROMPT, drawn])
    logits, _ = model.apply(params, text[:-1], model.init_carry(2))
    rank = np.argsort(np.argsort(-logits, axis=-1), axis=-1)  # of each word, 0 the likeliest
    ranks = np.take_along_axis(rank[2:], drawn[..., None], axis=-1)
    assert set(np.unique(ranks)) == {0, 1, 2}
    np.testing.assert_array_equal(write(top_k=1), write(temperature=0))


def test_of_words_that_are_equally_likely_top_k_takes_no_more():
    params = jax.tree.map(jnp.zeros_like, params_of("lstm"))
    drawn = generate(MODELS["lstm"], params, PROMPT, 200, jax.random.key(0), top_k=2)
    assert len(np.unique(drawn)) == 2


def test_other_temperatures_and_words_do_not_recompile():
    write(length=7)
    before = _generate._cache_size()
    write(length=7, temperature=0.3, allowed=words_but(2), seed=9)
    write(length=7, temperature=0.0)
    assert _generate._cache_size() == before


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"prompt": PROMPT[:0]},
            r"`prompt` must be whole numbers \[T, B\] .* got 'int64 \(0, 2\)'",
        ),
        ({"prompt": PROMPT[0]}, r"`prompt` must be whole numbers \[T, B\]"),
        ({"prompt": PROMPT / 2}, r"got 'float64 \(3, 2\)'"),
        ({"prompt": [[V]]}, r"`prompt` must hold ids from 0 to 8, got \[9\]"),
        ({"prompt": [[-1]]}, r"`prompt` must hold ids from 0 to 8, got \[-1\]"),
        ({"length": 0}, "`length` must be a whole number of at least 1, got 0"),
        ({"length": 1.5}, "`length` must be a whole number of at least 1, got 1.5"),
        ({"temperature": -0.1}, "`temperature` must be finite and at least 0, got -0.1"),
        ({"temperature": np.nan}, "`temperature` must be finite and at least 0, got nan"),
        ({"temperature": np.inf}, "`temperature` must be finite and at least 0, got inf"),
        ({"top_k": 0}, "`top_k` must be a whole number from 1 to the vocabulary's 9, got 0"),
        ({"top_k": V + 1}, "`top_k` must be a whole number from 1 to .* got 10"),
        ({"allowed": np.ones(V)}, "`allowed` must be bool with an entry for each of 9 words"),
        ({"allowed": np.ones(V - 1, bool)}, r"`allowed` must be bool .* got 'bool \(8,\)'"),
        ({"allowed": np.zeros(V, bool)}, "`allowed` must allow a word"),
    ],
)
def test_what_cannot_be_meant_is_refused(changed, message):
    with pytest.raises(ConfigError, match=message):
        write(**changed)


WORDS = ("the", "<unk>", "state", "<eos>", "union")


def test_rows_without_a_word_and_the_unknown_word_are_not_allowed():
    np.testing.assert_array_equal(
        allowed_words(7, WORDS), [True, False, True, True, True, False, False]
    )
    assert allowed_words(7, WORDS, unknown=True).tolist() == [True] * 5 + [False] * 2
    with pytest.raises(ConfigError, match="`vocabulary` must hold a word that is not <unk>"):
        allowed_words(4, ["<unk>"])


def test_a_prompt_becomes_ids_and_its_unknown_words_are_named():
    tokens, unknown = encode_prompt("the state \n a\tunion b a", WORDS)
    assert tokens.tolist() == [0, 2, 3, 1, 4, 1, 1]
    assert unknown == ("a", "b")


@pytest.mark.parametrize("text", ["", "  ", "\n"])
def test_an_empty_prompt_is_the_start_of_a_line(text):
    assert encode_prompt(text, WORDS)[0].tolist() == [3]


@pytest.mark.parametrize(
    ("text", "words", "message"),
    [
        ("the a b", ("the", "<eos>"), "`prompt` must hold words of .* got a, b: leave them out"),
        ("", ("the", "<unk>"), "`prompt` must hold words on one line, got ''"),
        ("the\nthe", ("the", "<unk>"), "the model's vocabulary has no <eos>"),
    ],
)
def test_a_prompt_that_cannot_be_read_is_refused(text, words, message):
    with pytest.raises(ConfigError, match=message):
        encode_prompt(text, words)


def test_ids_become_lines_of_words():
    assert decode([0, 2, 3, 0, 4], WORDS) == "the state\nthe union"
    assert decode(np.array([0, 3]), WORDS) == "the\n"
