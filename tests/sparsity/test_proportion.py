import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lsh_jax.sparsity.proportion import PARTS, apportion, ceil_part_of, mul_div, part_of

divide = jax.jit(mul_div)
share_out = jax.jit(apportion)
ceiling, floor = jax.jit(ceil_part_of), jax.jit(part_of)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(a=st.integers(0, 2**32 - 1), b=st.integers(0, 2**31 - 1), d=st.integers(1, 2**31 - 1))
def test_long_division_agrees_with_python(a, b, d):
    b = b % (d + 1)
    high = (a * 7) % d
    assume((high * 2**32 + a * b) // d < 2**32)
    quotient, rest = divide(np.uint32(a), jnp.int32(b), jnp.int32(d), jnp.int32(high))
    assert (int(quotient), int(rest)) == divmod(high * 2**32 + a * b, d)


@pytest.mark.parametrize(
    ("a", "b", "d"),
    [(2**32 - 1, 1, 1), (2**32 - 1, 2**31 - 1, 2**31 - 1), (2**31 - 2, 2**31 - 2, 2**31 - 1)],
)
def test_long_division_at_the_ends_of_its_range(a, b, d):
    quotient, rest = divide(np.uint32(a), jnp.int32(b), jnp.int32(d), jnp.int32(0))
    assert (int(quotient), int(rest)) == divmod(a * b, d)


@pytest.mark.parametrize("number", [0, 1, 10, 11, 1_000_003, 2**31 - 2])
@pytest.mark.parametrize("tenths", [0, 1, 3, 4, 7, 10])
def test_parts_of_decimals_are_those_of_decimals(number, tenths):
    part = jnp.int32(tenths * PARTS // 10)
    assert int(floor(jnp.int32(number), part)) == number * tenths // 10
    assert int(ceiling(jnp.int32(number), part)) == -(-number * tenths // 10)


def test_shares_by_hand():
    # 10 in the proportion 1 : 1 : 3 with caps 9, 9, 5. Quotas 2, 2, 6: the third is cut to 5,
    # the other 5 are 2.5 each; the halves tie and the first leaf takes the odd one.
    np.testing.assert_array_equal(
        share_out(jnp.int32(10), jnp.array([1, 1, 3]), jnp.array([9, 9, 5])), [3, 2, 5]
    )


def test_leaves_without_weight_share_what_is_left_by_their_caps():
    # The first leaf takes its 4; the 6 left go 1 : 2.
    np.testing.assert_array_equal(
        share_out(jnp.int32(10), jnp.array([5, 0, 0]), jnp.array([4, 5, 10])), [4, 2, 4]
    )


@pytest.mark.parametrize("total", [0, 7, 23])
def test_nothing_and_everything_are_shared_out_too(total):
    # 23 = 11 + 0 + 12 fills all; 0 leaves all empty; 7 by weights 0 : 5 : 1 goes past the leaf
    # without room to the last.
    weights, caps = jnp.array([0, 5, 1]), jnp.array([11, 0, 12])
    expected = {0: [0, 0, 0], 7: [0, 0, 7], 23: [11, 0, 12]}[total]
    np.testing.assert_array_equal(share_out(jnp.int32(total), weights, caps), expected)


numbers = st.one_of(st.integers(0, 6), st.integers(0, 2**28))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    leaves=st.lists(st.tuples(numbers, numbers), min_size=5, max_size=5),
    share=st.one_of(st.sampled_from((0.0, 1.0)), st.floats(0, 1)),
)
def test_shares_agree_with_exact_fractions_and_sum_to_the_total(leaves, share):
    weights, caps = zip(*leaves, strict=True)
    total = min(math.floor(share * sum(caps)), sum(caps))
    got = share_out(jnp.int32(total), jnp.array(weights), jnp.array(caps)).tolist()
    assert got == reference.apportion(total, weights, caps)
    assert sum(got) == total


def test_shares_of_two_billion_weights_do_not_overflow():
    # Caps and weights sum to 2^31 - 2, the most there may be.
    caps = jnp.array([2**30, 2**29, 2**29 - 2, 0, 0])
    total = 2**31 - 3
    got = share_out(jnp.int32(total), caps, caps)
    assert got.tolist() == reference.apportion(total, caps.tolist(), caps.tolist())
