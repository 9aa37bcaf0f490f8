"""What holds between runs of `lyapunov_spectrum`, its derivatives, and what it refuses."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsh_jax.lyapunov import (
    join_results,
    lyapunov_from_jacobians,
    lyapunov_spectrum,
    max_lyapunov_exponent,
)
from lsh_jax.lyapunov.benettin import benettin_scan, jvp_tangent
from lsh_jax.lyapunov.orthonormalize import householder, random_frame
from lsh_jax.lyapunov.result import summarize

SIZE = 4
WEIGHTS = np.random.default_rng(5).normal(size=(SIZE, SIZE)) / math.sqrt(SIZE)
DRIVE = np.random.default_rng(6).normal(size=(60, SIZE))


def rnn_step(state, x):
    """x' = W tanh(x) + input: a driven map whose tangent follows its state."""
    weights = jnp.asarray(WEIGHTS, state.dtype)
    return jnp.dot(weights, jnp.tanh(state)) + 0.5 * x


@functools.partial(
    jax.jit,
    static_argnames=(
        "num_exponents",
        "burn_in",
        "log_base",
        "dt",
        "qr",
        "qr_every",
        "tangent",
        "return_vectors",
    ),
)
def compiled(inputs, state, **options):
    return lyapunov_spectrum(rnn_step, state, inputs, **options)


def run(inputs=DRIVE, state=None, **options):
    """Compiled as a whole, which is faster than operation by operation, and shared by tests."""
    options.setdefault("key", jax.random.key(0))
    return compiled(
        jnp.asarray(inputs, float), jnp.zeros(SIZE) if state is None else state, **options
    )


def test_exponents_are_sorted_and_are_the_means_of_their_columns():
    result = run(burn_in=5)
    assert result.local_exponents.shape == (55, SIZE)
    assert result.num_steps == 55
    assert (np.diff(result.exponents) <= 0).all()
    np.testing.assert_allclose(result.local_exponents.mean(axis=0), result.exponents, rtol=1e-5)
    assert (result.std_error > 0).all()


def test_the_sum_at_every_step_is_the_log_determinant():
    # ln |det J_t| = ln |det W| + sum_j ln(1 - tanh(x_j)^2), whatever the frame.
    with jax.enable_x64(True):
        result = run()
        states = [np.zeros(SIZE)]
        for x in DRIVE[:-1]:
            states.append(WEIGHTS @ np.tanh(states[-1]) + 0.5 * x)
        slopes = np.log1p(-(np.tanh(states) ** 2)).sum(axis=1)
        exact = np.linalg.slogdet(WEIGHTS)[1] + slopes
        np.testing.assert_allclose(result.local_exponents.sum(axis=1), exact, atol=1e-11)


def test_fewer_exponents_are_the_leading_part_of_all_of_them():
    # QR is nested: the first K columns never see the others. Compared in QR order.
    with jax.enable_x64(True):
        q0 = random_frame(jax.random.key(7), SIZE, SIZE, jnp.float64)

        def logs(frame):
            steps = {"num_steps": 50, "burn_in": 10}
            drive = jnp.asarray(DRIVE)
            tangent = jvp_tangent(rnn_step)
            run = benettin_scan(tangent, householder, jnp.zeros(SIZE), frame, drive, **steps)
            return run[2].logs

        np.testing.assert_allclose(logs(q0[:, :2]), logs(q0)[:, :2], atol=1e-12)


def test_an_element_of_a_batch_equals_its_single_run():
    drives = jnp.asarray(np.random.default_rng(8).normal(size=(3, 60, SIZE)), float)
    batch = jax.jit(jax.vmap(run))(drives)
    single = run(inputs=drives[1])
    # Batched kernels may sum in another order: some float32 roundings over 60 steps.
    np.testing.assert_allclose(batch.exponents[1], single.exponents, atol=1e-5)
    np.testing.assert_allclose(batch.std_error[1], single.std_error, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"qr": "lu", "qr_every": 8},
        pytest.param({}, marks=pytest.mark.slow),
        pytest.param({"return_vectors": True}, marks=pytest.mark.slow),
    ],
)
def test_two_halves_joined_by_state_and_frame_equal_the_whole(options):
    with jax.enable_x64(True):
        whole = run(**options)
        first = run(inputs=DRIVE[:24], **options)
        second = run(inputs=DRIVE[24:], state=first.state, q0=first.q, **options)
        joined = join_results(first, second)
        for part, expected in zip(jax.tree.leaves(joined), jax.tree.leaves(whole), strict=True):
            np.testing.assert_allclose(part, expected, atol=1e-12)


