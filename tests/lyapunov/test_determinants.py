import functools

import jax
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from lsh_jax.cells import CELLS
from lsh_jax.config import ConfigError, ModelConfig
from lsh_jax.language_models import layer_names, make_language_model
from lsh_jax.lyapunov.determinants import log_abs_det_lstm

VOCAB, T, B = 7, 6, 2
SIZES = (4, 3, 5)  # units of the layers, from the input upwards
MODEL = make_language_model(ModelConfig("lstm", VOCAB, 3, num_layers=3, layer_sizes=SIZES))
log_abs_det = jax.jit(functools.partial(log_abs_det_lstm, MODEL))


def example(live=1.0):
    """Masked parameters and tokens; the masks leave U_o regular."""
    rng = np.random.default_rng(5)
    params = jax.tree.map(
        lambda leaf: 0.8 * rng.normal(size=leaf.shape) * (rng.random(leaf.shape) < live),
        jax.eval_shape(MODEL.init, jax.random.key(0)),
    )
    for name, size in zip(layer_names(MODEL.config), SIZES, strict=True):
        params[name]["U"][:, 3 * size :] += np.diag(rng.uniform(0.5, 1, size))
    return params, rng.integers(VOCAB, size=(T, B))


@jax.jit
def jacobians(params, tokens):
    """Those of the whole carry of the stack at every step by automatic differentiation."""
    zeros = CELLS["lstm"].init_carry
    dtype = params["decoder"]["b"].dtype
    first, unravel = ravel_pytree(tuple(zeros((1, size), dtype) for size in SIZES))

    def advance(flat, token):
        def step(flat):
            _, carry = MODEL.apply(params, token[None, None], unravel(flat))
            return (ravel_pytree(carry)[0],) * 2

        J, new = jax.jacfwd(step, has_aux=True)(flat)
        return new, J

    return jax.vmap(lambda column: jax.lax.scan(advance, first, column)[1], 1, 1)(tokens)


@pytest.mark.parametrize("live", [1.0, 0.5], ids=["dense", "masked"])
def test_the_log_determinants_of_the_layers_add_up_to_that_of_the_stack(live):
    with jax.enable_x64(True):
        params, tokens = example(live)
        logs = log_abs_det(params, tokens)
        assert logs.shape == (T, 3, B)
        J = np.asarray(
            jacobians(params, tokens)
        )  # block-triangular: it holds those of fewer layers
        for num_layers in (1, 2, 3):
            size = 2 * sum(SIZES[:num_layers])
            _, expected = np.linalg.slogdet(J[..., :size, :size])
            # A step where some c' is near 0 is nearly singular, which costs the LU of J digits.
            np.testing.assert_allclose(logs[:, :num_layers].sum(axis=1), expected, atol=1e-9)


def test_a_unit_whose_output_gate_hears_nothing_makes_its_layer_singular_and_no_other():
    params, tokens = example()
    params, tokens = jax.tree.map(np.float32, params), tokens.astype(np.int32)
    regular = log_abs_det(params, tokens)
    assert np.isfinite(regular).all()
    params["layers_1"]["U"][:, 3 * SIZES[1]] = 0  # what the first output gate hears
    logs = log_abs_det(params, tokens)
    np.testing.assert_array_equal(logs[:, 1], np.full((T, B), -np.inf))
    np.testing.assert_array_equal(logs[:, 0], regular[:, 0])


def test_another_cell_and_tokens_without_columns_are_refused():
    params, tokens = example()
    with pytest.raises(ConfigError, match=r"`model\.config\.cell` must be lstm, got 'gru'"):
        log_abs_det_lstm(make_language_model(ModelConfig("gru", VOCAB)), params, tokens)
    with pytest.raises(ConfigError, match=r"`tokens` must be a batch of columns \[T, B\]"):
        log_abs_det_lstm(MODEL, params, tokens[:, 0])
