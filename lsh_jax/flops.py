"""Floating-point operations of a search, counted before it starts.

Two for every multiply-add of a matrix product, as `lsh_jax.sparsity.counting` counts them; the
arithmetic of gates, the softmax, the optimizer and the choice of weights at a topology update are
left out, and so are the few passes over the test text at the end.
"""

import itertools
import math
from typing import NamedTuple

from lsh_jax.config import ModelConfig, SpectrumConfig
from lsh_jax.data import Corpus
from lsh_jax.distance import num_leading
from lsh_jax.lyapunov.recipe import checked_recipe
from lsh_jax.lyapunov.tangents import rows_per_unit
from lsh_jax.presets import Settings, TrainingSettings
from lsh_jax.search.task import segments_between_updates
from lsh_jax.sizes import model_sizes
from lsh_jax.sparsity.counting import Costs, CountedLeaf, costs, parts_of

_QR = {  # of N rows and K columns, in thirds, see `lsh_jax.lyapunov.orthonormalize`
    "householder": (12, -4),
    "solve": (9, -2),
    "lu": (3, -1),
}  # name -> thirds of N K^2 and of K^3


class EpochFlops(NamedTuple):
    """Of an epoch of one network."""

    training: int  # as executed: by dense products
    evaluation: int
    spectra: int
    training_needed: int  # by the products of live weights alone
    evaluation_needed: int


class SearchFlops(NamedTuple):
    """Of all networks of a search."""

    training: int
    evaluation: int
    spectra: int
    needed: int  # of all three, with sparse products in training and evaluation

    @property
    def executed(self) -> int:
        """Of all three, with the dense products that are made here."""
        return self.training + self.evaluation + self.spectra


class Passes(NamedTuple):
    """The tokens that a network reads in an epoch, and how often its topology may change."""

    training: int  # with those that fill up windows, which are multiplied as well
    training_needed: int  # without them
    evaluation: int
    evaluation_needed: int
    windows: int  # of a segment


def passes(settings: TrainingSettings, corpus: Corpus) -> Passes:
    """Counts tokens as `lsh_jax.data.batching` cuts them.

    Args:
      settings: the training.
      corpus: its data.
    """
    train = settings.train
    steps = num_tokens(corpus.train, train.max_train_tokens) // train.batch_size - 1
    windows = max(1, math.ceil(math.ceil(steps / train.bptt) / train.segments_per_epoch))
    evaluated = num_tokens(corpus.validation, train.max_eval_tokens)
    length = math.ceil(evaluated / train.eval_batch_size) - 1
    return Passes(
        training=train.segments_per_epoch * windows * train.bptt * train.batch_size,
        training_needed=steps * train.batch_size,
        evaluation=math.ceil(length / train.bptt) * train.bptt * train.eval_batch_size,
        evaluation_needed=evaluated - train.eval_batch_size,
        windows=windows,
    )


def num_tokens(tokens: object, longest: int) -> int:
    """Tokens of a split that are used; `longest` is 0 for all."""
    length = len(tokens)  # type: ignore[arg-type]
    return min(length, longest or length)


def search_flops(settings: Settings, corpus: Corpus, epochs: int, epochs_dense: int) -> SearchFlops:
    """Counts the operations of a search.

    An epoch of training takes 3 x 2 x multiply-adds x tokens, the backward pass twice the forward
    one (as Kaplan et al., 2020, arXiv 2001.08361, section 2.1, count), and a gradient more at every
    topology update; see `lsh_jax.sparsity.counting.costs`. Evaluation takes a third of it a token.
    Live weights are taken to be spread evenly over the matrices. Where candidates differ, by growth
    and by how often they update, all count as the dearest.

    Args:
      settings: the search.
      corpus: its data.
      epochs: of candidates.
      epochs_dense: of dense networks, those of their tuning among them.
    """
    sparse, dense = candidate_epoch(settings, corpus), dense_epoch(settings, corpus)
    pairs = [(sparse, epochs), (dense, epochs_dense)]
    spectra = sum(count * own.spectra for own, count in pairs)
    return SearchFlops(
        training=sum(count * own.training for own, count in pairs),
        evaluation=sum(count * own.evaluation for own, count in pairs),
        spectra=spectra,
        needed=spectra
        + sum(count * (own.training_needed + own.evaluation_needed) for own, count in pairs),
    )


def dense_epoch(settings: TrainingSettings, corpus: Corpus) -> EpochFlops:
    """Counts the operations of an epoch of the dense network."""
    return _epoch(settings, corpus, costs(model_sizes(settings.model).leaves))


