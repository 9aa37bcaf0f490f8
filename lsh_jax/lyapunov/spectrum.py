"""The Lyapunov spectrum of any differentiable map, driven by inputs or autonomous.

Benettin's method: push K deviation vectors through the tangent map of every step, make them
orthonormal again by QR, average log R_kk. This file knows no model.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from lsh_jax.config import check
from lsh_jax.lyapunov.orthonormalize import (
    Orthonormalize,
    log_diagonal,
    orthonormalizer,
    random_frame,
)
from lsh_jax.types import Array, Key, PyTree, State, StepFn

Linearize = Callable[[State, Any], tuple[State, Callable[[Array], Array]]]
# (state, input of the step) -> the next state, and what takes Q [N, K] to J Q [N, K]


class LyapunovResult(NamedTuple):
    """A Lyapunov spectrum and what it takes to continue the run."""

    exponents: Array  # [K], largest first, in log_base units per dt
    std_error: Array  # [K], of the exponents, in their order; NaN below 4 averaged steps
    local_exponents: Array  # [num_qr, K], finite-time rates whose mean the exponents are
    state: State  # after the last step
    q: Array  # [N, K], the frame after the last step; columns in QR order, never sorted
    num_steps: int  # steps averaged over, without burn_in


def lyapunov_spectrum(
    step_fn: StepFn,
    state: State,
    inputs: PyTree = None,
    *,
    num_steps: int | None = None,
    num_exponents: int | None = None,
    burn_in: int = 0,
    qr_every: int = 1,
    dt: float = 1.0,
    log_base: float = math.e,
    tangent: str | Linearize = "jvp",
    qr: str = "auto",
    q0: Array | None = None,
    key: Key | None = None,
    stop_gradient: str | None = None,
    return_vectors: bool = False,
) -> LyapunovResult:
    """Estimates the leading Lyapunov exponents of a map.

    The trajectory and the frame advance in one `lax.scan`, with every matrix product (those of
    `step_fn` too) at the highest precision: bfloat16 and TF32, which accelerators default to,
    would move the exponents by 1e-3 to 1e-1. Works under `jit`, `vmap` (a batch of states, inputs
    or parameters) and `grad`; wrap repeated calls in `jax.jit`.

    A direction that the map wipes out reads a large negative number, never -inf or NaN: about the
    log of the rounding unit per step, or of the smallest normal float where R_kk is exactly zero.
    Its gradient is NaN there, as that of a QR decomposition is.

    Args:
      step_fn: `step_fn(state, x) -> state`; x is None where there are no inputs.
      state: the first state, any pytree of float32 or of float64.
      inputs: what drives the map, a pytree with time leading, [T, ...]; all T are consumed.
      num_steps: steps that are averaged. Needed without inputs, where `burn_in` comes on top;
        with inputs it is T - burn_in and may be left out.
      num_exponents: K, 1 <= K <= N; None computes all N (or as many as `q0` has columns).
      burn_in: first steps, which turn state and frame but are left out of the mean; 0 <= burn_in,
        and burn_in < T with inputs.
      qr_every: steps between re-orthonormalisations; 1.
      dt: time between two steps, > 0: exponents are per unit of time.
      log_base: base of the logarithm, > 1: e gives nats, 2 the bits of the authors' files.
      tangent: "jvp" linearises `step_fn` by automatic differentiation and applies it to all
        columns. A callable `(state, x) -> (next state, Q -> J Q)` takes its place, and that of
        `step_fn`, which is then not called; its tangent space may be smaller than the state.
      qr: "auto" or "householder".
      q0: first frame, orthonormal columns, [N, K]; its rows define N. Without it N is the number
        of floats in `state`, and the frame is drawn from `key`.
      key: key of the random first frame; None is `jax.random.key(0)`.
      stop_gradient: None, or "state" to differentiate with the trajectory held constant: biased,
        but free of gradients that grow like exp(largest exponent * time).
      return_vectors: False.

    Returns:
      A LyapunovResult. Its `state` and `q` continue the run as `state` and `q0` of a next call
      with `burn_in=0`. The standard error is that of batch means: floor(sqrt(num_steps)) blocks
      of consecutive steps are taken for independent.

    Raises:
      ConfigError: (a ValueError) for an argument that cannot be met; it names the argument, the
        value and the condition.
    """
    _check_options(qr_every, dt, log_base, tangent, stop_gradient, return_vectors)
    orthonormalize = orthonormalizer(qr)
    state = jax.tree.map(jnp.asarray, state)
    num_steps = _averaged_steps(inputs, num_steps, burn_in)
    q = _first_frame(state, num_exponents, q0, key)
    if callable(tangent):
        linearize = tangent
    else:
        _check_step(step_fn, state, inputs, q)
        linearize = jvp_tangent(step_fn)
    state, q, logs = benettin_scan(
        linearize,
        orthonormalize,
        state,
        q,
        inputs,
        num_steps=num_steps,
        burn_in=burn_in,
        hold_trajectory=stop_gradient == "state",
    )
    local = logs / (dt * math.log(log_base))
    exponents, std_error, local = summarize(local[:, None, :])
    return LyapunovResult(exponents, std_error, local, state, q, num_steps)


def jvp_tangent(step_fn: StepFn) -> Linearize:
    """The tangent map by automatic differentiation: linearised once a step, applied to K columns.

    Args:
      step_fn: `step_fn(state, x) -> state`, any pytree of floats of one type as state.

    Returns:
      `(state, x) -> (next state, Q [N, K] -> J Q [N, K])`, rows in the order of `ravel_pytree`.
    """

    def linearize(state: State, x: Any) -> tuple[State, Callable[[Array], Array]]:
        _, unravel = ravel_pytree(state)
        new_state, push = jax.linearize(lambda state: step_fn(state, x), state)

        def push_column(column: Array) -> Array:
            return ravel_pytree(push(unravel(column)))[0]

        return new_state, jax.vmap(push_column, in_axes=1, out_axes=1)

    return linearize


def benettin_scan(
    linearize: Linearize,
    orthonormalize: Orthonormalize,
    state: State,
    q: Array,
    inputs: PyTree,
    *,
    num_steps: int,
    burn_in: int,
    hold_trajectory: bool = False,
) -> tuple[State, Array, Array]:
    """Advances trajectory and frame by burn_in + num_steps steps.

    Args:
      linearize: the tangent map, `(state, x) -> (next state, Q -> J Q)`.
      orthonormalize: a back-end of `orthonormalize.BACKENDS`.
      state: the first state.
      q: the first frame, [N, K].
      inputs: None, or a pytree with burn_in + num_steps entries along its leading axis.
      num_steps: steps whose growth is returned.
      burn_in: steps before them.
      hold_trajectory: whether no derivative flows from one state to the next.

    Returns:
      The last state, the last frame [N, K], and log R_kk of every step in nats, in QR order,
      [num_steps, K].
    """

    def advance(carry: tuple[State, Array], x: Any) -> tuple[tuple[State, Array], Array]:
        state, q = carry
        if hold_trajectory:
            state = jax.lax.stop_gradient(state)
        state, push = linearize(state, x)
        q, r = orthonormalize(push(q))
        return (state, q), log_diagonal(r)

    with jax.default_matmul_precision("highest"):
        carry, logs = jax.lax.scan(advance, (state, q), inputs, length=burn_in + num_steps)
    return *carry, logs[burn_in:]  # one loop compiles in half the time of two


@jax.jit
def summarize(local: Array) -> tuple[Array, Array, Array]:
    """Means over time and batch, sorted, with their standard errors.

    Batch means: each column of the batch is cut into floor(sqrt(T)) blocks of consecutive steps
    (what is left over at the start is not used), long enough to be nearly independent; the
    standard error is that of the mean of all block means. NaN for fewer than two of them.

    Args:
      local: finite-time exponents in QR order, [T, B, K].

    Returns:
      exponents [K], largest first; their standard errors [K] and the local exponents averaged
      over the batch [T, K], both in the order of the exponents.
    """
    num_steps, _, num_exponents = local.shape
    num_blocks = math.isqrt(num_steps)
    length = num_steps // num_blocks
    blocks = local[num_steps - num_blocks * length :]
    means = blocks.reshape(num_blocks, length, -1, num_exponents).mean(axis=1)
    means = means.reshape(-1, num_exponents)
    count = means.shape[0]
    if count >= 2:
        std_error = means.std(axis=0, ddof=1) / math.sqrt(count)
    else:
        std_error = jnp.full((num_exponents,), jnp.nan, local.dtype)
    local = local.mean(axis=1)
    exponents = local.mean(axis=0)
    order = jnp.argsort(exponents, descending=True)
    return exponents[order], std_error[order], local[:, order]


def _check_options(
    qr_every: int,
    dt: float,
    log_base: float,
    tangent: str | Linearize,
    stop_gradient: str | None,
    return_vectors: bool,
) -> None:
    check(qr_every == 1, "qr_every", "be 1", qr_every)
    check(0 < dt < math.inf, "dt", "be positive and finite", dt)
    check(1 < log_base < math.inf, "log_base", "be above 1 and finite", log_base)
    known = callable(tangent) or tangent == "jvp"
    check(
        known, "tangent", 'be one of "jvp", or a callable (state, x) -> (state, Q -> JQ)', tangent
    )
    check(stop_gradient in (None, "state"), "stop_gradient", 'be None or "state"', stop_gradient)
    check(not return_vectors, "return_vectors", "be False", return_vectors)


def _averaged_steps(inputs: PyTree, num_steps: int | None, burn_in: int) -> int:
    check(burn_in >= 0, "burn_in", "be at least 0", burn_in)
    if inputs is None:
        check(num_steps is not None, "num_steps", "be given for a map without `inputs`", num_steps)
    else:
        shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(inputs)]
        total = next((shape[0] for shape in shapes if shape), 0)
        agreed = total > 0 and all(shape[:1] == (total,) for shape in shapes)
        check(agreed, "inputs", "have one length >= 1 along the leading axis", shapes)
        check(burn_in < total, "burn_in", f"be below the {total} entries of `inputs`", burn_in)
        averaged = total - burn_in
        condition = f"be the {total} entries of `inputs` less `burn_in`={burn_in}"
        check(num_steps in (None, averaged), "num_steps", condition, num_steps)
        num_steps = averaged
    assert num_steps is not None
    check(num_steps >= 1, "num_steps", "be at least 1", num_steps)
    return num_steps


def _first_frame(
    state: State, num_exponents: int | None, q0: Array | None, key: Key | None
) -> Array:
    leaves = jax.tree.leaves(state)
    dtypes = sorted({str(leaf.dtype) for leaf in leaves})
    supported = dtypes in (["float32"], ["float64"])
    check(supported, "state", "hold float32 or float64 throughout", dtypes)
    dtype = leaves[0].dtype
    if q0 is not None:
        check(jnp.ndim(q0) == 2, "q0", "be a matrix [N, K]", jnp.shape(q0))
        size, num_columns = jnp.shape(q0)
        check(1 <= num_columns <= size, "q0", "have 1 to N columns", jnp.shape(q0))
        agreed = num_exponents in (None, num_columns)
        check(agreed, "num_exponents", f"be the {num_columns} columns of `q0`", num_exponents)
        return jnp.asarray(q0, dtype)
    size = sum(leaf.size for leaf in leaves)
    num_columns = size if num_exponents is None else num_exponents
    check(1 <= num_columns <= size, "num_exponents", f"lie in [1, {size}]", num_exponents)
    return random_frame(jax.random.key(0) if key is None else key, size, num_columns, dtype)


def _check_step(step_fn: StepFn, state: State, inputs: PyTree, q: Array) -> None:
    size = sum(leaf.size for leaf in jax.tree.leaves(state))
    check(q.shape[0] == size, "q0", f"have a row for each of the {size} floats of `state`", q.shape)
    x = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), inputs)
    after = jax.tree.map(_signature, jax.eval_shape(step_fn, state, x))
    before = jax.tree.map(_signature, state)
    check(after == before, "step_fn", f"return a state like the one it got, {before}", after)


def _signature(leaf: Any) -> str:
    return f"{leaf.dtype}{list(leaf.shape)}"
