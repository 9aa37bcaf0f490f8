"""What pruning saves, and how a topology moves: exact counts of any tree of parameters.

Weights, FLOPs per token and stored bytes follow from the numbers of live weights; density, overlap
and exploration over training from the masks themselves. All of them are counted by part: a gate of
a leaf, or a whole leaf where none stand side by side. Counts are int32 on the device and Python
integers from there on.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lsh_jax.config import ConfigError, Growth, check, check_choice, choices
from lsh_jax.sparsity.masks import leaf_paths, prunable_indices
from lsh_jax.sparsity.selection import count_along, counts
from lsh_jax.types import Array, Masks, Params, Predicate

Path = tuple[str, ...]  # the keys of a leaf
_INDEX_BYTES = 4  # an int32 of a CSR matrix


class CountedLeaf(NamedTuple):
    """What counting knows of a leaf; hashable, so that it may be static under `jit`."""

    name: str  # "layers_0/U"
    shape: tuple[int, ...]  # of its weights
    prunable: bool  # whether it has a mask
    gates: tuple[str, ...]  # side by side in the last axis, of equal width
    uses: int  # multiplications by each weight for a token, forward
    itemsize: int  # bytes of a value

    @property
    def size(self) -> int:
        """Weights, live or not."""
        return int(np.prod(self.shape, dtype=np.int64))


class Part(NamedTuple):
    """A gate of a prunable leaf, or the whole leaf where it has none."""

    leaf: str  # its name
    gate: str | None  # its name, where the leaf has gates
    weights: int  # live or not

    @property
    def name(self) -> str:
        """As "layers_0/U/i"."""
        return self.leaf if self.gate is None else f"{self.leaf}/{self.gate}"


CountedLeaves = tuple[CountedLeaf, ...]  # in the order of `jax.tree.leaves`


def counted_leaves(
    params: Params,
    *,
    prunable: Predicate | None = None,
    gates: Callable[[Path, Array], tuple[str, ...]] | None = None,
    uses: Callable[[Path, Array], int] | None = None,
) -> CountedLeaves:
    """Describes the leaves of a network for counting.

    Args:
      params: any pytree of arrays, or of `jax.ShapeDtypeStruct`.
      prunable: the predicate that `dynamic_sparsity` was given.
      gates: `gates(path, leaf)`, names of the gates side by side in a leaf's last axis; none of any
        if not given.
      uses: `uses(path, leaf)`, in how many multiplications each weight of a leaf takes part for a
        token; one for a matrix and none for a vector if not given.

    Raises:
      ConfigError: if no leaf is prunable, or a leaf cannot be parted into its gates.
    """
    chosen = prunable_indices(params, prunable)
    found = []
    pairs = zip(leaf_paths(params), jax.tree.leaves(params), strict=True)
    for index, (path, leaf) in enumerate(pairs):
        names = gates(path, leaf) if gates else ()
        if names and leaf.shape[-1] % len(names):
            raise ConfigError(
                f"`gates` must divide the last axis of {'/'.join(path)}, {leaf.shape[-1]}, got "
                f"{len(names)} of them."
            )
        found.append(
            CountedLeaf(
                name="/".join(path),
                shape=tuple(leaf.shape),
                prunable=index in chosen,
                gates=tuple(names),
                uses=uses(path, leaf) if uses else int(leaf.ndim >= 2),
                itemsize=leaf.dtype.itemsize,
            )
        )
    return tuple(found)


def parts_of(leaves: CountedLeaves) -> tuple[Part, ...]:
    """The parts that are counted, in the order of the counts: gates within prunable leaves."""
    return tuple(
        Part(leaf.name, gate, leaf.size // max(1, len(leaf.gates)))
        for leaf in leaves
        if leaf.prunable
        for gate in (leaf.gates or (None,))
    )


def part_counts(masks: Masks, leaves: CountedLeaves) -> Array:
    """Counts the true entries of each part.

    Args:
      masks: bool tree of these leaves.
      leaves: from `counted_leaves`.

    Returns:
      int32 [P], in the order of `parts_of`.
    """
    pairs = zip(jax.tree.leaves(masks), leaves, strict=True)
    return jnp.concatenate([_gate_counts(mask, leaf) for mask, leaf in pairs if leaf.prunable])


def _gate_counts(mask: Array, leaf: CountedLeaf) -> Array:
    # Neither cut nor reshaped: a sharded mask stays where it lies.
    columns = count_along(jnp.atleast_1d(mask), tuple(range(mask.ndim - 1)))
    num_gates = max(1, len(leaf.gates))
    owner = np.arange(columns.size) // (columns.size // num_gates)
    own = [jnp.where(owner == gate, columns, 0) for gate in range(num_gates)]
    return counts(own)


class TopologyStatistics(NamedTuple):
    """A topology against an earlier one of the same network; counts by part, int32 [P] each."""

    live: Array  # weights that live now
    before: Array  # that lived then
    kept: Array  # that lived then and live now
    explored: Array  # that have ever lived


@functools.partial(jax.jit, static_argnames="leaves")
def topology_statistics(
    masks: Masks, previous: Masks, explored: Masks, leaves: CountedLeaves
) -> TopologyStatistics:
    """Counts what moved between two topologies; runs under the caller's `jit` and `vmap` too.

    Args:
      masks: bool tree, the topology now.
      previous: the earlier one.
      explored: true where a weight has ever lived, `SparsityState.explored`.
      leaves: from `counted_leaves`.

    Returns:
      The counts.
    """
    kept = jax.tree.map(jnp.logical_and, masks, previous)
    live, before, both, ever = (
        part_counts(tree, leaves) for tree in (masks, previous, kept, explored)
    )
    return TopologyStatistics(live, before, both, ever)


class TopologyShares(NamedTuple):
    """`TopologyStatistics` as shares in [0, 1]."""

    density: dict[str, float]  # by part
    overlap: float  # of what lived then, what lives now
    explored: float  # of all prunable weights, what has ever lived


def topology_shares(statistics: TopologyStatistics, leaves: CountedLeaves) -> TopologyShares:
    """Turns counts into shares, to six digits.

    The overlap is the share of the weights that lived then which live now: what was not lost. With
    a constant number of live weights it is 1 - churn if there was one update between, and the
    Jaccard index says the same, overlap / (2 - overlap).

    The explored share is that of all prunable weights which have ever lived: the in-time
    over-parameterisation of Liu et al. (2021, arXiv 2102.02887).

    Args:
      statistics: of one network.
      leaves: from `counted_leaves`.
    """
    parts = parts_of(leaves)
    live, before, kept, explored = (np.asarray(numbers).tolist() for numbers in statistics)
    return TopologyShares(
        density={
            part.name: round(alive / part.weights, 6)
            for part, alive in zip(parts, live, strict=True)
        },
        # Of nothing, nothing was lost.
        overlap=round(sum(kept) / sum(before), 6) if sum(before) else 1.0,
        explored=round(sum(explored) / sum(part.weights for part in parts), 6),
    )


class Costs(NamedTuple):
    """What a network is and costs; FLOPs are per token, two for a weight's multiply and add."""

    weights: int  # prunable, live or not
    live: int  # of them
    unmasked: int  # weights of the leaves that are never pruned
    flops_forward: int  # of the live weights
    flops_training_needed: int  # by the method in principle
    flops_training_executed: int  # by this library, which multiplies by dense matrices
    bytes_stored: int  # by `save_model`, without names and vocabulary
    bytes_csr: int  # with an int32 column index a value and a pointer a row in the mask's place


