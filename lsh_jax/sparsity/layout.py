"""The prunable leaves of a tree as units of equal shape, in which an update counts and chooses.

A unit is a prunable leaf, or one gate of it where gates keep counts of their own. Units of one
shape are stacked and mapped over one after the other, so that the program holds the work on a
shape once, however many leaves there are, and the memory of one unit at a time.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lsh_jax.config import ConfigError
from lsh_jax.sparsity.blocks import Pattern, check_blocks, parse_pattern
from lsh_jax.sparsity.masks import leaf_paths, leaves_like, prunable_indices
from lsh_jax.types import Array, Params, Predicate

Gates = Callable[[tuple[str, ...], Array], Sequence[str]]  # (path, leaf) -> names, or none
Stacks = list[Any]  # for each shape an array [M, ...] of its M units


class Scope(NamedTuple):
    """What is pruned, and in which pieces: the static arguments of `dynamic_sparsity`."""

    prunable: Predicate | None
    gates: Gates | None
    granularity: str
    densities: Callable[[tuple[str, ...], Array], float] | None
    track_signs: bool

    @property
    def pattern(self) -> Pattern | None:
        """N:M, if that is the granularity."""
        return parse_pattern(self.granularity)


class Unit(NamedTuple):
    """A leaf, or a gate of it."""

    leaf: int  # position among all leaves
    gate: int
    num_cuts: int  # units that the leaf is cut into
    shape: tuple[int, ...]
    dtype: Any
    num_gates: int  # side by side within the unit


class Layout(NamedTuple):
    """The units of a tree, in the order of its leaves and their gates."""

    units: tuple[Unit, ...]
    stacks: tuple[tuple[int, ...], ...]  # positions in `units`, those of one shape together
    densities: tuple[float, ...] | None  # of the user, by unit

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Shape of each unit."""
        return [unit.shape for unit in self.units]

    def stack(self, params: Params, tree: Params | None, name: str) -> Stacks:
        """Cuts the leaves of a tree like `params` into units and stacks those of one shape.

        Raises:
          ConfigError: if the tree is not like `params`; `name` is what the message calls it.
        """
        if tree is None:
            return [None] * len(self.stacks)
        leaves = leaves_like(params, tree, name)
        return [
            jnp.stack([_cut(leaves[self.units[i].leaf], self.units[i]) for i in stack])
            for stack in self.stacks
        ]

    def merge(self, tree: Params, stacks: Stacks) -> Params:
        """Puts the units of `stacks` in the place of the prunable leaves of a tree."""
        by_unit = {
            i: array[m]
            for stack, array in zip(self.stacks, stacks, strict=True)
            for m, i in enumerate(stack)
        }
        pieces: dict[int, list[Array]] = {}
        for i, unit in enumerate(self.units):
            pieces.setdefault(unit.leaf, []).append(by_unit[i])
        leaves, treedef = jax.tree.flatten(tree)
        for l, own in pieces.items():
            leaves[l] = own[0] if len(own) == 1 else jnp.concatenate(own, axis=-1)
        return jax.tree.unflatten(treedef, leaves)

    def map(self, function: Callable[..., Any], *stacks: Sequence[Any]) -> Stacks:
        """Calls `function(unit, index, *arrays)` on one unit after the other.

        Args:
          function: gets the static description of the units of a stack, the index of the unit
            and its part of each array.
          stacks: one tree of arrays [M, ...] for each shape.

        Returns:
          For each shape the tree that `function` returned, with the units as leading axis.
        """

        def of_one_shape(stack: tuple[int, ...], arrays: tuple[Any, ...]) -> Any:
            unit, indices = self.units[stack[0]], jnp.array(stack, jnp.int32)
            return jax.lax.map(lambda parts: function(unit, *parts), (indices, *arrays))

        columns: Iterable[tuple[Any, ...]] = zip(*stacks, strict=True)
        calls = [
            functools.partial(of_one_shape, stack, own)
            for stack, own in zip(self.stacks, columns, strict=True)
        ]
        return _one_after_the_other(calls)

    def numbers(self, stacks: Stacks) -> Any:
        """Trees of [M] numbers for each shape as one tree of [L], in the order of the units."""
        order = np.argsort(np.concatenate([np.array(stack, int) for stack in self.stacks]))
        return jax.tree.map(lambda *parts: jnp.concatenate(parts)[order], *stacks)

    def spread(self, numbers: Array) -> Stacks:
        """[L] numbers as [M] for each shape: the opposite of `numbers`."""
        return [numbers[np.array(stack, int)] for stack in self.stacks]


def _one_after_the_other(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """Calls all, each to its end before the next is begun.

    Left to itself XLA runs what is independent side by side, which takes the memory of all. The
    branches of a switch share theirs.
    """
    if len(calls) == 1:
        return [calls[0]()]

    def branch(i: int, found: list[Any]) -> list[Any]:
        return [*found[:i], calls[i](), *found[i + 1 :]]

    branches = [functools.partial(branch, i) for i in range(len(calls))]
    empty = jax.tree.map(
        lambda x: jnp.zeros(x.shape, x.dtype), [jax.eval_shape(call) for call in calls]
    )
    found: list[Any] = jax.lax.fori_loop(
        0, len(calls), lambda i, found: jax.lax.switch(i, branches, found), empty
    )
    return found


def make_layout(params: Params, scope: Scope) -> Layout:
    """Lays out the prunable leaves of `params`.

    Raises:
      ConfigError: if no leaf is prunable, or one cannot be cut as `scope` wants it.
    """
    paths, leaves = leaf_paths(params), jax.tree.leaves(params)
    units: list[Unit] = []
    densities: list[float] = []
    for l in prunable_indices(params, scope.prunable):
        path, leaf = paths[l], leaves[l]
        gates = 1 if scope.gates is None else _num_gates(scope.gates, path, leaf)
        cuts = gates if scope.granularity == "gate" else 1
        if scope.pattern is not None:
            check_blocks(scope.pattern, path, leaf)
        shape = leaf.shape if cuts == 1 else (*leaf.shape[:-1], leaf.shape[-1] // cuts)
        units += [Unit(l, gate, cuts, shape, leaf.dtype, gates // cuts) for gate in range(cuts)]
        if scope.densities is not None:
            densities += [_checked_density(scope.densities(path, leaf), path)] * cuts
    return Layout(
        units=tuple(units),
        stacks=_by_shape(units),
        densities=None if scope.densities is None else tuple(densities),
    )


def _by_shape(units: Sequence[Unit]) -> tuple[tuple[int, ...], ...]:
    stacks: dict[Any, list[int]] = {}
    for i, unit in enumerate(units):
        stacks.setdefault((unit.shape, unit.dtype, unit.num_gates), []).append(i)
    return tuple(map(tuple, stacks.values()))


def _num_gates(names: Gates, path: tuple[str, ...], leaf: Array) -> int:
    gates = max(1, len(names(path, leaf)))
    if gates > 1 and (leaf.ndim < 2 or leaf.shape[-1] % gates):
        raise ConfigError(
            f"`gates` must be as many as divide the last axis of a leaf, got {gates} for "
            f"{leaf.shape} at {'/'.join(path)}."
        )
    return gates


def _checked_density(density: float, path: tuple[str, ...]) -> float:
    if not 0 <= density <= 1:
        raise ConfigError(
            f"`densities` must give numbers in [0, 1], got {density} at {'/'.join(path)}."
        )
    return float(density)


def _cut(leaf: Array, unit: Unit) -> Array:
    if unit.num_cuts == 1:
        return leaf
    width = unit.shape[-1]
    return leaf[..., unit.gate * width : (unit.gate + 1) * width]
