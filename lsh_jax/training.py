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

from lsh_jax.averaging import (
    SntAsgdState,
    averaged_params,
    nt_triggered,
    snt_asgd,
    start_averaging,
)
from lsh_jax.config import TrainConfig
from lsh_jax.data.batching import Windows
from lsh_jax.language_models import LanguageModel, bias_copies
from lsh_jax.losses import weighted_nll
from lsh_jax.optimizers import masked_sgd, momentum_of, reset_slots
from lsh_jax.sparsity import Controls, SparsityInfo, SparsityState, SparsityUpdater, apply_masks
from lsh_jax.types import Array, Carry, Hyper, Key, Params, PyTree


class TrainState(NamedTuple):
    """All that training carries on; a checkpoint of it continues bit for bit."""

    params: Params  # masked
    opt_state: Any
    sparsity: SparsityState
    carry: Carry  # the network's state after the last window
    num_segments: Array  # int32, segments trained so far
    topology_key: Key  # of the candidate: masks and growth; the updater folds the update in
    averaging: Array  # bool: do steps from here on average?
    val_nlls: Array  # [nonmonotone + 1]: the least but for the latest, then these; inf for none


def init_train_state(
    model: LanguageModel,
    updater: SparsityUpdater,
    recipe: TrainConfig,
    init_key: Key,
    topology_key: Key,
    controls: Controls,
) -> TrainState:
    """Draws weights and masks.

    Args:
      model: the language model.
      updater: from `dynamic_sparsity`.
      recipe: static, as everywhere in this file; whether it has momentum or averaging decides which
        arrays the state holds. Averages have their place from the start: two arrays a weight.
      init_key: for the weights; shared by the dense network and all candidates.
      topology_key: for masks and growth; the candidate's own.
      controls: from `sparsity.controls`.

    Returns:
      The state before the first segment.
    """
    params = model.init(init_key)
    sparsity = updater.init(topology_key, params, controls)
    opt_state = _optimizer(model, recipe, params).init(params)
    if recipe.averaging == "nt-asgd":
        opt_state = start_averaging(opt_state, params, sparsity.masks)
    return TrainState(
        params=apply_masks(params, sparsity.masks),
        opt_state=opt_state,
        sparsity=sparsity,
        carry=model.init_carry(recipe.batch_size),
        num_segments=jnp.zeros((), jnp.int32),
        topology_key=topology_key,
        averaging=jnp.zeros((), bool),
        val_nlls=jnp.full(recipe.nonmonotone + 1, jnp.inf, jnp.float32),
    )


def _optimizer(
    model: LanguageModel, recipe: TrainConfig, params: Params, rate: Any = 0.0, hyper: Any = None
) -> optax.GradientTransformationExtraArgs:
    """The recipe's optimizer; without `hyper`, for its state alone."""
    copies = None
    if model.config.two_biases:
        of = bias_copies(model.config)
        copies = jax.tree_util.tree_map_with_path(
            lambda path, leaf: of(tuple(entry.key for entry in path), leaf), params
        )
    clip, decay = (1.0, 0.0) if hyper is None else (hyper.clip, hyper.weight_decay)
    if recipe.averaging == "nt-asgd":
        return snt_asgd(rate, clip=clip, weight_decay=decay, copies=copies)
    return masked_sgd(rate, clip=clip, weight_decay=decay, momentum=recipe.momentum, copies=copies)


def train_segment(
    model: LanguageModel,
    recipe: TrainConfig,
    state: TrainState,
    hyper: Hyper,
    windows: Windows,
    dropout_key: Key,
    *,
    averaging: bool = False,
) -> tuple[TrainState, Array, Array]:
    """Trains on the windows of one segment.

    Args:
      model: the language model.
      recipe: static; what `hyper` has is taken from there. The carry is reset at the start of an
        epoch.
      state: the state before the segment.
      hyper: traced hyperparameters.
      windows: [W, bptt, B] each; a window of weight zero changes nothing.
      dropout_key: shared by the dense network and all candidates.
      averaging: static, whether any state that this program is for averages. Without, averages cost
        nothing, and `state.averaging` is taken for false.

    Returns:
      The next state, the sum of the training nll in nats and the number of tokens it is over.
    """
    rate = _learning_rate(recipe, hyper, state.num_segments)
    optimizer = _optimizer(model, recipe, state.params, rate, hyper)
    loss = functools.partial(_loss, model, recipe)
    extra = {"masks": state.sparsity.masks, "averaging": averaging and state.averaging}

    def step(loop: Any, indexed: tuple[Array, Windows]) -> tuple[Any, tuple[Array, Array]]:
        params, opt_state, carry = loop
        index, window = indexed
        key = jax.random.fold_in(dropout_key, index)
        value_and_grad = jax.value_and_grad(loss, has_aux=True)
        (mean, new_carry), grads = value_and_grad(params, carry, window, key, hyper)
        updates, new_opt_state = optimizer.update(grads, opt_state, params, **extra)
        num_tokens = jnp.sum(window.weights)
        new = (optax.apply_updates(params, updates), new_opt_state, new_carry)
        loop = jax.tree.map(lambda a, b: jnp.where(num_tokens > 0, a, b), new, loop)
        return loop, (mean * num_tokens, num_tokens)

    carry = _reset_carry(state, recipe.segments_per_epoch)
    num_windows = windows.inputs.shape[0]
    indices = state.num_segments * num_windows + jnp.arange(num_windows, dtype=jnp.int32)
    loop = (state.params, state.opt_state, carry)
    (params, opt_state, carry), (nll, num_tokens) = jax.lax.scan(step, loop, (indices, windows))
    state = state._replace(
        params=params, opt_state=opt_state, carry=carry, num_segments=state.num_segments + 1
    )
    return state, jnp.sum(nll), jnp.sum(num_tokens)


