import functools
import itertools

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from lsh_jax.config import ModelConfig, SparsityConfig, TrainConfig
from lsh_jax.data.batching import Windows, columns, evaluation_windows, windows
from lsh_jax.language_models import make_language_model
from lsh_jax.sparsity import controls, dynamic_sparsity
from lsh_jax.training import evaluate_windows, init_train_state, train_segment, update_topology
from lsh_jax.types import Hyper

V, E, H, B, BPTT, SEGMENTS = 7, 4, 5, 2, 3, 2
RECIPE = TrainConfig(batch_size=B, bptt=BPTT, segments_per_epoch=SEGMENTS)
MODEL = make_language_model(ModelConfig("lstm", V, E, H, 1))
UPDATER = dynamic_sparsity()
DROPOUT_KEY = jax.random.key(11)
TOKENS = np.random.default_rng(0).integers(V, size=B * 13).astype(np.int32)
DATA = windows(columns(TOKENS, B), BPTT, SEGMENTS)  # 12 steps: 2 segments of 2 windows

train = jax.jit(functools.partial(train_segment, MODEL, RECIPE))
update = jax.jit(functools.partial(update_topology, MODEL, UPDATER, RECIPE))
evaluate = jax.jit(functools.partial(evaluate_windows, MODEL))


@jax.jit
def init(init_key, topology_key, own_controls):
    return init_train_state(MODEL, UPDATER, RECIPE, init_key, topology_key, own_controls)


def start(init_seed=0, topology_seed=1, **settings):
    keys = jax.random.key(init_seed), jax.random.key(topology_seed)
    return init(*keys, controls(SparsityConfig(**settings)))


def segment(index):
    return Windows(*(array[index].copy() for array in DATA))


def hyper(**settings):
    recipe = dict.fromkeys(Hyper._fields, 0.2) | {"learning_rate": 2.0, "weight_decay": 1e-3}
    return Hyper(**{name: np.float32(value) for name, value in (recipe | settings).items()})


NO_DROPOUT = {
    "dropout_embed": 0.0,
    "dropout_input": 0.0,
    "dropout_hidden": 0.0,
    "dropout_output": 0.0,
}


def bits(tree):
    leaves = jax.tree.leaves(tree)
    typed = [jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in leaves]
    return [
        np.asarray(jax.random.key_data(leaf) if is_key else leaf).tobytes()
        for leaf, is_key in zip(leaves, typed, strict=True)
    ]


def assert_close(tree, other, **tolerance):
    for a, b in zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, **tolerance)


def prunable(tree):
    """The matrices, one after the other."""
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree) if leaf.ndim >= 2])


# --- the start


def test_initial_weights_are_shared_and_masks_are_the_candidates_own():
    dense = start(sparsity=0.0)
    candidates = [start(topology_seed=seed, sparsity=0.5) for seed in (1, 2)]
    assert prunable(dense.sparsity.masks).all()
    for state in candidates:
        mask = prunable(state.sparsity.masks)
        assert mask.sum() == round(mask.size / 2)
        np.testing.assert_array_equal(
            prunable(state.params), np.where(mask, prunable(dense.params), 0)
        )
    first, second = (prunable(state.sparsity.masks) for state in candidates)
    assert not np.array_equal(first, second)
    assert bits(start(topology_seed=1, sparsity=0.5)) == bits(candidates[0])
    others = prunable(start(init_seed=5, sparsity=0.0).params)
    assert not np.any(others == prunable(dense.params))


# --- segments


def test_a_segment_trained_twice_gives_the_same_bits():
    state = start()
    first, again = (train(state, hyper(), segment(0), DROPOUT_KEY) for _ in range(2))
    assert bits(first) == bits(again)
    assert bits(first[0].params) != bits(state.params)
    assert int(first[0].num_segments) == 1


