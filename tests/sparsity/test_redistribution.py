import jax
import jax.numpy as jnp
import pytest

from lsh_jax.config import Redistribution, choices
from lsh_jax.sparsity.redistribution import RULES, Leaves, redistribute

MODE = {name: jnp.int32(i) for i, name in enumerate(RULES)}
share_out = jax.jit(redistribute)


def shares(name, num_removed, shrink=(0, 0), by_threshold=False):
    """Live 2 of 4 and 6 of 12; means of |w| 3 and 1, of |g| 1 and 3, of |m| 0 and 5."""
    leaves = Leaves(
        sizes=jnp.array([4, 12]),
        num_live=jnp.array([2, 6]),
        num_removed=jnp.array(num_removed),
        owed=jnp.array(num_removed) - jnp.array(shrink),
        mean_magnitude=jnp.array([3, 1]),
        mean_gradient=jnp.array([1, 3]),
        mean_momentum=jnp.array([0, 5]),
        by_threshold=jnp.bool_(by_threshold),
    )
    return share_out(MODE[name], leaves, jnp.int32(sum(shrink))).tolist()


@pytest.mark.parametrize(
    ("name", "num_removed", "expected"),
    [
        ("none", [1, 3], [1, 3]),
        ("none", [0, 0], [0, 0]),
        ("none_authors", [1, 3], [1, 3]),
        ("magnitude", [1, 3], [3, 1]),  # 4 in the proportion 3 : 1; the first has 3 free places
        ("magnitude", [0, 4], [2, 2]),  # ... now it has 2
        ("magnitude", [2, 6], [4, 4]),  # all removed; the first leaf is full
        ("nonzeros", [1, 3], [1, 3]),  # 2 : 6
        ("nonzeros", [2, 2], [1, 3]),
        ("survivors", [1, 3], [1, 3]),  # 1 : 3
        ("survivors", [2, 2], [0, 4]),  # 0 : 4
        ("survivors", [2, 6], [2, 6]),  # of nothing: by the free places, 4 : 12
        ("gradient", [1, 3], [1, 3]),
        ("momentum", [1, 3], [0, 4]),
    ],
)
def test_shares_of_two_leaves_by_hand(name, num_removed, expected):
    assert shares(name, num_removed) == expected


def test_the_authors_give_every_leaf_the_same_count_after_threshold_death():
    assert shares("none_authors", [0, 4], by_threshold=True) == [2, 2]
    assert shares("none_authors", [1, 7], by_threshold=True) == [3, 5]  # 3 free places, not 4
    assert shares("none", [0, 4], by_threshold=True) == [0, 4]


def test_what_shrinks_is_not_given_back():
    # 8 removed, 2 of each leaf for good: the second is owed 4. By magnitude, 3 : 1.
    assert shares("none", [2, 6], shrink=(2, 2)) == [0, 4]
    assert shares("magnitude", [2, 6], shrink=(2, 2)) == [3, 1]
    assert shares("nonzeros", [2, 6], shrink=(2, 6)) == [0, 0]


def test_the_table_holds_the_rules_of_the_config():
    assert tuple(RULES) == choices(Redistribution)
