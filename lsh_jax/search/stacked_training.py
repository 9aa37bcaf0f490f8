"""Language models that train side by side: one program for all candidates of a group.

Weights, masks, averages, controls and hyperparameters have a leading axis of candidates; the
windows, the dropout keys and the number of segments are shared, so that a group draws its dropout
once. Over several devices the axis is sharded, and none of them waits for another. Topology updates
take one candidate after another: the memory is that of one update, and so are the numbers.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from lsh_jax.config import SparsityConfig, TrainConfig
from lsh_jax.data.batching import Windows
from lsh_jax.language_models import LanguageModel
from lsh_jax.search.task import SideBySide, TrainInfo, segments_between_updates
from lsh_jax.sparsity import Controls, SparsityUpdater, count_live
from lsh_jax.sparsity import controls as make_controls
from lsh_jax.training import TrainState, train_segment, update_topology
from lsh_jax.types import Array, Hyper, Key

_AXIS = "candidates"
_EACH, _SHARED = PartitionSpec(_AXIS), PartitionSpec()


class StackedPrograms(NamedTuple):
    """The functions of groups, of K candidates each; tasks that differ in their seed share them.

    Attributes:
      train: `train(state, hyper, windows, dropout_key, averaging) -> (state, (nll [K], num_tokens
        [K], nonzeros [K]))`, a segment; the state given is used up.
      update: `update(state, controls, due, window) -> (state, churn [K])`, the topologies of those
        that are due, bool [K]; the state given is used up.
      stack: `stack(states) -> state`, all leaves but `num_segments` with a leading axis.
      unstack: `unstack(state) -> states`.
      num_bytes: `num_bytes(state, windows, dropout_key, size) -> int`, what `SideBySide.num_bytes`
        tells; of a state of one candidate the shapes are read alone.
      num_devices: K is a multiple of.
    """

    train: Callable[..., Any]
    update: Callable[..., Any]
    stack: Callable[[Sequence[TrainState]], TrainState]
    unstack: Callable[[TrainState], list[TrainState]]
    num_bytes: Callable[..., int]
    num_devices: int


class _Group(NamedTuple):
    """Candidates side by side; the last is repeated until there are K."""

    state: TrainState  # stacked
    controls: Controls  # [K] each
    hyper: Hyper  # float32 [K] each
    intervals: tuple[int, ...]  # of the candidates: segments between topology updates, 0 for none
    averaging: bool  # whether any of them averages


def compile_stacked(
    model: LanguageModel,
    updater: SparsityUpdater,
    recipe: TrainConfig,
    devices: Sequence[jax.Device] | None = None,
) -> StackedPrograms:
    """Builds the functions of groups; they are compiled when they are first called with a size.

    Args:
      model: the language model.
      updater: from `dynamic_sparsity`.
      recipe: static.
      devices: to spread candidates over; all of this process if not given.

    Returns:
      The functions.
    """
    places = tuple(devices or jax.local_devices())
    state, others = _per_field(_EACH, _SHARED), (_EACH, _SHARED, _SHARED)

    def train(averaging: bool) -> Callable[..., Any]:
        own = _train_all(model, recipe, averaging=averaging)
        spread = _spread(places, own, (state, *others), (state, _EACH))
        return jax.jit(spread, donate_argnums=0)

    move = _update_all(model, updater, recipe)
    trainers = {averaging: train(averaging) for averaging in (False, True)}
    averages = recipe.averaging != "none"  # then the dearer program is among them
    alone = jax.jit(_train_all(model, recipe, averaging=averages), donate_argnums=0)

    def num_bytes(one: TrainState, windows: Windows, dropout_key: Key, size: int) -> int:
        stacked = jax.eval_shape(_stack, [one] * size)
        hyper = Hyper(*(jax.ShapeDtypeStruct((size,), jnp.float32) for _ in Hyper._fields))
        found = alone.lower(stacked, hyper, windows, dropout_key).compile().memory_analysis()
        # Between epochs the states of all devices lie on the first, beside its own stack.
        beside = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(stacked))
        needed = (len(places) + 1) * beside
        if found is None:
            return needed
        used = found.argument_size_in_bytes + found.temp_size_in_bytes
        return max(needed, used + found.output_size_in_bytes - found.alias_size_in_bytes)

    return StackedPrograms(
        train=lambda *arguments: trainers[arguments[-1]](*arguments[:-1]),
        update=jax.jit(
            _spread(places, move, (state, _EACH, _EACH, _SHARED), (state, _EACH)),
            donate_argnums=0,
        ),
        stack=_stacker(places),
        unstack=_unstack_here if len(places) == 1 else _unstack_from_devices,
        num_bytes=num_bytes,
        num_devices=len(places),
    )


def make_side_by_side(
    programs: StackedPrograms,
    init: Callable[[Key, Controls, Hyper], TrainState],
    recipe: TrainConfig,
    windows: Windows,
    dropout_key: Key,
) -> SideBySide:
    """The groups of a task.

    Args:
      programs: from `compile_stacked`.
      init: of the task.
      recipe: of the task.
      windows: all segments of training, [S, W, bptt, B] each.
      dropout_key: of the task.

    Returns:
      A SideBySide.
    """
    segments = recipe.segments_per_epoch

    def batch(segment: int) -> Windows:
        return Windows(*(array[segment % segments] for array in windows))

    def stack(
        states: Sequence[TrainState], controls: Sequence[Controls], hypers: Sequence[Hyper]
    ) -> _Group:
        if len({int(state.num_segments) for state in states}) > 1:
            raise ValueError("candidates side by side must have trained for equally many segments")
        every = [float(own.update_every) for own in controls]
        missing = -len(states) % programs.num_devices
        rows = [*range(len(states)), *[len(states) - 1] * missing]
        return _Group(
            state=programs.stack([states[row] for row in rows]),
            controls=jax.tree.map(lambda *leaves: np.stack(leaves), *(controls[r] for r in rows)),
            hyper=Hyper(*np.array([hypers[row] for row in rows], np.float32).T),
            intervals=tuple(segments_between_updates(epochs, segments) for epochs in every),
            averaging=any(bool(state.averaging) for state in states),
        )

    def train(group: _Group) -> tuple[_Group, list[TrainInfo]]:
        state, size, done = group.state, len(group.intervals), int(group.state.num_segments)
        due, churn = np.zeros(len(group.hyper.clip), bool), np.zeros(len(group.hyper.clip))
        due[:size] = [done > 0 and every > 0 and done % every == 0 for every in group.intervals]
        if due.any():
            first = Windows(*(array[0] for array in batch(done)))
            state, churn = programs.update(state, group.controls, due, first)
        state, sums = programs.train(state, group.hyper, batch(done), dropout_key, group.averaging)
        columns = zip(*map(np.asarray, (*sums, churn, due)), strict=True)
        infos = [
            TrainInfo(float(nll), float(tokens), float(replaced), int(moved), int(nonzeros))
            for nll, tokens, nonzeros, replaced, moved in columns
        ]
        return group._replace(state=state), infos[:size]

    def unstack(group: _Group) -> list[TrainState]:
        return programs.unstack(group.state)[: len(group.intervals)]

    def num_bytes(size: int) -> int:
        controls = make_controls(SparsityConfig())
        one = jax.eval_shape(init, jax.random.key(0), controls, recipe.hyper())
        return programs.num_bytes(one, batch(0), dropout_key, size)

    return SideBySide(stack, train, unstack, num_bytes, programs.num_devices)


def _per_field(each: Any, shared: Any) -> Any:
    """A tree that tells of a stacked state where its leaves have the axis of candidates."""
    return TrainState(**dict.fromkeys(TrainState._fields, each))._replace(num_segments=shared)


def _spread(
    places: Sequence[jax.Device], function: Callable[..., Any], in_specs: Any, out_specs: Any
) -> Callable[..., Any]:
    """The function of some candidates on every device; itself where there is one device."""
    if len(places) == 1:
        return function
    # Types are not checked for what varies over devices: the carry of a scan starts as zeros, which
    # do not, and ends as what does.
    return jax.shard_map(
        function, mesh=_mesh(places), in_specs=in_specs, out_specs=out_specs, check_vma=False
    )


def _mesh(places: Sequence[jax.Device]) -> Mesh:
    return Mesh(np.array(places), (_AXIS,))


def _train_all(model: LanguageModel, recipe: TrainConfig, *, averaging: bool) -> Callable[..., Any]:
    def one(state: TrainState, hyper: Hyper, windows: Windows, key: Key) -> tuple[TrainState, Any]:
        state, nll, num_tokens = train_segment(
            model, recipe, state, hyper, windows, key, averaging=averaging
        )
        return state, (nll, num_tokens, count_live(state.sparsity.masks))

    axes = _per_field(0, None)
    return jax.vmap(one, in_axes=(axes, 0, None, None), out_axes=(axes, 0))


def _update_all(
    model: LanguageModel, updater: SparsityUpdater, recipe: TrainConfig
) -> Callable[..., Any]:
    def update(
        state: TrainState, controls: Controls, due: Array, window: Windows
    ) -> tuple[TrainState, Array]:
        def move(row: Array, loop: tuple[TrainState, Array]) -> tuple[TrainState, Array]:
            state, churn = loop
            own = jax.tree.map(lambda leaf: leaf[row], controls)
            new, info = update_topology(model, updater, recipe, _row(state, row), own, window)
            moved = {name: getattr(new, name) for name in ("params", "opt_state", "sparsity")}
            fields = {name: _with_row(getattr(state, name), row, moved[name]) for name in moved}
            return state._replace(**fields), churn.at[row].set(info.churn)

        def visit(row: Array, loop: tuple[TrainState, Array]) -> tuple[TrainState, Array]:
            return jax.lax.cond(due[row], move, lambda row, loop: loop, row, loop)

        # In place: a map would hold a second stack.
        return jax.lax.fori_loop(0, len(due), visit, (state, jnp.zeros(len(due), jnp.float32)))

    return update


def _own(state: Any) -> Any:
    """What candidates do not share."""
    return state._replace(num_segments=None)


def _row(stacked: TrainState, row: Any) -> TrainState:
    """One candidate of a stack."""
    one: TrainState = jax.tree.map(lambda leaf: leaf[row], _own(stacked))
    return one._replace(num_segments=stacked.num_segments)


_row_of = jax.jit(_row)


def _with_row(stacked: Any, row: Array, one: Any) -> Any:
    return jax.tree.map(
        lambda leaf, own: jax.lax.dynamic_update_index_in_dim(leaf, own, row, 0), stacked, one
    )


def _stack(states: Sequence[TrainState]) -> TrainState:
    stacked: TrainState = jax.tree.map(lambda *rows: jnp.stack(rows), *map(_own, states))
    return stacked._replace(num_segments=states[0].num_segments)


def _stacker(places: Sequence[jax.Device]) -> Callable[[Sequence[TrainState]], TrainState]:
    stack = jax.jit(_stack)
    if len(places) == 1:
        return stack
    shardings = _per_field(*(NamedSharding(_mesh(places), spec) for spec in (_EACH, _SHARED)))

    def assemble(sharding: NamedSharding, *parts: TrainState) -> Any:
        """One array for each leaf of the parts, which lie on a device each."""

        def join(*leaves: Array) -> Array:
            rows = (sum(map(len, leaves)),) if sharding.spec == _EACH else ()
            shape = (*rows, *leaves[0].shape[len(rows) :])
            return jax.make_array_from_single_device_arrays(shape, sharding, list(leaves))

        return jax.tree.map(join, *parts)

    def spread(states: Sequence[TrainState]) -> TrainState:
        count = len(states) // len(places)
        parts = [
            stack(jax.device_put(list(states[place * count : (place + 1) * count]), device))
            for place, device in enumerate(places)
        ]
        return TrainState(*map(assemble, shardings, *parts))

    return spread


def _unstack_here(stacked: TrainState) -> list[TrainState]:
    return [_row_of(stacked, row) for row in range(len(stacked.averaging))]


def _unstack_from_devices(stacked: TrainState) -> list[TrainState]:
    """By way of the host, as a checkpoint goes: so the rows are bound to no device."""

    def fetch(leaf: Array) -> np.ndarray:
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(leaf) if is_key else leaf)

    def put(leaf: Array, values: np.ndarray) -> Array:
        array = jax.device_put(values)
        if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return array
        return jax.random.wrap_key_data(array, impl=jax.random.key_impl(leaf))

    found = jax.tree.map(fetch, stacked)
    rows = (_row(found, row) for row in range(len(found.averaging)))
    return [jax.tree.map(put, stacked, row) for row in rows]
