import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lsh_jax.sparsity.selection import (
    count,
    count_along,
    largest_cut,
    magnitude_keys,
    raised,
    top_k_mask,
    top_k_of_blocks,
)

SIZE = 24
select, select_blocks = jax.jit(top_k_mask), jax.jit(top_k_of_blocks)
any_keys = st.lists(
    st.one_of(st.integers(0, 3), st.integers(0, 2**32 - 1)), min_size=SIZE, max_size=SIZE
)
some = st.lists(st.booleans(), min_size=SIZE, max_size=SIZE)


def stable_argsort_mask(keys, candidates, k):
    """The k candidates that come first in a stable descending sort."""
    order = np.argsort(-keys.astype(np.int64), axis=None, kind="stable")
    mask = np.zeros(keys.size, bool)
    mask[[i for i in order if candidates.flat[i]][:k]] = True
    return mask.reshape(keys.shape)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    keys=any_keys, candidates=some, share=st.one_of(st.sampled_from((0.0, 1.0)), st.floats(0, 1))
)
def test_the_mask_is_that_of_a_stable_argsort(keys, candidates, share):
    keys, candidates = np.array(keys, np.uint32), np.array(candidates)
    k = round(share * candidates.sum())
    got = select(keys, candidates, jnp.int32(k))
    np.testing.assert_array_equal(got, stable_argsort_mask(keys, candidates, k))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(keys=any_keys, candidates=some, share=st.floats(0, 1), pooled=st.booleans())
def test_blocks_choose_each_for_itself_or_all_together(keys, candidates, share, pooled):
    # Three blocks of four columns, side by side.
    keys = np.array(keys, np.uint32).reshape(2, 12)
    candidates = np.array(candidates).reshape(2, 12)
    free = candidates.reshape(2, 3, 4).sum((0, 2))
    k = np.full(3, round(share * free.sum())) if pooled else np.round(share * free).astype(int)
    got = np.asarray(select_blocks(keys, candidates, k.astype(np.int32), jnp.bool_(pooled)))
    if pooled:
        np.testing.assert_array_equal(got, stable_argsort_mask(keys, candidates, k[0]))
    else:
        for g, block in enumerate((np.s_[:, :4], np.s_[:, 4:8], np.s_[:, 8:])):
            expected = stable_argsort_mask(keys[block], candidates[block], k[g])
            np.testing.assert_array_equal(got[block], expected)


@pytest.mark.parametrize("key", [0, 7, 2**32 - 1])
@pytest.mark.parametrize("k", [0, 1, SIZE - 1, SIZE])
def test_ties_go_to_the_lowest_flat_index(key, k):
    keys, everyone = np.full(SIZE, key, np.uint32), np.ones(SIZE, bool)
    np.testing.assert_array_equal(select(keys, everyone, jnp.int32(k)), np.arange(SIZE) < k)


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257])
def test_ties_are_settled_for_sizes_around_powers_of_two(size):
    keys, everyone = np.zeros(size, np.uint32), np.ones(size, bool)
    masks = np.asarray(
        jax.jit(jax.vmap(top_k_mask, (None, None, 0)))(keys, everyone, np.arange(size + 1))
    )
    np.testing.assert_array_equal(masks, np.arange(size) < np.arange(size + 1)[:, None])


def test_a_matrix_is_read_in_c_order():
    keys = jnp.array([[1, 5, 5], [5, 9, 1]], jnp.uint32)
    got = select(keys, jnp.ones((2, 3), bool), jnp.int32(3))
    np.testing.assert_array_equal(got, [[0, 1, 1], [0, 1, 0]])


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_an_empty_leaf_selects_nothing(shape):
    keys = jnp.zeros(shape, jnp.uint32)
    assert select(keys, jnp.zeros(shape, bool), jnp.int32(0)).shape == shape


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


def test_a_raised_key_beats_all_and_keeps_its_place_among_its_like():
    x = jnp.array([1.0, jnp.nan, 0.0, 2.0])
    keys = raised(magnitude_keys(x), jnp.array([False, False, True, True]))
    assert np.argsort(keys).tolist() == [0, 1, 2, 3]


def test_the_largest_cut_is_the_kth_largest():
    # Entries 9, 7, 7, 3: at least k of them are at or above it; none is asked for where k <= 0.
    entries = jnp.array([9, 7, 7, 3], jnp.uint32)
    find = jax.jit(lambda k: largest_cut(lambda cut: count(entries >= cut), k))
    assert [int(find(jnp.int32(k))) for k in (0, 1, 2, 3, 4)] == [2**32 - 1, 9, 7, 7, 3]


@pytest.mark.parametrize("shape", [(1,), (255, 2), (256, 3), (257, 1), (510, 2), (1021,), (0, 4)])
def test_counts_are_exact_and_int32_whatever_the_rows(shape):
    # Rows are added in bytes up to 255 at a time, where the number of rows divides.
    everyone = np.ones(shape, bool)
    some = np.random.default_rng(0).random(shape) < 0.5
    for mask in (everyone, some):
        got = jax.jit(count)(mask)
        assert got.dtype == jnp.int32 and int(got) == mask.sum()
    columns = jax.jit(count_along, static_argnums=1)(everyone, (0,))
    np.testing.assert_array_equal(columns, np.full(shape[1:], shape[0]))
