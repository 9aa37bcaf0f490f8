"""The laws of a task of one's own; a small tanh network on noisy sums."""

import functools
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from own_network import BATCHES, DRIVING, N, S, make_task, network, step

from lsh_jax import SequenceBatches, SequenceNetwork, cut_batches, hyperprune, make_sequence_task
from lsh_jax.checkpoint import restore_checkpoint, save_checkpoint
from lsh_jax.config import ConfigError, SearchConfig, SpaceConfig, SparsityConfig
from lsh_jax.lyapunov import lyapunov_spectrum
from lsh_jax.saved_params import load_params
from lsh_jax.search.dense import SearchError
from lsh_jax.search.measure import Measure
from lsh_jax.search.process_executor import ProcessExecutor
from lsh_jax.search.trial import DENSE
from lsh_jax.sequence_training import adam, momentum_sgd, sgd
from lsh_jax.sparsity import controls, count_live

PRUNED = SparsityConfig(sparsity=0.5, death_rate=0.5, growth="gradient", update_every=0.5)
KEY = jax.random.key(7)
SLOW = pytest.mark.slow


def start(task, config=PRUNED):
    return task.init(KEY, controls(config), task.hyper)


def trained(task, num_segments, config=PRUNED, state=None):
    state = start(task, config) if state is None else state
    return task.train(state, controls(config), task.hyper, num_segments)


def assert_same(a, b):
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        if jnp.issubdtype(left.dtype, jax.dtypes.prng_key):
            left, right = jax.random.key_data(left), jax.random.key_data(right)
        np.testing.assert_array_equal(left, right)


@pytest.fixture(autouse=True, scope="module")
def optax_promotes():
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="module")
def task():
    return make_task()


