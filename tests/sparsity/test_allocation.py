import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lsh_jax.config import SparseInit, choices
from lsh_jax.sparsity.allocation import (
    PARTS,
    RULES,
    apportion,
    ceil_part_of,
    density_fraction,
    initial_counts,
    mul_div,
    num_live_weights,
)

# Embedding, four recurrent matrices and decoder of the paper's LSTM (10,000 words, 2 x 1500).
PAPER_LSTM = [(10_000, 1500), *4 * [(1500, 6000)], (10_000, 1500)]

divide = jax.jit(mul_div)
share_out = jax.jit(apportion)
round_live = jax.jit(num_live_weights)


def density(sparsity):
    return jnp.array(density_fraction(sparsity), jnp.int32)


def start(mode, density, shapes):
    return jax.jit(lambda *traced: initial_counts(*traced, shapes))(mode, density)


def reference(total, weights, caps):
    """Proportional shares with caps in exact fractions, leaf by leaf."""
    full = set()
    while True:
        open_ = [i for i in range(len(caps)) if i not in full]
        left = total - sum(caps[i] for i in full)
        shares = {i: weights[i] for i in open_}
        if not any(shares.values()):
            shares = {i: caps[i] for i in open_}
        whole = sum(shares.values()) or 1
        quotas = {i: Fraction(left * shares[i], whole) for i in open_}
        over = {i for i in open_ if quotas[i] > caps[i]}
        if not over:
            break
        full |= over
    counts = [caps[i] if i in full else math.floor(quotas[i]) for i in range(len(caps))]
    by_remainder = sorted(open_, key=lambda i: counts[i] - quotas[i])  # stable: first leaf first
    for i in by_remainder[: total - sum(counts)]:
        counts[i] += 1
    return counts


@settings(max_examples=100, deadline=None)
@given(a=st.integers(0, 2**32 - 1), b=st.integers(0, 2**31 - 1), d=st.integers(1, 2**31 - 1))
def test_long_division_agrees_with_python(a, b, d):
    b = b % (d + 1)
    high = (a * 7) % d
    assume((high * 2**32 + a * b) // d < 2**32)
    quotient, rest = divide(np.uint32(a), jnp.int32(b), jnp.int32(d), jnp.int32(high))
    assert (int(quotient), int(rest)) == divmod(high * 2**32 + a * b, d)


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


@settings(max_examples=100, deadline=None)
@given(
    leaves=st.lists(
        st.tuples(st.integers(0, 2**28), st.integers(0, 2**28)), min_size=5, max_size=5
    ),
    share=st.floats(0, 1),
)
def test_shares_agree_with_exact_fractions(leaves, share):
    weights, caps = zip(*leaves, strict=True)
    total = min(math.floor(share * sum(caps)), sum(caps))
    got = share_out(jnp.int32(total), jnp.array(weights), jnp.array(caps))
    assert got.tolist() == reference(total, weights, caps)


@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.3, 0.5, 0.67, 0.9, 0.999])
@pytest.mark.parametrize("num_weights", [1, 2, 105, 1_000_003, 66_000_000, 2**31 - 2])
def test_the_number_of_live_weights_is_rounded_exactly(sparsity, num_weights):
    got = round_live(density(sparsity), num_weights)
    assert int(got) == round((1 - Fraction(str(sparsity))) * num_weights)


@pytest.mark.parametrize("sparsity", [1 / 3, 2**-40, 1 - 2**-53, math.pi / 4])
def test_a_density_without_decimals_is_within_one_weight(sparsity):
    num_weights = 2**31 - 2
    got = int(round_live(density(sparsity), num_weights))
    assert abs(got - (1 - Fraction(sparsity)) * num_weights) < 1


def test_er_gives_the_densities_of_the_papers_lstm():
    # eps = 0.33 sum(n) / sum(dims) = 410.9; eps (1/10000 + 1/1500) and eps (1/1500 + 1/6000).
    counts = start(jnp.int32(1), density(0.67), PAPER_LSTM)
    densities = np.array(counts) / [math.prod(shape) for shape in PAPER_LSTM]
    expected = [0.3151, 0.3425, 0.3425, 0.3425, 0.3425, 0.3151]
    np.testing.assert_allclose(densities, expected, atol=1e-4)
    assert counts.sum() == 21_780_000


def test_er_makes_a_leaf_dense_rather_than_more_than_dense():
    # sum(dims) 4 and 40, K = 202: the first quota is 202 * 4 / 44 = 18.4 of 4, so it is full.
    counts = start(jnp.int32(1), density(0.5), [(2, 2), (20, 20)])
    np.testing.assert_array_equal(counts, [4, 198])


def test_uniform_gives_every_leaf_the_same_density():
    # 0.33 * 30, 20, 5 = 9.9, 6.6, 1.65, K = round(18.15) = 18: floors 9, 6, 1 (quotas scaled
    # to 18: 9.82, 6.55, 1.64) and the two left go to the remainders .82 and .64.
    counts = start(jnp.int32(0), density(0.67), [(5, 6), (4, 5), (5, 1)])
    np.testing.assert_array_equal(counts, [10, 6, 2])


@pytest.mark.parametrize("mode", range(len(RULES)))
def test_density_one_fills_every_leaf(mode):
    counts = start(jnp.int32(mode), density(0.0), [(3, 4), (5, 1)])
    np.testing.assert_array_equal(counts, [12, 5])


def test_ceilings_of_decimals_are_those_of_decimals():
    tenths = jnp.int32(4 * PARTS // 10)
    np.testing.assert_array_equal(ceil_part_of(jnp.array([0, 1, 10, 11]), tenths), [0, 1, 4, 5])
    assert int(ceil_part_of(jnp.int32(2**31 - 2), jnp.int32(PARTS))) == 2**31 - 2


def test_the_table_holds_the_rules_of_the_config():
    assert tuple(RULES) == choices(SparseInit)