def test_two_segments_are_one_of_twice_as_many_windows():
    # The carry runs on and the dropout keys count windows, not segments.
    state = start()
    halves = state
    nll = num_tokens = 0.0
    for index in range(SEGMENTS):
        halves, more, tokens = train(halves, hyper(), segment(index), DROPOUT_KEY)
        nll, num_tokens = nll + more, num_tokens + tokens
    whole_epoch = Windows(*(array.reshape(1, 4, BPTT, B)[0] for array in DATA))
    whole, *totals = train(state, hyper(), whole_epoch, DROPOUT_KEY)
    # Two compiled programs: the same sums, rounded differently.
    assert_close(whole.params, halves.params, rtol=1e-5, atol=1e-6)
    assert_close(whole.carry, halves.carry, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(totals, [nll, num_tokens], rtol=1e-6)
    assert num_tokens == DATA.weights.sum() == 24


def test_the_carry_is_handed_on_within_an_epoch_and_reset_at_its_start():
    state, *_ = train(start(), hyper(), segment(0), DROPOUT_KEY)
    forgetful = state._replace(carry=jax.tree.map(jnp.zeros_like, state.carry))
    second = train(state, hyper(), segment(1), DROPOUT_KEY)
    without = train(forgetful, hyper(), segment(1), DROPOUT_KEY)
    assert bits(second[0].params) != bits(without[0].params)
    state = second[0]  # one epoch is over
    assert np.any(state.carry[0][0])
    forgetful = state._replace(carry=jax.tree.map(jnp.zeros_like, state.carry))
    third = train(state, hyper(), segment(0), DROPOUT_KEY)
    without = train(forgetful, hyper(), segment(0), DROPOUT_KEY)
    assert bits(third) == bits(without)


def test_windows_of_weight_zero_change_nothing_at_all():
    strong = hyper(weight_decay=0.5)
    state, *_ = train(start(), strong, segment(0), DROPOUT_KEY)
    batch = segment(1)
    after, nll, num_tokens = train(
        state, strong, batch._replace(weights=np.zeros_like(batch.weights)), DROPOUT_KEY
    )
    assert (float(nll), float(num_tokens)) == (0.0, 0.0)
    assert bits(after._replace(num_segments=state.num_segments)) == bits(state)


def test_a_padded_segment_is_the_segment_without_its_padding():
    state, batch = start(), segment(0)
    half = batch.weights.copy()
    half[1] = 0
    padded, nll, num_tokens = train(state, hyper(), batch._replace(weights=half), DROPOUT_KEY)
    batch.inputs[1] = 3  # whatever stands in the padding
    garbage = train(state, hyper(), batch._replace(weights=half), DROPOUT_KEY)
    assert bits(garbage) == bits((padded, nll, num_tokens))
    assert float(num_tokens) == 6
    whole, *_ = train(state, hyper(), segment(0), DROPOUT_KEY)
    assert bits(whole.params) != bits(padded.params)


def mean_nll(params, carry, window):
    """The loss, written a second time."""
    logits, _ = MODEL.apply(params, window.inputs, carry)
    chosen = jax.nn.one_hot(window.targets, V) * jax.nn.log_softmax(logits)
    return -jnp.sum(chosen * window.weights[..., None]) / np.sum(window.weights)


grad_of = jax.jit(jax.grad(lambda params, carry, window: mean_nll(params, carry, window)))


def first_window(index):
    return Windows(*(array[0] for array in segment(index)))


@pytest.mark.parametrize("clip", [0.02, np.inf])
def test_a_step_clips_by_the_norm_of_the_dense_gradient_and_then_decays(clip):
    state = start(sparsity=0.5)
    state = state._replace(params=jax.tree.map(lambda leaf: 5 * leaf, state.params))
    batch = segment(0)
    batch.weights[1:] = 0  # one window, one step
    batch.weights[0, 1:, 1] = 0  # of which four tokens count
    settings = hyper(clip=clip, weight_decay=0.1, **NO_DROPOUT)
    moved, *_ = train(state, settings, batch, DROPOUT_KEY)
    window = Windows(*(array[0] for array in batch))
    grads = grad_of(state.params, MODEL.init_carry(B), window)
    total = sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(grads))
    dead = np.sum(np.square(prunable(grads)[~prunable(state.sparsity.masks)]))
    norm = np.sqrt(total)
    assert norm > 1.02 * np.sqrt(total - dead) > 0.02  # the test can tell
    shrunk = min(1.0, clip / norm)
    for name, leaves in state.params.items():
        for kind, leaf in leaves.items():
            step = 2.0 * (shrunk * np.asarray(grads[name][kind]) + 0.1 * np.asarray(leaf))
            expected = np.where(state.sparsity.masks[name][kind], leaf - step, 0)
            np.testing.assert_allclose(moved.params[name][kind], expected, rtol=1e-5, atol=1e-6)


def test_dead_weights_are_exactly_zero_after_every_segment_and_update():
    state = start(sparsity=0.7, growth="gradient", redistribution="nonzeros")
    own_controls = controls(SparsityConfig(sparsity=0.7, growth="gradient"))
    num_live = prunable(state.sparsity.masks).sum()
    for index in (0, 1, 0, 1):
        state, *_ = train(state, hyper(), segment(index), DROPOUT_KEY)
        mask = prunable(state.sparsity.masks)
        assert not np.any(prunable(state.params)[~mask])
        state, info = update(state, own_controls, first_window(1 - index))
        stayed = mask & prunable(state.sparsity.masks)
        assert stayed.sum() < prunable(state.sparsity.masks).sum() == num_live
        assert not np.any(prunable(state.params)[~stayed])
        assert 0 < float(info.churn) <= 1


