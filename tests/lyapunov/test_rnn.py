import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from lsh_jax import ls_distance
from lsh_jax.cells import CELLS, lstm_update
from lsh_jax.config import ModelConfig
from lsh_jax.language_models import make_language_model
from lsh_jax.layers import run_layer
from lsh_jax.lyapunov import (
    log_abs_det_lstm,
    lyapunov_spectrum,
    rnn_lyapunov_spectrum,
    running_exponents,
    select_layer,
)
from lsh_jax.lyapunov.orthonormalize import random_frame
from lsh_jax.lyapunov.rnn import _spectrum

HIDDEN, LAYERS, LENGTH, BATCH = 5, 2, 50, 3
LSTM = CELLS["lstm"]
MODEL = make_language_model(
    ModelConfig(vocab_size=11, embed_size=4, hidden_size=HIDDEN, num_layers=LAYERS)
)


@pytest.fixture(scope="module")
def params():
    return jax.jit(MODEL.init)(jax.random.key(0))


@pytest.fixture(scope="module")
def tokens():
    return jax.random.randint(jax.random.key(1), (LENGTH, BATCH), 0, 11)


@pytest.fixture(scope="module")
def hidden(params, tokens):
    return rnn_lyapunov_spectrum(MODEL, params, tokens, state="hidden")


def test_the_full_spectrum_is_that_of_each_layer_driven_by_the_one_below(params, tokens):
    result = rnn_lyapunov_spectrum(MODEL, params, tokens, burn_in=4, qr="householder")
    assert result.exponents.shape == result.std_error.shape == (LAYERS, 2 * HIDDEN)
    assert result.local_exponents.shape == (LENGTH - 4, LAYERS, 2 * HIDDEN)
    assert result.q.shape == (LAYERS, BATCH, 2 * HIDDEN, 2 * HIDDEN)
    assert result.num_steps == LENGTH - 4
    q0 = random_frame(jax.random.key(0), 2 * HIDDEN, 2 * HIDDEN)
    zeros = jnp.zeros((BATCH, HIDDEN))

    @jax.jit
    def expected(weights, inputs):
        def step(state, x):
            return LSTM.step(weights, state, LSTM.project(weights, x))

        def column(h, c, inputs):
            return lyapunov_spectrum(step, (h, c), inputs, burn_in=4, q0=q0)

        spectra = jax.vmap(column, in_axes=(0, 0, 1))(zeros, zeros, inputs)
        return spectra, run_layer(LSTM, weights, inputs, (zeros, zeros))[0]

    inputs = params["embedding"]["table"][tokens]
    for layer in range(LAYERS):
        spectra, inputs = expected(params[f"layers_{layer}"], inputs)
        # Two ways to the same numbers in float32; the worst-conditioned columns differ the most.
        np.testing.assert_allclose(spectra.q[..., :4], result.q[layer, ..., :4], atol=1e-3)
        total = spectra.exponents.sum(axis=1).mean()
        np.testing.assert_allclose(result.exponents[layer].sum(), total, rtol=1e-4)


def test_the_hidden_spectrum_is_that_of_the_jacobian_with_the_memory_held(params, tokens):
    model = make_language_model(
        ModelConfig(vocab_size=11, embed_size=4, hidden_size=HIDDEN, num_layers=1)
    )
    result = rnn_lyapunov_spectrum(
        model,
        params,
        tokens[:, :1],
        state="hidden",
        num_exponents=3,
        burn_in=4,
        log_base=2.0,
        qr="householder",
    )
    weights, zeros = params["layers_0"], jnp.zeros(HIDDEN)
    drive = LSTM.project(weights, params["embedding"]["table"][tokens[:, 0]])

    def memory_held(carry, x):
        h, c = carry
        jacobian = jax.jacobian(lambda h: lstm_update(x + jnp.dot(h, weights["U"]), (h, c))[0])(h)
        return lstm_update(x + jnp.dot(h, weights["U"]), carry), lambda Q: jnp.dot(jacobian, Q)

    expected = jax.jit(
        lambda drive: lyapunov_spectrum(
            lambda carry, x: lstm_update(x + jnp.dot(carry[0], weights["U"]), carry),
            (zeros, zeros),
            drive,
            burn_in=4,
            log_base=2.0,
            tangent=memory_held,
            q0=random_frame(jax.random.key(0), HIDDEN, 3),
        )
    )(drive)
    np.testing.assert_allclose(result.exponents[0], expected.exponents, atol=1e-4)
    np.testing.assert_allclose(result.std_error[0], expected.std_error, atol=1e-4)
    np.testing.assert_allclose(result.local_exponents[:, 0], expected.local_exponents, atol=1e-3)


