import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lsh_jax.sparsity.selection import count, kth_largest, magnitude_keys, top_k_mask

SIZE = 24
select = jax.jit(top_k_mask)


def stable_argsort_mask(keys, candidates, k):
    """The k candidates that come first in a stable descending sort."""
    order = np.argsort(-keys.astype(np.int64), kind="stable")
    mask = np.zeros(keys.shape, bool)
    mask[[i for i in order if candidates[i]][:k]] = True
    return mask


@settings(max_examples=100, deadline=None)
@given(
    keys=st.lists(
        st.one_of(st.integers(0, 3), st.integers(0, 2**32 - 1)), min_size=SIZE, max_size=SIZE
    ),
    candidates=st.lists(st.booleans(), min_size=SIZE, max_size=SIZE),
    share=st.floats(0, 1),
)
def test_the_mask_is_that_of_a_stable_argsort(keys, candidates, share):
    keys, candidates = np.array(keys, np.uint32), np.array(candidates)
    k = round(share * candidates.sum())
    got = select(keys, candidates, jnp.int32(k))
    np.testing.assert_array_equal(got, stable_argsort_mask(keys, candidates, k))


@pytest.mark.parametrize("key", [0, 7, 2**32 - 1])
@pytest.mark.parametrize("k", [0, 1, SIZE - 1, SIZE])
def test_ties_go_to_the_lowest_flat_index(key, k):
    keys, everyone = np.full(SIZE, key, np.uint32), np.ones(SIZE, bool)
    np.testing.assert_array_equal(select(keys, everyone, jnp.int32(k)), np.arange(SIZE) < k)


def test_a_matrix_is_read_in_c_order():
    keys = jnp.array([[1, 5, 5], [5, 9, 1]], jnp.uint32)
    got = select(keys, jnp.ones((2, 3), bool), jnp.int32(3))
    np.testing.assert_array_equal(got, [[0, 1, 1], [0, 1, 0]])


def test_an_empty_leaf_selects_nothing():
    keys = jnp.zeros((0, 3), jnp.uint32)
    assert select(keys, jnp.zeros((0, 3), bool), jnp.int32(0)).shape == (0, 3)


def test_k_is_traced_and_vmaps():
    keys = jax.random.bits(jax.random.key(0), (SIZE,), jnp.uint32)
    ks = jnp.arange(SIZE + 1)
    masks = jax.jit(jax.vmap(top_k_mask, (None, None, 0)))(keys, jnp.ones(SIZE, bool), ks)
    np.testing.assert_array_equal(masks.sum(1), ks)
    assert bool(jnp.all(masks[1:] | ~masks[:-1]))  # one more only adds


def test_keys_order_magnitudes_with_nan_as_the_largest():
    x = jnp.array([0.0, -0.0, 1e-40, -1e-20, 2.0, -3.0, jnp.inf, -jnp.nan], jnp.float32)
    keys = np.asarray(magnitude_keys(x)).astype(np.int64)
    assert keys[0] == keys[1] == 0
    assert (np.diff(keys[1:]) > 0).all()
    assert magnitude_keys(jnp.array([1, -2], jnp.bfloat16)).dtype == jnp.uint32


def test_the_kth_largest_of_several_leaves_is_that_of_their_union():
    # Candidates over both leaves: 9, 7, 7, 3. The 8 is none.
    keys = (jnp.array([7, 3, 8], jnp.uint32), jnp.array([[9], [7]], jnp.uint32))
    candidates = (jnp.array([True, True, False]), jnp.array([[True], [True]]))
    got = [int(jax.jit(kth_largest)(keys, candidates, jnp.int32(k))) for k in range(6)]
    assert got == [2**32 - 1, 9, 7, 7, 3, 0]


def test_counts_are_int32():
    assert count(jnp.ones((3, 4), bool)).dtype == jnp.int32