def test_one_program_serves_dense_and_sparse_and_every_recipe():
    for settings in (hyper(), hyper(learning_rate=0.1, clip=np.inf, **NO_DROPOUT)):
        for sparsity in (0.0, 0.9):
            train(start(sparsity=sparsity), settings, segment(0), DROPOUT_KEY)
    shapes = {(2, BPTT, B), (4, BPTT, B)}  # of the windows, in this file
    assert train._cache_size() <= len(shapes)


def stack(leaves):
    is_key = jax.dtypes.issubdtype(leaves[0].dtype, jax.dtypes.prng_key)
    return jnp.stack(leaves) if is_key else np.stack(leaves)


def test_candidates_trained_side_by_side_are_candidates_trained_one_by_one():
    recipes = [hyper(), hyper(learning_rate=0.5), hyper(clip=np.inf, dropout_input=0.0)]
    states = [start(topology_seed=seed, sparsity=0.3 * seed) for seed in range(3)]
    stacked = jax.tree.map(lambda *leaves: stack(leaves), *states)
    together = Hyper(*(np.stack(values) for values in zip(*recipes, strict=True)))
    segments = functools.partial(train_segment, MODEL, RECIPE)
    vmapped = jax.jit(jax.vmap(segments, in_axes=(0, 0, None, None)))
    many, nll, _ = vmapped(stacked, together, segment(0), DROPOUT_KEY)
    for index, (state, recipe) in enumerate(zip(states, recipes, strict=True)):
        one, one_nll, _ = train(state, recipe, segment(0), DROPOUT_KEY)
        np.testing.assert_allclose(nll[index], one_nll, rtol=1e-5)
        own = jax.tree.map(lambda leaf, i=index: leaf[i], many)
        # Batched products sum in another order than single ones.
        assert_close(own.params, one.params, rtol=1e-5, atol=1e-6)
        assert_close(own.carry, one.carry, rtol=1e-5, atol=1e-6)
        assert bits((own.sparsity, own.topology_key)) == bits((one.sparsity, one.topology_key))


def test_training_learns_a_periodic_sequence():
    tokens = np.tile(np.arange(5, dtype=np.int32), 6)[: B * 13]
    data = windows(columns(tokens, B), BPTT, SEGMENTS)
    state, means = start(sparsity=0.3), []
    recipe = hyper(learning_rate=10.0, clip=0.25, weight_decay=0.0, **NO_DROPOUT)
    for _ in range(40):
        nll = num_tokens = 0.0
        for index in range(SEGMENTS):
            batch = Windows(*(array[index] for array in data))
            state, more, tokens_more = train(state, recipe, batch, DROPOUT_KEY)
            nll, num_tokens = nll + float(more), num_tokens + float(tokens_more)
        means.append(nll / num_tokens)
    assert means[0] > 1.5  # log 7 = 1.95 at the very start
    assert means[-1] < 0.1


# --- evaluation


