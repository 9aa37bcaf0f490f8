"""Sparse NT-ASGD: the averaged SGD of AWD-LSTM (Merity et al., 2018), one average a weight.

Selfish-RNN (Liu et al., 2021) makes it sparse: the average of a weight restarts when it grows.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lsh_jax.config import check
from lsh_jax.optimizers import masked_sgd, widened
from lsh_jax.sparsity import apply_masks
from lsh_jax.types import Array, Masks, Params, PyTree


class SntAsgdState(NamedTuple):
    """What `snt_asgd` carries on: no array before `start_averaging`, then two a weight."""

    averages: Params | None  # like the parameters, float32 or wider; exactly zero where dead
    steps: PyTree | None  # int32 trees like them: averaged steps since the weight came to life


def snt_asgd(
    learning_rate: Any, *, clip: Any, weight_decay: Any = 0.0, copies: PyTree | None = None
) -> optax.GradientTransformationExtraArgs:
    """Sparse NT-ASGD (Selfish-RNN, Liu et al., 2021): SGD whose iterates are averaged per weight.

    The steps are those of `masked_sgd`, before averaging starts and after; what is evaluated
    changes, see `averaged_params`. Each live weight counts its own steps s = 1, 2, ... and
    averages its iterates 2 to s:

        average <- average + (w - average) / max(1, s - 1)

    as `torch.optim.ASGD` does with lambd = 0 and t0 = 0. A weight that dies has average and count
    zero, so that one that comes to life restarts its own average. In the authors' code biases
    share one count per leaf; here theirs count alike, as their masks are ones. Averages are kept in
    float32 at least: in bfloat16 they would stand still from some hundred steps on.

    Candidates that are trained side by side start averaging one by one: start the state of all
    when the first fires, and tell by `averaging`, a traced bool for each, which of them average.
    Where it is false the average is the weight itself and the count stays 0. A plain False says
    that none averages: the state is left as it is, and what it holds is not read while the counts
    are 0.

    Args:
      learning_rate: step size, a float or a traced scalar; it does not decay.
      clip: largest global norm of the dense gradient, > 0; inf turns clipping off.
      weight_decay: coefficient of the L2 penalty's gradient, >= 0.
      copies: as for `clipped_sgd`.

    Returns:
      An optax transform with `update(grads, state, params, *, masks, averaging=True)`. Its state is
      an SntAsgdState; `averaging` means nothing before `start_averaging`.

    Raises:
      ConfigError: if `clip` is not above 0, where it is not traced.
    """
    sgd = masked_sgd(learning_rate, clip=clip, weight_decay=weight_decay, copies=copies)

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
        if state.averages is None or averaging is False:
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
    weight = weight.astype(average.dtype)
    num_averaged = jnp.maximum(step - 1, 1).astype(average.dtype)
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
      The state with the weights as averages, in float32 at least, and counts of zero.
    """
    return state._replace(
        averages=jax.tree.map(widened, apply_masks(params, masks)),
        steps=jax.tree.map(lambda param: jnp.zeros_like(param, dtype=jnp.int32), params),
    )


def averaged_params(state: SntAsgdState, params: Params, masks: Masks) -> Params:
    """The parameters to evaluate: the averages where there are any, otherwise the weights.

    Masks are applied to both: the average of a weight that has died since the last step is still
    in the state.

    Args:
      state: of `snt_asgd`.
      params: the weights.
      masks: bool tree like them, of the topology to evaluate.

    Returns:
      A tree like `params`, of their types too, with exact zeros where they are dead.
    """
    if state.averages is None:
        return apply_masks(params, masks)
    found = jax.tree.map(
        lambda average, param, step: jnp.where(step > 0, average.astype(param.dtype), param),
        state.averages,
        params,
        state.steps,
    )
    return apply_masks(found, masks)


def nt_triggered(
    losses: Array, num_losses: Array | int, val_loss: Array | float, nonmonotone: Array | int = 5
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
      num_losses: how many there are, int scalar, 0 <= num_losses <= E; clipped to that where it is
        traced.
      val_loss: that of the epoch that has just ended, scalar; NaN does not fire.
      nonmonotone: how many of the last losses are left out, >= 0; 0 where traced and negative.

    Returns:
      A bool scalar.

    Raises:
      ConfigError: if `num_losses` or `nonmonotone` is out of range, where it is not traced.
    """
    losses = jnp.asarray(losses)
    room = losses.shape[-1]
    if not isinstance(num_losses, jax.core.Tracer):
        condition = f"lie in [0, {room}], the room in `losses`"
        check(0 <= int(num_losses) <= room, "num_losses", condition, int(num_losses))
    if not isinstance(nonmonotone, jax.core.Tracer):
        check(int(nonmonotone) >= 0, "nonmonotone", "be at least 0", int(nonmonotone))
    position = jnp.arange(room, dtype=jnp.int32)
    num_losses, nonmonotone = (jnp.asarray(n, jnp.int32) for n in (num_losses, nonmonotone))
    num_old = jnp.clip(num_losses, 0, room) - jnp.maximum(nonmonotone, 0)
    old = (position < num_old) & ~jnp.isnan(losses)
    least = jnp.min(losses, initial=jnp.inf, where=old)
    # With nothing to compare with, `least` is inf, which no loss exceeds.
    return jnp.asarray(val_loss, losses.dtype) > least
