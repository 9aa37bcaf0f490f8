"""The Lyapunov spectrum of a flow, by the exact tangent of its Runge-Kutta map."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from lsh_jax.config import check
from lsh_jax.lyapunov.result import LyapunovResult
from lsh_jax.lyapunov.spectrum import lyapunov_spectrum
from lsh_jax.types import PyTree, State, StepFn


def flow_spectrum(
    vector_field: StepFn,
    state: State,
    inputs: PyTree = None,
    *,
    dt: float,
    num_steps: int | None = None,
    **options: Any,
) -> LyapunovResult:
    """Estimates the leading Lyapunov exponents of an ordinary differential equation.

    The map is one step of `rk4_step`, and its tangent is differentiated exactly: what is computed
    is the spectrum of the discrete map, without a second discretisation of the variational
    equation. It differs from that of the flow by O(dt^4), which a run with half of `dt` measures.

    Inputs are held constant over a step. Where they sample a forcing that changes smoothly, that is
    an error of O(dt): take the time as a component of the state instead, whose slope is 1 and whose
    exponent is 0.

    Args:
      vector_field: `vector_field(state, x) -> d state / dt`, in the tree of the state; x is None
        where there are no inputs.
      state: the first state, any pytree of float32 or of float64.
      inputs: what drives the flow, a pytree with time leading, [T, ...]: one entry for each step,
        held constant over it.
      dt: length of a step, > 0, in the unit of time of `vector_field`.
      num_steps: steps of `dt` that are averaged: a time of num_steps * dt. Needed without inputs.
      **options: those of `lyapunov_spectrum` but `dt`: num_exponents, burn_in (in steps of `dt`),
        qr_every, log_base, tangent, qr, q0, key, stop_gradient, return_vectors. A callable
        `tangent` stands for that of the whole step.

    Returns:
      A LyapunovResult; exponents, their errors and local exponents are per unit of time.

    Raises:
      ConfigError: (a ValueError) for an argument that cannot be met; it names the argument, the
        value and the condition.
    """
    check(0 < dt < math.inf, "dt", "be positive and finite", dt)
    state = jax.tree.map(jnp.asarray, state)
    _check_field(vector_field, state, inputs)
    step_fn = rk4_step(vector_field, dt)
    return lyapunov_spectrum(step_fn, state, inputs, num_steps=num_steps, dt=dt, **options)


def rk4_step(vector_field: StepFn, dt: float) -> StepFn:
    """One step of the classical Runge-Kutta method of order 4, as a map.

    Args:
      vector_field: `vector_field(state, x) -> d state / dt`, in the tree of the state.
      dt: length of the step; a negative one goes back in time.

    Returns:
      `step_fn(state, x) -> state`, for `lyapunov_spectrum` and `covariant_lyapunov_vectors`; x is
      held constant over the step.
    """

    def step(state: State, x: Any) -> State:
        def shifted(slope: State, length: float) -> State:
            return jax.tree.map(lambda s, k: s + length * k, state, slope)

        k1 = vector_field(state, x)
        k2 = vector_field(shifted(k1, dt / 2), x)
        k3 = vector_field(shifted(k2, dt / 2), x)
        k4 = vector_field(shifted(k3, dt), x)
        return jax.tree.map(
            lambda s, a, b, c, d: s + dt / 6 * (a + 2 * b + 2 * c + d), state, k1, k2, k3, k4
        )

    return step


def _check_field(vector_field: StepFn, state: State, inputs: PyTree) -> None:
    """A slope of another shape or type would be broadcast, or fail far from its cause."""
    x = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf)[1:], jnp.result_type(leaf)), inputs
    )
    slope = jax.tree.map(_signature, jax.eval_shape(vector_field, state, x))
    expected = jax.tree.map(_signature, state)
    check(slope == expected, "vector_field", f"return a slope like the state, {expected}", slope)


def _signature(leaf: Any) -> str:
    return f"{leaf.dtype}{list(leaf.shape)}"
