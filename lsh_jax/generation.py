"""Text from a language model: one word after the other, drawn from what the model foretells."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from lsh_jax.config import ConfigError, check
from lsh_jax.data.vocabulary import EOS, UNK, encode
from lsh_jax.language_models import LanguageModel
from lsh_jax.types import Array, Key, Params

_SMALLEST = np.finfo(np.float32).tiny  # a lower temperature is flushed to zero


def generate(
    model: LanguageModel,
    params: Params,
    prompt: Any,
    length: int,
    key: Key,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    allowed: Any = None,
) -> Array:
    """Draws words after a prompt, a batch of samples at once.

    The model reads the prompt from a carry of zeros; then a `lax.scan` draws a word from
    softmax(logits / temperature), feeds it back, and so on. Programs are compiled for a model, the
    shape of the prompt, `length` and `top_k`. With one key a longer text begins as a shorter one.

    Args:
      model: the language model.
      params: masked where the model is pruned.
      prompt: ids of words, whole numbers in [0, V), [T, B] with T >= 1: a column for each sample.
      length: words to draw, at least 1.
      key: the same key draws the same words.
      temperature: finite, at least 0; 0 takes the likeliest word at every step (the first of
        several).
      top_k: draws among so many of the likeliest words alone, 1 <= top_k <= V; None for all.
      allowed: the words that may be drawn, bool [V]; None for all. See `allowed_words`.

    Returns:
      The words that were drawn, without the prompt, int32 [length, B].

    Raises:
      ConfigError: for arguments out of these ranges.
    """
    vocab_size = model.config.vocab_size
    prompt = _checked_prompt(prompt, vocab_size)
    check(_whole(length) and length >= 1, "length", "be a whole number of at least 1", length)
    check(0 <= temperature < np.inf, "temperature", "be finite and at least 0", temperature)
    if top_k is not None:
        fits = _whole(top_k) and 1 <= top_k <= vocab_size
        condition = f"be a whole number from 1 to the vocabulary's {vocab_size}"
        check(fits, "top_k", condition, top_k)
    words = np.ones(vocab_size, bool) if allowed is None else np.asarray(allowed)
    fits = words.dtype == bool and words.shape == (vocab_size,)
    condition = f"be bool with an entry for each of {vocab_size} words"
    check(fits, "allowed", condition, f"{words.dtype} {words.shape}")
    check(bool(words.any()), "allowed", "allow a word", "none")
    return _generate(
        model, int(length), top_k, params, jnp.asarray(prompt), key, jnp.float32(temperature), words
    )


def allowed_words(
    vocab_size: int, vocabulary: Sequence[str], *, unknown: bool = False
) -> npt.NDArray[np.bool_]:
    """The words that `generate` may draw.

    Args:
      vocab_size: rows of the model, of which those beyond the vocabulary stand for no word.
      vocabulary: the word of each id.
      unknown: whether <unk>, which stands for any rare word, is one.

    Returns:
      bool [vocab_size].

    Raises:
      ConfigError: when no word is left.
    """
    words = [unknown or word != UNK for word in vocabulary]
    check(any(words), "vocabulary", f"hold a word that is not {UNK}", tuple(vocabulary))
    return np.array(words + [False] * (vocab_size - len(words)))


def encode_prompt(
    text: str, vocabulary: Sequence[str]
) -> tuple[npt.NDArray[np.int32], tuple[str, ...]]:
    """Reads a prompt; an empty one stands for the start of a line, the word after an <eos>.

    Args:
      text: words of the vocabulary, separated by blanks; a line end is <eos>.
      vocabulary: the word of each id.

    Returns:
      The ids, [T] with T >= 1, and the words that are read as <unk>, each once.

    Raises:
      ConfigError: for unknown words where the vocabulary has no <unk>, and for an empty prompt or
        a line end where it has no <eos>.
    """
    words = text.replace("\n", f" {EOS} ").split() or [EOS]
    known = set(vocabulary)
    unknown = tuple(dict.fromkeys(word for word in words if word not in known))
    if EOS in unknown:
        raise ConfigError(
            f"`prompt` must hold words on one line, got {text!r}: the model's vocabulary has no "
            f"{EOS} to start a line by."
        )
    if unknown and UNK not in known:
        raise ConfigError(
            f"`prompt` must hold words of the model's vocabulary, got {', '.join(unknown)}: leave "
            f"them out, it has no {UNK} (but {', '.join(vocabulary[:5])}, ...)."
        )
    return encode(words, vocabulary), unknown


def decode(tokens: Any, vocabulary: Sequence[str]) -> str:
    """The text of some ids [T]: words separated by blanks, a new line after each <eos>."""
    lines = " ".join(vocabulary[token] for token in np.asarray(tokens).tolist()).split(EOS)
    return "\n".join(line.strip() for line in lines)


def _whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _checked_prompt(prompt: Any, vocab_size: int) -> npt.NDArray[np.int32]:
    tokens = np.asarray(prompt)
    fits = tokens.ndim == 2 and tokens.size > 0 and np.issubdtype(tokens.dtype, np.integer)
    condition = "be whole numbers [T, B] with T and B of at least 1"
    check(fits, "prompt", condition, f"{tokens.dtype} {tokens.shape}")
    wrong = tokens[(tokens < 0) | (tokens >= vocab_size)]
    check(not wrong.size, "prompt", f"hold ids from 0 to {vocab_size - 1}", wrong[:3].tolist())
    return tokens.astype(np.int32)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _generate(
    model: LanguageModel,
    length: int,
    top_k: int | None,
    params: Params,
    prompt: Array,
    key: Key,
    temperature: Array,
    allowed: Array,
) -> Array:
    logits, carry = model.apply(params, prompt, model.init_carry(prompt.shape[1]))

    def step(state: Any, number: Array) -> tuple[Any, Array]:
        logits, carry = state
        own = jnp.where(allowed[None, :], logits, -jnp.inf)
        tokens = _draw(jax.random.fold_in(key, number), own, temperature, top_k)
        logits, carry = model.apply(params, tokens[None], carry)
        return (logits[0], carry), tokens

    return jax.lax.scan(step, (logits[-1], carry), jnp.arange(length))[1]


def _draw(key: Key, logits: Array, temperature: Array, top_k: int | None) -> Array:
    """A word of each row of logits [B, V], of which the likeliest must be finite; int32 [B]."""
    # A product of the largest by 1 / temperature would overflow: it comes to zero first.
    logits = logits - logits.max(axis=-1, keepdims=True)
    values, words = logits, None
    if top_k is not None:
        values, words = jax.lax.top_k(logits, top_k)
    drawn = jax.random.categorical(key, values / jnp.maximum(temperature, _SMALLEST))
    if words is not None:
        drawn = jnp.take_along_axis(words, drawn[:, None], axis=-1)[:, 0]
    likeliest = logits.argmax(axis=-1)
    return jnp.where(temperature > 0, drawn, likeliest).astype(jnp.int32)