def by_hand(key, batches, epochs):
    """The same recipe in plain optax, without masks."""
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.01))
    params = network().init(key)
    opt_state = optimizer.init(params)

    @jax.jit
    def step(params, opt_state, batch):
        def mean(params):
            total, count = network().loss(params, batch, None)
            return total / count

        updates, opt_state = optimizer.update(jax.grad(mean)(params), opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    for _ in range(epochs):
        for segment in range(S):
            for index in range(N):
                batch = jax.tree.map(lambda a, s=segment, i=index: a[s, i], batches)
                params, opt_state = step(params, opt_state, batch)
    return params


def test_the_dense_network_is_that_of_training_by_hand_without_masks(task):
    init_key, _ = jax.random.split(jax.random.key(0))
    state, info = trained(task, 2 * S, DENSE)
    expected = by_hand(init_key, BATCHES.train, 2)
    # Other programs round sums otherwise; Adam's steps are 0.01 long and 16 in number.
    for got, wanted in zip(jax.tree.leaves(state.params), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-5)
    assert info.nonzeros == count_live(state.sparsity.masks)
    assert info.num_updates == 0
    assert info.num_tokens == 2 * S * N * 8


def test_a_checkpoint_goes_on_bit_for_bit(task, tmp_path):
    whole, info = trained(task, 2 * S + 1)
    half, _ = trained(task, S)
    save_checkpoint(tmp_path / "state", half)
    again, _ = trained(task, S + 1, state=restore_checkpoint(tmp_path / "state", start(task)))
    assert info.num_updates == 4
    assert_same(whole, again)


def test_segments_one_by_one_are_those_of_one_call(task):
    whole, info = trained(task, 3)
    state, sums = start(task), []
    for _ in range(3):
        state, own = trained(task, 1, state=state)
        sums.append(own)
    assert_same(whole, state)
    assert info.nll_sum == pytest.approx(sum(own.nll_sum for own in sums), rel=1e-6)
    assert info.num_updates == sum(own.num_updates for own in sums) == 2


@pytest.mark.parametrize("optimizer", [adam, momentum_sgd, pytest.param(sgd, marks=SLOW)])
def test_updates_keep_the_number_of_live_weights_and_dead_ones_at_zero(optimizer):
    task = make_task(optimizer=optimizer)
    first = start(task)
    state, info = trained(task, 2 * S)
    before, after = (count_live(s.sparsity.masks) for s in (first, state))
    assert info.churn_sum > 0
    assert before == after == info.nonzeros == 36
    for leaf, mask in zip(
        jax.tree.leaves(state.params), jax.tree.leaves(state.sparsity.masks), strict=True
    ):
        np.testing.assert_array_equal(np.asarray(leaf)[~np.asarray(mask)], 0)


def test_an_update_falls_at_the_start_of_the_next_segment(task):
    state, info = trained(task, 1)
    assert info.num_updates == 0
    assert_same(state.sparsity.masks, start(task).sparsity.masks)
    _, info = trained(task, 1, state=state)
    assert info.num_updates == 1


def test_grown_weights_start_with_fresh_slots():
    task = make_task(optimizer=momentum_sgd)
    state, _ = trained(task, 1)
    moved, _ = task.train(state, controls(PRUNED), task.hyper._replace(learning_rate=0.0), 1)
    grown = np.asarray(moved.sparsity.masks["U"]) & ~np.asarray(state.sparsity.masks["U"])
    assert grown.any()
    np.testing.assert_array_equal(np.asarray(moved.params["U"])[grown], 0)


def test_weights_and_noise_come_from_the_seed_alone(task):
    # Masks are the candidate's; what is alive in both starts with the same weight.
    a, b = start(task), task.init(jax.random.key(8), controls(PRUNED), task.hyper)
    both = np.asarray(a.sparsity.masks["U"]) & np.asarray(b.sparsity.masks["U"])
    assert both.any() and not both.all()
    np.testing.assert_array_equal(np.asarray(a.params["U"])[both], np.asarray(b.params["U"])[both])
    other = start(task.with_seed(1), DENSE)
    assert not np.array_equal(other.params["U"], start(task, DENSE).params["U"])


def test_the_key_of_the_loss_is_for_training_alone():
    noisy = make_task(noise=0.5)
    state = start(noisy)
    assert noisy.evaluate(state, "validation") == noisy.evaluate(state, "validation")
    same, other = (trained(noisy, 1)[0] for _ in range(2))
    assert_same(same, other)
    plain, _ = trained(make_task(), 1)
    assert not np.array_equal(same.params["U"], plain.params["U"])


def test_evaluation_is_the_mean_over_the_blocks(task):
    state, _ = trained(task, 1)
    sums, counts = task.block_nll(state, "test")
    assert sums.shape == counts.shape == (3,)
    assert task.evaluate(state, "test") == pytest.approx(sums.sum() / counts.sum())


def test_a_batch_of_count_zero_changes_nothing(task):
    empty = jax.tree.map(np.zeros_like, BATCHES.train)
    silent = make_task(train=empty, weighted=True)
    state, info = trained(silent, 1, DENSE)
    assert_same(state.params, start(silent, DENSE).params)
    assert info.num_tokens == 0


def test_a_split_needs_predictions_in_every_batch():
    silent = make_task(weighted=True, validation=jax.tree.map(np.zeros_like, BATCHES.validation))
    with pytest.raises(ConfigError, match=r"every batch of data.validation, got \[0.0, 0.0\]"):
        silent.evaluate(start(silent), "validation")


def test_spectra_are_pure_and_of_the_masked_weights(task):
    state, _ = trained(task, 1)
    exponents, error = task.spectrum(state)
    assert exponents.shape == error.shape == (1, 4)
    assert np.isfinite(exponents).all() and (np.diff(exponents) <= 0).all()


def test_the_fingerprint_tells_data_programs_and_recipe_apart(task):
    base = task.fingerprint()
    assert make_task().fingerprint() == base
    changed = [
        make_task(learning_rate=0.02),
        make_task(optimizer=sgd),
        make_task(noise=0.5),
        make_task(train=jax.tree.map(lambda a: a + 1, BATCHES.train)),
        task.with_seed(1),
    ]
    assert len({base, *(other.fingerprint() for other in changed)}) == 6
    # What the programs compute is in it, constants of the loss too.
    found, noisy = json.loads(base), json.loads(changed[2].fingerprint())
    assert {name for name in found if found[name] != noisy[name]} == {"programs"}


def test_the_model_is_saved_and_read_again(task, tmp_path):
    state, _ = trained(task, 1)
    task.save(state, tmp_path)
    like = jax.eval_shape(network().init, jax.random.key(0))
    params, masks, notes = load_params(tmp_path, like)
    assert_same(params, state.params)
    assert_same(masks, state.sparsity.masks)
    assert notes == {"task": "sums", "seed": 0}


def test_a_damaged_model_is_refused(task, tmp_path):
    like = jax.eval_shape(network().init, jax.random.key(0))
    with pytest.raises(ConfigError, match=r"`path` must hold params.json"):
        load_params(tmp_path, like)
    task.save(start(task), tmp_path)
    with pytest.raises(ConfigError, match="U does not fit"):
        load_params(tmp_path, {**like, "U": jax.ShapeDtypeStruct((7, 6), jnp.float32)})
    with pytest.raises(ConfigError, match="has no place for"):
        load_params(tmp_path, {name: leaf for name, leaf in like.items() if name != "U"})
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(ConfigError, match="its checksum is another"):
        load_params(tmp_path, like)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"dropout_input": (0.1, 0.2)}, "`space.dropout_input` must be empty"),
        ({"growth": ("random_gates",)}, "`space.growth` must be without random_gates"),
        ({"init": ("er", "erk")}, "must not hold both er and erk"),
    ],
)
def test_what_would_change_nothing_is_refused(task, space, message):
    with pytest.raises(ConfigError, match=message):
        task.check_space(SpaceConfig(**space))