@pytest.mark.slow
def test_a_batch_of_results_is_joined_run_by_run():
    drives = np.random.default_rng(8).normal(size=(3, 48, SIZE)).astype(np.float32)
    first = jax.vmap(lambda drive: run(inputs=drive))(drives[:, :24])
    second = jax.vmap(lambda d, s, q: run(inputs=d, state=s, q0=q))(
        drives[:, 24:], first.state, first.q
    )
    joined = join_results(first, second)
    whole = run(inputs=drives[1])
    assert joined.num_steps == 48
    np.testing.assert_allclose(joined.exponents[1], whole.exponents, atol=1e-4)
    np.testing.assert_allclose(joined.std_error[1], whole.std_error, atol=1e-4)


def test_only_results_that_fit_are_joined():
    first, other = run(inputs=DRIVE[:24]), run(num_exponents=2, inputs=DRIVE[:24])
    with pytest.raises(ValueError, match=r"`second` must have the K of `first`"):
        join_results(first, other)
    ragged = run(inputs=DRIVE[:10], qr="lu", qr_every=4)
    with pytest.raises(ValueError, match=r"`second` must have qr_every=1, got"):
        join_results(first, ragged)
    with pytest.raises(ValueError, match=r"`first` must end on a multiple of qr_every=4 steps"):
        join_results(ragged, ragged)
    with pytest.raises(ValueError, match=r"`second` must have the dt and log_base of `first`"):
        join_results(first, run(inputs=DRIVE[:24], log_base=2.0))
    layers = first._replace(q=first.q[None])
    with pytest.raises(ValueError, match=r"`first` must be a result of `lyapunov_spectrum`"):
        join_results(layers, layers)


def test_burn_in_turns_state_and_frame():
    with jax.enable_x64(True):
        early = run(num_exponents=1, inputs=DRIVE[:20])
        late = run(inputs=DRIVE[20:], state=early.state, q0=early.q)
        np.testing.assert_allclose(
            run(num_exponents=1, burn_in=20).exponents, late.exponents, atol=1e-12
        )


def test_float32_agrees_with_float64():
    single = run().exponents
    with jax.enable_x64(True):
        double = run(q0=random_frame(jax.random.key(0), SIZE, SIZE, jnp.float32)).exponents
    assert double.dtype == np.float64
    np.testing.assert_allclose(single, double, atol=1e-5)


