"""Optimizers as optax transforms whose settings may be traced."""

from typing import Any

import optax


def clipped_sgd(
    learning_rate: Any, *, clip: Any, weight_decay: Any = 0.0
) -> optax.GradientTransformation:
    """SGD with L2 weight decay after clipping, in the order of the word-language-model scripts.

    The gradient is clipped first, then `weight_decay * params` is added, then the learning rate
    applies, as with `torch.nn.utils.clip_grad_norm_` and `torch.optim.SGD`. Give it the gradient
    of the dense weights, pruned ones included: the authors clip by that norm, and clipping by the
    masked gradient's enlarges a clipped step by up to 1 / sqrt(density).

    Args:
      learning_rate: step size, a float or a traced scalar.
      clip: largest global norm of the gradient, > 0; inf turns clipping off.
      weight_decay: coefficient of the L2 penalty's gradient, >= 0.

    Returns:
      A stateless optax transform; its update needs `params`.
    """
    return optax.chain(
        optax.clip_by_global_norm(clip),
        optax.add_decayed_weights(weight_decay),
        optax.sgd(learning_rate),
    )
