import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsh_jax.config import ConfigError
from lsh_jax.distance import ls_distance
from lsh_jax.lyapunov import kaplan_yorke_dimension, ks_entropy, lyapunov_spectrum, rank_mask
from lsh_jax.sequence_models import (
    closed_loop_spectrum,
    driven_spectrum,
    gaussian_nll,
    make_sequence_model,
    rms_of_nll,
)

INPUTS = jax.random.normal(jax.random.key(1), (12, 3, 2))  # [T, B, E]


@pytest.mark.parametrize("cell", ["lstm", "gru", "tanh", "rhn"])
def test_outputs_are_those_of_step_after_step(cell):
    model = make_sequence_model(cell, 2, 4, 5)
    params = model.init(jax.random.key(0))
    carry, outputs = model.init_carry(3), []
    for x in INPUTS:
        carry = model.step(params, carry, x)
        outputs.append(model.read(params, carry))
    np.testing.assert_allclose(model.apply(params, INPUTS), jnp.stack(outputs), atol=1e-6)
    assert outputs[0].shape == (3, 5)


@pytest.mark.parametrize(("cell", "num_gates"), [("lstm", 4), ("gru", 3), ("tanh", 1), ("rhn", 2)])
def test_gates_stand_in_the_matrices_of_the_layer(cell, num_gates):
    model = make_sequence_model(cell, 2, 4, 5)
    layer = jax.eval_shape(model.init, jax.random.key(0))["layer"]
    for name, leaf in layer.items():
        assert len(model.gates(("layer", name), leaf)) == (num_gates if leaf.ndim == 2 else 0)
    assert model.gates(("readout", "W"), jnp.ones((4, 5))) == ()


def test_sizes_are_checked():
    with pytest.raises(ConfigError, match="`cell` must be one of"):
        make_sequence_model("elman", 2, 4, 5)
    with pytest.raises(ConfigError, match="`hidden_size` must be at least 1"):
        make_sequence_model("gru", 2, 0, 5)


def test_the_nll_of_errors_is_that_of_a_normal_distribution_in_units_of_the_scale():
    # Errors of 2 and 4 scales: (4 / 2 + 16 / 2) + 2 * log(2 pi) / 2 = 10 + 1.8379.
    total, count = gaussian_nll(jnp.array([0.2, -0.4]), scale=0.1)
    assert float(count) == 2
    assert float(total) == pytest.approx(10 + math.log(2 * math.pi), rel=1e-6)
    assert rms_of_nll(float(total) / 2, scale=0.1) == pytest.approx(math.sqrt(0.1), rel=1e-6)
    assert rms_of_nll(0.9, scale=0.1) == 0.0  # below what no error gives: rounding


def test_a_driven_spectrum_pools_the_sequences():
    model = make_sequence_model("gru", 2, 4, 1)
    params = model.init(jax.random.key(0))
    step = functools.partial(model.step, params)
    found, error = driven_spectrum(step, model.init_carry(), INPUTS, num_exponents=2, burn_in=4)
    alone = [
        lyapunov_spectrum(step, model.init_carry(), INPUTS[:, b], num_exponents=2, burn_in=4)
        for b in range(3)
    ]
    assert found.shape == error.shape == (1, 2)
    # Means in QR order over steps and sequences, sorted afterwards: here that order agrees.
    mean = np.mean([run.exponents for run in alone], axis=0)
    np.testing.assert_allclose(found[0].sum(), mean.sum(), rtol=1e-5)
    assert bool((error > 0).all())


def test_a_driven_spectrum_is_taken_whole_where_exponents_are():
    rates = jnp.array([2.0, 0.25])
    found = driven_spectrum(lambda h, x: rates * h + x, jnp.zeros(2), INPUTS, burn_in=10)
    exponents, std_error = found
    assert found.exponents is exponents and found.std_error is std_error
    # log 2 and log 1/4: a dimension of 1 + 1/2.
    np.testing.assert_allclose(kaplan_yorke_dimension(found), [1.5], rtol=1e-5)
    np.testing.assert_allclose(ks_entropy(found), [math.log(2)], rtol=1e-5)
    np.testing.assert_array_equal(rank_mask(found), [[True, True]])
    assert float(ls_distance(found, exponents + 1)) == pytest.approx(math.sqrt(2), rel=1e-6)


def test_inputs_without_an_axis_of_sequences_are_refused():
    with pytest.raises(ConfigError, match=r"`inputs` must be \[T, B, ...\]; give one sequence as"):
        driven_spectrum(lambda h, x: 0.5 * h + x, jnp.zeros(2), jnp.ones(12))
    # Of [T, E] nothing can be told: it is E sequences of one number each.
    numbers = driven_spectrum(lambda h, x: 0.5 * h + x, jnp.zeros(2), INPUTS[:, 0])
    assert numbers.exponents.shape == (1, 2)


def test_a_forecaster_left_alone_has_the_exponents_of_its_own_map():
    # The carry halves at every step, the forecast is 0.9 of the input: log 0.9 and log 0.5.
    found = closed_loop_spectrum(
        lambda h, x: 0.5 * h + x,
        lambda h, x: 0.9 * x,
        jnp.ones(1),
        jnp.ones((5, 1)),
        num_steps=60,
        burn_in=40,
    )
    np.testing.assert_allclose(found.exponents, np.log([0.9, 0.5]), atol=1e-4)


def test_a_forecaster_follows_the_readings_first():
    # After readings 1 and 2 the carry holds 1 and the next input is 2: h = 1 + 2, x = h.
    found = closed_loop_spectrum(
        lambda h, x: h + x,
        lambda h, x: h,
        jnp.zeros(1),
        jnp.array([[1.0], [2.0]]),
        num_steps=1,
    )
    carry, x = found.state
    assert float(carry[0]) == float(x[0]) == 3.0