def test_log_base_and_dt_only_scale():
    plain, scaled = run(), run(log_base=2.0, dt=0.1)
    factor = 10 / math.log(2)
    for name in ("exponents", "std_error", "local_exponents"):
        expected = factor * getattr(plain, name)
        np.testing.assert_allclose(getattr(scaled, name), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(scaled.q, plain.q)


def test_a_state_may_be_any_pytree_and_a_tangent_may_be_smaller():
    # y doubles along a driven x that does not feel it: restricted to y, J is the number 2.
    def step(state, x):
        return {"x": 0.5 * state["x"] + x, "y": (2.0 * state["y"][0] + state["x"],)}

    def tangent(state, x):
        return step(state, x), lambda Q: 2.0 * Q

    state = {"x": jnp.zeros(()), "y": (jnp.zeros(2),)}
    whole = lyapunov_spectrum(step, state, jnp.ones(20), burn_in=10)
    np.testing.assert_allclose(whole.exponents, np.log([2.0, 2.0, 0.5]), atol=1e-3)
    part = lyapunov_spectrum(step, state, jnp.ones(20), tangent=tangent, q0=jnp.ones((1, 1)))
    np.testing.assert_allclose(part.exponents, [math.log(2)], rtol=1e-6)
    np.testing.assert_allclose(part.state["x"], whole.state["x"])


def test_the_frame_is_a_function_of_the_key():
    default = lyapunov_spectrum(rnn_step, jnp.zeros(SIZE), jnp.asarray(DRIVE, float))
    np.testing.assert_allclose(run(key=jax.random.key(0)).q, default.q, atol=1e-5)
    first, other = (run(key=jax.random.key(k)).local_exponents[0] for k in (0, 1))
    assert not np.allclose(first, other, atol=1e-3)


@pytest.mark.parametrize(
    "options",
    [
        {"qr": "solve"},
        {"qr": "cholesky", "num_exponents": 2},
        {"tangent": "jacobian"},
        {"qr": "lu", "qr_every": 8},
        {"qr": "householder", "qr_every": 3},
        {"qr": "solve", "qr_every": 2, "tangent": "jacobian"},
    ],
)
def test_back_ends_intervals_and_tangents_agree(options):
    # Whatever factorizes Z = Q R, the growth over an interval between two QRs is the same.
    with jax.enable_x64(True):
        every = options.get("qr_every", 1)
        steps = run(burn_in=5, num_exponents=options.get("num_exponents"))
        result = run(burn_in=5, **options)
        np.testing.assert_allclose(result.exponents, steps.exponents, atol=1e-9)
        starts = np.arange(0, 55, every)  # the last interval has what is left
        lengths = np.diff(np.append(starts, 55))
        rates = np.add.reduceat(np.asarray(steps.local_exponents), starts) / lengths[:, None]
        np.testing.assert_allclose(result.local_exponents, rates, atol=1e-9)
        np.testing.assert_allclose(result.q, steps.q, atol=1e-9)
        assert result.qr_every == every


def test_the_vectors_of_every_interval_are_returned_on_request():
    with jax.enable_x64(True):
        result = run(burn_in=4, qr="householder", qr_every=3, return_vectors=True)
        assert result.q_history.shape == result.r_history.shape == (19, SIZE, SIZE)
        np.testing.assert_array_equal(result.q_history[-1], result.q)
        logs = np.log(np.diagonal(result.r_history, axis1=1, axis2=2))[:, result.order]
        lengths = np.array([3] * 18 + [2])
        np.testing.assert_allclose(logs / lengths[:, None], result.local_exponents, atol=1e-12)


def test_exponents_that_an_interval_would_lose_are_refused():
    # log(1e4) = 9.2 nats a step: two steps are more than float32 holds.
    a = jnp.array([1.0, 1e-4])

    def spectrum(state, **options):
        return lyapunov_spectrum(lambda s, _: a * s, state, num_steps=20, **options)

    message = r"`qr_every` must keep the growths .* within 12 nats .* float32, got 2 steps"
    with pytest.raises(ValueError, match=message):
        spectrum(jnp.ones(2), qr_every=2)
    traced = jax.jit(functools.partial(spectrum, qr_every=2))(jnp.ones(2)).exponents
    np.testing.assert_array_equal(np.isnan(traced), [False, True])
    safe = spectrum(jnp.ones(2), qr_every=10, qr="lu", burn_in=2)
    np.testing.assert_allclose(safe.exponents, np.log(a), atol=1e-5)
    # One step in all is no interval of a hundred.
    single = lyapunov_spectrum(lambda s, _: a * s, jnp.ones(2), num_steps=1, qr_every=100)
    assert np.isfinite(single.exponents).all()


def test_a_single_interval_that_collapses_is_refused_whatever_the_mean():
    # 20 nats between the columns at every tenth interval, none at the others: 2 nats on average.
    steps = np.zeros((40, 2), np.float32)
    steps[10::20, 1] = -20.0

    def tangent(state, x):
        return state, lambda Q: jnp.exp(x)[:, None] * Q

    with pytest.raises(ValueError, match="`qr_every` must keep the growths"):
        lyapunov_spectrum(None, jnp.zeros(2), steps, tangent=tangent, qr_every=2, q0=mixed())


def mixed():
    return jnp.array([[1.0, 1.0], [1.0, -1.0]]) / math.sqrt(2)


def test_cholesky_says_when_it_breaks_down():
    a = jnp.array([1.0, 1e-5])
    with pytest.raises(ValueError, match=r'`qr` must suit the condition .* got "cholesky"'):
        lyapunov_spectrum(lambda s, _: a * s, jnp.ones(2), num_steps=3, qr="cholesky")


def test_the_largest_exponent_alone_is_the_first_of_all():
    with jax.enable_x64(True):
        frame = random_frame(jax.random.key(0), SIZE, SIZE, jnp.float64)
        largest = max_lyapunov_exponent(rnn_step, jnp.zeros(SIZE), DRIVE, q0=frame[:, :1])
        every = run(q0=frame)
        column = int(every.order[0])
        assert column == 0
        np.testing.assert_allclose(largest.exponents, every.exponents[:1], atol=1e-12)


def test_jacobians_of_a_trajectory_run_elsewhere_give_its_spectrum():
    with jax.enable_x64(True):
        states = [np.zeros(SIZE)]
        for x in DRIVE[:-1]:
            states.append(WEIGHTS @ np.tanh(states[-1]) + 0.5 * x)
        jacobians = np.stack([WEIGHTS * (1 - np.tanh(s) ** 2)[None, :] for s in states])
        result = lyapunov_from_jacobians(jacobians, burn_in=5)
        np.testing.assert_allclose(result.exponents, run(burn_in=5).exponents, atol=1e-11)
        few = lyapunov_from_jacobians(jacobians, num_exponents=2, key=jax.random.key(3))
        assert few.exponents.shape == (2,)
    with pytest.raises(ValueError, match=r"`jacobians` must be \[T, N, N\], got \(3, 2\)"):
        lyapunov_from_jacobians(np.zeros((3, 2)))
    with pytest.raises(ValueError, match="`jacobians` must hold float32 or float64, got 'int32'"):
        lyapunov_from_jacobians(np.zeros((3, 2, 2), np.int32))
    with pytest.raises(ValueError, match="`q0` must have the 2 rows of the Jacobians, got 3"):
        lyapunov_from_jacobians(np.zeros((3, 2, 2), np.float32), q0=np.eye(3))


def test_a_second_jitted_call_does_not_recompile():
    first = run(burn_in=5)
    size = compiled._cache_size()
    other = run(inputs=2 * DRIVE, burn_in=5, key=jax.random.key(2))
    assert compiled._cache_size() == size
    assert not np.allclose(first.exponents, other.exponents, atol=1e-3)


@functools.partial(jax.jit, static_argnames="stop_gradient")
def gained(gain, weights, **options):
    """Exponents of x' = g W tanh(x) + input over 6 steps."""

    def step(state, x):
        return gain * jnp.dot(weights, jnp.tanh(state)) + x

    drive = jnp.asarray(DRIVE[:6], float)
    return lyapunov_spectrum(step, jnp.zeros(SIZE), drive, **options).exponents


def test_the_gradient_agrees_with_finite_differences():
    with jax.enable_x64(True):
        weights = jnp.asarray(WEIGHTS)
        gradient = jax.jit(jax.jacrev(gained))(1.5, weights)
        # Central differences: error about 1e-10 from the third derivative, 1e-10 from rounding.
        difference = (gained(1.5 + 1e-5, weights) - gained(1.5 - 1e-5, weights)) / 2e-5
        np.testing.assert_allclose(gradient, difference, atol=1e-7)


def test_stop_gradient_holds_the_trajectory_constant():
    with jax.enable_x64(True):
        weights = jnp.asarray(WEIGHTS)
        states = [np.zeros(SIZE)]
        for x in DRIVE[:5]:
            states.append(1.5 * WEIGHTS @ np.tanh(states[-1]) + x)
        path = jnp.asarray(np.stack(states))

        def along_path(gain):
            def tangent(_, state):
                slopes = 1 - jnp.tanh(state) ** 2
                return state, lambda Q: gain * jnp.dot(weights, slopes[:, None] * Q)

            return lyapunov_spectrum(rnn_step, path[0], path, tangent=tangent).exponents

        def stopped(gain):
            return gained(gain, weights, stop_gradient="state")

        def free(gain):
            return gained(gain, weights)

        (value, slope), (same, held), (_, full) = (
            jax.jit(lambda gain, f=f: jax.jvp(f, (gain,), (1.0,)))(1.5)
            for f in (along_path, stopped, free)
        )
        np.testing.assert_allclose(value, same, atol=1e-12)
        np.testing.assert_allclose(held, slope, atol=1e-10)
        assert not np.allclose(held, full, atol=1e-3)


def test_every_product_is_made_at_the_highest_precision():
    # Nothing to see on a CPU; accelerators would round to TF32 or bfloat16 otherwise.
    program = str(jax.make_jaxpr(lambda drive: run(inputs=drive).exponents)(DRIVE[:3]))
    assert program.count("dot_general") >= 2
    assert program.count("dot_general") == program.count("precision=(Precision.HIGHEST")


def test_summarize_pools_waves_of_time_and_columns_of_the_batch():
    # Independent normals: the standard error of T * B = 2700 values of sd 2 is 2 / sqrt(2700);
    # 16 waves of 3 columns and 2 differences give it to 1 / sqrt(100) = 10 %: three are allowed.
    local = np.random.default_rng(9).normal([-1, 1], [2, 6], (900, 3, 2)).astype(np.float32)
    exponents, std_error, columns, order = summarize(local, 900)
    sd = np.array([6, 2]) / math.sqrt(2700)  # in the order of the exponents
    np.testing.assert_allclose(exponents, [1.0, -1.0], atol=4 * sd[0])
    np.testing.assert_allclose(std_error, sd, rtol=0.3)
    np.testing.assert_allclose(columns[:, 0], local[:, :, 1].mean(axis=1), atol=1e-6)
    np.testing.assert_array_equal(order, [1, 0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"qr_every": 0}, r"`qr_every` must be at least 1, got 0"),
        ({"burn_in": 1e1}, r"`burn_in` must be a whole number, got 10.0"),
        ({"num_exponents": 2.0}, r"`num_exponents` must be a whole number, got 2.0"),
        ({"key": 0}, r"`key` must be a key, such as jax.random.key\(0\), got 0"),
        ({"q0": 2 * jnp.eye(4)}, r"`q0` must have orthonormal columns, got 'an error of 3'"),
        ({"qr": "givens"}, r"`qr` must be one of auto, householder, solve, cholesky, lu, got"),
        ({"qr": "lu"}, r'`qr_every` must be above 1 with qr="lu".*, got 1'),
        ({"qr": "lu", "qr_every": 2, "return_vectors": True}, r"`return_vectors` must be False"),
        ({"tangent": "fd"}, r"`tangent` must be one of jvp, jacobian, or a callable .*, got 'fd'"),
        ({"stop_gradient": "q"}, r"`stop_gradient` must be None or \"state\", got 'q'"),
        ({"dt": 0.0}, r"`dt` must be positive and finite, got 0.0"),
        ({"log_base": 1.0}, r"`log_base` must be above 1 and finite, got 1.0"),
        ({"burn_in": -1}, r"`burn_in` must be at least 0, got -1"),
        ({"burn_in": 60}, r"`burn_in` must be below the 60 entries of `inputs`, got 60"),
        ({"num_steps": 60, "burn_in": 1}, r"`num_steps` must be the 60 entries .*, got 60"),
        ({"num_exponents": 0}, r"`num_exponents` must lie in \[1, 4\], got 0"),
        ({"num_exponents": 5}, r"`num_exponents` must lie in \[1, 4\], got 5"),
        ({"q0": jnp.ones(4)}, r"`q0` must be a matrix \[N, K\], got \(4,\)"),
        ({"q0": jnp.ones((2, 3))}, r"`q0` must have 1 to N columns, got \(2, 3\)"),
        ({"q0": jnp.eye(3)}, r"`q0` must have a row for each of the 4 floats of `state`"),
        ({"q0": jnp.eye(4), "num_exponents": 2}, r"`num_exponents` must be the 4 columns of `q0`"),
        ({"state": jnp.zeros(4, int)}, r"`state` must hold float32 or float64 throughout"),
        ({"inputs": 1.0}, r"`inputs` must have one length >= 1 along the leading axis"),
        ({"inputs": np.zeros((0, 4))}, r"`inputs` must have one length >= 1"),
    ],
)
def test_what_cannot_be_met_is_refused_by_name_value_and_condition(options, message):
    options = {"inputs": DRIVE.astype(np.float32), "state": np.zeros(SIZE, np.float32)} | options
    with pytest.raises(ValueError, match=message):
        lyapunov_spectrum(rnn_step, **options)


