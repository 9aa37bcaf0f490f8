"""Counts worked by hand on a network of 50 multiply-adds a token."""

import dataclasses
import math

import numpy as np
import pytest

from lsh_jax.config import ModelConfig, SpaceConfig, SpectrumConfig, TrainConfig
from lsh_jax.data import Corpus
from lsh_jax.data.batching import columns, evaluation_windows, windows
from lsh_jax.flops import candidate_epoch, dense_epoch, passes, search_flops, spectrum_flops
from lsh_jax.presets import PRESETS

# W 3 x 8, U 2 x 8 and a decoder of 2 x 5; the table of 5 x 3 is looked up.
MODEL = ModelConfig(vocab_size=5, embed_size=3, hidden_size=2, num_layers=1)
# 84 tokens are 4 columns of 20 steps: 4 windows of 5, two a segment, none of them padding.
TRAIN = TrainConfig(batch_size=4, bptt=5, segments_per_epoch=2, eval_batch_size=2)
SETTINGS = dataclasses.replace(
    PRESETS["quick"],
    model=MODEL,
    train=TRAIN,
    sparsity=0.5,
    spectrum=SpectrumConfig(length=4, burn_in=0, batch=1),
    space=SpaceConfig(growth=("random",), update_every=(math.inf,)),
)


def corpus(train=84, validation=44):
    def ones(count):
        return np.ones(count, np.int32)

    return Corpus(ones(train), ones(validation), ones(44), tuple("abcde"), "")


def with_space(**choices):
    own = {"growth": ("random",), "update_every": (1.0,)}
    return dataclasses.replace(SETTINGS, space=SpaceConfig(**(own | choices)))


def test_an_epoch_of_the_dense_network():
    found = dense_epoch(SETTINGS, corpus())
    assert found.training == found.training_needed == 50 * 2 * 80 * 3
    # 44 tokens in 2 columns are 21 steps: 5 windows of 5, the last of them filled up.
    assert found.evaluation == 50 * 2 * (5 * 5 * 2)
    assert found.evaluation_needed == 50 * 2 * (44 - 2)


def test_an_epoch_of_a_static_candidate_needs_its_live_weights():
    found = candidate_epoch(SETTINGS, corpus())
    assert found.training == 50 * 2 * 80 * 3  # products are dense
    # Half of each gate's 6 and 4 weights and of the decoder's 10: 4 x 3 + 4 x 2 + 5 = 25.
    assert found.training_needed == 25 * 2 * 80 * 3
    assert found.evaluation_needed == 25 * 2 * (44 - 2)


def test_a_topology_update_takes_a_gradient_more():
    found = candidate_epoch(with_space(), corpus())
    assert found.training == 50 * 2 * 80 * 3 * 5 // 4  # one for every 4 windows
    assert found.training_needed == 25 * 2 * 80 * 3  # random growth needs none


def test_candidates_count_as_the_dearest():
    cheap, dear = with_space(growth=("random",)), with_space(growth=("random", "momentum"))
    needed = [candidate_epoch(own, corpus()).training_needed for own in (cheap, dear)]
    assert needed == [25 * 2 * 80 * 3, (2 * 25 + 50) * 2 * 80]  # one dense gradient a step


def test_a_search_is_its_epochs():
    own, dense = candidate_epoch(with_space(), corpus()), dense_epoch(SETTINGS, corpus())
    found = search_flops(with_space(), corpus(), 7, 3)
    assert found.training == 7 * own.training + 3 * dense.training
    assert found.evaluation == 10 * dense.evaluation
    assert found.spectra == 10 * spectrum_flops(MODEL, SETTINGS.spectrum)
    assert found.executed == found.training + found.evaluation + found.spectra
    assert found.needed == found.spectra + 7 * (own.training_needed + own.evaluation_needed) + 3 * (
        dense.training_needed + dense.evaluation_needed
    )


def test_averages_have_spectra_of_their_own():
    averaging = dataclasses.replace(TRAIN, averaging="nt-asgd")
    twice = dense_epoch(dataclasses.replace(SETTINGS, train=averaging), corpus())
    assert twice.spectra == 2 * dense_epoch(SETTINGS, corpus()).spectra


@pytest.mark.parametrize(
    ("train", "batch", "bptt", "segments", "limit"),
    [(84, 4, 5, 2, 0), (1000, 4, 7, 3, 0), (1000, 3, 7, 4, 500), (1000, 8, 5, 1, 2000)],
)
def test_tokens_are_counted_as_they_are_cut(train, batch, bptt, segments, limit):
    recipe = TrainConfig(
        batch_size=batch,
        bptt=bptt,
        segments_per_epoch=segments,
        eval_batch_size=batch,
        max_train_tokens=limit,
        max_eval_tokens=limit,
    )
    data = corpus(train, train)
    found = passes(dataclasses.replace(SETTINGS, train=recipe), data)
    trained = windows(columns(data.train[: limit or None], batch), bptt, segments)
    evaluated = evaluation_windows(data.validation[: limit or None], batch, bptt)
    assert (found.training, found.training_needed) == (trained.inputs.size, trained.weights.sum())
    assert found.evaluation == evaluated.inputs.size
    assert found.evaluation_needed == evaluated.weights.sum()
    assert found.windows == trained.inputs.shape[1]


@pytest.mark.parametrize(
    ("cell", "state", "step"),
    [
        # The layer 2 x (24 + 16), the Jacobian 4 x 8, its product 16, Householder's QR 64 / 3.
        ("lstm", "hidden", 80 + 32 + 16 + 21),
        # Three blocks, two products with 4 columns, QR of 4 x 4: 8 / 3 x 64; all 4 of 4 exponents
        # of an LSTM's full state are left to "solve": 7 / 3 x 64.
        ("lstm", "full", 80 + 24 + 64 + 149),
        ("tanh", "hidden", 2 * (6 + 4) + 0 + 16 + 21),  # the product is scaled, not the matrix
        ("gru", "hidden", 2 * (18 + 12) + 24 + 16 + 21),
        ("rhn", "hidden", 2 * (12 + 2 * 8) + 32 + 32 + 21),  # two micro-steps of two gates
    ],
)
def test_a_spectrum_of_each_cell(cell, state, step):
    model = dataclasses.replace(MODEL, cell=cell, depth=2 if cell == "rhn" else 1)
    recipe = SpectrumConfig(state=state, length=4, burn_in=0, batch=1)
    assert spectrum_flops(model, recipe) == 4 * step
    assert spectrum_flops(model, dataclasses.replace(recipe, batch=3)) == 3 * 4 * step


def test_a_long_spectrum_is_factorized_by_lu_and_by_qr_at_the_end_of_intervals():
    recipe = SpectrumConfig(length=100, burn_in=40, batch=1, share=0.5)  # K = 1; intervals of 10
    layer, jacobian, product, lu, qr = 80, 32, 8, (3 * 2 - 1) // 3, (12 * 2 - 4) // 3
    assert spectrum_flops(MODEL, recipe) == 140 * (layer + jacobian + product + lu) + 14 * qr


def test_a_layer_below_another_runs_once_more_for_it():
    recipe = SpectrumConfig(length=4, burn_in=0, batch=1)
    two = dataclasses.replace(MODEL, embed_size=2, num_layers=2)
    one = dataclasses.replace(two, num_layers=1)
    below = 4 * 2 * 16  # its recurrent product, once more at every step
    assert spectrum_flops(two, recipe) == 2 * spectrum_flops(one, recipe) + below
