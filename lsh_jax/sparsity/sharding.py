"""Parameters that are sharded over explicit mesh axes, the default of `jax.make_mesh`.

There every operation must say how its result is sharded. An update reshapes and stacks leaves, and
leaves it to XLA to place what is in between: only its results have a sharding to speak of, that of
the parameters.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import AxisType, PartitionSpec

from lsh_jax.types import Array, Params, PyTree

REPLICATED: Any = PartitionSpec()  # a single number, the same everywhere


def is_explicit(x: Array) -> bool:
    """Whether an array lies on a mesh with explicit axes."""
    return AxisType.Explicit in jax.typeof(x).sharding.mesh.axis_types


def specs_of(params: Params) -> PyTree:
    """How each leaf is sharded."""
    return jax.tree.map(lambda leaf: jax.typeof(leaf).sharding.spec, params)


def placed_by_xla(
    function: Callable[..., Any], params: Params, out_specs: PyTree
) -> Callable[..., Any]:
    """Lets XLA place what `function` computes, but for its results.

    Args:
      function: of arrays, which it must get as arguments.
      params: whose leaves tell the mesh.
      out_specs: a PartitionSpec for each result, or for a subtree of them.

    Returns:
      The function itself where no axis is explicit.
    """
    explicit = [leaf for leaf in jax.tree.leaves(params) if is_explicit(leaf)]
    if not explicit:
        return function
    mesh = jax.typeof(explicit[0]).sharding.mesh

    def call(*arguments: Any) -> Any:
        with jax.sharding.use_abstract_mesh(mesh):
            return jax.sharding.auto_axes(function, out_sharding=out_specs)(*arguments)

    return call