def test_a_step_that_changes_the_form_of_its_state_is_refused():
    message = r"`step_fn` must return a state like the one it got, float32\[2\], got 'float32\[4\]'"
    with pytest.raises(ValueError, match=message):
        lyapunov_spectrum(lambda s, _: jnp.concatenate([s, s]), jnp.ones(2), num_steps=3)
    with pytest.raises(ValueError, match=r"a Flax cell returns \(carry, output\): take the first"):
        lyapunov_spectrum(lambda s, _: (0.5 * s, s[:1]), jnp.ones(2), num_steps=3)


def test_an_autonomous_map_needs_a_number_of_steps():
    with pytest.raises(ValueError, match="`num_steps` must be given for a map without `inputs`"):
        lyapunov_spectrum(lambda s, _: s, jnp.ones(2))
    with pytest.raises(
        ValueError, match=r"`step_fn` must take \(state, x\), .* too many positional"
    ):
        lyapunov_spectrum(lambda s: s, jnp.ones(2), num_steps=3)
    with pytest.raises(ValueError, match="`num_exponents` must be left out"):
        max_lyapunov_exponent(lambda s, _: s, jnp.ones(2), num_steps=3, num_exponents=2)
    with pytest.raises(ValueError, match="`num_steps` must be at least 1, got 0"):
        lyapunov_spectrum(lambda s, _: s, jnp.ones(2), num_steps=0)


