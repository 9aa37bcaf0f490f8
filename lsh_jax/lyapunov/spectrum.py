"""The Lyapunov spectrum of any differentiable map, driven by inputs or autonomous."""

import inspect
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lsh_jax.config import ConfigError, check, check_choice
from lsh_jax.lyapunov.benettin import TANGENTS, Linearize, benettin_scan
from lsh_jax.lyapunov.checks import check_count, check_key, refuse_breakdown, refuse_collapse
from lsh_jax.lyapunov.orthonormalize import NAMES, lu, orthonormalizer, random_frame
from lsh_jax.lyapunov.result import LyapunovResult, interval_lengths, summarize
from lsh_jax.types import Array, Key, PyTree, State, StepFn


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

    Benettin's method: push K deviation vectors through the tangent map of every step, make them
    orthonormal again by QR, average log R_kk. Every matrix product (those of `step_fn` too) is
    made at the highest precision: bfloat16 and TF32, which accelerators default to, would move
    the exponents by 1e-3 to 1e-1. Works under `jit`, `vmap` (a batch of states, inputs or
    parameters) and `grad`; wrap repeated calls in `jax.jit`. A batch over several devices is a
    `jax.jit` of the `vmap`, with inputs sharded along the batch over a mesh of automatic axes
    (`jax.make_mesh(..., axis_types=(jax.sharding.AxisType.Auto,))`): no device waits for another.

    Memory, per element of a batch: 4 to 8 N K floats while running, and num_qr * K to return.
    Reverse mode keeps N + N K floats for each interval between two QRs, and computes an interval
    again when it comes to it, with some 4 N K floats for each of its steps: T N K at `qr_every=1`,
    least near `qr_every` = sqrt(T), with "lu". `jax.lax.map` with a `batch_size` bounds the batch.

    A direction that the map wipes out reads a large negative number, never -inf or NaN: about the
    log of the rounding unit per step, or of the smallest normal float where R_kk is exactly zero
    (`rank_mask` tells them). Its gradient is NaN there, as that of a QR decomposition is.

    Args:
      step_fn: `step_fn(state, x) -> state`; x is None where there are no inputs.
      state: the first state, any pytree of float32 or of float64.
      inputs: what drives the map, a pytree with time leading, [T, ...]; all T are consumed.
      num_steps: steps that are averaged. Needed without inputs, where `burn_in` comes on top;
        with inputs it is T - burn_in and may be left out.
      num_exponents: K, 1 <= K <= N; None computes all N (or as many as `q0` has columns).
      burn_in: first steps, which turn state and frame but are left out of the mean; 0 <= burn_in,
        and burn_in < T with inputs.
      qr_every: steps between re-orthonormalisations, >= 1; the last interval has what is left. The
        columns collapse onto the leading one in between, by the spread of the K exponents times
        qr_every: 12 nats of it are the most that float32 stands (27 float64). Where an interval
        goes beyond, the exponents that are lost become NaN under `jit`, and raise an error outside
        of it.
      dt: time between two steps, > 0: exponents are per unit of time.
      log_base: base of the logarithm, > 1: e gives nats, 2 the bits of the authors' files.
      tangent: "jvp" linearises `step_fn` by automatic differentiation and applies it to all
        columns; "jacobian" forms the dense Jacobian, for K near N. A callable `(state, x) ->
        (next state, Q -> J Q)` takes their place, and that of `step_fn`, which is then not called;
        its tangent space may be smaller than the state.
      qr: "householder", "solve", "cholesky" (K much smaller than N) or "auto", by platform and
        shape; see `orthonormalize`. "lu", with `qr_every` above 1, factorizes by LU in the steps
        between two QRs: any spread, the exponents of a QR every step, and cheaper; it multiplies
        rounding in the last exponents of a wide spectrum. All give the same `local_exponents` up
        to rounding, in directions that are not wiped out.
      q0: first frame, orthonormal columns, [N, K]; its rows define N. Without it N is the number
        of floats in `state`, and the frame is drawn from `key`.
      key: key of the random first frame; None is `jax.random.key(0)`.
      stop_gradient: None, or "state" to differentiate with the trajectory held constant: biased,
        but free of gradients that grow like exp(largest exponent * time).
      return_vectors: whether to return `q_history` [num_qr, N, K] and `r_history` [num_qr, K, K],
        the QR of every interval; not with "lu".

    Returns:
      A LyapunovResult. Its `state` and `q` continue the run as `state` and `q0` of a next call
      with `burn_in=0`, and `join_results` makes one result of the two. The standard errors allow
      for the correlation of the steps (`std_error_of_mean`).

    Raises:
      ConfigError: (a ValueError) for an argument that cannot be met; it names the argument, the
        value and the condition.
    """
    _check_options(qr_every, dt, log_base, tangent, qr, key, stop_gradient, return_vectors)
    state = jax.tree.map(jnp.asarray, state)
    num_steps = _averaged_steps(inputs, num_steps, burn_in)
    q = _first_frame(state, num_exponents, q0, key)
    if callable(tangent):
        linearize = tangent
    else:
        _check_step(step_fn, state, inputs, q)
        linearize = TANGENTS[tangent](step_fn)
    state, q, growth = benettin_scan(
        linearize,
        orthonormalizer(qr),
        state,
        q,
        inputs,
        num_steps=num_steps,
        burn_in=burn_in,
        qr_every=qr_every,
        between=lu if qr == "lu" else None,
        hold_trajectory=stop_gradient == "state",
        keep_vectors=return_vectors,
    )
    lengths = interval_lengths(num_steps, qr_every, len(growth.logs)).astype(growth.logs.dtype)
    rates = growth.logs / lengths[:, None]
    if qr != "lu" and qr_every > 1:
        rates = refuse_collapse(rates, growth.logs, qr_every)
    summary = summarize(rates[:, None, :] / (dt * math.log(log_base)), num_steps, qr_every)
    if qr == "cholesky":
        refuse_breakdown(summary.exponents)
    return LyapunovResult(
        exponents=summary.exponents,
        std_error=summary.std_error,
        local_exponents=summary.local_exponents,
        state=state,
        q=q,
        num_steps=num_steps,
        qr_every=qr_every,
        order=summary.order,
        unit=dt * math.log(log_base),
        q_history=growth.q,
        r_history=growth.r,
    )


def max_lyapunov_exponent(
    step_fn: StepFn, state: State, inputs: PyTree = None, **options: Any
) -> LyapunovResult:
    """Estimates the largest Lyapunov exponent alone, with its standard error.

    One deviation vector, normalised every step: the cheapest question that a spectrum answers. Is
    the map chaotic (exponent above 0), or does a driven network forget its first state (below 0,
    the echo-state property)?

    Args:
      step_fn: as for `lyapunov_spectrum`.
      state: the first state.
      inputs: what drives the map, [T, ...].
      **options: those of `lyapunov_spectrum`, but `num_exponents`.

    Returns:
      A LyapunovResult with K = 1, so `exponents[0]` and `std_error[0]`.
    """
    more = options.get("num_exponents")
    check(more is None, "num_exponents", "be left out: `lyapunov_spectrum` takes it", more)
    return lyapunov_spectrum(step_fn, state, inputs, **(options | {"num_exponents": 1}))


def lyapunov_from_jacobians(jacobians: Array, **options: Any) -> LyapunovResult:
    """Estimates Lyapunov exponents from the Jacobians of a trajectory that was run elsewhere.

    Args:
      jacobians: J_1, J_2, ... in the order of time, [T, N, N]; J_t[i, j] is the derivative of
        component i after step t with respect to component j before it.
      **options: those of `lyapunov_spectrum`, but `inputs` and `tangent`.

    Returns:
      A LyapunovResult, with the `state` an empty array.

    Raises:
      ConfigError: for an array that is not [T, N, N] of float32 or float64.
    """
    jacobians = jnp.asarray(jacobians)
    shape = jacobians.shape
    square = jacobians.ndim == 3 and shape[1] == shape[2] and 0 not in shape
    check(square, "jacobians", "be [T, N, N]", shape)
    real = jacobians.dtype in (jnp.float32, jnp.float64)
    check(real, "jacobians", "hold float32 or float64", str(jacobians.dtype))
    count, q0, key = (options.pop(name, None) for name in ("num_exponents", "q0", "key"))
    options["q0"] = _first_frame(jnp.zeros(shape[1], jacobians.dtype), count, q0, key)
    rows = options["q0"].shape[0]
    check(rows == shape[1], "q0", f"have the {shape[1]} rows of the Jacobians", rows)

    def linearize(state: State, J: Array) -> Any:
        return state, lambda Q: jnp.dot(J, Q)

    empty = jnp.zeros(0, jacobians.dtype)
    return lyapunov_spectrum(lambda state, _: state, empty, jacobians, tangent=linearize, **options)


def _check_options(
    qr_every: int,
    dt: float,
    log_base: float,
    tangent: str | Linearize,
    qr: str,
    key: Key | None,
    stop_gradient: str | None,
    return_vectors: bool,
) -> None:
    check_count("qr_every", qr_every)
    check_key(key)
    check(qr_every >= 1, "qr_every", "be at least 1", qr_every)
    check(0 < dt < math.inf, "dt", "be positive and finite", dt)
    check(1 < log_base < math.inf, "log_base", "be above 1 and finite", log_base)
    known = callable(tangent) or tangent in TANGENTS
    condition = f"be one of {', '.join(TANGENTS)}, or a callable (state, x) -> (state, Q -> J Q)"
    check(known, "tangent", condition, tangent)
    check_choice("qr", qr, NAMES)
    if qr == "lu":
        check(qr_every > 1, "qr_every", 'be above 1 with qr="lu", which never orthonormalizes', 1)
        check(not return_vectors, "return_vectors", 'be False with qr="lu"', return_vectors)
    check(stop_gradient in (None, "state"), "stop_gradient", 'be None or "state"', stop_gradient)


def _averaged_steps(inputs: PyTree, num_steps: int | None, burn_in: int) -> int:
    check_count("burn_in", burn_in)
    check(burn_in >= 0, "burn_in", "be at least 0", burn_in)
    if num_steps is not None:
        check_count("num_steps", num_steps)
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
        if not isinstance(q0, jax.core.Tracer):
            given = np.asarray(q0, np.float64)
            error = np.abs(given.T @ given - np.eye(num_columns)).max()
            check(error < 1e-2, "q0", "have orthonormal columns", f"an error of {error:.2g}")
        return jnp.asarray(q0, dtype)
    if num_exponents is not None:
        check_count("num_exponents", num_exponents)
    size = sum(leaf.size for leaf in leaves)
    num_columns = size if num_exponents is None else num_exponents
    check(1 <= num_columns <= size, "num_exponents", f"lie in [1, {size}]", num_exponents)
    return random_frame(jax.random.key(0) if key is None else key, size, num_columns, dtype)


def _check_step(step_fn: StepFn, state: State, inputs: PyTree, q: Array) -> None:
    size = sum(leaf.size for leaf in jax.tree.leaves(state))
    check(q.shape[0] == size, "q0", f"have a row for each of the {size} floats of `state`", q.shape)
    x = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), inputs)
    _check_arguments(step_fn, state, x)
    after = jax.tree.map(_signature, jax.eval_shape(step_fn, state, x))
    before = jax.tree.map(_signature, state)
    condition = f"return a state like the one it got, {before}"
    if isinstance(after, tuple) and len(after) == 2 and after[0] == before:
        condition += " (a Flax cell returns (carry, output): take the first)"
    check(after == before, "step_fn", condition, after)


def _signature(leaf: Any) -> str:
    return f"{leaf.dtype}{list(leaf.shape)}"


def _check_arguments(step_fn: StepFn, state: State, x: Any) -> None:
    try:
        signature = inspect.signature(step_fn)
    except ValueError:  # a callable of C has none
        return
    try:
        signature.bind(state, x)
    except TypeError as error:
        raise ConfigError(
            f"`step_fn` must take (state, x), with x None where there are no inputs: {error}."
        ) from error