def test_the_trajectory_is_that_of_the_model(params, tokens, hidden):
    _, carry = jax.jit(MODEL.apply)(params, tokens, MODEL.init_carry(BATCH))
    for layer, (h, c) in enumerate(carry):
        np.testing.assert_allclose(hidden.state[0][layer], h, atol=1e-6)
        np.testing.assert_allclose(hidden.state[1][layer], c, atol=1e-6)


def test_exponents_are_sorted_within_the_layer_and_are_means_of_their_columns(hidden):
    assert hidden.exponents.shape == (LAYERS, HIDDEN)
    assert (np.diff(hidden.exponents, axis=1) <= 0).all()
    assert hidden.qr_every == 5  # near sqrt(40), and a divisor of the burn-in, 10, and of 40
    lengths = np.full(8, 5 / 40)
    means = np.tensordot(lengths, hidden.local_exponents, 1)
    np.testing.assert_allclose(means, hidden.exponents, atol=1e-5)
    assert (hidden.std_error > 0).all()


def test_masked_candidates_share_one_program_and_one_seed_one_result(params, tokens, hidden):
    options = {"state": "hidden", "key": jax.random.key(0)}
    before = _spectrum._cache_size()
    pruned = jax.tree.map(lambda leaf: jnp.where(jnp.abs(leaf) > 0.05, leaf, 0), params)
    other = rnn_lyapunov_spectrum(MODEL, pruned, tokens, **options)
    again = rnn_lyapunov_spectrum(MODEL, params, tokens, **options)
    assert _spectrum._cache_size() == before
    np.testing.assert_array_equal(hidden.exponents, again.exponents)
    assert not np.allclose(hidden.exponents, other.exponents, atol=1e-3)


def test_a_population_of_candidates_runs_under_jit_and_vmap(params, tokens, hidden):
    def spectrum(params):
        return rnn_lyapunov_spectrum(MODEL, params, tokens, state="hidden").exponents

    half = jax.tree.map(lambda leaf: 0.5 * leaf, params)
    both = jax.tree.map(lambda *leaves: jnp.stack(leaves), params, half)
    exponents = jax.jit(jax.vmap(spectrum))(both)
    # Batched products may sum in another order; the last of five exponents feels it the most.
    np.testing.assert_allclose(exponents[0], hidden.exponents, atol=1e-4)
    np.testing.assert_allclose(exponents[1], spectrum(half), atol=1e-4)


@pytest.mark.parametrize("qr", ["householder", "solve", "lu"])
def test_the_back_ends_give_the_exponents_of_the_automatic_choice(params, tokens, hidden, qr):
    result = rnn_lyapunov_spectrum(MODEL, params, tokens, state="hidden", qr=qr)
    np.testing.assert_allclose(result.exponents, hidden.exponents, atol=1e-4)


def test_a_chunk_of_the_batch_at_a_time_gives_the_same(params, tokens, hidden):
    result = rnn_lyapunov_spectrum(MODEL, params, tokens, state="hidden", batch_chunk=1)
    for part, expected in zip(jax.tree.leaves(result), jax.tree.leaves(hidden), strict=True):
        np.testing.assert_allclose(part, expected, atol=1e-4)