def test_the_derivative_is_made_at_the_highest_precision_too():
    # Of a compiled function, which is differentiated after its own setting has been left.
    for qr in ("householder", "solve"):
        program = str(
            jax.make_jaxpr(jax.grad(lambda d, q=qr: run(inputs=d, qr=q).exponents[0]))(DRIVE)
        )
        assert program.count("dot_general") > 6
        assert program.count("dot_general") == program.count("precision=(Precision.HIGHEST")


@pytest.mark.slow
def test_reverse_mode_keeps_a_frame_for_an_interval_and_not_every_intermediate():
    size, steps = 24, 256
    W = jnp.asarray(np.random.default_rng(0).normal(size=(size, size)) / 5, jnp.float32)

    def loss(gain, qr_every, qr):
        step = lambda s, _: jnp.tanh(gain * jnp.dot(W, s))  # noqa: E731
        options = {"num_steps": steps, "qr": qr, "qr_every": qr_every}
        return lyapunov_spectrum(step, jnp.ones(size), **options).exponents[0]

    def floats(qr_every, qr):
        compiled = jax.jit(jax.grad(loss), static_argnums=(1, 2)).lower(1.5, qr_every, qr).compile()
        return compiled.memory_analysis().temp_size_in_bytes / 4 / (size * size)

    # T frames, and little else, at every step; without rematerialisation some 5 T. Then T / 16
    # frames and what 16 steps of an interval need.
    assert floats(1, "householder") < 1.6 * steps
    assert floats(16, "lu") < 0.75 * floats(1, "householder")


def test_an_old_key_is_a_key():
    options = {"num_steps": 4, "key": jax.random.PRNGKey(0)}
    result = lyapunov_spectrum(lambda s, _: 0.5 * s, jnp.ones(2), **options)
    np.testing.assert_allclose(result.exponents, np.log([0.5, 0.5]), rtol=1e-6)
