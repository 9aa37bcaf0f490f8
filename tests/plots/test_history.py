import math

import pytest

from lsh_jax.plots.history import plot_history
from lsh_jax.search.ledger import Record


def record(epoch, perplexity, averaging=False):
    return Record(
        trial="dense",
        epoch=epoch,
        round=None,
        controls={},
        seed=0,
        train_nll=math.log(200 / epoch),
        val_nll=math.log(perplexity),
        val_perplexity=perplexity,
        averaging=averaging,
    )


def test_training_and_validation_are_drawn_epoch_by_epoch():
    records = [record(1, 120.0), record(2, 90.0), record(3, 80.0, averaging=True)]
    (axes,) = plot_history(records, unigram=300.0).axes
    lines = {line.get_label(): line for line in axes.get_lines()}
    assert list(lines["validation"].get_ydata()) == [120.0, 90.0, 80.0]
    assert list(lines["training, with dropout"].get_ydata()) == pytest.approx([200, 100, 200 / 3])
    assert list(lines["averaged weights"].get_xdata()) == [3]
    assert list(lines["unigram"].get_ydata()) == [300.0, 300.0]


def test_what_there_is_not_is_not_in_the_legend():
    (axes,) = plot_history([record(1, 120.0)]).axes
    labels = {line.get_label() for line in axes.get_lines()}
    assert labels == {"validation", "training, with dropout"}
