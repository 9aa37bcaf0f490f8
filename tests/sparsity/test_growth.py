import jax
import jax.numpy as jnp
import numpy as np
import pytest
import worlds
from worlds import at, prunable_of

from lsh_jax.config import Growth, choices
from lsh_jax.sparsity.growth import RULES, Place, grow, scores

MODE = {name: jnp.int32(i) for i, name in enumerate(RULES)}
LIVE = np.array([[1, 0, 0, 1], [1, 1, 0, 0]], bool)
KEPT = np.array([[1, 0, 0, 0], [0, 1, 0, 0]], bool)  # the two corners have just died
SLOPES = jnp.array([[9.0, -3.0, 0.0, 1.0], [2.0, -9.0, -1.0, 0.0]])
SPEEDS = jnp.array([[9.0, 0.0, -4.0, 0.5], [0.5, 9.0, 0.0, 3.0]])
KEYS = jax.random.split(jax.random.key(1), 2000)


@jax.jit
def many(mode, keys, kept, gradient, num_grown, exclude_dropped):
    def one(key):
        place = Place(key, LIVE, kept, gradient, SPEEDS)
        return grow(mode, kept, scores(mode, place, exclude_dropped), num_grown, 2)

    return jax.vmap(one)(keys)


def grown(name, num_grown, exclude=False, kept=KEPT, gradient=SLOPES):
    masks = many(MODE[name], KEYS, kept, gradient, jnp.int32(num_grown), jnp.bool_(exclude))
    masks = np.asarray(masks)
    assert (masks.sum((1, 2)) == kept.sum() + num_grown).all() and (masks | ~kept).all()
    return masks


def test_gradient_growth_takes_the_steepest_dead_weights():
    # |g| of the dead in C order: 3, 0, 1, 2, 1, 0. The live nines are no candidates.
    for num, expected in {
        0: [[1, 0, 0, 0], [0, 1, 0, 0]],
        2: [[1, 1, 0, 0], [1, 1, 0, 0]],
        3: [[1, 1, 0, 1], [1, 1, 0, 0]],  # of the two ones the lower index
        6: [[1, 1, 1, 1], [1, 1, 1, 1]],
    }.items():
        np.testing.assert_array_equal(grown("gradient", num)[0], expected)


def test_momentum_growth_takes_the_dead_weights_with_the_largest_momentum():
    # |m| of the dead in C order: 0, 4, 0.5, 0.5, 0, 3.
    np.testing.assert_array_equal(grown("momentum", 2)[0], [[1, 0, 1, 0], [0, 1, 0, 1]])
    np.testing.assert_array_equal(grown("momentum", 3)[0], [[1, 0, 1, 1], [0, 1, 0, 1]])


@pytest.mark.parametrize("value", [0.0, np.nan, -np.inf])
def test_gradient_growth_fills_up_where_gradients_vanish_or_break(value):
    mask = grown("gradient", 3, gradient=jnp.full((2, 4), value))[0]
    np.testing.assert_array_equal(mask, [[1, 1, 1, 1], [0, 1, 0, 0]])


def test_random_growth_is_uniform_over_the_dead_and_exact():
    # Each of six dead is drawn with probability 2/6; 5 sqrt(2 / 9 / 2000) = 0.053.
    masks = grown("random", 2)
    np.testing.assert_allclose(masks.mean(0), np.where(KEPT, 1, 1 / 3), atol=0.053)


def test_gates_get_equal_shares_of_random_growth():
    # Two gates of two columns, two dead in the first and four in the other: two of four go to
    # each; of three the first gate takes the odd one. 0.056 is five standard deviations.
    masks = grown("random_gates", 4)
    expected = np.where(KEPT, 1, [[1, 1, 0.5, 0.5]])
    np.testing.assert_allclose(masks.mean(0), expected, atol=0.056)
    assert (masks[..., :2].sum((1, 2)) == 2 + 2).all()
    masks = grown("random_gates", 3)
    assert (masks[..., :2].sum((1, 2)) == 2 + 2).all()


def test_a_gate_that_is_full_passes_its_share_on():
    # One dead in the first gate, four in the other: of four, 1 and 3.
    kept = np.array([[1, 1, 0, 0], [0, 1, 0, 0]], bool)
    masks = grown("random_gates", 4, kept=kept)
    assert (masks[..., :2].sum((1, 2)) == 4).all() and (masks[..., 2:].sum((1, 2)) == 3).all()


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("num_grown", range(7))
def test_what_has_just_died_returns_only_where_nothing_else_is_dead(name, num_grown):
    # Four dead since long, so those two that have just died return when five or six grow. Gates
    # choose among their own: in the first, one has just died and one long since, 1 and 3 in the
    # other; they grow 0 + 0, 1 + 0, 1 + 1, 2 + 1, 2 + 2, 2 + 3, 2 + 4.
    masks = grown(name, num_grown, exclude=True)
    returned = (masks & (LIVE & ~KEPT)).sum((1, 2))
    by_gates = [0, 0, 0, 1, 1, 1, 2][num_grown]
    assert (returned == (by_gates if name == "random_gates" else max(0, num_grown - 4))).all()


@pytest.mark.slow
def test_nothing_that_has_just_died_returns_in_a_run_with_room():
    configs, first, history = worlds.grid()
    checked = 0
    for c, config in enumerate(configs):
        before = prunable_of(at(first, c).masks)
        for entry in history:
            _, _, state, info = at(entry, c)
            after = prunable_of(state.masks)
            # Replaced weights are as many as have died where none of these came back.
            fits = all(2 * mask.sum() < mask.size for mask in before)
            alone = config.redistribution == "none" and config.sparsity_schedule == "constant"
            if config.exclude_dropped and fits and alone and config.growth != "random_gates":
                gone = sum(int((a & ~b).sum()) for a, b in zip(before, after, strict=True))
                assert gone == info.num_removed, config
                checked += 1
            before = after
    assert checked > 5


def test_the_table_holds_the_rules_of_the_config():
    assert tuple(RULES) == choices(Growth)
