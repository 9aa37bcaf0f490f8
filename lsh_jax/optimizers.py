"""Optimizers as optax transforms whose settings may be traced, and their states under new masks.

SGD as the word-language-model scripts run it, and that of masked weights; what growth reads of the
state of any optimizer, and what growth leaves of it.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from lsh_jax.config import ConfigError, check
from lsh_jax.sparsity import apply_masks
from lsh_jax.types import Array, Masks, Params, PyTree


def clipped_sgd(
    learning_rate: Any,
    *,
    clip: Any,
    weight_decay: Any = 0.0,
    momentum: float = 0.0,
    copies: PyTree | None = None,
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
      copies: tree like the parameters of how many equal addends each stands for, e.g. 2 for a bias
        that torch keeps as two: it moves, and counts in the norm, as its addends together would. It
        starts as their sum. None for 1.

    Returns:
      An optax transform, stateless without momentum; its update needs `params`.

    Raises:
      ConfigError: if `momentum` is not in [0, 1), or `clip` not above 0 where it is not traced.
    """
    step = optax.scale_by_learning_rate(learning_rate)
    return _clipped(clip, weight_decay, momentum, copies, step)


def _clipped(
    clip: Any,
    weight_decay: Any,
    momentum: float,
    copies: PyTree | None,
    *steps: optax.GradientTransformation,
) -> optax.GradientTransformationExtraArgs:
    """The dense gradient clipped, decayed and summed up, and what makes a step of it."""
    check(0 <= momentum < 1, "momentum", "lie in [0, 1)", momentum)
    if not isinstance(clip, jax.core.Tracer):
        check(float(clip) > 0, "clip", "be above 0 (inf turns clipping off)", float(clip))
    if momentum:
        steps = (optax.trace(momentum), *steps)
    # Nested, as `optax.sgd` would stand here: checkpoints know the empty states by their place.
    return optax.chain(
        _clip_with_copies(clip, copies),
        optax.add_decayed_weights(weight_decay),
        optax.chain(*steps),
    )