def test_momentum_and_learning_rates_are_searched_where_the_optimizer_has_them():
    by_momentum, rates = SpaceConfig(growth=("momentum",)), SpaceConfig(learning_rate=(0.1, 0.2))
    make_task(optimizer=adam).check_space(by_momentum)
    make_task(optimizer=momentum_sgd).check_space(rates)
    with pytest.raises(ConfigError, match="must be without momentum"):
        make_task(optimizer=sgd).check_space(by_momentum)
    with pytest.raises(ConfigError, match=r"`space.learning_rate` must be empty"):
        make_task(optimizer=lambda hyper: optax.sgd(0.1)).check_space(rates)


def with_parts(init=None, loss=None, spectrum=None, data=BATCHES, **settings):
    plain = network()
    own = SequenceNetwork(init or plain.init, loss or plain.loss, spectrum or plain.spectrum)
    return make_sequence_task("sums", own, data, **({"learning_rate": 0.1} | settings))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learning_rate": 0.0}, "`learning_rate` must be above 0"),
        ({"clip": math.nan}, "`clip` must be above 0"),
        ({"baseline_nll": {"validation": 1.0}}, 'have "validation" and "test"'),
        ({"baseline_nll": {"validation": 1.0, "test": math.inf}}, "be finite"),
        ({"measure": Measure("rms", -1.0)}, r"`measure.scale` must be .*above 0"),
        ({"loss": lambda params, batch, key: (batch[1], 1)}, "`loss` must return two scalars"),
        ({"loss": lambda params, batch, key: params["b"].sum()}, r"number of .* 'shapes \[\(\)\]'"),
        ({"spectrum": lambda params: (jnp.ones(3), jnp.ones(3))}, "`spectrum` must return"),
        (
            {"spectrum": lambda params: jnp.ones((2, 3))},
            r"`spectrum` must return .* got \[\(2, 3\)\]",
        ),
        (
            {"data": BATCHES._replace(train=BATCHES.validation)},
            "`data.train` must have one axis more",
        ),
        ({"data": BATCHES._replace(validation=np.float32(1))}, r"`data.validation` must hold"),
        ({"data": BATCHES._replace(test=jax.tree.map(lambda a: a[:1], BATCHES.test))}, "2 batches"),
    ],
)
def test_what_does_not_fit_is_refused_at_once(change, message):
    with pytest.raises(ConfigError, match=message):
        with_parts(**change)


