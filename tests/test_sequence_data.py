import numpy as np
import pytest

from lsh_jax.config import ConfigError
from lsh_jax.sequence_data import adding_problem, lorenz63, sample_flow


def test_a_flow_is_read_at_equal_times():
    # x' = -x and y' = 2: exp(-t) and 2 t, read from the second reading on.
    def field(state, _):
        return -state[0], 0 * state[1] + 2

    found = sample_flow(field, [np.array([1.0, 3.0]), np.zeros(2)], dt=0.1, num_steps=4, burn_in=1)
    times = 0.1 * np.arange(1, 5)
    assert found.shape == (2, 4, 2)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found[0, :, 0], np.exp(-times), rtol=1e-9)
    np.testing.assert_allclose(found[1, :, 0], 3 * np.exp(-times), rtol=1e-9)
    np.testing.assert_allclose(found[:, :, 1], np.tile(2 * times, (2, 1)), rtol=1e-9)


def test_the_lorenz_flow_stands_still_at_its_fixed_points():
    # x = y = sqrt(beta (rho - 1)), z = rho - 1.
    x = np.sqrt(8 / 3 * 27)
    np.testing.assert_allclose(lorenz63((x, x, 27.0), None), 0, atol=1e-12)


def test_a_flow_needs_readings_and_time():
    starts = [np.ones(1)] * 3
    with pytest.raises(ConfigError, match="`num_steps` must be at least 1"):
        sample_flow(lorenz63, starts, dt=0.1, num_steps=0, burn_in=0)
    with pytest.raises(ConfigError, match="`dt` must be above 0"):
        sample_flow(lorenz63, starts, dt=0.0, num_steps=1, burn_in=0)


@pytest.mark.parametrize("length", [2, 7, 50])
def test_the_answer_is_the_sum_of_one_marked_number_of_each_half(length):
    inputs, answers = adding_problem(2000, length, seed=3)
    numbers, marks = inputs[..., 0], inputs[..., 1]
    half = length // 2
    np.testing.assert_array_equal(marks[:, :half].sum(axis=1), 1)
    np.testing.assert_array_equal(marks[:, half:].sum(axis=1), 1)
    np.testing.assert_allclose(answers, (numbers * marks).sum(axis=1), rtol=1e-6)
    # The variance of the sum of two of U(0, 1) is 1/6; 2000 draws know it to 2.4 %, 4 sd here.
    assert np.mean((answers - 1) ** 2) == pytest.approx(1 / 6, rel=0.1)


def test_the_adding_problem_is_that_of_its_seed():
    first, second = (adding_problem(5, 6, seed=1)[0] for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, adding_problem(5, 6, seed=2)[0])
    with pytest.raises(ConfigError, match="`length` must be at least 2"):
        adding_problem(5, 1)
