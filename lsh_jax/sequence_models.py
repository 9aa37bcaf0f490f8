"""One recurrent layer with a linear readout, for tasks other than language, and its spectrum.

Small on purpose: `driven_spectrum` takes any cell, `make_sequence_model` is what the examples of
`experiments/` are made of.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lsh_jax.cells import CELLS
from lsh_jax.config import ModelConfig, check, check_choice
from lsh_jax.layers import run_layer
from lsh_jax.lyapunov import lyapunov_spectrum
from lsh_jax.lyapunov.result import LyapunovResult, summarize
from lsh_jax.types import Array, Carry, Key, Params, PyTree, StepFn


class SequenceModel(NamedTuple):
    """A model as pure functions.

    Attributes:
      init: `init(key) -> params`, {"layer": the parameters of the cell's module in `cells`,
        "readout": {"W" [H, O], "b" [O]}}.
      init_carry: `init_carry(*leading) -> carry`, zeros, [*leading, H] each part.
      apply: `apply(params, inputs [T, B, E]) -> outputs [T, B, O]`, from a carry of zeros.
      step: `step(params, carry, x [..., E]) -> carry`.
      read: `read(params, carry) -> output [..., O]`.
      gates: `gates(path, leaf)`, for `dynamic_sparsity`.
    """

    init: Callable[[Key], Params]
    init_carry: Callable[..., Carry]
    apply: Callable[[Params, Array], Array]
    step: Callable[[Params, Carry, Array], Carry]
    read: Callable[[Params, Carry], Array]
    gates: Callable[[tuple[str, ...], Array], tuple[str, ...]]


def make_sequence_model(
    cell: str, input_size: int, hidden_size: int, output_size: int
) -> SequenceModel:
    """Builds the pure functions of one layer and its readout.

    Weights start as those of torch's layers do, U(-1/sqrt(H), 1/sqrt(H)); biases of the readout as
    zeros.

    Args:
      cell: a name in `CELLS`: "lstm", "gru", "tanh" or "rhn" (of depth 1).
      input_size: E.
      hidden_size: H.
      output_size: O.

    Returns:
      A SequenceModel.

    Raises:
      ConfigError: for an unknown cell, or a size below 1.
    """
    check_choice("cell", cell, tuple(CELLS))
    sizes = {"input_size": input_size, "hidden_size": hidden_size, "output_size": output_size}
    for name, size in sizes.items():
        check(size >= 1, name, "be at least 1", size)
    kind = CELLS[cell]
    module = kind.module(hidden_size, ModelConfig(cell=cell, depth=1))  # type: ignore[arg-type]

    def init(key: Key) -> Params:
        layer_key, readout_key = jax.random.split(key)
        inputs, bound = jnp.zeros(input_size, jnp.float32), hidden_size**-0.5
        layer = module.init(layer_key, kind.init_carry((hidden_size,)), inputs)["params"]
        shape = (hidden_size, output_size)
        W = jax.random.uniform(readout_key, shape, jnp.float32, -bound, bound)
        readout = {"W": W, "b": jnp.zeros(output_size, jnp.float32)}
        return {"layer": dict(layer), "readout": readout}

    def init_carry(*leading: int) -> Carry:
        return kind.init_carry((*leading, hidden_size))

    def apply(params: Params, inputs: Array) -> Array:
        carry = init_carry(inputs.shape[1])
        hidden, _ = run_layer(kind, params["layer"], inputs, carry, reverse_only=True)
        return _read(params["readout"], hidden)

    def step(params: Params, carry: Carry, x: Array) -> Carry:
        layer = params["layer"]
        return kind.step(kind.recurrent(layer), carry, kind.project(layer, x))

    def gates(path: tuple[str, ...], leaf: Array) -> tuple[str, ...]:
        if path[0] != "layer" or leaf.ndim < 2:
            return ()
        return kind.gates[: leaf.shape[-1] // hidden_size]

    def read(params: Params, carry: Carry) -> Array:
        return _read(params["readout"], kind.output(carry))

    return SequenceModel(init, init_carry, apply, step, read, gates)


def _read(readout: Params, hidden: Array) -> Array:
    outputs = jnp.dot(hidden, readout["W"])
    return outputs + jnp.broadcast_to(readout["b"], outputs.shape)


def gaussian_nll(errors: Array, scale: float = 1.0) -> tuple[Array, Array]:
    """The nll of errors under a normal distribution of a fixed scale, in nats.

    Errors are measured in units of the scale and the density is taken in these units, so that the
    nll of a number is (error / scale)^2 / 2 + log(2 pi) / 2: 0.919 where there is no error, and exp
    of it 2.507. The scale is what is to count as a small error, and is not learnt.

    Args:
      errors: of forecasts, any shape.
      scale: above 0, in the unit of the errors.

    Returns:
      The sum and the number of the forecasts, as `SequenceNetwork.loss` has them.
    """
    count = jnp.asarray(errors.size, errors.dtype)
    constant = 0.5 * math.log(2 * math.pi)
    return 0.5 * jnp.sum((errors / scale) ** 2) + constant * count, count


def rms_of_nll(nll: float, scale: float = 1.0) -> float:
    """The root mean square of the errors whose mean nll by `gaussian_nll` this is."""
    return scale * math.sqrt(max(0.0, 2 * nll - math.log(2 * math.pi)))


class DrivenSpectrum(NamedTuple):
    """The exponents of a cell that is driven by sequences; unpacks as (exponents, std_error)."""

    exponents: Array  # [1, K], largest first
    std_error: Array  # [1, K], in their order


def driven_spectrum(
    step_fn: StepFn,
    carry: Carry,
    inputs: PyTree,
    *,
    num_exponents: int | None = None,
    burn_in: int = 0,
    **options: Any,
) -> DrivenSpectrum:
    """The Lyapunov spectrum of a cell that is driven by sequences, for `SequenceNetwork.spectrum`.

    The second axis of the inputs is always that of the sequences. Give one sequence of features,
    [T, E], as `inputs[:, None]`: otherwise it is read as E sequences of one number each, and where
    the cell adds its input, as in W @ h + x, that number is added to every unit without an error.

    Args:
      step_fn: `step_fn(carry, x) -> carry` of one sequence, without a batch.
      carry: the first, of one sequence.
      inputs: [T, B, ...] each: time, then sequences, then features.
      num_exponents: K, the leading ones; all if not given.
      burn_in: first steps, which only turn state and frame, 0 <= burn_in < T.
      **options: of `lyapunov_spectrum`: qr_every, dt, log_base, tangent, qr, key, stop_gradient.

    Returns:
      Exponents and standard errors, [1, K] each, means over the sequences; the error pools time and
      sequences.

    Raises:
      ConfigError: for inputs without an axis of sequences, or as `lyapunov_spectrum` does.
    """
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(inputs)]
    batched = bool(shapes) and all(len(shape) >= 2 for shape in shapes)
    check(batched, "inputs", "be [T, B, ...]; give one sequence as inputs[:, None]", shapes)
    every = options.get("qr_every", 1)

    def local_exponents(inputs: PyTree) -> Array:
        found = lyapunov_spectrum(
            step_fn, carry, inputs, num_exponents=num_exponents, burn_in=burn_in, **options
        )
        return found.local_exponents[:, jnp.argsort(found.order)]  # in QR order

    local = jax.vmap(local_exponents, in_axes=1, out_axes=1)(inputs)
    num_steps = jax.tree.leaves(inputs)[0].shape[0] - burn_in
    found = summarize(local, num_steps, every)
    return DrivenSpectrum(found.exponents[None], found.std_error[None])


def closed_loop_spectrum(
    step_fn: StepFn,
    forecast_fn: Callable[[Carry, Array], Array],
    carry: Carry,
    readings: Array,
    **options: Any,
) -> LyapunovResult:
    """The Lyapunov spectrum of a forecaster that is left alone: its forecast is its next input.

    The state of this autonomous map is the carry and the last forecast; of a network that has
    learnt a flow, the leading exponents are the flow's, and those beyond the flow's dimension tell
    how fast the network forgets.

    Args:
      step_fn: `step_fn(carry, x) -> carry`.
      forecast_fn: `forecast_fn(carry, x) -> the next x`, from the carry that has read x.
      carry: the first.
      readings: what the network follows before it is left alone, [T, E].
      **options: of `lyapunov_spectrum`: num_steps, num_exponents, burn_in, dt and so on.

    Returns:
      A LyapunovResult; NaN where the network has run away to infinity.
    """

    def advance(state: tuple[Carry, Array], _: Any) -> tuple[Carry, Array]:
        carry, x = state
        carry = step_fn(carry, x)
        return carry, forecast_fn(carry, x)

    def follow(carry: Carry, x: Array) -> tuple[Carry, None]:
        return step_fn(carry, x), None

    carry, _ = jax.lax.scan(follow, carry, readings[:-1])
    return lyapunov_spectrum(advance, (carry, readings[-1]), **options)
