import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsh_jax.lyapunov import lyapunov_spectrum
from lsh_jax.lyapunov.convergence import Convergence, convergence, rank_mask, running_exponents
from lsh_jax.lyapunov.result import LyapunovResult

judge = jax.jit(convergence, static_argnames="z")


def result_of(local, num_steps=None, qr_every=1):
    """A LyapunovResult of independent local exponents [num_qr, K], whose columns are in order."""
    local = np.asarray(local, np.float32)
    num_steps = num_steps or len(local)
    lengths = np.minimum(qr_every, num_steps - qr_every * np.arange(len(local)))
    exponents = np.average(local, axis=0, weights=lengths).astype(np.float32)
    error = local.std(axis=0, ddof=1) / math.sqrt(len(local)) if len(local) >= 4 else np.nan
    error = np.broadcast_to(np.float32(error), exponents.shape)
    return LyapunovResult(exponents, error, local, None, None, num_steps, qr_every)


def test_running_exponents_are_weighted_by_the_steps_of_each_row():
    # 2 + 2 + 1 steps: the last row counts half.
    result = result_of([[3.0, 0.0], [1.0, 1.0], [7.0, -9.0]], num_steps=5, qr_every=2)
    expected = [[3, 0], [2, 0.5], [(6 + 2 + 7) / 5, (0 + 2 - 9) / 5]]
    np.testing.assert_allclose(running_exponents(result), expected, rtol=1e-6)


@functools.cache
def constant_map(dtype):
    """A rotation, a contraction and a singular direction: log 0.9 twice, log 0.5 and -inf."""
    c, s = 0.9 * math.cos(1), 0.9 * math.sin(1)
    J = jnp.array([[c, -s, 0, 0], [s, c, 0.3, 0], [0, 0, 0.5, 0], [0, 0, 0, 0]], dtype)
    run = functools.partial(
        lyapunov_spectrum, lambda s, _: jnp.dot(J, s), num_steps=100, burn_in=50
    )
    return jax.jit(run)(jnp.ones(4, dtype))


def test_the_last_running_exponents_are_those_of_the_result():
    result = constant_map("float32")
    running = running_exponents(result)
    np.testing.assert_allclose(running[-1], result.exponents, rtol=1e-5)
    np.testing.assert_allclose(running[0], result.local_exponents[0], rtol=1e-6)


def test_the_rank_mask_is_the_same_in_both_precisions():
    single = constant_map("float32")
    assert rank_mask(single).tolist() == [True, True, True, False]
    with jax.enable_x64(True):
        double = constant_map("float64")
        assert rank_mask(double).tolist() == [True, True, True, False]
        assert abs(float(double.exponents[3]) - float(single.exponents[3])) > 10
    assert rank_mask([-15.0, -14.9, -jnp.inf, jnp.nan]).tolist() == [False, True, False, False]
    assert rank_mask([-15.0, -20.0], floor=-21.64).tolist() == [True, True]  # in bits


def test_equal_exponents_of_a_constant_map_are_not_resolved_by_rounding():
    verdict = judge(constant_map("float32"))
    assert verdict.resolved.tolist() == [False, True, True]
    assert (np.abs(verdict.drift[:3]) < 4).all()


def test_well_parted_exponents_are_resolved_and_equal_ones_are_not():
    noise = np.random.default_rng(0).normal(size=(100, 3))
    noise -= noise.mean(axis=0)
    verdict = judge(result_of(noise + np.array([2.0, 0.05, 0.0])))
    # Standard errors of 0.14 for a gap: 2 is 14 of them, 0.05 is not 2.
    assert verdict.resolved.tolist() == [True, False]
    np.testing.assert_allclose(verdict.gap_std_error, 0.14, rtol=0.5)
    assert judge(result_of(noise + np.array([0.1, 0.05, 0.0]))).resolved.tolist() == [False] * 2


def test_what_neighbours_share_does_not_blur_their_gap():
    generator = np.random.default_rng(1)
    common, own = generator.normal(size=(100, 1)), 0.01 * generator.normal(size=(100, 3))
    result = result_of(common + own + np.array([0.1, 0.05, 0.0]))
    verdict = judge(result)
    # Apart by half a standard error of each, but the differences are known to 0.0014.
    assert (np.asarray(verdict.gap) < 2 * math.sqrt(2) * result.std_error[1:]).all()
    assert verdict.resolved.tolist() == [True, True]


def test_the_error_of_a_gap_agrees_with_its_spread_over_runs():
    # Moving averages of three steps, common to neighbours in part, as along a trajectory.
    noise = np.random.default_rng(2).normal(size=(80, 402, 4))
    local = noise[:, :-2] + noise[:, 1:-1] + noise[:, 2:]
    local = (local[:, :, :3] + local[:, :, 1:]).astype(np.float32) + np.float32([9, 0, -9])
    exponents = local.mean(axis=1)
    unknown = np.full_like(exponents, np.nan)
    num_steps = np.full(80, 400)
    ones = np.ones_like(num_steps)
    results = LyapunovResult(
        exponents, unknown, local, None, None, num_steps, qr_every=ones, unit=ones
    )
    verdicts = jax.jit(jax.vmap(convergence))(results)
    spread = np.std(exponents[:, :-1] - exponents[:, 1:], axis=0, ddof=1)
    # 80 runs know the spread to 8 %.
    error = np.sqrt(np.mean(np.asarray(verdicts.gap_std_error) ** 2, axis=0))
    np.testing.assert_allclose(error, spread, rtol=0.3)
    assert 0.8 < np.std(verdicts.drift) < 1.4  # about Student's t of 28 freedoms


