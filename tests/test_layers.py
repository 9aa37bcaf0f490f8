"""The gradient that a layer writes by hand, against differences and against autodiff."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from lsh_jax.cells import CELLS
from lsh_jax.config import ModelConfig
from lsh_jax.layers import run_layer

E, H, T, B = 2, 3, 4, 2
VARIANTS = {  # cell, depth, coupled
    "lstm": ("lstm", 1, True),
    "gru": ("gru", 1, True),
    "tanh": ("tanh", 1, True),
    "rhn": ("rhn", 1, True),
    "deep rhn": ("rhn", 3, True),
    "uncoupled rhn": ("rhn", 1, False),
    "deep uncoupled rhn": ("rhn", 3, False),
}
fast_layer = functools.partial(run_layer, reverse_only=True)
STEP = 1e-5  # of the differences: their error is about its square, and 1e-16 / 1e-5


def example(variant, *leading, dtype=np.float64, num=()):
    """Parameters, inputs, a carry and a mask of the state, none zero everywhere."""
    name, depth, coupled = VARIANTS[variant]
    module = CELLS[name].module(H, ModelConfig(cell=name, depth=depth, coupled=coupled))
    one = CELLS[name].init_carry((H,))
    shapes = jax.eval_shape(module.init, jax.random.key(0), one, jnp.zeros(E, jnp.float32))[
        "params"
    ]
    rng = np.random.default_rng(2)

    def draw(shape):
        return rng.normal(size=shape).astype(dtype)

    params = {leaf: draw((*num, *shape.shape)) for leaf, shape in shapes.items()}
    carry = jax.tree.map(lambda part: draw((*leading, *part.shape)), one)
    kept = 2 * (np.arange(np.prod((*leading, H))) % 2).astype(dtype)  # no two columns alike
    return params, draw((T, *leading, E)), carry, kept.reshape(*leading, H)


def plain_layer(cell, params, inputs, carry, kept=None):
    """A scan that autodiff takes as it stands."""
    recurrent = cell.recurrent(params)

    def step(carry, x):
        drive = cell.project(params, x)
        if kept is None:
            carry = cell.step(recurrent, carry, drive)
        else:
            for micro_step, matrix in enumerate(cell.matrices(recurrent)):
                product = jnp.dot(cell.output(carry) * kept, recurrent[matrix])
                carry = cell.update(recurrent, micro_step, product, carry, drive)
        return carry, cell.output(carry)

    last, outputs = jax.lax.scan(step, carry, inputs)
    return outputs, last


def loss(run, cell, params, inputs, carry, kept):
    """A sum in which every output and every part of the last carry has a weight of its own."""
    outputs, last = run(cell, params, inputs, carry, kept=kept)
    parts = [outputs, *jax.tree.leaves(last)]
    weighted = [
        jnp.sum(part * jnp.cos(jnp.arange(part.size)).reshape(part.shape)) for part in parts
    ]
    return sum(weighted[1:], weighted[0])


@functools.partial(jax.jit, static_argnums=0)
def gradients(name, params, inputs, carry, kept):
    """By the layer and by autodiff of the plain scan, without a mask and with it; then by central
    differences of the layer, and by the mask itself."""
    arguments = params, inputs, carry
    vector, unravel = ravel_pytree(arguments)
    losses = [functools.partial(loss, run, CELLS[name]) for run in (fast_layer, plain_layer)]
    pairs = [
        [ravel_pytree(jax.grad(one, (0, 1, 2))(*arguments, mask))[0] for one in losses]
        for mask in (None, kept)
    ]
    steps = STEP * jnp.eye(vector.size)
    values = jax.vmap(lambda vector: losses[0](*unravel(vector), kept))
    by_differences = (values(vector[None] + steps) - values(vector[None] - steps)) / (2 * STEP)
    return pairs, by_differences, jax.grad(losses[0], 3)(*arguments, kept)


SLOW = ("deep rhn", "uncoupled rhn")  # what they have, the others have too


@pytest.mark.parametrize(
    "variant", [pytest.param(v, marks=[pytest.mark.slow] if v in SLOW else []) for v in VARIANTS]
)
def test_gradients_of_everything_are_those_of_autodiff_and_of_differences(variant):
    with jax.enable_x64(True):
        pairs, by_differences, by_mask = gradients(VARIANTS[variant][0], *example(variant, B))
    for by_layer, by_autodiff in pairs:
        assert by_layer.dtype == np.float64
        np.testing.assert_allclose(by_layer, by_autodiff, rtol=1e-12, atol=1e-12)
    (without, _), (masked, _) = pairs
    np.testing.assert_allclose(masked, by_differences, rtol=1e-7, atol=1e-8)
    assert np.min(np.abs(without)) > 1e-6  # of every entry: the test can tell
    assert np.max(np.abs(np.asarray(masked) - np.asarray(without))) > 0.1
    np.testing.assert_array_equal(by_mask, 0)  # documented: none flows to the mask


@functools.partial(jax.jit, static_argnums=0)
def pull_back(name, params, inputs, carry, kept):
    """Outputs, last carry and the gradients of all but the mask."""
    cell = CELLS[name]
    gradients = jax.grad(functools.partial(loss, fast_layer, cell), (0, 1, 2))
    ran = fast_layer(cell, params, inputs, carry, kept=kept)
    return ran, gradients(params, inputs, carry, kept)


def close(tree, other, **tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), tree, other)


def test_an_example_without_a_batch_axis_is_a_column_of_a_batch():
    params, inputs, carry, kept = example("lstm")
    column = inputs[:, None], jax.tree.map(lambda part: part[None], carry), kept[None]
    with jax.enable_x64(True):
        (outputs, last), grads = pull_back("lstm", params, inputs, carry, kept)
        (batch_outputs, batch_last), batch_grads = pull_back("lstm", params, *column)
    assert outputs.shape == (T, H)
    assert [part.shape for part in last] == [(H,), (H,)]
    first = jax.tree.map(lambda part: np.asarray(part)[0], (batch_last, batch_grads[2]))
    close((last, grads[2]), first, rtol=1e-12, atol=1e-14)
    along = jax.tree.map(lambda part: np.asarray(part)[:, 0], (batch_outputs, batch_grads[1]))
    close((outputs, grads[1]), along, rtol=1e-12, atol=1e-14)
    close(grads[0], batch_grads[0], rtol=1e-12, atol=1e-14)


def test_candidates_side_by_side_have_the_gradients_of_each_alone():
    params, inputs, carry, kept = example("gru", B, dtype=np.float32, num=(3,))
    alone = functools.partial(pull_back, "gru")
    together = jax.jit(jax.vmap(alone, (0, None, None, None)))(params, inputs, carry, kept)
    for index in range(3):
        own, found = jax.tree.map(lambda leaf, i=index: leaf[i], (params, together))
        # Float32: batched products sum in another order.
        close(found, alone(own, inputs, carry, kept), rtol=1e-4, atol=1e-5)


def test_the_gradient_of_a_recurrent_matrix_is_one_product_after_the_scan():
    # [H, T B] times [T B, G]: no scan carries a sum of the matrix's shape.
    params, inputs, carry, _ = example("lstm", B, dtype=np.float32)
    gradient = jax.grad(functools.partial(loss, fast_layer, CELLS["lstm"]))
    scans = [
        equation
        for equation in jax.make_jaxpr(gradient)(params, inputs, carry, None).eqns
        if equation.primitive.name == "scan"
    ]
    assert len(scans) == 2
    for scan in scans:  # what is carried comes out at the end
        assert (H, 4 * H) not in {variable.aval.shape for variable in scan.outvars}


@pytest.mark.parametrize("variant", ["lstm", "deep uncoupled rhn"])
def test_a_layer_has_derivatives_in_forward_mode_unless_it_is_for_training(variant):
    name = VARIANTS[variant][0]
    params, inputs, carry, kept = example(variant, B)

    def run(layer, carry):
        return loss(layer, CELLS[name], params, inputs, carry, kept)

    with jax.enable_x64(True):
        along = jax.tree.map(np.ones_like, carry)
        value, forward = jax.jvp(functools.partial(run, run_layer), (carry,), (along,))
        other, backward = jax.value_and_grad(functools.partial(run, fast_layer))(carry)
    np.testing.assert_allclose(value, other, rtol=1e-12)
    total = sum(np.asarray(leaf).sum() for leaf in jax.tree.leaves(backward))
    np.testing.assert_allclose(forward, total, rtol=1e-12)
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(functools.partial(run, fast_layer), (carry,), (along,))
