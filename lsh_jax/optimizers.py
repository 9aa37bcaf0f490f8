"""Optimizers as optax transforms whose settings may be traced, and their states under new masks.

SGD as the word-language-model scripts run it, that of masked weights, and sparse NT-ASGD: the
averaged SGD of AWD-LSTM (Merity et al., 2018) as Selfish-RNN (Liu et al., 2021) makes it sparse.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lsh_jax.config import ConfigError
from lsh_jax.sparsity import apply_masks
from lsh_jax.types import Array, Masks, Params, PyTree


def clipped_sgd(
    learning_rate: Any, *, clip: Any, weight_decay: Any = 0.0, momentum: float = 0.0
) -> optax.GradientTransformation:
    """SGD with L2 weight decay after clipping, in the order of the word-language-model scripts.

    The gradient is clipped first, then `weight_decay * params` is added, then momentum and the
    learning rate apply, as with `torch.nn.utils.clip_grad_norm_` and `torch.optim.SGD`. Give it
    the gradient of the dense weights, pruned ones included: the authors clip by that norm, and
    clipping by the masked gradient's enlarges a clipped step by up to 1 / sqrt(density).

    Args:
      learning_rate: step size, a float or a traced scalar.
      clip: largest global norm of the gradient, > 0; inf turns clipping off.
      weight_decay: coefficient of the L2 penalty's gradient, >= 0.
      momentum: share of its sum that a step hands to the next, in [0, 1), static: it decides
        whether there is a sum to keep.

    Returns:
      An optax transform, stateless without momentum; its update needs `params`.

    Raises:
      ConfigError: if `momentum` is not in [0, 1).
    """
    return _clipped(clip, weight_decay, momentum, optax.scale_by_learning_rate(learning_rate))


def _clipped(
    clip: Any, weight_decay: Any, momentum: float, *steps: optax.GradientTransformation
) -> optax.GradientTransformationExtraArgs:
    """The dense gradient clipped, decayed and summed up, and what makes a step of it."""
    if not 0 <= momentum < 1:
        raise ConfigError(f"`momentum` must lie in [0, 1), got {momentum}.")
    if momentum:
        steps = (optax.trace(momentum), *steps)
    # Nested, as `optax.sgd` would stand here: checkpoints know the empty states by their place.
    return optax.chain(
        optax.clip_by_global_norm(clip),
        optax.add_decayed_weights(weight_decay),
        optax.chain(*steps),
    )


def mask_updates() -> optax.GradientTransformationExtraArgs:
    """Replaces the updates of dead weights by exact zeros, whatever stood there, NaN and inf too.

    Returns:
      A stateless optax transform; its update takes `masks`, a bool tree like the parameters.
    """

    def update(
        updates: Params, state: PyTree, params: Params | None = None, *, masks: Masks, **extra: Any
    ) -> tuple[Params, PyTree]:
        del params, extra
        return apply_masks(updates, masks), state

    return optax.GradientTransformationExtraArgs(optax.init_empty_state, update)


def masked_sgd(
    learning_rate: Any, *, clip: Any, weight_decay: Any = 0.0, momentum: float = 0.0
) -> optax.GradientTransformationExtraArgs:
    """The `clipped_sgd` of masked weights: those that are dead, and zero, stay exactly zero.

    Only the step is masked. The gradient is clipped by its dense norm, and momentum is dense
    too: that of a dead weight tells growth by momentum (SNFS, Dettmers & Zettlemoyer, 2019) where
    a weight is missed. So a gradient that is not finite at a dead weight keeps that weight at zero
    but spoils the step of the live ones, through the norm, as it does in the dense network.

    Args:
      learning_rate: step size, finite, a float or a traced scalar.
      clip: largest global norm of the dense gradient, > 0; inf turns clipping off.
      weight_decay: coefficient of the L2 penalty's gradient, >= 0.
      momentum: in [0, 1), static.

    Returns:
      An optax transform with `update(grads, state, params, *, masks)`; `masks` is a bool tree like
      the parameters. Its state holds no array without momentum, otherwise `momentum_of` finds the
      tree.

    Raises:
      ConfigError: if `momentum` is not in [0, 1).
    """
    # Masks come before the learning rate, so that the product with it can go into the sum with
    # the weight in one rounding: a live weight moves by the same bits as it does unmasked.
    steps = mask_updates(), optax.scale_by_learning_rate(learning_rate)
    return _clipped(clip, weight_decay, momentum, *steps)


def momentum_of(opt_state: PyTree) -> Params | None:
    """Finds the momentum of SGD in the state of an optimizer, chained or not.

    Returns:
      The running sum of gradients, a tree like the parameters, dead weights included; None if the
      optimizer has no momentum.

    Raises:
      KeyError: if there is more than one.
    """
    trace = optax.tree.get(opt_state, "TraceState")
    return None if trace is None else trace.trace


class SntAsgdState(NamedTuple):
    """What `snt_asgd` carries on: no array before `start_averaging`, then two a weight."""

    averages: Params | None  # like the parameters; exactly zero where dead
    steps: PyTree | None  # int32 trees like them: averaged steps since the weight came to life


def snt_asgd(
    learning_rate: Any, *, clip: Any, weight_decay: Any = 0.0
) -> optax.GradientTransformationExtraArgs:
    """Sparse NT-ASGD (Selfish-RNN, Liu et al., 2021): SGD whose iterates are averaged per weight.

    The steps are those of `masked_sgd`, before averaging starts and after; what is evaluated
    changes, see `averaged_params`. Each live weight counts its own steps s = 1, 2, ... and
    averages its iterates 2 to s:

        average <- average + (w - average) / max(1, s - 1)

    as `torch.optim.ASGD` does with lambd = 0 and t0 = 0. A weight that dies has average and count
    zero, so that one that comes to life restarts its own average. In the authors' code biases
    share one count per leaf; here theirs count alike, as their masks are ones.

    Candidates that are trained side by side start averaging one by one: start the state of all
    when the first fires, and tell by `averaging`, a traced bool for each, which of them average.
    Where it is false the average is the weight itself and the count stays 0.

    Args:
      learning_rate: step size, a float or a traced scalar; it does not decay.
      clip: largest global norm of the dense gradient, > 0; inf turns clipping off.
      weight_decay: coefficient of the L2 penalty's gradient, >= 0.

    Returns:
      An optax transform with `update(grads, state, params, *, masks, averaging=True)`. Its state is
      an SntAsgdState; `averaging` means nothing before `start_averaging`.
    """
    sgd = masked_sgd(learning_rate, clip=clip, weight_decay=weight_decay)

    def init(params: Params) -> SntAsgdState:
        del params
        return SntAsgdState(averages=None, steps=None)

    def update(
        grads: Params,
        state: SntAsgdState,
        params: Params,
        *,
        masks: Masks,
        averaging: Array | bool = True,
        **extra: Any,
    ) -> tuple[Params, SntAsgdState]:
        del extra
        updates, _ = sgd.update(grads, sgd.init(params), params, masks=masks)
        if state.averages is None:
            return updates, state
        weights = optax.apply_updates(params, updates)  # zero where dead
        steps = jax.tree.map(
            lambda step, mask: jnp.where(mask & averaging, step + 1, 0), state.steps, masks
        )
        averages = jax.tree.map(_next_average, state.averages, weights, steps)
        return updates, SntAsgdState(averages=averages, steps=steps)

    return optax.GradientTransformationExtraArgs(init, update)


def _next_average(average: Array, weight: Array, step: Array) -> Array:
    # The mean of iterates 2 to `step` is the weight itself up to step 2. To take it, not to add
    # the difference, is exact and forgets whatever average a dead weight or a NaN had left.
    num_averaged = jnp.maximum(step - 1, 1).astype(weight.dtype)
    return jnp.where(step > 2, average + (weight - average) / num_averaged, weight)


def start_averaging(state: SntAsgdState, params: Params, masks: Masks) -> SntAsgdState:
    """Gives the state of `snt_asgd` its averages, from which on its updates average.

    The structure of the state changes here, once: what is compiled for it compiles again, and a
    checkpoint has the one or the other.

    Args:
      state: of `snt_asgd`; one that has started starts anew.
      params: the weights before the first averaged step.
      masks: bool tree like them.

    Returns:
      The state with the weights as averages and counts of zero.
    """
    return state._replace(
        averages=apply_masks(params, masks),
        steps=jax.tree.map(lambda param: jnp.zeros(jnp.shape(param), jnp.int32), params),
    )


def averaged_params(state: SntAsgdState, params: Params) -> Params:
    """The parameters to evaluate: the averages where there are any, otherwise the weights.

    Averages follow the masks of the last step. Evaluate before a change of the topology, or after
    the next step, not between: until then a weight that has just died keeps its average.

    Args:
      state: of `snt_asgd`, after a step.
      params: the weights after that step.

    Returns:
      A tree like `params`, with exact zeros where they are dead.
    """
    if state.averages is None:
        return params
    return jax.tree.map(
        lambda average, param, step: jnp.where(step > 0, average, param),
        state.averages,
        params,
        state.steps,
    )


def nt_triggered(
    losses: Array, num_losses: Array | int, val_loss: Array | float, nonmonotone: int = 5
) -> Array:
    """The non-monotone trigger of NT-ASGD: is the validation loss no better than it was long ago?

    It fires when the loss exceeds the least of all but the last `nonmonotone` earlier ones, as in
    the code of AWD-LSTM (Merity et al., 2018), whose paper prints another window; its authors
    confirm the code (salesforce/awd-lstm-lm, issues 13, 47 and 73). With the default that is
    after the seventh epoch at the earliest. It is a pure function of a few scalars, to be called
    once an epoch, also where candidates are vmapped; whoever calls it remembers that it fired.

    Args:
      losses: validation losses of the earlier epochs in their order, any unit that falls with
        the loss, [E] with room to spare; what stands from `num_losses` on is not read. NaN among
        them is passed over.
      num_losses: how many there are, int scalar, 0 <= num_losses <= E.
      val_loss: that of the epoch that has just ended, scalar; NaN does not fire.
      nonmonotone: how many of the last losses are left out, >= 0.

    Returns:
      A bool scalar.
    """
    losses = jnp.asarray(losses)
    position = jnp.arange(losses.shape[-1], dtype=jnp.int32)
    old = (position < num_losses - nonmonotone) & ~jnp.isnan(losses)
    least = jnp.min(losses, initial=jnp.inf, where=old)
    # With nothing to compare with, `least` is inf, which no loss exceeds.
    return jnp.asarray(val_loss, losses.dtype) > least


def reset_slots(optimizer: optax.GradientTransformation, opt_state: PyTree, grown: Masks) -> PyTree:
    """Zeroes what an optimizer remembers of the weights that have just come to life.

    For any state that `optax.tree.map_params` can read (not L-BFGS, nor SM3): momentum, the moments
    of Adam, sums of squares, the averages and counts of `snt_asgd`. Counters and other scalars
    stay, as does what is not kept weight by weight, such as the rows and columns of Adafactor; so
    do the leaves that `optax.masked` leaves out, and None. Runs under `jit` and `vmap`; the types
    of the slots stay too.

    RigL does so with every slot (Evci et al., 2020). The count of Adam's bias correction is one for
    all weights and stays, so that the first step of a grown weight late in training is
    (1 - b1) / sqrt(1 - b2) learning rates long, 3.2 with the defaults.

    Args:
      optimizer: the transform that the state belongs to; only its `init` is used, so that settings
        that leave the state's structure alone do not matter.
      opt_state: its state.
      grown: bool tree like the parameters, from `SparsityInfo`.

    Returns:
      The state, with zeros at the weights that have grown.
    """

    def init(params: Any) -> PyTree:
        # `snt_asgd` starts without slots; where the state has none yet, None is passed over.
        slots = SntAsgdState(averages=params, steps=params)
        return jax.tree.map(
            lambda node: slots if _is_asgd(node) else node, optimizer.init(params), is_leaf=_is_asgd
        )

    return optax.tree.map_params(init, _reset_slot, opt_state, grown, is_leaf=_is_no_slot)


def _is_asgd(node: PyTree) -> bool:
    return isinstance(node, SntAsgdState)


def _is_no_slot(node: PyTree) -> bool:
    return node is None or isinstance(node, optax.MaskedNode)


def _reset_slot(slot: Any, grown: Any) -> Any:
    if _is_no_slot(slot) or jnp.shape(slot) != jnp.shape(grown):
        return slot
    return jnp.where(grown, jnp.zeros_like(slot), slot)
