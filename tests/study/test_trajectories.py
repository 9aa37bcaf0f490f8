import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsh_jax import rnn_lyapunov_spectrum
from lsh_jax.data.batching import columns
from lsh_jax.language_models import make_language_model
from lsh_jax.sparsity import controls
from lsh_jax.study.settings import candidate_seed, networks
from lsh_jax.study.trajectories import open_workshop, train_to_the_end
from lsh_jax.training import evaluated_params, without_averages


@pytest.fixture(scope="module")
def workshop(tiny_study, corpus, workshops):
    if tiny_study.model not in workshops:
        workshops[tiny_study.model] = open_workshop(tiny_study, networks(tiny_study)["0"], corpus)
    return workshops[tiny_study.model]


@pytest.fixture(scope="module")
def course(workshop, tiny_study):
    return list(train_to_the_end(workshop, networks(tiny_study)["0"], seed=1))


def test_the_mean_of_iterates_is_begun_anew_until_it_goes_on(course, workshop, tiny_study):
    network = networks(tiny_study)["0"]
    task = workshop.task.with_seed(1)
    own = controls(network.sparsity)
    state = task.init(jax.random.key(candidate_seed(network, 1)), own, task.hyper)
    state = state._replace(averaging=jnp.ones((), bool))
    for epoch, (line, _) in enumerate(course, start=1):
        if epoch <= 5:
            state = without_averages(state)
        state, _ = task.train(state, own, task.hyper, 1)
        assert line["epoch"] == epoch
        assert line["val_nll_averaged"] == task.evaluate(state, "validation")
        assert line["val_nll"] == task.evaluate(without_averages(state), "validation")
        steps = max(int(jnp.max(leaf)) for leaf in jax.tree.leaves(state.opt_state.steps))
        per_epoch = -(-(700 // 4 - 1) // 8)
        assert steps == (per_epoch if epoch <= 5 else per_epoch * (epoch - 4))


def test_the_topology_changes_and_the_number_of_live_weights_does_not(course):
    lines = [line for line, _ in course]
    assert lines[0]["churn"] is None
    assert all(line["churn"] > 0 for line in lines[1:])
    assert len({line["nonzeros"] for line in lines}) == 1


def test_spectra_are_taken_after_the_epochs_that_the_network_names(course):
    taken = [line["epoch"] for line, spectra in course if spectra is not None]
    assert taken == [2, 3, 6]


def test_a_shorter_spectrum_is_the_start_of_the_longer_run(workshop, tiny_study, corpus):
    model = make_language_model(tiny_study.model)
    params = model.init(jax.random.key(0))
    found = workshop.spectra(params, params)
    for where, length in enumerate(tiny_study.lengths):
        tokens = columns(corpus.validation, tiny_study.batch)[: tiny_study.burn_in + length]
        alone = rnn_lyapunov_spectrum(
            model, params, jnp.asarray(tokens), state="hidden", burn_in=4, qr_every=5
        )
        np.testing.assert_allclose(found["hidden"][where], alone.exponents, atol=1e-5)
    assert found["full"].shape == (1, 2, 12)
    assert found["paper"].shape == (2, 6)
    assert found["averaged"].shape == (1, 2, 6)


def test_the_spectrum_of_means_is_that_of_the_averaged_weights(workshop, tiny_study, corpus):
    model = make_language_model(tiny_study.model)
    weights, means = model.init(jax.random.key(0)), model.init(jax.random.key(1))
    found, other = workshop.spectra(weights, means), workshop.spectra(means, weights)
    np.testing.assert_array_equal(found["averaged"], workshop.spectra(means, means)["averaged"])
    assert np.abs(found["averaged"] - other["averaged"]).max() > 1e-3


def test_the_same_seed_gives_the_same_course(course, workshop, tiny_study):
    again = next(train_to_the_end(workshop, networks(tiny_study)["0"], seed=1))[0]
    assert {k: v for k, v in again.items() if k != "wall_s"} == {
        k: v for k, v in course[0][0].items() if k != "wall_s"
    }


def test_spectra_after_an_epoch_are_those_of_its_last_weights_and_of_their_means(
    course, workshop, tiny_study
):
    network = networks(tiny_study)["0"]
    task, own = workshop.task.with_seed(1), controls(network.sparsity)
    state = task.init(jax.random.key(candidate_seed(network, 1)), own, task.hyper)
    state = state._replace(averaging=jnp.ones((), bool))
    for _ in range(2):
        state, _ = task.train(without_averages(state), own, task.hyper, task.segments_per_epoch)
    weights, means = without_averages(state).params, evaluated_params(state)
    expected = workshop.spectra(weights, means)
    found = course[1][1]
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)
    other = workshop.spectra(means, weights)
    assert np.abs(found["hidden"] - other["hidden"]).max() > 1e-4  # the two are not alike


def test_another_seed_gives_another_course(course, workshop, tiny_study):
    other = next(train_to_the_end(workshop, networks(tiny_study)["0"], seed=2))[0]
    assert other["seed"] == 2
    for name in ("train_nll", "val_nll", "val_nll_averaged", "test_nll_averaged"):
        assert other[name] != course[0][0][name]


def test_a_static_network_is_never_rewired_and_weighs_as_much_as_a_candidate(tiny_table):
    static = tiny_table.trajectories["static-er", 0]
    assert not static.churn.any()
    assert set(static.nonzeros) == set(tiny_table.trajectories["0", 0].nonzeros)
    assert set(static.nonzeros) == {360}
    assert set(tiny_table.trajectories["dense", 0].nonzeros) == {720}


def test_the_dense_network_learns_that_words_follow_from_each_other(tiny_table):
    unigram = tiny_table.settings["text"]["unigram_perplexity"]
    for seed in (0, 1):
        dense = tiny_table.trajectories["dense", seed]
        assert dense.final() < 0.8 * unigram
        assert dense.best_epoch() > 4
