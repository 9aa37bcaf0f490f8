"""Topologies over several devices, in a process of its own that has four of them."""

import subprocess
import sys
import textwrap

import pytest

SCRIPT = """
    import functools
    import itertools
    import jax
    import jax.numpy as jnp
    import numpy as np
    from lsh_jax.config import Death, Growth, Redistribution, SparsityConfig, choices
    from lsh_jax.sparsity import apply_masks, controls, dynamic_sparsity

    jax.config.update("jax_num_cpu_devices", 4)
    P = jax.P
    rng = np.random.default_rng(0)
    shapes = {"U": (8, 12), "V": (8, 12), "b": (12,), "W": (16, 4)}
    tree = lambda: {k: jnp.asarray(rng.normal(size=s), jnp.float32) for k, s in shapes.items()}
    params, gradients, momentum, step = (tree() for _ in range(4))
    updater = dynamic_sparsity(
        gates=lambda path, leaf: "ab", densities=lambda path, leaf: 0.4, track_signs=True
    )
    rules = list(itertools.product(choices(Death), choices(Growth), choices(Redistribution)))
    configs = [
        SparsityConfig(0.6, "er", death=d, growth=g, redistribution=r, horizon=5)
        for d, g, r in rules[::9]
    ]

    @jax.jit
    def run(own, params, gradients, momentum, step):
        state = updater.init(jax.random.key(0), params, own)
        for i in range(2):
            params = apply_masks(jax.tree.map(jnp.add, params, step), state.masks)
            params, state, info = updater.update(
                jax.random.key(i), state, params, own, gradients=gradients, momentum=momentum
            )
        return params, state, info

    trees = (params, gradients, momentum, step)
    one = [jax.device_get(run(controls(c), *trees)) for c in configs]
    for kind in AXES:
        types = 2 * (getattr(jax.sharding.AxisType, kind),)
        mesh = jax.make_mesh((2, 2), ("x", "y"), axis_types=types)
        for specs in (
            {"U": P("x", None), "V": P("x", None), "b": P(None), "W": P(("x", "y"), None)},
            {"U": P(None, "x"), "V": P(None, "x"), "b": P("x"), "W": P(None, "y")},
            {"U": P("x", "y"), "V": P("y", None), "b": P(None), "W": P(None, None)},
        ):
            places = {k: jax.NamedSharding(mesh, spec) for k, spec in specs.items()}
            put = lambda tree: jax.device_put(tree, places)
            with jax.set_mesh(mesh):
                for c, expected in zip(configs, one, strict=True):
                    got = run(controls(c), *map(put, trees))
                    jax.tree.map(np.testing.assert_array_equal, jax.device_get(got), expected)
            # The mesh need not be set: the parameters bring it.
            state = updater.init(jax.random.key(0), put(params), controls(configs[0]))
            jax.tree.map(
                np.testing.assert_array_equal,
                jax.device_get(state.masks),
                jax.device_get(updater.init(jax.random.key(0), params, controls(configs[0])).masks),
            )
            if kind == "Explicit":
                for leaves in (got[0], got[1].masks, got[1].explored):
                    for k in shapes:
                        assert leaves[k].sharding.is_equivalent_to(
                            jax.NamedSharding(mesh, specs[k]), leaves[k].ndim
                        ), (k, leaves[k].sharding)
    print("four devices agree with one")
"""


@pytest.mark.slow
@pytest.mark.parametrize("axes", ["Auto", pytest.param("Explicit", marks=pytest.mark.long)])
def test_a_topology_over_four_devices_is_that_of_one_bit_for_bit(axes):
    script = textwrap.dedent(SCRIPT).replace("AXES", repr([axes]))
    command = [sys.executable, "-W", "error", "-c", script]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.stdout == "four devices agree with one\n", run.stderr


def test_an_import_leaves_the_number_of_devices_open():
    # An array made on import would start the backend, and settings that must precede it raise.
    script = "import jax, lsh_jax.sparsity; jax.config.update('jax_num_cpu_devices', 2)"
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True)