def _clip_with_copies(clip: Any, copies: PyTree | None) -> optax.GradientTransformation:
    """Clips by the norm that a gradient has with each entry as often as it has copies, and sums the
    copies up."""
    by_norm = optax.clip_by_global_norm(clip)
    if copies is None:
        return by_norm
    # n copies of g have the square n g^2, which is that of sqrt(n) g, and the sum n g.
    roots = jax.tree.map(lambda count: jnp.sqrt(jnp.asarray(count, jnp.float32)), copies)

    def scaled(grads: Params) -> Params:
        return jax.tree.map(lambda g, root: g * root.astype(g.dtype), grads, roots)

    def update(grads: Params, state: PyTree, params: Params | None = None) -> tuple[Params, PyTree]:
        grads, state = by_norm.update(scaled(grads), state, params)
        return scaled(grads), state

    return optax.GradientTransformation(by_norm.init, update)


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
    learning_rate: Any,
    *,
    clip: Any,
    weight_decay: Any = 0.0,
    momentum: float = 0.0,
    copies: PyTree | None = None,
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
      copies: as for `clipped_sgd`.

    Returns:
      An optax transform with `update(grads, state, params, *, masks)`; `masks` is a bool tree like
      the parameters. Its state holds no array without momentum, otherwise `momentum_of` finds the
      tree.

    Raises:
      ConfigError: if `momentum` is not in [0, 1), or `clip` not above 0 where it is not traced.
    """
    # Masks come before the learning rate, so that the product with it can go into the sum with
    # the weight in one rounding: a live weight moves by the same bits as it does unmasked.
    steps = mask_updates(), optax.scale_by_learning_rate(learning_rate)
    return _clipped(clip, weight_decay, momentum, copies, *steps)


def momentum_of(opt_state: PyTree) -> Params | None:
    """Finds in the state of an optimizer, wrapped or not, what growth by momentum ranks by.

    That is the running sum of SGD with momentum, and m / (sqrt(v) + 1e-8) of Adam and its kin that
    keep both moments, in float32 at least: without correction of the bias, which is the same for
    all weights, as in the authors' code (`sparse_learning` of Dettmers & Zettlemoyer, 2019). Where
    `optax.multi_transform` or `optax.masked` divides the parameters, it is gathered from all parts.

    Args:
      opt_state: the state of any optax transform.

    Returns:
      A tree like the parameters, dead weights included; None if the state keeps neither, or not of
      every leaf.

    Raises:
      ConfigError: if it keeps more than one of the same leaf.
    """
    nodes = jax.tree.leaves(opt_state, is_leaf=_has_momentum)
    nodes = [node for node in nodes if _has_momentum(node)]
    joined: Params = optax.MaskedNode()
    for node in nodes:
        try:
            joined = _join(joined, _momentum(node))
        except ValueError:
            names = ", ".join(type(node).__name__ for node in nodes)
            raise ConfigError(
                f"`opt_state` must keep one momentum of each leaf, got several in {names}: give "
                "the part of the state that growth shall read."
            ) from None
    leaves = jax.tree.leaves(joined, is_leaf=_is_masked)
    return None if any(_is_masked(leaf) for leaf in leaves) else joined


_MOMENTS = (optax.ScaleByAdamState, optax.ScaleByAmsgradState, optax.ScaleByBeliefState)


def _has_momentum(node: PyTree) -> bool:
    return isinstance(node, (optax.TraceState, *_MOMENTS))


def _momentum(node: Any) -> Params:
    if isinstance(node, optax.TraceState):
        return node.trace

    def scaled(m: Array, v: Array) -> Array:
        v = widened(v)  # float16 would round 1e-8 to zero, and 0 / 0 be NaN
        return m.astype(v.dtype) / (jnp.sqrt(v) + 1e-8)

    return jax.tree.map(scaled, node.mu, node.nu)


def widened(array: Array) -> Array:
    """The floats in float32, or as they are where they are wider."""
    return array.astype(jnp.float32) if jnp.finfo(array.dtype).bits < 32 else array


def _join(a: Params, b: Params) -> Params:
    """One tree from two that each lack, as `MaskedNode`, what the other has."""
    if _is_masked(a) or _is_masked(b):
        return b if _is_masked(a) else a
    treedef: Any
    children, treedef = jax.tree.flatten(a, is_leaf=lambda node: node is not a)
    if jax.tree_util.treedef_is_leaf(treedef):
        raise ValueError("A leaf is in both.")
    return treedef.unflatten(map(_join, children, treedef.flatten_up_to(b)))


def _is_masked(node: PyTree) -> bool:
    return isinstance(node, optax.MaskedNode)


def reset_slots(optimizer: optax.GradientTransformation, opt_state: PyTree, grown: Masks) -> PyTree:
    """Puts back what an optimizer starts with at the weights that have just come to life.

    That is zero for momentum, the moments of Adam and the averages and counts of `snt_asgd`, as
    RigL has it (Evci et al., 2020), and not zero for the step sizes of Rprop and the sums of
    Adagrad and Yogi. It is read from the slots that `optimizer` makes for weights of zero, as grown
    ones are.

    For any state that `optax.tree.map_params` can read (not L-BFGS, nor SM3). Counters and other
    scalars stay, as does what is not kept weight by weight, such as the rows and columns of
    Adafactor; so do the leaves that `optax.masked` leaves out, and None. Runs under `jit` and
    `vmap`; the types of the slots stay too.

    The count of Adam's bias correction is one for all weights and stays, so that the first step of
    a grown weight late in training is (1 - b1) / sqrt(1 - b2) learning rates long, 3.2 with the
    defaults.

    Args:
      optimizer: the transform that the state belongs to; only its `init` is used, so that settings
        that it does not read do not matter (of Rprop, it reads the learning rate).
      opt_state: its state; of one candidate, `vmap` over more.
      grown: bool tree like the parameters, `SparsityInfo.grown`.

    Returns:
      The state, with the initial slots at the weights that have grown.

    Raises:
      ConfigError: if `grown` is not a bool tree like the parameters, if `optimizer` did not make
        `opt_state`, or keeps no slots that can be read.
    """
    types = [jnp.result_type(leaf) for leaf in jax.tree.leaves(grown)]
    if not all(jnp.issubdtype(dtype, jnp.bool_) for dtype in types):
        raise ConfigError(
            "`grown` must be a bool tree like the parameters, got leaves of other types in a "
            f"{type(grown).__name__}: give the field `grown` of SparsityInfo."
        )

    def init(params: Params) -> PyTree:
        # `snt_asgd` starts without slots and has them later: until then None is passed over.
        state = optimizer.init(params)
        return jax.tree.map(lambda node: params if node is None else node, state, is_leaf=_is_none)

    _check_owner(init, opt_state)
    try:
        initial = init(jax.tree.map(lambda mark: jnp.zeros_like(mark, dtype=float), grown))
        jax.tree.map(lambda *_: None, opt_state, initial, is_leaf=_is_no_slot)
    except ValueError as error:
        raise _unlike(grown) from error
    marks = _marks(init, opt_state, grown)

    def reset(mark: Any, slot: Any, start: Any) -> Any:
        if mark is None:
            return slot
        if jnp.shape(slot) != jnp.shape(start):
            raise _unlike(grown)
        if jnp.shape(slot) != jnp.shape(mark):
            return slot
        return jnp.where(mark, jnp.astype(start, slot.dtype), slot)

    return jax.tree.map(reset, marks, opt_state, initial, is_leaf=_is_none)


def _check_owner(init: Callable[[Params], PyTree], opt_state: PyTree) -> None:
    """Raises a `ConfigError` unless `init` makes such states, of whatever parameters."""
    made = []

    def recorded(params: Params) -> PyTree:
        made.append(init(params))
        return made[-1]

    try:
        optax.tree.map_params(recorded, lambda slot: slot, opt_state, is_leaf=_is_no_slot)
    except Exception as error:  # whatever a foreign optimizer raises on a state not its own
        if not made:
            raise _unreadable(opt_state) from error
        raise ConfigError(
            "`optimizer` must be the one that made `opt_state`, got one that makes "
            f"{_names(made[0])} for a state of {_names(opt_state)}: give the same optimizer."
        ) from None


def _marks(init: Callable[[Params], PyTree], opt_state: PyTree, grown: Masks) -> PyTree:
    """The state with `grown` in the place of its slots, and None in that of all the rest."""

    def mark(slot: Any, mask: Any) -> Any:
        return None if _is_no_slot(slot) else mask

    settings = {"transform_non_params": lambda _: None, "is_leaf": _is_no_slot}
    try:
        return optax.tree.map_params(init, mark, opt_state, grown, **settings)
    except ValueError as error:
        raise _unreadable(opt_state) from error


def _is_none(node: PyTree) -> bool:
    return node is None


def _is_no_slot(node: PyTree) -> bool:
    return node is None or _is_masked(node)


def _unreadable(opt_state: PyTree) -> ConfigError:
    return ConfigError(
        "`optimizer` must keep its slots in trees that `optax.tree.map_params` can find, got one "
        f"with {_names(opt_state)}: reset its state by hand, or start it anew."
    )


def _unlike(grown: Masks) -> ConfigError:
    shapes = ", ".join(str(list(jnp.shape(leaf))) for leaf in jax.tree.leaves(grown)[:4])
    return ConfigError(
        "`grown` must be a bool tree like the parameters that `opt_state` was made for, got a "
        f"{type(grown).__name__} of shapes {shapes}: give the field `grown` of SparsityInfo."
    )


def _names(state: PyTree) -> str:
    """The types of state in a state, as in `MaskedState(ScaleByAdamState)`."""
    nodes = jax.tree.leaves([state], is_leaf=lambda node: hasattr(node, "_fields"))
    names = []
    for node in nodes:
        if hasattr(node, "_fields") and not _is_masked(node):
            inner = _names(list(node))
            names.append(type(node).__name__ + (f"({inner})" if inner else ""))
    return ", ".join(names)
