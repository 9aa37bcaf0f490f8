"""What a call of `rnn_lyapunov_spectrum` asks for: its arguments, checked, as a static recipe."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lsh_jax.config import ModelConfig, SpectrumState, check, check_choice, choices
from lsh_jax.lyapunov.checks import check_count
from lsh_jax.lyapunov.orthonormalize import NAMES
from lsh_jax.lyapunov.tangents import rows_per_unit
from lsh_jax.types import Array


class Recipe(NamedTuple):
    """The static part of a call: one program for each."""

    config: ModelConfig
    state: str
    num_exponents: tuple[int, ...]  # one per layer, or a single one for the whole stack
    burn_in: int
    per_layer: bool
    qr: str
    qr_every: int
    log_base: float
    paper: bool
    hold: bool
    batch_chunk: int | None
    mesh: Any


def checked_tokens(tokens: Array, burn_in: int, vocab_size: int) -> Array:
    """The tokens as an array [T, B], or a `ConfigError`."""
    tokens = jnp.asarray(tokens)
    shape = tokens.shape
    check(tokens.ndim == 2 and tokens.size > 0, "tokens", "be a batch of columns [T, B]", shape)
    integer = jnp.issubdtype(tokens.dtype, jnp.integer)
    check(integer, "tokens", "hold integers", str(tokens.dtype))
    if not isinstance(tokens, jax.core.Tracer):
        least, most = np.asarray(tokens).min(), np.asarray(tokens).max()
        known = least >= 0 and most < vocab_size
        check(known, "tokens", f"lie in [0, {vocab_size}), the vocabulary", f"{least} to {most}")
    check_count("burn_in", burn_in)
    condition = f"lie in [0, {shape[0]}), as tokens are [T, B] = {shape}"
    check(0 <= burn_in < shape[0], "burn_in", condition, burn_in)
    return tokens


def checked_recipe(
    config: ModelConfig,
    shape: tuple[int, ...],
    state: str,
    num_exponents: int | Sequence[int] | None,
    burn_in: int,
    per_layer: bool,
    qr: str,
    qr_every: int | None,
    recipe: str | None,
) -> Recipe:
    """The recipe that the arguments of `rnn_lyapunov_spectrum` ask for, or a `ConfigError`."""
    check_choice("state", state, choices(SpectrumState))
    check_choice("qr", qr, NAMES)
    check(recipe in (None, "paper"), "recipe", 'be None or "paper"', recipe)
    steps = shape[0] - burn_in
    if recipe:
        check(per_layer, "per_layer", 'be True with recipe="paper"', per_layer)
        check(num_exponents is None, "num_exponents", 'be None with recipe="paper"', num_exponents)
        state, qr, qr_every = "hidden", "householder", 1
    sizes = tuple(width * rows_per_unit(config.cell, state) for width in config.widths)
    counts = _checked_counts(num_exponents, sizes if per_layer else (sum(sizes),))
    blocked = qr in ("auto", "lu")
    if qr_every is None:
        if qr == "auto" and _delicate(config, state, sum(counts)):
            qr, blocked = "solve", False
        qr_every = _interval(burn_in, steps) if blocked else 1
        qr_every = max(qr_every, 2) if qr == "lu" else qr_every
    check(qr_every >= (2 if qr == "lu" else 1), "qr_every", "be at least 1, 2 for lu", qr_every)
    unstable = qr_every > 1 and not blocked
    check(not unstable, "qr_every", f'be 1 with qr="{qr}"; "auto" and "lu" stand more', qr_every)
    return Recipe(
        config,
        state,
        counts,
        burn_in,
        per_layer,
        qr,
        qr_every,
        math.e,
        bool(recipe),
        False,
        None,
        None,
    )


def _delicate(config: ModelConfig, state: str, num_exponents: int) -> bool:
    """Whether LU would err by more than 1e-3 nats in float32: most of an LSTM's (h, c).

    Its Jacobian is nearly singular, some 10 nats from the first exponent to the last, and LU errs
    many times as much as QR in the last of them; "solve" errs the least
    (benchmarks/precision.py).
    """
    size = sum(config.widths) * rows_per_unit(config.cell, state)
    return config.cell == "lstm" and state == "full" and 5 * num_exponents > 3 * size


def _interval(burn_in: int, num_steps: int) -> int:
    """About sqrt(T) steps, preferably of a length that divides burn-in and T.

    Then one loop does all; every part that is left over is a loop more to compile.
    """
    root = max(math.isqrt(num_steps), 2)
    if num_steps < 16:  # a standard error needs four intervals
        return 1
    lengths = range(max(root // 2, 2), min(2 * root, num_steps // 4) + 1)
    fitting = [n for n in lengths if math.gcd(n, burn_in, num_steps) == n]
    return min(fitting, key=lambda n: abs(n - root), default=root)


def _checked_counts(
    num_exponents: int | Sequence[int] | None, sizes: tuple[int, ...]
) -> tuple[int, ...]:
    """K of each system, one for each of `sizes`."""
    if num_exponents is None:
        return sizes
    if isinstance(num_exponents, Sequence):
        counts = tuple(num_exponents)
        one_each = f"have one entry for each of {len(sizes)}"
        check(len(counts) == len(sizes), "num_exponents", one_each, counts)
    else:
        counts = (num_exponents,) * len(sizes)
    for count, size in zip(counts, sizes, strict=True):
        check(1 <= count <= size, "num_exponents", f"lie in [1, {size}]", count)
    return counts
