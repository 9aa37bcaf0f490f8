import jax
import jax.numpy as jnp
import numpy as np

from lsh_jax.config import Growth, choices
from lsh_jax.sparsity.growth import RULES, Leaf, grow

RANDOM, GRADIENT = jnp.int32(0), jnp.int32(1)
compiled = jax.jit(grow)
KEPT = jnp.array([[1, 0, 0, 0], [0, 1, 0, 0]], bool)
SLOPES = jnp.array([[9.0, -3.0, 0.0, 1.0], [2.0, -9.0, -1.0, 0.0]])


def test_gradient_growth_takes_the_steepest_dead_weights():
    # |g| of the dead in C order: 3, 0, 1, 2, 1, 0. The live nines are no candidates.
    for num, expected in {
        0: [[1, 0, 0, 0], [0, 1, 0, 0]],
        2: [[1, 1, 0, 0], [1, 1, 0, 0]],
        3: [[1, 1, 0, 1], [1, 1, 0, 0]],  # of the two ones the lower index
        6: [[1, 1, 1, 1], [1, 1, 1, 1]],
    }.items():
        mask = compiled(GRADIENT, Leaf(jax.random.key(0), KEPT, SLOPES), jnp.int32(num))
        np.testing.assert_array_equal(mask, expected)


def test_gradient_growth_fills_up_where_gradients_vanish_or_break():
    for slopes in (jnp.zeros((2, 4)), jnp.full((2, 4), jnp.nan)):
        mask = compiled(GRADIENT, Leaf(jax.random.key(0), KEPT, slopes), jnp.int32(3))
        np.testing.assert_array_equal(mask, [[1, 1, 1, 1], [0, 1, 0, 0]])


def test_random_growth_is_uniform_over_the_dead_and_exact():
    keys = jax.random.split(jax.random.key(1), 3000)
    many = jax.vmap(lambda key: compiled(RANDOM, Leaf(key, KEPT, SLOPES), jnp.int32(2)))
    masks = many(keys)
    np.testing.assert_array_equal(masks.sum((1, 2)), 4)
    # Each of six dead is drawn with probability 2/6; 0.035 is four standard deviations.
    np.testing.assert_allclose(masks.mean(0), np.where(KEPT, 1, 1 / 3), atol=0.035)


def test_the_table_holds_the_rules_of_the_config():
    assert tuple(RULES) == choices(Growth)
