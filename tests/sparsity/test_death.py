import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsh_jax.config import Death, choices
from lsh_jax.sparsity.death import RULES, remove

MODE = {name: jnp.int32(i) for i, name in enumerate(RULES)}
HALF = jnp.int32(500_000_000)
UNTUNED = jnp.float32(0)
compiled = jax.jit(remove)

# Two leaves of eight, the last two weights of each dead.
LEFT = np.array([[0.5, -0.1, 0.2, -0.6], [0.3, -0.4, 0.0, 0.0]])
RIGHT = np.array([[5.0, -1.0, 2.0, -6.0], [3.0, -4.0, 0.0, 0.0]])
MASK = np.array([[1, 1, 1, 1], [1, 1, 0, 0]], bool)


def die(name, rate=HALF, cut=UNTUNED, weights=(LEFT, RIGHT), masks=(MASK, MASK)):
    kept, num_removed, cut = compiled(MODE[name], weights, masks, rate, cut)
    for mask, old, removed in zip(kept, masks, num_removed, strict=True):
        assert np.sum(mask) == np.sum(old) - removed
        assert not np.any(np.asarray(mask) & ~np.asarray(old))
    return kept, num_removed.tolist(), float(cut)


def kept_weights(weights, kept):
    return sorted(np.asarray(weights)[np.asarray(kept)].tolist())


def test_magnitude_removes_the_same_share_of_each_leaf():
    # ceil(0.5 * 6) = 3 of each: 0.1, 0.2, 0.3 and the tenfold.
    kept, num_removed, cut = die("magnitude")
    assert num_removed == [3, 3] and cut == 0
    np.testing.assert_array_equal(kept[0], [[1, 0, 0, 1], [0, 1, 0, 0]])
    np.testing.assert_array_equal(kept[1], kept[0])


def test_set_removes_the_nearest_to_zero_of_each_sign():
    # Three of six: two positive (0.2, 0.3) and one negative (-0.1).
    kept, num_removed, _ = die("set")
    assert num_removed == [3, 3]
    np.testing.assert_array_equal(kept[0], [[1, 0, 0, 1], [0, 1, 0, 0]])
    # Where magnitude would take positives alone, one negative goes.
    leaf = np.array([[0.1, 0.2, 0.3, 0.4], [-5.0, -6.0, 0.0, 0.0]])
    kept, _, _ = die("set", weights=(leaf, leaf))
    np.testing.assert_allclose(kept_weights(leaf, kept[0]), [-6.0, 0.3, 0.4])


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_other_sign_supplies_what_one_sign_lacks(sign):
    # Four of six, two of each sign, but one sign has a single weight: three of the other.
    leaf = sign * np.array([[0.1, 0.2, 0.3, 0.4], [0.5, -9.0, 0.0, 0.0]])
    kept, num_removed, _ = die("set", jnp.int32(600_000_000), weights=(leaf, leaf))
    assert num_removed == [4, 4]
    np.testing.assert_allclose(kept_weights(abs(leaf), kept[0]), [0.4, 0.5])


def test_set_leaves_no_smaller_weight_of_a_sign_behind():
    leaf = np.random.default_rng(1).normal(-0.3, 1, (2, 4)).astype(np.float32)
    everyone = np.ones((2, 4), bool)
    (kept, _), _, _ = die("set", weights=(leaf, leaf), masks=(everyone, everyone))
    for sign in (1, -1):
        of_sign, kept = np.sign(leaf) == sign, np.asarray(kept)
        gone, left = abs(leaf)[of_sign & ~kept], abs(leaf)[of_sign & kept]
        assert gone.max(initial=0) <= left.min(initial=np.inf)


@pytest.mark.parametrize("name", ["threshold", "global_magnitude"])
def test_the_first_cut_across_leaves_is_exact(name):
    # ceil(0.6 * 12) = 8 smallest: all six of the left leaf, then 1 and 2 of the right.
    kept, num_removed, cut = die(name, jnp.int32(600_000_000))
    assert num_removed == [6, 2]
    np.testing.assert_array_equal(kept[1], [[1, 0, 0, 1], [1, 1, 0, 0]])
    assert cut == (2.0 if name == "threshold" else 0.0)


@pytest.mark.parametrize("name", ["threshold", "global_magnitude"])
@pytest.mark.parametrize("rate", [0.0, 0.01, 0.37, 0.5, 0.99, 1.0])
def test_exactly_the_ceiling_of_the_share_dies_at_the_first_update(name, rate):
    _, num_removed, _ = die(name, jnp.int32(round(rate * 1e9)))
    assert sum(num_removed) == np.ceil(rate * 12)


def test_ties_across_leaves_are_kept_in_leaf_order():
    ones = np.ones((2, 4))
    # Five of twelve equal weights are left, all in the first leaf, lowest index first.
    kept, num_removed, _ = die("global_magnitude", jnp.int32(560_000_000), weights=(ones, -ones))
    assert num_removed == [1, 6]
    np.testing.assert_array_equal(kept[0], [[1, 1, 1, 1], [1, 0, 0, 0]])


@pytest.mark.parametrize(
    ("cut", "num_removed", "next_cut"),
    [
        (0.15, [1, 0], 0.3),  # 1 of 6 wanted: doubled
        (0.7, [6, 0], 0.7),  # as many as wanted
        (1.0, [6, 1], 0.5),  # 7, one too many: halved; a weight at the threshold dies
        (3e38, [6, 6], 1.5e38),  # all weights die, and it comes down again
    ],
)
def test_the_threshold_follows_its_target_by_factors_of_two(cut, num_removed, next_cut):
    _, got, got_cut = die("threshold", cut=jnp.float32(cut))
    assert got == num_removed
    assert got_cut == pytest.approx(next_cut)


def test_the_threshold_stays_finite_and_waits_for_a_weight_that_is_not_zero():
    broken = np.full((2, 4), np.nan)
    _, num_removed, cut = die("threshold", weights=(broken, broken))
    assert num_removed == [0, 6] and np.isfinite(cut)
    zeros = np.zeros((2, 4))
    _, num_removed, cut = die("threshold", weights=(zeros, zeros))
    assert sum(num_removed) == 6 and cut == 0  # so the next update tunes it again


def test_a_threshold_within_two_percent_of_its_target_stays():
    # 200 weights of 0.01 ... 2.00, half of them wanted: 98 to 102 removed is near enough.
    weights = (np.arange(1, 201, dtype=np.float32) / 100).reshape(2, 100)
    everyone = np.ones((2, 100), bool)
    for num, factor in ((97, 2), (98, 1), (102, 1), (103, 0.5)):
        cut = jnp.float32(num / 100 + 0.005)
        _, num_removed, next_cut = die("threshold", HALF, cut, (weights,), (everyone,))
        assert num_removed == [num] and next_cut == pytest.approx(factor * float(cut))


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("value", [0.0, 1.0, np.nan, -np.inf])
def test_counts_are_exact_where_all_weights_are_equal_or_broken(name, value):
    leaf = np.full((2, 4), value)
    _, num_removed, _ = die(name, weights=(leaf, leaf))
    assert sum(num_removed) == 6


def test_the_table_holds_the_rules_of_the_config():
    assert tuple(RULES) == choices(Death)
