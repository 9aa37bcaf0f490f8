"""Training in jitted segments of an epoch, topology updates on their borders, and evaluation.

One program trains every candidate and the dense network: masks, controls and hyperparameters are
data. Within a segment time is a `lax.scan` over windows; the state of the network is carried
from window to window and reset at the start of an epoch.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lsh_jax.data.batching import Windows
from lsh_jax.language_models import LanguageModel
from lsh_jax.optimizers import masked_sgd, momentum_of, reset_slots
from lsh_jax.sparsity import Controls, SparsityInfo, SparsityState, SparsityUpdater, apply_masks
from lsh_jax.types import Array, Carry, Hyper, Key, Params


class TrainState(NamedTuple):
    """All that training carries on; a checkpoint of it continues bit for bit."""

    params: Params  # masked
    opt_state: Any
    sparsity: SparsityState
    carry: Carry  # the network's state after the last window
    num_segments: Array  # int32, segments trained so far
    topology_key: Key  # of the candidate: masks and growth; the updater folds the update in


def init_train_state(
    model: LanguageModel,
    updater: SparsityUpdater,
    batch_size: int,
    init_key: Key,
    topology_key: Key,
    controls: Controls,
    *,
    momentum: float = 0.0,
) -> TrainState:
    """Draws weights and masks.

    Args:
      model: the language model.
      updater: from `dynamic_sparsity`.
      batch_size: columns of the token stream.
      init_key: for the weights; shared by the dense network and all candidates.
      topology_key: for masks and growth; the candidate's own.
      controls: from `sparsity.controls`.
      momentum: of SGD, in [0, 1), static as everywhere in this file; it decides whether the state
        of the optimizer holds any array.

    Returns:
      The state before the first segment.
    """
    params = model.init(init_key)
    sparsity = updater.init(topology_key, params, controls)
    return TrainState(
        params=apply_masks(params, sparsity.masks),
        opt_state=masked_sgd(0.0, clip=1.0, momentum=momentum).init(params),
        sparsity=sparsity,
        carry=model.init_carry(batch_size),
        num_segments=jnp.zeros((), jnp.int32),
        topology_key=topology_key,
    )


def train_segment(
    model: LanguageModel,
    segments_per_epoch: int,
    state: TrainState,
    hyper: Hyper,
    windows: Windows,
    dropout_key: Key,
    *,
    momentum: float = 0.0,
) -> tuple[TrainState, Array, Array]:
    """Trains on the windows of one segment.

    Args:
      model: the language model.
      segments_per_epoch: the carry is reset before every so many segments.
      state: the state before the segment.
      hyper: traced hyperparameters.
      windows: [W, bptt, B] each; a window of weight zero changes nothing.
      dropout_key: shared by the dense network and all candidates.
      momentum: as for `init_train_state`.

    Returns:
      The next state, the sum of the training nll in nats and the number of tokens it is over.
    """
    optimizer = masked_sgd(
        hyper.learning_rate, clip=hyper.clip, weight_decay=hyper.weight_decay, momentum=momentum
    )
    masks = state.sparsity.masks
    carry = _reset_carry(state, segments_per_epoch)

    def step(loop: Any, indexed: tuple[Array, Windows]) -> tuple[Any, tuple[Array, Array]]:
        params, opt_state, carry = loop
        index, window = indexed
        key = jax.random.fold_in(dropout_key, index)
        value_and_grad = jax.value_and_grad(functools.partial(_loss, model), has_aux=True)
        (mean, new_carry), grads = value_and_grad(params, carry, window, key, hyper)
        updates, new_opt_state = optimizer.update(grads, opt_state, params, masks=masks)
        num_tokens = jnp.sum(window.weights)
        new = (optax.apply_updates(params, updates), new_opt_state, new_carry)
        loop = jax.tree.map(lambda a, b: jnp.where(num_tokens > 0, a, b), new, loop)
        return loop, (mean * num_tokens, num_tokens)

    num_windows = windows.inputs.shape[0]
    indices = state.num_segments * num_windows + jnp.arange(num_windows, dtype=jnp.int32)
    loop = (state.params, state.opt_state, carry)
    (params, opt_state, carry), (nll, num_tokens) = jax.lax.scan(step, loop, (indices, windows))
    state = TrainState(
        params=params,
        opt_state=opt_state,
        sparsity=state.sparsity,
        carry=carry,
        num_segments=state.num_segments + 1,
        topology_key=state.topology_key,
    )
    return state, jnp.sum(nll), jnp.sum(num_tokens)


def update_topology(
    model: LanguageModel,
    updater: SparsityUpdater,
    segments_per_epoch: int,
    state: TrainState,
    controls: Controls,
    window: Windows,
    *,
    momentum: float = 0.0,
) -> tuple[TrainState, SparsityInfo]:
    """Removes and grows weights between two segments.

    The gradient that gradient growth ranks by is the dense one of the coming window, without
    dropout, as RigL's is of the batch at hand (Evci et al., 2020, section 3). It is taken whatever
    the growth mode, so that one program serves all: one window in an update's interval.

    Args:
      model: the language model.
      updater: from `dynamic_sparsity`.
      segments_per_epoch: as for `train_segment`.
      state: the state after a segment.
      controls: from `sparsity.controls`.
      window: the first window of the next segment, [bptt, B].
      momentum: as for `init_train_state`.

    Returns:
      The state before the next segment, and what the update did.
    """
    carry = _reset_carry(state, segments_per_epoch)
    grad = jax.grad(functools.partial(_loss, model), has_aux=True)
    gradients, _ = grad(state.params, carry, window, None, None)
    params, sparsity, info = updater.update(
        state.topology_key,
        state.sparsity,
        state.params,
        controls,
        gradients=gradients,
        momentum=momentum_of(state.opt_state),
    )
    optimizer = masked_sgd(0.0, clip=1.0, momentum=momentum)  # its settings do not matter here
    opt_state = reset_slots(optimizer, state.opt_state, info.grown)
    return state._replace(params=params, opt_state=opt_state, sparsity=sparsity), info


def evaluate_windows(model: LanguageModel, params: Params, windows: Windows) -> tuple[Array, Array]:
    """The nll of every window of a split, with carried state and without dropout.

    Args:
      model: the language model.
      params: masked.
      windows: the whole split, [W, bptt, B] each.

    Returns:
      Sums of the nll in nats and numbers of tokens, [W] each.
    """

    def step(carry: Carry, window: Windows) -> tuple[Carry, tuple[Array, Array]]:
        logits, carry = model.apply(params, window.inputs, carry)
        return carry, (_weighted_nll(logits, window), jnp.sum(window.weights))

    carry = model.init_carry(windows.inputs.shape[-1])
    return jax.lax.scan(step, carry, windows)[1]


def _reset_carry(state: TrainState, segments_per_epoch: int) -> Carry:
    """The carry for the coming segment: zeros at the start of an epoch."""
    starts_epoch = state.num_segments % segments_per_epoch == 0
    return jax.tree.map(lambda a: jnp.where(starts_epoch, jnp.zeros_like(a), a), state.carry)


def _loss(
    model: LanguageModel,
    params: Params,
    carry: Carry,
    window: Windows,
    key: Key | None,
    hyper: Hyper | None,
) -> tuple[Array, Carry]:
    """Mean nll of a window, and the carry after it."""
    logits, carry = model.apply(params, window.inputs, carry, key=key, dropout=hyper)
    num_tokens = jnp.maximum(jnp.sum(window.weights), 1.0)
    return _weighted_nll(logits, window) / num_tokens, carry


def _weighted_nll(logits: Array, window: Windows) -> Array:
    nll = optax.softmax_cross_entropy_with_integer_labels(logits, window.targets)
    return jnp.sum(nll * window.weights)
