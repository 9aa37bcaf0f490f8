import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsh_jax.config import ConfigError
from lsh_jax.sparsity import apply_masks, count_live
from lsh_jax.sparsity.masks import leaves_like, prunable_indices

TREE = {"b": [jnp.ones((2, 3)), jnp.ones(3)], "a": (jnp.ones((4, 1)), jnp.float32(1), None)}


def test_masked_entries_are_exact_zeros_whatever_stood_there():
    params = {"w": jnp.array([1.0, jnp.nan, -jnp.inf, -2.0])}
    masks = {"w": jnp.array([True, False, False, False])}
    masked = apply_masks(params, masks)["w"]
    np.testing.assert_array_equal(masked, [1, 0, 0, 0])
    assert not bool(jnp.signbit(masked).any())


def test_masking_keeps_the_dtype_of_every_leaf():
    params = [jnp.ones(2, jnp.bfloat16), jnp.ones(2, jnp.int32)]
    masked = apply_masks(params, [jnp.array([True, False])] * 2)
    assert [leaf.dtype for leaf in masked] == [jnp.bfloat16, jnp.int32]


def test_prunable_leaves_are_matrices_by_default():
    # Order of the leaves: a/0, a/1, b/0, b/1.
    assert prunable_indices(TREE, None) == (0, 2)


def test_a_predicate_sees_the_path_as_strings():
    seen = []
    prunable_indices(TREE, lambda path, leaf: seen.append((path, leaf.shape)) or True)
    assert seen == [
        (("a", "0"), (4, 1)),
        (("a", "1"), ()),
        (("b", "0"), (2, 3)),
        (("b", "1"), (3,)),
    ]


def test_nothing_to_prune_is_an_error():
    with pytest.raises(ConfigError, match="`prunable` must choose at least one leaf, got 0 of 4"):
        prunable_indices(TREE, lambda path, leaf: "c" in path)


def test_more_weights_than_an_int32_counts_are_an_error():
    big = jax.ShapeDtypeStruct((2**16, 2**15), jnp.float32)
    with pytest.raises(ConfigError, match=r"at most 2\^31 - 2 prunable weights, got 2147483648"):
        prunable_indices({"w": big}, None)


def test_a_tree_of_other_shapes_is_an_error():
    with pytest.raises(ConfigError, match="`gradients` must have the shapes of `params`"):
        leaves_like({"w": jnp.ones(3)}, {"w": jnp.ones(4)}, "gradients")


def test_live_weights_are_counted_over_prunable_leaves():
    masks = {"w": jnp.array([[True, False], [True, True]]), "b": jnp.ones(5, bool)}
    assert int(count_live(masks)) == 3
    assert int(count_live(masks, lambda path, leaf: path == ("b",))) == 5
