"""Averages of weights in a search: recorded, and compared with averages alone."""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
import pytest

from lsh_jax.config import SpaceConfig, SparsityConfig
from lsh_jax.report.run import read_run
from lsh_jax.search.dense import load_dense
from lsh_jax.search.epoch import measure
from lsh_jax.search.hyperpruning import hyperprune
from lsh_jax.search.ledger import Ledger
from lsh_jax.search.scores import Spectra, Spectrum, alike
from lsh_jax.search.task import TrainInfo
from lsh_jax.sparsity import controls as make_controls

SHRINK = 0.9  # what averaging does to the toy's nll, and to its exponents


@pytest.fixture(scope="module")
def averaging_task(toy_task):
    """The toy, whose dense network averages from epoch 3 on, and a candidate of rate 0.8 from 2."""

    def make(trained=None):
        toy = toy_task(trained=trained)

        def init(key, controls, hyper):
            state = toy.init(key, controls, hyper)
            # An epoch later for a rate other than 0.8; the dense network's counts as 0.6.
            waits = jnp.where(jnp.abs(state["rate"] - 0.8) < 1e-3, 1, 2)
            return state | {"averaging": jnp.bool_(False), "waits": waits}

        def evaluate(state, split):
            return toy.evaluate(state, split) * (SHRINK if state["averaging"] else 1.0)

        def spectrum(state):
            level = evaluate(state, "validation")
            return np.array([[-level, -2 * level]]), np.full((1, 2), 0.01)

        def end_epoch(state, val_nll):
            assert val_nll == evaluate(state, "validation")
            epoch = state["segments"] // toy.segments_per_epoch
            return state | {"averaging": epoch >= state["waits"]}

        def unaveraged(state):
            return state | {"averaging": jnp.bool_(False)} if state["averaging"] else None

        return toy._replace(
            init=init,
            evaluate=evaluate,
            spectrum=spectrum,
            end_epoch=end_epoch,
            unaveraged=unaveraged,
        )

    return make


@pytest.fixture(scope="module")
def config(search_config):
    space = SpaceConfig(
        init=("uniform",),
        death=("magnitude",),
        growth=("random",),
        redistribution=("none",),
        death_rate=(0.4, 0.6, 0.8),
    )
    return search_config(max_evals=3, space=space)


@pytest.fixture(scope="module")
def straight(averaging_task, config, tmp_path_factory):
    run = tmp_path_factory.mktemp("straight") / "run"
    return hyperprune(averaging_task(), config, out=run), run


def lines(run):
    records = Ledger(run / "trials.jsonl").records()
    return [dataclasses.replace(record, wall_s=None) for record in records]


def test_the_ledger_says_which_epochs_were_averaged(straight):
    for record in straight[0].records:
        fast = record.controls.get("death_rate") == 0.8
        assert record.averaging == (record.epoch > (1 if fast else 2))


def test_averages_are_compared_with_averages_and_weights_with_weights(straight):
    dense = {r.epoch: r for r in straight[0].records if r.trial == "dense"}
    cases = set()
    for record in straight[0].records:
        if record.trial == "dense" or record.duplicate_of is not None:
            continue
        other = dense[record.epoch]
        if record.averaging != other.averaging:  # the nll of the weights that were not evaluated
            record = dataclasses.replace(record, val_nll=record.val_nll / SHRINK)
        expected = math.sqrt(5) * abs(record.val_nll - other.val_nll)
        assert record.ls_distance == pytest.approx(expected, rel=1e-5, abs=1e-6)
        cases.add((record.averaging, other.averaging))
    assert cases == {(False, False), (True, False), (True, True)}


def test_averages_and_weights_are_a_pair_only_where_both_have_both():
    averages, weights, plain = (Spectrum(np.full((1, 2), i), np.zeros((1, 2))) for i in range(3))
    averaging, raw = Spectra(averages, weights), Spectra(plain)
    assert alike(averaging, averaging) == (averages, averages)
    assert alike(averaging, raw) == (weights, plain)
    assert alike(raw, averaging) == (plain, weights)
    assert alike(raw, raw) == (plain, plain)


def test_spectra_of_weights_lie_beside_those_of_averages(straight):
    found, run = straight
    own = [record for record in found.records if record.duplicate_of is None]
    names = {True: set(), False: set()}
    for record in own:
        names[record.averaging].add(f"{record.trial}/{record.epoch}")
    evaluated, raw = (np.load(run / f"{name}.npz") for name in ("spectra", "spectra_raw"))
    assert set(evaluated) == names[True] | names[False]
    assert set(raw) == set(np.load(run / "spectra_raw_std_error.npz")) == names[True]
    for name in raw:
        np.testing.assert_allclose(evaluated[name], SHRINK * raw[name], rtol=1e-6)
    assert len(read_run(run).spectra) == len(own)  # a report's reader knows the averages alone


@pytest.mark.parametrize("after", [6, pytest.param(2, marks=pytest.mark.slow)])
def test_a_search_that_is_resumed_averages_from_the_same_epoch_on(
    averaging_task, config, straight, tmp_path, after
):
    """Interrupted right after an epoch at whose end averaging starts: dense, and a candidate."""
    seen = 0

    def stop(kind, values):
        nonlocal seen
        seen += kind == "record"
        if seen == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hyperprune(averaging_task(), config, out=tmp_path / "run", on_event=stop)
    hyperprune(averaging_task(), config, out=tmp_path / "run", resume=True)
    assert lines(tmp_path / "run") == lines(straight[1])


def test_a_dense_run_that_averaged_serves_with_both_spectra(
    averaging_task, config, straight, tmp_path
):
    task = averaging_task()
    hyperprune(task, config, out=tmp_path / "run", dense=load_dense(task, straight[1]))
    assert lines(tmp_path / "run") == lines(straight[1])


def test_a_spectrum_of_weights_that_is_not_finite_is_a_failure(averaging_task):
    task = averaging_task()
    state = task.init(None, make_controls(SparsityConfig()), task.hyper)
    state |= {"averaging": jnp.bool_(True)}

    def spectrum(own):
        exponents, std_error = task.spectrum(own)
        return exponents * (1.0 if own["averaging"] else math.nan), std_error

    total = TrainInfo(1.0, 1.0, 0.0, 0, 3)
    assert measure(task, state, total, None)[1].failure is None
    _, measured = measure(task._replace(spectrum=spectrum), state, total, None)
    assert measured.failure == "the Lyapunov spectrum is not finite"
