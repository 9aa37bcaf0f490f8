"""The loss of a language model: negative log-likelihood of the next word, in nats."""

import jax
import jax.numpy as jnp

from lsh_jax.types import Array


@jax.custom_vjp
def weighted_nll(logits: Array, targets: Array, weights: Array) -> Array:
    """The sum of the negative log-likelihoods of targets, each times its weight.

    Logits are the largest array of a training step, [T, B, V]. The gradient, weight x (softmax -
    one-hot), is written from them in one pass into the memory that they leave: neither softmax nor
    log-softmax is kept beside them from the forward pass.

    Args:
      logits: [..., V].
      targets: int, [...].
      weights: [...]; no gradient flows to them.

    Returns:
      A scalar, nats.
    """
    return _forward(logits, targets, weights)[0]


_Residuals = tuple[Array, Array, Array, Array]


def _forward(logits: Array, targets: Array, weights: Array) -> tuple[Array, _Residuals]:
    log_norm = jax.nn.logsumexp(logits, axis=-1)
    chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    total = jnp.sum((log_norm - chosen) * weights)
    return total, (logits, targets, weights, log_norm)


def _backward(residuals: _Residuals, cotangent: Array) -> tuple[Array, None, Array]:
    logits, targets, weights, log_norm = residuals
    scale = (cotangent * weights).ravel()
    flat = logits.reshape(-1, logits.shape[-1])
    probability = jnp.exp(flat - log_norm.reshape(-1, 1)) * scale[:, None]
    # The targets by a scatter of T B numbers: to compare every entry with its target costs as much
    # as the exponential.
    error = probability.at[jnp.arange(len(flat)), targets.ravel()].add(-scale)
    return error.reshape(logits.shape), None, jnp.zeros_like(weights)


weighted_nll.defvjp(_forward, _backward)
