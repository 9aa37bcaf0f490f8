"""Networks with known spectra or symmetries: mean-field theory, permuted units, dead units."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsh_jax import ModelConfig, ls_distance, make_language_model, rnn_lyapunov_spectrum
from lsh_jax.distance import count_floored
from lsh_jax.lyapunov import lyapunov_spectrum, rank_mask
from lsh_jax.lyapunov.tangents import TANGENTS


def mean_field(gain, input_variance):
    """Largest and mean exponent of x' = g W tanh(x) + input for N -> inf (Molgedey et al. 1992).

    sigma^2 = g^2 E[tanh^2(sigma z)] + input variance; lambda_1 = log(g^2 E[sech^4(sigma z)]) / 2;
    the mean is log g - 1/2 + E[log sech^2(sigma z)], from log |det W|. By the trapezoidal rule, as
    Gauss-Hermite nodes are too coarse for sech^4.
    """
    z = np.linspace(-10, 10, 20_001)
    weight = np.exp(-(z**2) / 2)
    weight /= weight.sum()
    variance = 1.0
    for _ in range(500):
        variance = gain**2 * weight @ np.tanh(np.sqrt(variance) * z) ** 2 + input_variance
    slope = 1 / np.cosh(np.sqrt(variance) * z) ** 2
    return np.log(gain**2 * weight @ slope**2) / 2, np.log(gain) - 0.5 + weight @ np.log(slope)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("gain", "input_variance", "table"),
    [(0.5, 1.0, (-1.09568, -2.00376)), (2.0, 0.0, (0.15472, -1.14902))],
)
def test_a_random_network_has_the_exponents_of_mean_field_theory(gain, input_variance, table):
    # At N = 400 the largest lies 0.005 to 0.01 below the limit and varies by as much between nets.
    exact = mean_field(gain, input_variance)
    np.testing.assert_allclose(exact, table, atol=1e-4)
    generator = np.random.default_rng(0)
    size, steps = 400, 200
    W = jnp.asarray(generator.normal(0, gain / np.sqrt(size), (size, size)), jnp.float32)
    drive = np.sqrt(input_variance) * generator.normal(size=(steps + 100, size))
    start = generator.normal(size=size).astype(np.float32)

    def tangent(x, u):
        slope = 1 - jnp.tanh(x) ** 2
        return jnp.dot(W, jnp.tanh(x)) + u, lambda Q: jnp.dot(W, slope[:, None] * Q)

    @jax.jit
    def run(start, drive):
        options = {"tangent": tangent, "burn_in": 100, "qr": "lu", "qr_every": 20}
        return lyapunov_spectrum(None, start, drive, **options).exponents

    exponents = run(start, drive.astype(np.float32))
    np.testing.assert_allclose([exponents[0], exponents.mean()], exact, atol=0.02)


def test_the_names_of_the_units_do_not_matter():
    with jax.enable_x64(True):
        generator = np.random.default_rng(1)
        hidden, steps = 6, 40
        U = generator.normal(size=(hidden, 4, hidden)) / np.sqrt(hidden)
        drive = generator.normal(size=(steps, 4, hidden))
        frame = np.linalg.qr(generator.normal(size=(2 * hidden, 2 * hidden)))[0]
        order = generator.permutation(hidden)

        def spectrum(U, drive, frame):
            tangent = TANGENTS["lstm"]["full"]({"U": U.reshape(hidden, 4 * hidden)})
            zeros = jnp.zeros(hidden)
            drive = drive.reshape(steps, 4 * hidden)
            return lyapunov_spectrum(None, (zeros, zeros), drive, tangent=tangent, q0=frame)

        plain = jax.jit(spectrum)(U, drive, frame)
        rows = np.concatenate([order, hidden + order])
        other = jax.jit(spectrum)(U[order][:, :, order], drive[:, :, order], frame[rows])
        np.testing.assert_allclose(other.local_exponents, plain.local_exponents, atol=1e-7)
        np.testing.assert_allclose(other.q, plain.q[rows], atol=1e-7)


def test_dead_units_are_flagged_and_distances_agree_in_both_precisions():
    # Units whose output no gate hears: their columns of the hidden Jacobian are zero, and their
    # exponents -inf. float32 reads -16 to -19 nats for them, float64 -36 to -39.
    model = make_language_model(ModelConfig(vocab_size=7, embed_size=4, hidden_size=8))
    tokens = np.random.default_rng(2).integers(0, 7, (80, 2))
    dense = model.init(jax.random.key(0))
    dead = jax.tree.map(lambda leaf: leaf, dense)
    for layer, rows in (("layers_0", [1, 5]), ("layers_1", [3])):
        dead[layer] = dead[layer] | {"U": dead[layer]["U"].at[np.array(rows)].set(0)}
    options = {"state": "hidden", "burn_in": 16}
    distances = []
    for dtype in (np.float32, np.float64):
        with jax.enable_x64(dtype == np.float64):
            spectra = []
            for params in (dense, dead):
                params = jax.tree.map(lambda leaf, t=dtype: np.asarray(leaf, t), params)
                spectra.append(rnn_lyapunov_spectrum(model, params, tokens, **options).exponents)
            np.testing.assert_array_equal((~rank_mask(spectra[1])).sum(axis=1), [2, 1])
            assert rank_mask(spectra[0]).all()
            assert int(count_floored(spectra[1])) == 3
            distances.append(float(ls_distance(*spectra)))
            raw = float(ls_distance(*spectra, floor=-1000.0))
    np.testing.assert_allclose(distances[0], distances[1], atol=1e-2)
    assert raw > distances[1] + 10  # the floor is what makes them agree