def costs(
    leaves: CountedLeaves,
    live: Sequence[int] | None = None,
    *,
    growth: str = "random",
    steps_between_updates: int = 0,
) -> Costs:
    """Counts weights, FLOPs per token and bytes of a network at one topology.

    Forward is 2 x live x uses. Training takes that three times: forward, and the gradients by the
    inputs and by the weights. Where growth ranks dead weights by gradient the last one is dense: at
    updates only for `gradient`, (3 S t + 2 S + D) / (t + 1) with t steps between updates (Evci et
    al., 2020, arXiv 1911.11134, appendix H), at every step for `momentum`, 2 S + D; S and D are the
    forward FLOPs of live and of all weights. What is executed here is dense, 3 D, and one gradient
    more at each update, whatever grows.

    Additions of biases, the arithmetic of gates and the softmax are left out; so is the cost of
    choosing weights at an update.

    Args:
      leaves: from `counted_leaves`.
      live: live weights of each part, as `part_counts` has them; all if not given.
      growth: the rule.
      steps_between_updates: training steps from one topology update to the next; 0 for none.

    Raises:
      ConfigError: for an unknown rule, or if `live` does not have a number for each part.
    """
    check_choice("growth", growth, choices(Growth))
    parts = parts_of(leaves)
    if live is not None:
        names = ", ".join(part.name for part in parts)
        check(len(live) == len(parts), "live", f"have a number for each of {names}", live)
    sizes = [part.weights for part in parts]
    own = iter(sizes if live is None else map(int, live))
    by_leaf = [
        sum(itertools.islice(own, max(1, len(leaf.gates)))) if leaf.prunable else leaf.size
        for leaf in leaves
    ]
    pairs = list(zip(leaves, by_leaf, strict=True))
    sparse = sum(2 * alive * leaf.uses for leaf, alive in pairs)
    dense = sum(2 * leaf.size * leaf.uses for leaf in leaves)
    steps = steps_between_updates
    return Costs(
        weights=sum(sizes),
        live=sum(alive for leaf, alive in pairs if leaf.prunable),
        unmasked=sum(leaf.size for leaf in leaves if not leaf.prunable),
        flops_forward=sparse,
        flops_training_needed=_needed(sparse, dense, growth, steps),
        flops_training_executed=_ratio(3 * dense * (steps + 1), steps) if steps else 3 * dense,
        bytes_stored=sum(_stored(leaf, alive) for leaf, alive in pairs),
        bytes_csr=sum(_csr(leaf, alive) for leaf, alive in pairs),
    )


def _needed(sparse: int, dense: int, growth: str, steps: int) -> int:
    if growth == "momentum" and steps:
        return 2 * sparse + dense
    if growth == "gradient" and steps:
        return _ratio(3 * sparse * steps + 2 * sparse + dense, steps + 1)
    return 3 * sparse


def _ratio(numerator: int, denominator: int) -> int:
    """The nearest integer, of integers that a float need not hold."""
    return (2 * numerator + denominator) // (2 * denominator)


def _stored(leaf: CountedLeaf, live: int) -> int:
    """Live values and a bit a weight; a leaf without a pruned weight is kept whole."""
    mask = 0 if live == leaf.size else -(-leaf.size // 8)
    return live * leaf.itemsize + mask


def _csr(leaf: CountedLeaf, live: int) -> int:
    if live == leaf.size:
        return live * leaf.itemsize
    rows = leaf.size // leaf.shape[-1]
    return live * (leaf.itemsize + _INDEX_BYTES) + (rows + 1) * _INDEX_BYTES