def test_a_run_that_starts_off_its_attractor_drifts():
    local = np.random.default_rng(3).normal(0, 0.1, (100, 3)) + np.array([2.0, 1.0, 0.0])
    assert (np.abs(judge(result_of(local)).drift) < 4).all()
    local[:50, 2] -= 1
    verdict = judge(result_of(local))
    assert float(verdict.drift[2]) > 10
    assert "1 of the exponents drifted, so raise `burn_in`" in verdict.describe()


def test_the_sentence_says_how_much_longer_to_run():
    verdict = Convergence(
        resolved=np.array([True, False, False]),
        gap=np.array([1.0, 0.1, 0.2]),
        gap_std_error=np.array([0.1, 0.15, 0.11]),
        exponents=np.array([1.1, 0.1, 0.0, -0.2]),
        std_error=np.array([0.123, 0.02, 0.02, 0.02]),
        drift=np.zeros(4),
        z=2.0,
    )
    # (2 * 0.15 / 0.1)^2 = 9.
    assert verdict.describe() == (
        "2 above 0 and 1 below, 1 not told from 0; 1 of 3 gaps between neighbours are resolved at "
        "z = 2; the largest standard error of an "
        "exponent is 0.12; to resolve the rest takes a run about 9 times as long."
    )
    done = verdict._replace(resolved=np.array([True, True, True]))
    assert "; 3 of 3 gaps" in done.describe()
    assert "longer" not in done.describe()
    equal = verdict._replace(gap=np.array([1.0, 0.0, 0.2]))
    assert "or they are equal" in equal.describe()
    short = verdict._replace(drift=np.full(4, np.nan))
    assert "the run is too short to tell a drift" in short.describe()
    unknown = verdict._replace(gap_std_error=np.array([0.1, np.nan, 0.11]))
    assert "the errors of the other gaps are not known" in unknown.describe()


def test_nothing_is_claimed_without_a_standard_error():
    short = judge(result_of([[1.0, 0.0], [1.1, 0.1]]))
    assert short.resolved.tolist() == [False]
    assert np.isnan(short.std_error).all()
    assert short.describe().startswith("Convergence is not known: there is no standard error")
    broken = np.random.default_rng(4).normal(size=(100, 3))
    broken[20, 1] = np.nan
    verdict = judge(result_of(broken))
    assert not verdict.resolved.all()
    assert verdict.describe().startswith(
        "Convergence is not known: 1 of 3 exponents are not finite"
    )


def test_one_exponent_has_no_gap_but_an_error():
    verdict = judge(result_of(np.random.default_rng(5).normal(-1, 1, size=(50, 1))))
    assert verdict.resolved.shape == (0,)
    assert verdict.describe().startswith("0 above 0 and 1 below; the largest standard error")


def test_the_layers_of_a_model_are_judged_side_by_side():
    local = np.random.default_rng(6).normal(size=(100, 2, 3)) + np.array([4.0, 0.0, -4.0])
    each = [result_of(local[:, layer]) for layer in range(2)]
    stacked = LyapunovResult(
        exponents=np.stack([layer.exponents for layer in each]),
        std_error=np.stack([layer.std_error for layer in each]),
        local_exponents=local.astype(np.float32),
        state=None,
        q=None,
        num_steps=100,
    )
    verdict = judge(stacked)
    assert verdict.resolved.tolist() == [[True, True]] * 2
    np.testing.assert_allclose(verdict.gap_std_error[1], judge(each[1]).gap_std_error, rtol=1e-5)
    running = jax.jit(running_exponents)(stacked)
    np.testing.assert_allclose(running[-1], stacked.exponents, rtol=1e-5)
    assert "; 4 of 4 gaps" in verdict.describe()


def test_what_cannot_be_met_is_refused():
    result = result_of(np.zeros((100, 3)))
    with pytest.raises(ValueError, match=r"`z` must be above 0, got 0"):
        judge(result, z=0)
    batch = jax.tree.map(lambda leaf: np.stack([leaf, leaf]), result)
    with pytest.raises(ValueError, match=r"`result` must be a single result: map over a batch"):
        judge(batch)
    with pytest.raises(ValueError, match=r"`result` must be a single result"):
        running_exponents(batch)
    verdicts = jax.tree.map(lambda leaf: np.stack([leaf, leaf]), judge(result))
    with pytest.raises(ValueError, match=r"`verdict` must be that of a single run"):
        verdicts.describe()
    with pytest.raises(ValueError, match=r"`result` must be a LyapunovResult .*, got 'ndarray'"):
        convergence(np.zeros(3))
    with pytest.raises(ValueError, match=r"along one sequence\), got 'tuple'"):
        convergence((np.zeros(3), np.zeros(3)))
    layers = result._replace(exponents=(np.zeros(3), np.zeros(2)))
    for function in (convergence, running_exponents, rank_mask):
        with pytest.raises(
            ValueError, match="must be one layer where these differ: `select_layer`"
        ):
            function(layers)
