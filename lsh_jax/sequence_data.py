"""Sequences that are made, not read: trajectories of a flow, and the adding problem."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lsh_jax.config import check
from lsh_jax.lyapunov import rk4_step
from lsh_jax.types import StepFn

Floats = npt.NDArray[np.floating[Any]]


def lorenz63(state: Any, _: Any) -> tuple[Any, Any, Any]:
    """The slope of Lorenz's flow (1963), sigma = 10, rho = 28, beta = 8/3; a state is (x, y, z).

    Its exponents are 0.906, 0 and -14.572 nats per unit of time (Sprott, 2003).
    """
    x, y, z = state
    return 10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z


def sample_flow(
    vector_field: StepFn,
    starts: Sequence[Floats],
    *,
    dt: float,
    num_steps: int,
    burn_in: int,
    substeps: int = 5,
) -> Floats:
    """Reads trajectories of a flow at equal times, by Runge-Kutta of order 4 in float64.

    Args:
      vector_field: `vector_field(state, None) -> slope`, of a tuple of NumPy arrays.
      starts: the first state of each trajectory, a component after the other, [count] each.
      dt: time between two readings, > 0.
      num_steps: readings, >= 1.
      burn_in: readings that are left out first, for the trajectory to reach the attractor.
      substeps: steps of integration between two readings, >= 1.

    Returns:
      float64 [count, num_steps, components].

    Raises:
      ConfigError: for a number that is out of range.
    """
    least = {"num_steps": (num_steps, 1), "burn_in": (burn_in, 0), "substeps": (substeps, 1)}
    for name, (value, bound) in least.items():
        check(value >= bound, name, f"be at least {bound}", value)
    check(dt > 0, "dt", "be above 0", dt)
    step = rk4_step(vector_field, dt / substeps)
    state = tuple(np.asarray(component, np.float64) for component in starts)
    found = []
    for reading in range(burn_in + num_steps):
        if reading >= burn_in:
            found.append(np.stack(state, axis=-1))
        for _ in range(substeps):
            state = step(state, None)
    return np.stack(found, axis=1)


def adding_problem(count: int, length: int, seed: int = 0) -> tuple[Floats, Floats]:
    """The adding problem of Hochreiter & Schmidhuber (1997, section 5.4), in its usual form.

    A step shows a number drawn from U(0, 1) and a mark, which is 1 at two steps of the sequence,
    one in each half, and 0 elsewhere; the answer at the end is the sum of the two marked numbers.
    Who always answers 1 has a mean square error of 1/6. (In the paper numbers are drawn from
    U(-1, 1), lengths vary, and the sum is scaled.)

    Args:
      count: sequences.
      length: steps, >= 2.
      seed: of the numbers.

    Returns:
      Inputs float32 [count, length, 2] and answers float32 [count].

    Raises:
      ConfigError: for a length below 2.
    """
    check(length >= 2, "length", "be at least 2", length)
    rng = np.random.default_rng(seed)
    numbers, rows, half = rng.random((count, length)), np.arange(count), length // 2
    marks = np.zeros((count, length))
    marks[rows, rng.integers(half, size=count)] = 1
    marks[rows, rng.integers(half, length, size=count)] = 1
    inputs = np.stack([numbers, marks], axis=-1).astype(np.float32)
    return inputs, (numbers * marks).sum(axis=1).astype(np.float32)
