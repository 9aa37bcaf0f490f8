"""Windows over a contiguous stream of tokens, for truncated backpropagation through time.

All in numpy: a whole epoch is cut once and handed to the device.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lsh_jax.config import ConfigError

Tokens = npt.NDArray[np.int32]


class Windows(NamedTuple):
    """The windows of an epoch in segments of a fixed number of them, padded with weight zero.

    The state of a recurrent network runs on from window to window, and across segments.
    """

    inputs: Tokens  # word ids, [S, W, bptt, B]
    targets: Tokens  # the word that follows each input, [S, W, bptt, B]
    weights: npt.NDArray[np.float32]  # 1, or 0 where the target is padding, [S, W, bptt, B]


def columns(tokens: Tokens, batch_size: int) -> Tokens:
    """Lays a stream [tokens] side by side, [T, B]: column b is the b-th contiguous stretch.

    The tail that does not fill a row is dropped, as is usual in training.

    Raises:
      ConfigError: if a column would be shorter than an input and its target.
    """
    length = len(tokens) // batch_size
    if length < 2:
        raise ConfigError(
            f"`batch_size` must leave each column at least 2 tokens, got {batch_size} for "
            f"{len(tokens)} tokens: use a smaller one, or more text."
        )
    return np.ascontiguousarray(tokens[: length * batch_size].reshape(batch_size, length).T)


def windows(columns: Tokens, bptt: int, num_segments: int) -> Windows:
    """Cuts columns [T, B] into S = `num_segments` segments of W windows of `bptt` steps.

    W = ceil(windows / S). The last window is filled up, and the last segment padded with whole
    windows, of weight zero.

    Raises:
      ConfigError: if a segment would be left without a window.
    """
    count = math.ceil((len(columns) - 1) / bptt)
    per_segment = max(1, math.ceil(count / num_segments))
    filled = math.ceil(count / per_segment)
    if filled < num_segments:
        raise ConfigError(
            f"`segments_per_epoch` must leave no segment empty, got {num_segments} for an epoch of "
            f"{count} windows: use {filled}, a smaller bptt or batch_size, or more text."
        )
    weights = np.ones(columns[1:].shape, np.float32)
    return _cut(columns[:-1], columns[1:], weights, bptt, num_segments, per_segment)


def evaluation_windows(tokens: Tokens, batch_size: int, bptt: int) -> Windows:
    """Cuts a stream [tokens] into windows in which every token but each column's first counts.

    Columns are ceil(tokens / B) long; the last one is filled up with weight zero. S is 1, and
    the weights sum to tokens - B exactly.

    Raises:
      ConfigError: if there are too few tokens to begin every column.
    """
    length = math.ceil(len(tokens) / batch_size)
    if length < 2 or len(tokens) <= (batch_size - 1) * length:
        raise ConfigError(
            f"`eval_batch_size` must leave no column empty, got {batch_size} for "
            f"{len(tokens)} tokens: use a smaller one, or more text."
        )
    padding = (0, length * batch_size - len(tokens))
    laid = np.pad(tokens, padding).reshape(batch_size, length).T
    weights = np.pad(np.ones(len(tokens), np.float32), padding).reshape(batch_size, length).T
    return _cut(laid[:-1], laid[1:], weights[1:], bptt, 1, math.ceil((length - 1) / bptt))


def unigram_nll(train: Tokens, tokens: Tokens, vocab_size: int) -> float:
    """The nll of `tokens`, in nats per token, under the word frequencies of `train`.

    Frequencies are smoothed by adding one to each of the `vocab_size` counts. Its exponential
    is the unigram perplexity: what a model reaches that ignores the context.
    """
    counts = np.bincount(train, minlength=vocab_size) + 1
    return float(np.mean(np.log(counts.sum()) - np.log(counts[tokens])))


def _cut(
    inputs: Tokens,
    targets: Tokens,
    weights: npt.NDArray[np.float32],
    bptt: int,
    num_segments: int,
    per_segment: int,
) -> Windows:
    """Pads arrays [steps, B] in time and cuts them to [S, W, bptt, B]."""
    steps, batch_size = inputs.shape
    padding = ((0, num_segments * per_segment * bptt - steps), (0, 0))
    shape = (num_segments, per_segment, bptt, batch_size)
    return Windows(
        inputs=np.pad(inputs, padding).reshape(shape),
        targets=np.pad(targets, padding).reshape(shape),
        weights=np.pad(weights, padding).reshape(shape),
    )