CELLS_AND_STATES = [
    ({"cell": "lstm"}, "hidden"),
    pytest.param({"cell": "rhn", "depth": 2}, "full", marks=pytest.mark.slow),
    pytest.param({"cell": "lstm"}, "full", marks=pytest.mark.slow),
    pytest.param({"cell": "gru"}, "full", marks=pytest.mark.slow),
    pytest.param({"cell": "tanh"}, "full", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("cell", "state"), CELLS_AND_STATES)
def test_the_spectrum_of_the_stack_is_the_union_of_its_layers(cell, state):
    # Exact in the limit; O(1 / T) from the turning of the two frames, so that both are long
    # burnt in, and neighbours of nearly equal exponents are compared after sorting.
    sizes = {"vocab_size": 7, "embed_size": 3, "num_layers": 2, "layer_sizes": (4, 3)}
    model = make_language_model(ModelConfig(**cell, **sizes))
    tokens = jax.random.randint(jax.random.key(2), (600, 1), 0, 7)
    params = jax.tree.map(lambda leaf: 2 * leaf, model.init(jax.random.key(3)))
    options = {"state": state, "burn_in": 100}
    layers = rnn_lyapunov_spectrum(model, params, tokens, **options)
    whole = rnn_lyapunov_spectrum(model, params, tokens, per_layer=False, **options)
    union = np.sort(np.concatenate(layers.exponents))[::-1]
    assert whole.exponents.shape == union.shape
    assert np.sqrt(np.mean((whole.exponents - union) ** 2)) < 0.02
    # The sum is free of the frame but for the last steps: the determinant is a product of blocks.
    np.testing.assert_allclose(whole.exponents.sum(), union.sum(), atol=1e-2)


@pytest.mark.slow
def test_the_memory_is_that_of_a_chunk_of_the_batch():
    model = make_language_model(ModelConfig(vocab_size=9, embed_size=8, hidden_size=48))
    params = jax.eval_shape(model.init, jax.random.key(0))
    tokens = jax.ShapeDtypeStruct((40, 16), jnp.int32)

    def temporary(chunk):
        def exponents(params, tokens):
            return rnn_lyapunov_spectrum(model, params, tokens, batch_chunk=chunk).exponents

        compiled = jax.jit(exponents).lower(params, tokens).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporary(1) < 0.5 * temporary(None)


def test_the_exponents_of_a_layer_add_up_to_the_log_determinant(params, tokens):
    with jax.enable_x64(True):
        double = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
        result = rnn_lyapunov_spectrum(MODEL, double, tokens)
        logs = log_abs_det_lstm(MODEL, double, tokens)[10:]  # [T, L, B]
        np.testing.assert_allclose(result.exponents.sum(axis=1), logs.mean(axis=(0, 2)), atol=1e-8)


@pytest.mark.parametrize("stop_gradient", [None, pytest.param("state", marks=pytest.mark.slow)])
def test_the_gradient_of_a_distance_agrees_with_finite_differences(params, tokens, stop_gradient):
    with jax.enable_x64(True):
        double = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
        options = {"state": "hidden", "num_exponents": 3, "stop_gradient": stop_gradient}

        def distance(gain):
            scaled = double | {
                "layers_0": double["layers_0"] | {"U": gain * double["layers_0"]["U"]}
            }
            spectrum = rnn_lyapunov_spectrum(MODEL, scaled, tokens, **options)
            return ls_distance(spectrum, jnp.zeros((LAYERS, 3)))

        gradient = jax.jit(jax.grad(distance))(1.0)
        difference = (distance(1 + 1e-5) - distance(1 - 1e-5)) / 2e-5
        if stop_gradient is None:
            np.testing.assert_allclose(gradient, difference, atol=1e-6)
        else:  # without what flows through the trajectory
            assert np.isfinite(gradient)
            assert abs(gradient - difference) > 1e-3


def test_layers_of_unequal_width_or_count_come_as_tuples(params, tokens, hidden):
    result = rnn_lyapunov_spectrum(MODEL, params, tokens, state="hidden", num_exponents=(2, 5))
    assert [part.shape for part in result.exponents] == [(2,), (5,)]
    assert [part.shape for part in result.q] == [(BATCH, HIDDEN, 2), (BATCH, HIDDEN, 5)]
    assert [h.shape for h, _ in result.state] == [(BATCH, HIDDEN)] * 2
    np.testing.assert_allclose(result.exponents[1], hidden.exponents[1], atol=1e-4)
    layer = select_layer(result, 1)
    assert layer.local_exponents.shape == (8, 5)
    same = select_layer(hidden, 1)
    np.testing.assert_allclose(layer.local_exponents, same.local_exponents, atol=1e-3)
    np.testing.assert_allclose(running_exponents(same)[-1], hidden.exponents[1], atol=1e-5)


def test_cholesky_says_when_it_breaks_down(params, tokens):
    with pytest.raises(ValueError, match=r'`qr` must suit .* got "cholesky"'):
        singular = jax.tree.map(jnp.zeros_like, params)
        rnn_lyapunov_spectrum(MODEL, singular, tokens, qr="cholesky")


@pytest.mark.parametrize("state", ["full", "hidden"])
def test_every_product_is_made_at_the_highest_precision(params, tokens, state):
    def spectrum(params):
        return rnn_lyapunov_spectrum(MODEL, params, tokens, state=state).exponents

    program = str(jax.make_jaxpr(spectrum)(params))
    assert program.count("dot_general") > 2 * LAYERS
    assert program.count("dot_general") == program.count("precision=(Precision.HIGHEST")


def test_the_spectrum_is_lowered_for_cpu_gpu_and_tpu(params, tokens, hidden):
    def spectrum(params, tokens):
        result = rnn_lyapunov_spectrum(MODEL, params, tokens, state="hidden", key=jax.random.key(0))
        return result.exponents, result.std_error

    exported = export.export(jax.jit(spectrum), platforms=["cpu", "cuda", "tpu"])(params, tokens)
    calls = set(re.findall(r"custom_call @([A-Za-z0-9_]+)", exported.mlir_module()))
    assert calls == {
        *("lapack_sgetrf_ffi", "lapack_sgeqrf_ffi", "lapack_sorgqr_ffi"),
        *("cusolver_getrf_ffi", "cusolver_geqrf_ffi", "cusolver_orgqr_ffi"),
        "cu_lu_pivots_to_permutation",
        *("LuDecomposition", "Qr", "ProductOfElementaryHouseholderReflectors"),
    }  # of cpu, cuda and tpu, and nothing besides: no call to the host
    exponents, std_error = export.deserialize(exported.serialize()).call(params, tokens)
    np.testing.assert_allclose(exponents, hidden.exponents, atol=1e-5)
    np.testing.assert_allclose(std_error, hidden.std_error, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"state": "cell"}, r"`state` must be one of hidden, full, got 'cell'"),
        ({"num_exponents": 11}, r"`num_exponents` must lie in \[1, 10\], got 11"),
        ({"state": "hidden", "num_exponents": 6}, r"`num_exponents` must lie in \[1, 5\], got 6"),
        ({"burn_in": LENGTH}, r"must lie in \[0, 50\), as tokens are \[T, B\] = \(50, 3\), got 50"),
        ({"num_exponents": (5,)}, r"`num_exponents` must have one entry for each of 2, got"),
        ({"qr": "givens"}, r"`qr` must be one of auto, householder, solve, cholesky, lu, got"),
        ({"qr": "solve", "qr_every": 2}, r"`qr_every` must be 1 with qr=\"solve\"; .*, got 2"),
        ({"qr": "lu", "qr_every": 1}, r"`qr_every` must be at least 1, 2 for lu, got 1"),
        ({"batch_chunk": 2}, r"`batch_chunk` must divide the 3 columns of a device, got 2"),
        ({"log_base": 0.5}, r"`log_base` must be above 1"),
        ({"recipe": "ours"}, r"`recipe` must be None or \"paper\", got 'ours'"),
        ({"recipe": "paper", "num_exponents": 3}, r"`num_exponents` must be None with recipe="),
        ({"recipe": "paper", "per_layer": False}, r"`per_layer` must be True with recipe="),
        ({"tokens": jnp.zeros(4, int)}, r"`tokens` must be a batch of columns \[T, B\]"),
        ({"tokens": jnp.zeros((24, 2))}, r"`tokens` must hold integers, got 'float32'"),
        ({"tokens": jnp.full((24, 2), 11)}, r"`tokens` must lie in \[0, 11\), .*, got '11 to 11'"),
        ({"burn_in": 1.5}, r"`burn_in` must be a whole number, got 1.5"),
        ({"key": 0}, r"`key` must be a key, such as jax.random.key\(0\), got 0"),
        ({"stop_gradient": "q"}, r"`stop_gradient` must be None or \"state\", got 'q'"),
    ],
)
def test_what_cannot_be_met_is_refused(params, tokens, options, message):
    tokens = options.pop("tokens", tokens)
    with pytest.raises(ValueError, match=message):
        rnn_lyapunov_spectrum(MODEL, params, tokens, **options)