def test_a_spectrum_may_be_a_whole_result():
    def spectrum(params):
        return lyapunov_spectrum(functools.partial(step, params), jnp.zeros(6), DRIVING[:, 0])

    task = with_parts(spectrum=spectrum)
    state = start(task)
    exponents, error = task.spectrum(state)
    assert exponents.shape == error.shape == (1, 6)
    alone = jax.jit(spectrum)(state.params)
    np.testing.assert_allclose(exponents[0], alone.exponents, rtol=1e-5)
    np.testing.assert_allclose(error[0], alone.std_error, rtol=1e-3)


def test_what_is_not_finite_is_named(tmp_path):
    plain = network()
    broken = with_parts(init=lambda key: plain.init(key) | {"r": jnp.full(6, jnp.nan)})
    with pytest.raises(SearchError) as error:
        hyperprune(broken, CONFIG, out=tmp_path / "init")
    assert str(error.value) == (
        "The dense network failed in epoch 1: ConfigError: `init` must return finite weights, got "
        "\"NaN or infinity in ['r']\"."
    )
    nowhere = with_parts(spectrum=lambda params: (jnp.full((1, 4), jnp.nan),) * 2)
    with pytest.raises(SearchError, match=r"spectrum is not finite\. Its nll is finite: see that"):
        hyperprune(nowhere, CONFIG, out=tmp_path / "spectrum")


def test_batches_are_cut_in_order_and_the_rest_is_dropped():
    cut = cut_batches({"x": np.arange(23)}, 2, segments=3)["x"]
    np.testing.assert_array_equal(cut, np.arange(18).reshape(3, 3, 2))
    assert cut_batches(np.arange(5), 2).tolist() == [[0, 1], [2, 3]]
    with pytest.raises(ConfigError, match="`sequences` must fill 3 batches of 2"):
        cut_batches(np.arange(5), 2, segments=3)


CONFIG = SearchConfig(
    max_evals=3,
    e0=2,
    ei=1,
    final_epochs=4,
    space=SpaceConfig(init=("uniform",), death=("magnitude",), redistribution=("none",)),
)


@pytest.mark.slow
def test_a_search_over_it_ends_with_a_winner(tmp_path):
    found = hyperprune(make_task(), CONFIG, out=tmp_path)
    assert found.result["best"]["nonzeros"] == found.result["counts"]["best"]["live"] == 24
    assert found.result["unigram_perplexity"] is None  # it is of no words
    assert found.result["baseline_nll"] == {"validation": 2.0, "test": 2.1}
    assert found.result["measure"]["kind"] == "nll"
    params, _, _ = load_params(tmp_path, jax.eval_shape(network().init, jax.random.key(0)))
    assert_same(params, found.best.params)


@pytest.mark.slow
def test_workers_find_what_this_process_finds(tmp_path):
    here = hyperprune(make_task(), CONFIG, out=tmp_path / "serial")
    with ProcessExecutor(functools.partial(make_task), 2) as executor:
        there = hyperprune(make_task(), CONFIG, executor, out=tmp_path / "process")
    nlls = [{(r.trial, r.epoch): r.val_nll for r in run.records} for run in (here, there)]
    assert nlls[0] == nlls[1]
    assert_same(here.best, there.best)


def test_batches_are_named(task):
    assert SequenceBatches._fields == ("train", "validation", "test")
