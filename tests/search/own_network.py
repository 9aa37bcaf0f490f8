"""A small network of one's own, in a module, so that worker processes find it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from lsh_jax import SequenceBatches, SequenceNetwork, cut_batches, driven_spectrum
from lsh_jax import make_sequence_task as make
from lsh_jax.sequence_models import gaussian_nll
from lsh_jax.sequence_training import adam

S, N, H = 2, 4, 6  # segments of an epoch, their batches, hidden units


def _sequences(count, seed):
    inputs = np.random.default_rng(seed).normal(size=(count, 5, H)).astype(np.float32)
    return inputs, inputs.sum(axis=(1, 2))


BATCHES = SequenceBatches(
    train=cut_batches(_sequences(S * N * 8, 0), 8, segments=S),
    validation=cut_batches(_sequences(16, 1), 8),
    test=cut_batches(_sequences(24, 2), 8),
)
DRIVING = _sequences(2, 3)[0].swapaxes(0, 1).repeat(6, axis=0)  # [T, B, E]


def init(key):
    keys = dict(zip("WUr", jax.random.split(key, 3), strict=True))
    shapes = {"W": (H, H), "U": (H, H), "r": (H,)}
    params = {name: 0.4 * jax.random.normal(keys[name], shapes[name]) for name in keys}
    return params | {"b": jnp.zeros(H)}


def step(params, h, x):
    return jnp.tanh(x @ params["W"] + h @ params["U"] + jnp.broadcast_to(params["b"], h.shape))


def loss(params, batch, key, *, noise=0.0, weighted=False):
    inputs, answers = batch
    h = jnp.zeros((len(answers), H))
    for t in range(inputs.shape[1]):
        h = step(params, h, inputs[:, t])
    if key is not None and noise:
        h = h + noise * jax.random.normal(key, h.shape)
    total, count = gaussian_nll(h @ params["r"] - answers)
    return total, count * jnp.any(inputs != 0) if weighted else count


def spectrum(params):
    return driven_spectrum(
        functools.partial(step, params), jnp.zeros(H), DRIVING, num_exponents=4, burn_in=5
    )


def network(**options):
    return SequenceNetwork(init, functools.partial(loss, **options), spectrum)


def make_task(seed=0, learning_rate=0.01, optimizer=adam, noise=0.0, weighted=False, **batches):
    return make(
        "sums",
        network(noise=noise, weighted=weighted),
        BATCHES._replace(**batches),
        learning_rate=learning_rate,
        clip=1.0,
        optimizer=optimizer,
        baseline_nll={"validation": 2.0, "test": 2.1},
        seed=seed,
    )
