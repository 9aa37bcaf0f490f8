"""Training of any network on batches of sequences: segments, topology updates, evaluation.

What `lsh_jax.training` is for language models, for a network that is known by its loss alone. One
program trains every candidate and the dense network: masks, controls and hyperparameters are data.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lsh_jax.optimizers import masked_sgd, momentum_of, reset_slots
from lsh_jax.sparsity import Controls, SparsityInfo, SparsityState, SparsityUpdater, apply_masks
from lsh_jax.types import Array, Hyper, Key, Params, PyTree

Batch = PyTree  # of arrays: what the loss takes
Loss = Callable[[Params, Batch, Key | None], tuple[Array, Array]]
# -> the sum of a batch's nll in nats, and the number of predictions that it is over
Optimizer = Callable[[Hyper], optax.GradientTransformation]  # of traced hyperparameters


def sgd(hyper: Hyper) -> optax.GradientTransformation:
    """SGD with clipping and L2 weight decay, that of the language models: see `masked_sgd`."""
    return masked_sgd(hyper.learning_rate, clip=hyper.clip, weight_decay=hyper.weight_decay)


def momentum_sgd(hyper: Hyper) -> optax.GradientTransformation:
    """`sgd` with a momentum of 0.9, which growth and redistribution by momentum need."""
    return masked_sgd(
        hyper.learning_rate, clip=hyper.clip, weight_decay=hyper.weight_decay, momentum=0.9
    )


def adam(hyper: Hyper) -> optax.GradientTransformation:
    """Adam (Kingma & Ba, 2015) of the clipped dense gradient, with L2 weight decay before it."""
    return optax.chain(
        optax.clip_by_global_norm(hyper.clip),
        optax.add_decayed_weights(hyper.weight_decay),
        optax.adam(hyper.learning_rate),
    )


class SequenceState(NamedTuple):
    """All that training carries on; a checkpoint of it continues bit for bit."""

    params: Params  # masked
    opt_state: PyTree
    sparsity: SparsityState
    num_segments: Array  # int32, segments trained so far
    topology_key: Key  # of the candidate: masks and growth; the updater folds the update in


def init_state(
    init: Callable[[Key], Params],
    optimizer: optax.GradientTransformation,
    updater: SparsityUpdater,
    init_key: Key,
    topology_key: Key,
    controls: Controls,
) -> SequenceState:
    """Draws weights and masks.

    Args:
      init: `init(key) -> params`.
      optimizer: whatever its settings, its `init` is used alone.
      updater: from `dynamic_sparsity`.
      init_key: for the weights; shared by the dense network and all candidates.
      topology_key: for masks and growth; the candidate's own.
      controls: from `sparsity.controls`.

    Returns:
      The state before the first segment.
    """
    params = init(init_key)
    sparsity = updater.init(topology_key, params, controls)
    params = apply_masks(params, sparsity.masks)
    return SequenceState(
        params=params,
        opt_state=optimizer.init(params),
        sparsity=sparsity,
        num_segments=jnp.zeros((), jnp.int32),
        topology_key=topology_key,
    )


def train_segment(
    loss: Loss, optimizer: Optimizer, state: SequenceState, hyper: Hyper, batches: Batch, key: Key
) -> tuple[SequenceState, Array, Array]:
    """Takes a step of the optimizer on each batch of a segment.

    The gradient is that of the dense weights and is handed to the optimizer unmasked; what it makes
    of dead weights is replaced by zeros. A batch of count zero changes nothing.

    Args:
      loss: of a batch, see `Loss`; the gradient is that of the sum divided by the count.
      optimizer: of these hyperparameters.
      state: the state before the segment.
      hyper: traced hyperparameters.
      batches: [N, ...] each.
      key: for the noise of training, shared by the dense network and all candidates.

    Returns:
      The next state, the sum of the training nll and the count that it is over.
    """
    transform = optax.with_extra_args_support(optimizer(hyper))
    masks = state.sparsity.masks
    num_batches = jax.tree.leaves(batches)[0].shape[0]

    def step(loop: Any, indexed: tuple[Array, Batch]) -> tuple[Any, tuple[Array, Array]]:
        params, opt_state = loop
        index, batch = indexed
        own_key = jax.random.fold_in(key, index)
        value_and_grad = jax.value_and_grad(_mean_loss, argnums=1, has_aux=True)
        (_, (total, count)), grads = value_and_grad(loss, params, batch, own_key)
        updates, new_opt_state = transform.update(grads, opt_state, params, masks=masks)
        new = apply_masks(optax.apply_updates(params, updates), masks), new_opt_state
        loop = jax.tree.map(lambda a, b: jnp.where(count > 0, a, b), new, loop)
        return loop, (total, count)

    indices = state.num_segments * num_batches + jnp.arange(num_batches, dtype=jnp.int32)
    loop = (state.params, state.opt_state)
    (params, opt_state), (totals, counts) = jax.lax.scan(step, loop, (indices, batches))
    state = state._replace(params=params, opt_state=opt_state, num_segments=state.num_segments + 1)
    return state, jnp.sum(totals), jnp.sum(counts)


def _mean_loss(
    loss: Loss, params: Params, batch: Batch, key: Key | None
) -> tuple[Array, tuple[Array, Array]]:
    total, count = loss(params, batch, key)
    count = jnp.asarray(count, total.dtype)
    return total / jnp.maximum(count, 1), (total, count)


def update_topology(
    loss: Loss,
    optimizer: optax.GradientTransformation,
    updater: SparsityUpdater,
    state: SequenceState,
    controls: Controls,
    batch: Batch,
) -> tuple[SequenceState, SparsityInfo]:
    """Removes and grows weights between two segments.

    Gradient growth ranks by the dense gradient of the coming batch, without noise. It is taken
    whatever the growth mode, so that one program serves all. The optimizer's slots of grown weights
    are reset.

    Args:
      loss: of a batch.
      optimizer: whatever its settings, its `init` is used alone.
      updater: from `dynamic_sparsity`.
      state: the state after a segment.
      controls: from `sparsity.controls`.
      batch: the first of the next segment.

    Returns:
      The state before the next segment, and what the update did.
    """
    gradients, _ = jax.grad(_mean_loss, argnums=1, has_aux=True)(loss, state.params, batch, None)
    params, sparsity, info = updater.update(
        state.topology_key,
        state.sparsity,
        state.params,
        controls,
        gradients=gradients,
        momentum=momentum_of(state.opt_state),
    )
    opt_state = reset_slots(optimizer, state.opt_state, info.grown)
    return state._replace(params=params, opt_state=opt_state, sparsity=sparsity), info


def evaluate_batches(loss: Loss, params: Params, batches: Batch) -> tuple[Array, Array]:
    """The nll of every batch of a split, without noise.

    Args:
      loss: of a batch.
      params: masked.
      batches: the whole split, [N, ...] each.

    Returns:
      Sums of the nll and the counts that they are over, [N] each.
    """

    def one(batch: Batch) -> tuple[Array, Array]:
        total, count = loss(params, batch, None)
        return total, jnp.asarray(count, total.dtype)

    return jax.lax.map(one, batches)