def numpy_nll(params, tokens):
    """Nats of every target of columns [T, B], in float64: the equations, one token at a time."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    h, c = np.zeros((2, tokens.shape[1], H))
    own, decoder = params["layers_0"], params["decoder"]
    total = []
    for now, following in itertools.pairwise(tokens):
        x = params["embedding"]["table"][now]
        i, f, g, o = np.split(x @ own["W"] + h @ own["U"] + own["b"], 4, axis=-1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        logits = h @ decoder["W"] + decoder["b"]
        log_z = np.log(np.sum(np.exp(logits), axis=-1))
        total.append(log_z - logits[np.arange(len(following)), following])
    return np.array(total)  # [T - 1, B]


@pytest.mark.parametrize("bptt", [1, 4, 100])
def test_evaluation_is_one_pass_over_the_text_however_it_is_cut(bptt):
    # 25 tokens in 2 columns of 13: the second has 12, and its last target is padding.
    params = start(sparsity=0.3).params
    params = jax.tree.map(lambda leaf: 5 * leaf, params)  # predictions that are far from uniform
    tokens = TOKENS[:25]
    data = evaluation_windows(tokens, B, bptt)
    sums, counts = evaluate(params, Windows(*(array[0] for array in data)))
    laid = np.append(tokens, 0).reshape(B, 13).T
    nll = numpy_nll(params, laid)
    nll[-1, 1] = 0.0
    assert float(counts.sum()) == 23  # each token but the first of its column
    # Sums of 23 terms in float32.
    np.testing.assert_allclose(sums.sum(), nll.sum(), rtol=1e-5)
    cut = [part.sum() for part in np.split(nll, range(bptt, 12, bptt))]
    np.testing.assert_allclose(sums, cut, rtol=1e-5)


def test_the_training_nll_is_the_evaluation_nll_where_nothing_is_learnt_or_dropped():
    state = start()
    data = Windows(*(array.reshape(1, 4, BPTT, B)[0] for array in DATA))
    still = hyper(learning_rate=0.0, **NO_DROPOUT)
    after, nll, num_tokens = train(state, still, data, DROPOUT_KEY)
    sums, counts = evaluate(state.params, data)
    np.testing.assert_allclose(nll, sums.sum(), rtol=1e-6)
    assert float(num_tokens) == float(counts.sum())
    assert bits(after.params) == bits(state.params)


# --- topology


def grown_are_largest(gradients, masks, grown):
    """Of each matrix: does no dead weight have a larger gradient than one that was grown?"""
    verdicts = []
    for slope, mask, new in zip(*map(jax.tree.leaves, (gradients, masks, grown)), strict=True):
        slope, mask, new = np.abs(np.asarray(slope)), np.asarray(mask), np.asarray(new)
        if np.any(new) and not np.all(mask):
            verdicts.append(bool(slope[new].min() >= slope[~mask].max()))
    return verdicts


@pytest.mark.parametrize("done", [1, 2], ids=["within an epoch", "between epochs"])
def test_growth_by_gradient_takes_the_largest_gradients_of_the_coming_window(done):
    settings = {"sparsity": 0.6, "growth": "gradient", "death_rate": 0.3}
    state = start(**settings)
    for index in range(done):
        state, *_ = train(state, hyper(), segment(index), DROPOUT_KEY)
    coming = first_window(done % SEGMENTS)
    carry = state.carry if done % SEGMENTS else MODEL.init_carry(B)
    new, info = update(state, controls(SparsityConfig(**settings)), coming)
    right = grad_of(state.params, carry, coming)
    verdicts = grown_are_largest(right, new.sparsity.masks, info.grown)
    assert len(verdicts) >= 3  # matrices in which something grew
    assert all(verdicts)
    # The test can tell: by the gradients of another window it would not be so.
    wrong = grad_of(state.params, carry, first_window(1 - done % SEGMENTS))
    assert not all(grown_are_largest(wrong, new.sparsity.masks, info.grown))


def test_an_update_touches_only_weights_and_topology():
    state, *_ = train(start(sparsity=0.6), hyper(), segment(0), DROPOUT_KEY)
    new, info = update(state, controls(SparsityConfig(sparsity=0.6)), first_window(1))
    assert int(new.sparsity.num_updates) == 1
    same = ("opt_state", "carry", "num_segments", "topology_key")
    for name in same:
        assert bits(getattr(new, name)) == bits(getattr(state, name))
    stayed = prunable(new.sparsity.masks) & prunable(state.sparsity.masks)
    np.testing.assert_array_equal(prunable(new.params), np.where(stayed, prunable(state.params), 0))
    assert prunable(info.grown).sum() > 0
    assert bits(new) == bits(
        update(state, controls(SparsityConfig(sparsity=0.6)), first_window(1))[0]
    )


def test_random_growth_draws_anew_at_every_update():
    settings = controls(SparsityConfig(sparsity=0.6, death_rate=0.5, schedule="constant"))
    state = start(sparsity=0.6)
    again = state._replace(sparsity=state.sparsity._replace(num_updates=jnp.int32(1)))
    other = state._replace(topology_key=jax.random.key(99))
    masks = [
        prunable(update(s, settings, first_window(0))[0].sparsity.masks)
        for s in (state, again, other)
    ]
    assert not np.array_equal(masks[0], masks[1])
    assert not np.array_equal(masks[0], masks[2])


def test_the_dense_network_is_left_alone_by_an_update():
    dense = {"sparsity": 0.0, "death_rate": 0.0}
    state, *_ = train(start(**dense), hyper(), segment(0), DROPOUT_KEY)
    new, info = update(state, controls(SparsityConfig(**dense)), first_window(1))
    assert bits(new.params) == bits(state.params)
    assert float(info.churn) == 0.0


def test_training_update_and_evaluation_lower_for_cpu_gpu_and_tpu():
    state, settings = start(), controls(SparsityConfig())
    first = Windows(*(array[0] for array in segment(1)))
    programs = {
        "train": (train, (state, hyper(), segment(0), DROPOUT_KEY)),
        "update": (update, (state, settings, first)),
        "evaluate": (evaluate, (state.params, segment(0))),
    }
    for program, arguments in programs.values():
        lowered = jax.export.export(program, platforms=["cpu", "cuda", "tpu"])(*arguments)
        # What calls back to the host cannot run inside a program of another machine.
        assert "callback" not in lowered.mlir_module()
