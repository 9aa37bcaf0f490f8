"""Covariant Lyapunov vectors: the directions that really grow at the rate of each exponent.

Ginelli et al. (2007), Characterizing dynamics with covariant Lyapunov vectors, arXiv 0706.0510.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lsh_jax.config import check
from lsh_jax.lyapunov.spectrum import lyapunov_spectrum
from lsh_jax.types import Array, Key, PyTree, State, StepFn


class CovariantVectors(NamedTuple):
    """Covariant Lyapunov vectors along a trajectory, in the order of the exponents.

    Attributes:
      vectors: [num_qr, N, K], columns of unit length; rows in the order of `ravel_pytree`.
      local_exponents: [num_qr, K], growth over the interval that ends at these vectors.
      exponents: [K], their mean over time, largest first, in log_base units per dt.
      states: the states at which the vectors stand, [num_qr, ...] in every leaf.
    """

    vectors: Array
    local_exponents: Array
    exponents: Array
    states: State


def covariant_lyapunov_vectors(
    step_fn: StepFn,
    state: State,
    inputs: PyTree = None,
    *,
    num_steps: int,
    burn_in: int,
    backward_burn_in: int,
    num_exponents: int | None = None,
    qr_every: int = 1,
    dt: float = 1.0,
    log_base: float = math.e,
    tangent: Any = "jvp",
    qr: str = "auto",
    q0: Array | None = None,
    key: Key | None = None,
) -> CovariantVectors:
    """Estimates the covariant Lyapunov vectors of a map along a trajectory.

    The frame Q_t of Benettin's method is orthonormal by construction, and so only its first column
    is a direction that the tangent map takes to itself. The covariant vectors V_t = Q_t C_t are:
    J_t v lies along the vector of the next time, in every column. As J_t Q_{t-1} = Q_t R_t, they
    follow from the upper triangular C_{t-1} = R_t^{-1} C_t, each column scaled to unit length,
    taken from the end of the run to its start: there the growing directions are those that last.

    The error of the vectors of exponent k falls as exp(-(gap between k and its neighbours) * time)
    on both sides: forward over `burn_in`, backward over `backward_burn_in`. Compare two runs with
    different ones. Equal exponents have a common plane but no vectors of their own. Vectors of
    directions that the map wipes out are arbitrary (see `rank_mask`).

    Keeps some 2 T K (N + K) floats for the T = (burn_in + num_steps + backward_burn_in) / qr_every
    intervals, so it is meant for few exponents or small systems. Works under `jit` and `vmap`; wrap
    it in `jax.jit`.

    Args:
      step_fn: `step_fn(state, x) -> state`; x is None where there are no inputs. A flow takes
        `rk4_step(vector_field, dt)`, and `dt`.
      state: the first state, any pytree of float32 or of float64.
      inputs: what drives the map, a pytree with time leading, with burn_in + num_steps +
        backward_burn_in entries.
      num_steps: steps for which vectors are returned, a multiple of `qr_every`.
      burn_in: first steps, which turn state and frame, >= 0.
      backward_burn_in: last steps, which only turn the vectors on their way back, >= 0; a multiple
        of `qr_every`.
      num_exponents: K, the leading vectors to compute, 1 <= K <= N; None computes all N.
      qr_every: steps of an interval; vectors are returned at its end.
      dt: time between two steps, > 0.
      log_base: base of the logarithm, > 1.
      tangent: as in `lyapunov_spectrum`.
      qr: as in `lyapunov_spectrum`, but for "lu", which has no R.
      q0: first frame, orthonormal columns, [N, K].
      key: key of the random first frame; None is `jax.random.key(0)`.

    Returns:
      CovariantVectors, for num_qr = num_steps / qr_every times. The tangent map along
      `states[i]`, over an interval, takes `vectors[i]` to a multiple of `vectors[i + 1]` that
      `local_exponents[i + 1]` states. The sign of a vector is arbitrary. The exponents differ from
      those of `lyapunov_spectrum` by O(1 / num_steps).

    Raises:
      ConfigError: (a ValueError) for an argument that cannot be met; it names the argument, the
        value and the condition.
    """
    check(qr != "lu", "qr", 'not be "lu", whose intervals have no R', qr)
    _check_steps(inputs, num_steps, burn_in, backward_burn_in, qr_every)
    state = jax.tree.map(jnp.asarray, state)
    total = burn_in + num_steps + backward_burn_in
    states = _trajectory(step_fn, state, inputs, total, tangent)
    forward = lyapunov_spectrum(
        _at_given_states(step_fn),
        state,
        (jax.tree.map(lambda leaf: leaf[:-1], states), inputs),
        burn_in=burn_in,
        num_exponents=num_exponents,
        qr_every=qr_every,
        tangent=_tangent_at_given_states(tangent) if callable(tangent) else tangent,
        qr=qr,
        q0=q0,
        key=key,
        return_vectors=True,
    )
    vectors, growth = _backward(forward.q_history, forward.r_history, num_steps // qr_every)
    # NaN where an interval was too long for its spread, as in the exponents.
    lost = jnp.isnan(forward.exponents[jnp.argsort(forward.order)])
    growth = jnp.where(lost[None, :], jnp.nan, growth)
    vectors = jnp.where(lost[None, None, :], jnp.nan, vectors)
    local = growth / (qr_every * dt * math.log(log_base))
    exponents = local.mean(axis=0)
    order = jnp.argsort(-exponents)  # NaN last
    ends = slice(burn_in + qr_every, burn_in + num_steps + 1, qr_every)
    return CovariantVectors(
        vectors=vectors[:, :, order],
        local_exponents=local[:, order],
        exponents=exponents[order],
        states=jax.tree.map(lambda leaf: leaf[ends], states),
    )


def _trajectory(step_fn: StepFn, state: State, inputs: PyTree, total: int, tangent: Any) -> State:
    """The first state and those after each of the steps, [total + 1, ...] in every leaf.

    The vectors stand at these states, so the tangent is later taken at them: a chaotic trajectory
    that was computed twice, by two programs with other roundings, would part from itself.
    """

    def advance(state: State, x: Any) -> tuple[State, State]:
        state = tangent(state, x)[0] if callable(tangent) else step_fn(state, x)
        return state, state

    with jax.default_matmul_precision("highest"):
        _, states = jax.lax.scan(advance, state, inputs, length=total)
    return jax.tree.map(lambda s, rest: jnp.concatenate([s[None], rest]), state, states)


def _at_given_states(step_fn: StepFn) -> StepFn:
    """`step_fn` at the state of the recorded trajectory, with the derivative by its own state."""

    def step(state: State, given: Any) -> State:
        recorded, x = given
        # Adds the derivative, and exactly nothing to the value.
        placed = jax.tree.map(lambda r, s: r + (s - jax.lax.stop_gradient(s)), recorded, state)
        return step_fn(placed, x)

    return step


def _tangent_at_given_states(tangent: Any) -> Any:
    return lambda _, given: tangent(*given)


def _backward(Q: Array, R: Array, num_kept: int) -> tuple[Array, Array]:
    """Covariant vectors [num_kept, N, K] and their log growth [num_kept, K], from the histories.

    Args:
      Q: frames after each interval, [num_qr, N, K].
      R: the triangular factors of each interval, [num_qr, K, K].
      num_kept: leading intervals whose vectors are returned.
    """
    # A wiped-out direction has R_kk near zero; the root of the smallest number can be divided by.
    tiny = math.sqrt(float(jnp.finfo(R.dtype).tiny))

    def step_back(C: Array, r: Array) -> tuple[Array, tuple[Array, Array]]:
        diagonal = jnp.diagonal(r)
        r = r + jnp.diag(jnp.maximum(diagonal, tiny) - diagonal)
        before = jax.scipy.linalg.solve_triangular(r, C)
        largest = jnp.abs(before).max(axis=0)  # its square might overflow
        norm = largest * jnp.linalg.norm(before / largest[None, :], axis=0)
        return before / norm[None, :], (C, -jnp.log(norm))

    # One loop over the burn-in too: a second one would take as long again to compile.
    identity = jnp.eye(R.shape[-1], dtype=R.dtype)
    _, (C, growth) = jax.lax.scan(step_back, identity, R, reverse=True)
    vectors = jnp.matmul(Q[:num_kept], C[:num_kept], precision="highest")
    return vectors / jnp.linalg.norm(vectors, axis=1, keepdims=True), growth[:num_kept]


def _check_steps(
    inputs: PyTree, num_steps: int, burn_in: int, backward_burn_in: int, qr_every: int
) -> None:
    check(qr_every >= 1, "qr_every", "be at least 1", qr_every)
    check(burn_in >= 0, "burn_in", "be at least 0", burn_in)
    check(backward_burn_in >= 0, "backward_burn_in", "be at least 0", backward_burn_in)
    check(num_steps >= 1, "num_steps", "be at least 1", num_steps)
    for name, value in (("num_steps", num_steps), ("backward_burn_in", backward_burn_in)):
        check(value % qr_every == 0, name, f"be a multiple of `qr_every`={qr_every}", value)
    total = burn_in + num_steps + backward_burn_in
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(inputs)]
    agreed = all(shape[:1] == (total,) for shape in shapes)
    needed = f"have burn_in + num_steps + backward_burn_in = {total} entries along the leading axis"
    check(agreed, "inputs", needed, shapes)