def candidate_epoch(settings: Settings, corpus: Corpus) -> EpochFlops:
    """Counts the operations of an epoch of the dearest candidate."""
    leaves = model_sizes(settings.model).leaves
    live = [round((1 - settings.sparsity) * part.weights) for part in parts_of(leaves)]
    windows = passes(settings, corpus).windows
    found = []
    for growth, every in itertools.product(settings.space.growth, settings.space.update_every):
        interval = segments_between_updates(every, settings.train.segments_per_epoch)
        own = costs(leaves, live, growth=growth, steps_between_updates=interval * windows)
        found.append(_epoch(settings, corpus, own))
    return EpochFlops(*map(max, zip(*found, strict=True)))


def _epoch(settings: TrainingSettings, corpus: Corpus, own: Costs) -> EpochFlops:
    tokens = passes(settings, corpus)
    forward = 2 * model_sizes(settings.model).multiply_adds
    num_spectra = 1 if settings.train.averaging == "none" else 2  # of averages and of weights
    return EpochFlops(
        training=own.flops_training_executed * tokens.training,
        evaluation=forward * tokens.evaluation,
        spectra=num_spectra * spectrum_flops(settings.model, settings.spectrum),
        training_needed=own.flops_training_needed * tokens.training_needed,
        evaluation_needed=own.flops_forward * tokens.evaluation_needed,
    )


def spectrum_flops(model: ModelConfig, recipe: SpectrumConfig) -> int:
    """Counts the operations of a Lyapunov spectrum of all layers, by our structured tangents.

    For a layer of H units with a state of N rows and K exponents, at every step of every column of
    the batch: the layer itself; the Jacobian, 2 H^2 for each block of a gate; its product with the
    frame, 2 H^2 K (twice that for the full state of an LSTM, `depth` times for an RHN); and a
    factorization, see `lsh_jax.lyapunov.orthonormalize`: LU at every step and a QR at the end of
    each interval, or a QR at every step. (`lsh_jax/lyapunov/README.md`, "What it costs".) All of it
    is dense, whatever is pruned.

    Args:
      model: the network.
      recipe: of the spectrum.
    """
    rows = rows_per_unit(model.cell, recipe.state)
    counts = [num_leading(recipe.share, width * rows) for width in model.widths]
    steps = recipe.burn_in + recipe.length
    shape, burn_in = (steps, recipe.batch), recipe.burn_in
    plan = checked_recipe(model, shape, recipe.state, counts, burn_in, True, "auto", None, None)
    leaves = model_sizes(model).leaves
    total = 0
    for layer, (width, count) in enumerate(zip(model.widths, counts, strict=True)):
        own = [leaf for leaf in leaves if leaf.name.startswith(f"layers_{layer}/")]
        matrices = [leaf for leaf in own if len(leaf.shape) > 1]
        is_last = layer == len(counts) - 1
        a_step = _layer_flops(matrices, is_last=is_last)
        a_step += _tangent_flops(model.cell, recipe.state, matrices, width, count)
        blocked = plan.qr_every > 1
        a_step += _factorization("lu", width * rows, count) if blocked else 0
        name = plan.qr if not blocked and plan.qr in _QR else "householder"
        num_qr = _intervals(recipe.burn_in, recipe.length, plan.qr_every)
        total += steps * a_step + num_qr * _factorization(name, width * rows, count)
    return recipe.batch * total


def _layer_flops(matrices: list[CountedLeaf], *, is_last: bool) -> int:
    """The layer at a step: for its tangent, and again for the input of the layer above."""
    inputs = sum(leaf.size for leaf in matrices if leaf.name.endswith("/W"))
    recurrent = sum(leaf.size for leaf in matrices) - inputs
    return 2 * inputs + 2 * recurrent * (1 if is_last else 2)


def _tangent_flops(
    cell: str, state: str, matrices: list[CountedLeaf], width: int, count: int
) -> int:
    """The Jacobian at a step and its product with the frame."""
    recurrent = [leaf for leaf in matrices if not leaf.name.endswith("/W")]
    blocks = sum(leaf.shape[-1] // width for leaf in recurrent)
    products = len(recurrent)
    if cell == "lstm" and state == "full":  # that of the output gate is multiplied by itself
        blocks, products = 3, 2
    if cell == "tanh":  # its product is scaled, not its matrix
        blocks = 0
    return 2 * width**2 * (blocks + products * count)


def _factorization(name: str, rows: int, columns: int) -> int:
    by_rows, by_columns = _QR[name]
    return (by_rows * rows * columns**2 + by_columns * columns**3) // 3


def _intervals(burn_in: int, length: int, qr_every: int) -> int:
    """Those of `benettin_scan`: burn-in and average are each cut from the end of the former on."""
    return -(-burn_in // qr_every) + -(-length // qr_every)
