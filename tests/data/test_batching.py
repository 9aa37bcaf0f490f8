import math

import numpy as np
import pytest

from lsh_jax.config import ConfigError
from lsh_jax.data.batching import columns, evaluation_windows, unigram_nll, windows


def stream(length):
    return np.arange(1, length + 1, dtype=np.int32)  # no zeros, so padding would be seen


def test_columns_are_contiguous_stretches_and_the_tail_is_dropped():
    # 11 tokens in 3 columns: 3 rows, tokens 10 and 11 dropped.
    laid = columns(stream(11), 3)
    assert laid.tolist() == [[1, 4, 7], [2, 5, 8], [3, 6, 9]]
    assert laid.dtype == np.int32


def test_columns_of_less_than_two_tokens_are_refused():
    assert columns(stream(6), 3).shape == (2, 3)
    with pytest.raises(ConfigError, match=r"`batch_size` .* got 3 for 5 tokens: use a smaller"):
        columns(stream(5), 3)


def test_windows_are_worked_out_by_hand():
    # One column 1..8, 7 targets, windows of 3: (1 2 3)(4 5 6)(7 . .). Two segments of
    # ceil(3 / 2) = 2 windows; the fourth window is padding.
    result = windows(columns(stream(8), 1), 3, 2)
    assert result.inputs[..., 0].tolist() == [[[1, 2, 3], [4, 5, 6]], [[7, 0, 0], [0, 0, 0]]]
    assert result.targets[..., 0].tolist() == [[[2, 3, 4], [5, 6, 7]], [[8, 0, 0], [0, 0, 0]]]
    assert result.weights[..., 0].tolist() == [[[1, 1, 1], [1, 1, 1]], [[1, 0, 0], [0, 0, 0]]]
    assert [field.dtype for field in result] == [np.int32, np.int32, np.float32]


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize(
    ("bptt", "num_segments"), [(1, 1), (1, 3), (5, 2), (5, 3), (7, 1), (7, 2), (7, 3), (200, 1)]
)
def test_windows_joined_together_are_the_columns(batch_size, bptt, num_segments):
    laid = columns(stream(150), batch_size)
    result = windows(laid, bptt, num_segments)
    inputs, targets, weights = (field.reshape(-1, batch_size) for field in result)
    steps = len(laid) - 1
    np.testing.assert_array_equal(inputs[:steps], laid[:-1])
    np.testing.assert_array_equal(targets[:steps], laid[1:])
    assert weights[:steps].all()
    assert not weights[steps:].any()
    assert result.inputs.shape[0] == num_segments
    assert result.weights.sum(axis=(1, 2, 3)).all()  # no segment is empty


def test_a_segment_without_a_window_is_refused_and_the_remedy_works():
    # 5 windows: 4 segments of 2 would leave the last one empty, 3 do not.
    laid = columns(stream(11), 1)
    with pytest.raises(ConfigError, match=r"`segments_per_epoch` .* got 4 .* 5 windows: use 3"):
        windows(laid, 2, 4)
    assert windows(laid, 2, 3).inputs.shape == (3, 2, 2, 1)
    with pytest.raises(ConfigError, match=r"`segments_per_epoch` .* got 6 .* use 5"):
        windows(laid, 2, 6)


@pytest.mark.parametrize("length", [17, 20, 21, 199])
@pytest.mark.parametrize("batch_size", [1, 3, 4])
@pytest.mark.parametrize("bptt", [1, 4, 64])
def test_evaluation_counts_every_token_but_each_columns_first_once(length, batch_size, bptt):
    tokens = stream(length)
    result = evaluation_windows(tokens, batch_size, bptt)
    assert result.inputs.shape[0] == 1
    assert result.weights.sum() == length - batch_size
    counted = result.targets[result.weights == 1]
    height = math.ceil(length / batch_size)
    np.testing.assert_array_equal(np.sort(counted), np.setdiff1d(tokens, tokens[::height]))
    # Each counted target follows its input in the stream.
    np.testing.assert_array_equal(counted, result.inputs[result.weights == 1] + 1)


def test_evaluation_windows_are_worked_out_by_hand():
    # 8 tokens in 3 columns of ceil(8 / 3) = 3: 1 2 3, 4 5 6, 7 8 and a filler.
    result = evaluation_windows(stream(8), 3, 2)
    assert result.inputs.tolist() == [[[[1, 4, 7], [2, 5, 8]]]]
    assert result.targets.tolist() == [[[[2, 5, 8], [3, 6, 0]]]]
    assert result.weights.tolist() == [[[[1, 1, 1], [1, 1, 0]]]]


@pytest.mark.parametrize(("length", "batch_size"), [(9, 4), (4, 4), (3, 4), (1, 1), (0, 2)])
def test_evaluation_with_an_empty_column_is_refused(length, batch_size):
    # 9 tokens in 4 columns of 3 leave the fourth empty.
    with pytest.raises(ConfigError, match=f"`eval_batch_size` .* got {batch_size} for {length} "):
        evaluation_windows(stream(length), batch_size, 2)


def test_unigram_nll_is_worked_out_by_hand():
    # Smoothed counts of train (0 0 1, three types): 3, 2, 1 of 6.
    train = np.array([0, 0, 1], np.int32)
    tokens = np.array([0, 2], np.int32)
    expected = -(math.log(3 / 6) + math.log(1 / 6)) / 2
    assert unigram_nll(train, tokens, 3) == pytest.approx(expected, rel=1e-12)


def test_unigram_perplexity_of_a_uniform_stream_is_the_vocabulary_size():
    tokens = np.tile(np.arange(7, dtype=np.int32), 10)
    assert math.exp(unigram_nll(tokens, tokens, 7)) == pytest.approx(7, rel=1e-12)