def _learning_rate(recipe: TrainConfig, hyper: Hyper, num_segments: Array) -> Array:
    """The step size of the epoch that a segment belongs to."""
    if recipe.decay == 1:
        return hyper.learning_rate
    epoch = num_segments // recipe.segments_per_epoch + 1
    decays = jnp.maximum(epoch - recipe.decay_after, 0)
    return hyper.learning_rate / recipe.decay ** decays.astype(jnp.float32)


def end_epoch(recipe: TrainConfig, state: TrainState, val_nll: Array | float) -> TrainState:
    """Starts averaging if the validation loss no longer improves, by the rule of `nt_triggered`.

    Args:
      recipe: static.
      state: the state after the epoch.
      val_nll: of the epoch, evaluated with `evaluated_params`.

    Returns:
      The state before the next epoch.
    """
    if recipe.averaging == "none":
        return state
    nlls, num_kept = state.val_nlls, recipe.nonmonotone
    val_nll = jnp.asarray(val_nll, jnp.float32)
    fires = nt_triggered(nlls, num_kept + 1, val_nll, num_kept)
    longer = jnp.append(nlls, val_nll)
    return state._replace(
        averaging=state.averaging | fires,
        val_nlls=longer[1:].at[0].set(jnp.fmin(longer[0], longer[1])),
    )


def evaluated_params(state: TrainState) -> Params:
    """The weights to evaluate, masked: averages once there are any."""
    if not isinstance(state.opt_state, SntAsgdState):
        return state.params
    return averaged_params(state.opt_state, state.params, state.sparsity.masks)


def is_averaged(state: TrainState) -> Array:
    """Whether `evaluated_params` are averages, a bool scalar."""
    if not isinstance(state.opt_state, SntAsgdState):
        return jnp.zeros((), bool)
    return jnp.any(jnp.stack([jnp.any(n > 0) for n in jax.tree.leaves(state.opt_state.steps)]))


def without_averages(state: TrainState) -> TrainState:
    """The state whose evaluated weights are those of the latest step."""
    if not isinstance(state.opt_state, SntAsgdState):
        return state
    steps: PyTree = jax.tree.map(jnp.zeros_like, state.opt_state.steps)
    return state._replace(opt_state=state.opt_state._replace(steps=steps))


def update_topology(
    model: LanguageModel,
    updater: SparsityUpdater,
    recipe: TrainConfig,
    state: TrainState,
    controls: Controls,
    window: Windows,
) -> tuple[TrainState, SparsityInfo]:
    """Removes and grows weights between two segments.

    The gradient that gradient growth ranks by is the dense one of the coming window, without
    dropout, as RigL's is of the batch at hand (Evci et al., 2020, section 3). It is taken whatever
    the growth mode, so that one program serves all: one window in an update's interval.

    Args:
      model: the language model.
      updater: from `dynamic_sparsity`.
      recipe: as for `train_segment`.
      state: the state after a segment.
      controls: from `sparsity.controls`.
      window: the first window of the next segment, [bptt, B].

    Returns:
      The state before the next segment, and what the update did.
    """
    carry = _reset_carry(state, recipe.segments_per_epoch)
    grad = jax.grad(functools.partial(_loss, model, recipe), has_aux=True)
    gradients, _ = grad(state.params, carry, window, None, None)
    params, sparsity, info = updater.update(
        state.topology_key,
        state.sparsity,
        state.params,
        controls,
        gradients=gradients,
        momentum=momentum_of(state.opt_state),
    )
    opt_state = state.opt_state
    if recipe.averaging == "none":  # averages restart by themselves, see `snt_asgd`
        opt_state = reset_slots(_optimizer(model, recipe, params), opt_state, info.grown)
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
        nll = weighted_nll(logits, window.targets, window.weights)
        return carry, (nll, jnp.sum(window.weights))

    carry = model.init_carry(windows.inputs.shape[-1])
    return jax.lax.scan(step, carry, windows)[1]


def _reset_carry(state: TrainState, segments_per_epoch: int) -> Carry:
    """The carry for the coming segment: zeros at the start of an epoch."""
    starts_epoch = state.num_segments % segments_per_epoch == 0
    return jax.tree.map(lambda a: jnp.where(starts_epoch, jnp.zeros_like(a), a), state.carry)


def _loss(
    model: LanguageModel,
    recipe: TrainConfig,
    params: Params,
    carry: Carry,
    window: Windows,
    key: Key | None,
    hyper: Hyper | None,
) -> tuple[Array, Carry]:
    """Mean nll of a window, and the carry after it."""
    logits, carry = model.apply(
        params,
        window.inputs,
        carry,
        key=key,
        dropout=hyper,
        locked=recipe.locked_dropout,
        precision=recipe.precision,
        reverse_only=True,
    )
    num_tokens = jnp.maximum(jnp.sum(window.weights), 1.0)
    return weighted_nll(logits, window.targets, window.weights) / num_tokens, carry
