"""The course of one training: perplexity over the epochs."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from lsh_jax.plots.style import BASELINE, DENSE, FINALIST, canvas, epoch_axis, house_style, legend
from lsh_jax.search.ledger import Record, perplexity


@house_style
def plot_history(records: Sequence[Record], unigram: float | None = None) -> Figure:
    """Training and validation perplexity of a network after every epoch.

    Args:
      records: of one network, by epoch; training is with dropout, validation without.
      unigram: perplexity of a predictor without memory, drawn as a line where it is given.

    Returns:
      A Figure; epochs whose validation reads averaged weights have a filled point.
    """
    figure, axes = canvas("Training", "epoch", "perplexity")
    trained = [(r.epoch, perplexity(r.train_nll)) for r in records if r.train_nll is not None]
    axes.plot(*zip(*trained, strict=True), color=FINALIST, ls="--", label="training, with dropout")
    known = [r for r in records if r.val_perplexity is not None]
    epochs, values = [r.epoch for r in known], [r.val_perplexity or 0.0 for r in known]
    axes.plot(epochs, values, color=DENSE, marker="o", mfc="white", ms=4, label="validation")
    averaged = [(r.epoch, r.val_perplexity) for r in known if r.averaging]
    if averaged:
        axes.plot(*zip(*averaged, strict=True), "o", color=DENSE, ms=4, label="averaged weights")
    if unigram is not None:
        axes.axhline(unigram, color=BASELINE, lw=1.2, ls=":", label="unigram")
    axes.set_yscale("log")
    epoch_axis(axes, epochs)
    legend(figure)
    return figure
