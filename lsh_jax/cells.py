"""Recurrent cells: one pure update each, wrapped as a Flax linen module and scanned as a layer.

LSTM after Hochreiter & Schmidhuber (1997) with the forget gate of Gers et al. (2000), GRU after Cho
et al. (2014) in the form of torch.nn.GRU, the tanh network of Elman (1990), and the recurrent
highway network (RHN) of Zilly et al. (2017, arXiv 1607.03474). `CELLS` has them by name, with one
signature: code that handles any cell takes a `Cell`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from lsh_jax.types import Array, Carry, Params

LSTMCarry = tuple[Array, Array]  # (h, c), each [..., H]

_TRANSFORM_BIAS = (
    -2.0
)  # of an RHN at the start: `init_bias` for Penn Treebank in Zilly et al.'s code


class Cell(NamedTuple):
    """A recurrent cell as pure functions; the drive of a step is [..., G], G its gates times H."""

    module: Callable[..., nn.Module]
    """(hidden_size, depth, coupled) -> linen module; ignores what it has no use for."""
    init_carry: Callable[..., Carry]
    """(shape (..., H), dtype=float32) -> zeros."""
    project: Callable[[Params, Array], Array]
    """(layer's params, inputs [..., E]) -> drive [..., G]: what does not wait for the carry."""
    recurrent: Callable[[Params], Params]
    """The leaves of the layer's params that `step` reads; the same shapes whatever E."""
    step: Callable[[Params, Carry, Array], Carry]
    """(recurrent params, carry, drive [..., G]) -> next carry, with any leading axes."""
    output: Callable[[Carry], Array]
    """carry -> h [..., H]."""
    gates: tuple[str, ...]
    """What stands side by side in the last axis of the matrices, H columns each, in that order; a
    matrix that is narrower has the first of them."""


def run_layer(cell: Cell, params: Params, inputs: Array, carry: Carry) -> tuple[Array, Carry]:
    """Runs a layer over time, with the input product hoisted out of the scan.

    Args:
      cell: an entry of `CELLS`.
      params: the layer's parameters, as its module makes them.
      inputs: [T, ..., E].
      carry: of the cell, [..., H] each part.

    Returns:
      The outputs h at every step, [T, ..., H], and the last carry.
    """
    weights = cell.recurrent(params)

    def advance(carry: Carry, drive: Array) -> tuple[Carry, Array]:
        carry = cell.step(weights, carry, drive)
        return carry, cell.output(carry)

    carry, outputs = jax.lax.scan(advance, carry, cell.project(params, inputs))
    return outputs, carry


def lstm_update(preactivation: Array, carry: LSTMCarry) -> LSTMCarry:
    """The arithmetic of an LSTM's step.

    Args:
      preactivation: x W + h U + b, gates in the order i, f, g, o of `torch.nn.LSTM`, [..., 4 H].
      carry: (h, c); only c is read, as h has entered the preactivation, [..., H] each.

    Returns:
      The next (h, c), [..., H] each.
    """
    _, c = carry
    i, f, g, o = jnp.split(preactivation, 4, axis=-1)
    c = nn.sigmoid(f) * c + nn.sigmoid(i) * jnp.tanh(g)
    return nn.sigmoid(o) * jnp.tanh(c), c


class GRUGates(NamedTuple):
    """What a GRU computes on the way to its next state, [..., H] each."""

    r: Array  # reset gate
    z: Array  # update gate: the share of the old state that is kept
    n: Array  # new state, tanh(x W_n + b + r m)
    m: Array  # h U_n + b_n, what the reset gate acts on


def gru_gates(params: Params, h: Array, drive: Array) -> GRUGates:
    """The gates of a GRU's step, shared by the step and the tangent.

    Args:
      params: {"U" [H, 3H], "b_n" [H]}, gates in the order r, z, n of `torch.nn.GRU`.
      h: the state, [..., H].
      drive: x W + b, [..., 3H].

    Returns:
      The gates; the next state is (1 - z) n + z h.
    """
    x_r, x_z, x_n = jnp.split(drive, 3, axis=-1)
    h_r, h_z, h_n = jnp.split(jnp.dot(h, params["U"]), 3, axis=-1)
    r, z = nn.sigmoid(x_r + h_r), nn.sigmoid(x_z + h_z)
    m = h_n + _row(params["b_n"], h.ndim)
    return GRUGates(r, z, jnp.tanh(x_n + r * m), m)


class RHNGates(NamedTuple):
    """The gates of one micro-step of an RHN, [..., H] each; the next state is h t + s c."""

    h: Array
    t: Array  # transform gate
    c: Array  # carry gate; 1 - t where the two are coupled


def rhn_gates(params: Params, micro_step: int, s: Array, drive: Array) -> RHNGates:
    """The gates of one micro-step, shared by the step and the tangent.

    Args:
      params: {"R_0", "R_1", ... [H, 2H] (coupled) or [H, 3H], "b_1", ...}, in the order h, t, c.
      micro_step: 0 <= micro_step < `rhn_depth(params)`.
      s: the state before the micro-step, [..., H].
      drive: x W + b, which the first micro-step alone reads, [..., 2H] or [..., 3H].

    Returns:
      The gates.
    """
    input_part = drive if micro_step == 0 else _row(params[f"b_{micro_step}"], s.ndim)
    a = input_part + jnp.dot(s, params[f"R_{micro_step}"])
    a_h, a_t, *a_c = jnp.split(a, a.shape[-1] // s.shape[-1], axis=-1)
    t = nn.sigmoid(a_t)
    return RHNGates(jnp.tanh(a_h), t, nn.sigmoid(a_c[0]) if a_c else 1 - t)


def rhn_depth(params: Params) -> int:
    """Micro-steps of an RHN, told from the names of its leaves."""
    return sum(name.startswith("R_") for name in params)


def uniform_of_width(hidden_size: int) -> Any:
    """Initializer U(-1/sqrt(H), 1/sqrt(H)), the default of torch's recurrent layers."""
    bound = hidden_size**-0.5

    def init(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


class LSTMCell(nn.Module):
    """One LSTM step; parameters "W" [E, 4H], "U" [H, 4H] and "b" [4H].

    torch.nn.LSTM keeps two biases that only ever act as their sum; here they are that sum. Training
    departs by it: torch gives the gradient to both, so that its sum moves twice as far in a step.
    """

    hidden_size: int

    @nn.compact
    def __call__(self, carry: LSTMCarry, x: Array) -> tuple[LSTMCarry, Array]:
        """Advances (h, c) [..., H] by an input [..., E]; returns the new carry and h."""
        return _advance("lstm", _gated_params(self, 4, x), carry, x)


class GRUCell(nn.Module):
    """One GRU step; parameters "W" [E, 3H], "U" [H, 3H], "b" [3H] and "b_n" [H].

    The biases of torch.nn.GRU are summed as those of the LSTM are, but for "b_n", its recurrent
    bias of n, which stands inside the reset gate.
    """

    hidden_size: int

    @nn.compact
    def __call__(self, carry: Array, x: Array) -> tuple[Array, Array]:
        """Advances h [..., H] by an input [..., E]; returns the new h twice."""
        params = _gated_params(self, 3, x)
        init = uniform_of_width(self.hidden_size)
        params["b_n"] = self.param("b_n", init, (self.hidden_size,))
        return _advance("gru", params, carry, x)


class TanhCell(nn.Module):
    """One step of h' = tanh(x W + h U + b); parameters "W" [E, H], "U" [H, H] and "b" [H]."""

    hidden_size: int

    @nn.compact
    def __call__(self, carry: Array, x: Array) -> tuple[Array, Array]:
        """Advances h [..., H] by an input [..., E]; returns the new h twice."""
        return _advance("tanh", _gated_params(self, 1, x), carry, x)


class RHNCell(nn.Module):
    """One step of a recurrent highway network: `depth` micro-steps s' = h t + s c.

    Parameters "W" [E, G], "R_0" ... [H, G], "b", "b_1" ... [G] in the order h, t(, c): G = 2 H with
    the carry gate coupled, c = 1 - t, or 3 H. "b" is that of the first micro-step, which alone sees
    the input.

    The biases of t start at -2 at every micro-step, as in Zilly et al.'s code for Penn Treebank,
    and those of an uncoupled c at 2, so that it starts like the coupled one. Matrices and the other
    biases are U(-1/sqrt(H), 1/sqrt(H)), which at the paper's H = 830 is close to the 0.04 there.
    """

    hidden_size: int
    depth: int = 1
    coupled: bool = True

    @nn.compact
    def __call__(self, carry: Array, x: Array) -> tuple[Array, Array]:
        """Advances s [..., H] by an input [..., E]; returns the new s twice."""
        init = uniform_of_width(self.hidden_size)
        gates = (2 if self.coupled else 3) * self.hidden_size

        def bias(key: Array, shape: tuple[int, ...]) -> Array:
            h = init(key, (self.hidden_size,))
            t = jnp.full_like(h, _TRANSFORM_BIAS)
            return jnp.concatenate([h, t] if self.coupled else [h, t, -t])

        params = {"W": self.param("W", init, (x.shape[-1], gates))}
        for d in range(self.depth):
            params[f"R_{d}"] = self.param(f"R_{d}", init, (self.hidden_size, gates))
            name = f"b_{d}" if d else "b"
            params[name] = self.param(name, bias, (gates,))
        return _advance("rhn", params, carry, x)


def _gated_params(module: Any, num_gates: int, x: Array) -> dict[str, Array]:
    """Declares "W", "U" and "b", in the order in which Flax deals out its keys."""
    hidden, gates = module.hidden_size, num_gates * module.hidden_size
    init = uniform_of_width(hidden)
    shapes = {"W": (x.shape[-1], gates), "U": (hidden, gates), "b": (gates,)}
    return {name: module.param(name, init, shape) for name, shape in shapes.items()}


def _advance(name: str, params: Params, carry: Carry, x: Array) -> tuple[Carry, Array]:
    cell = CELLS[name]
    carry = cell.step(cell.recurrent(params), carry, cell.project(params, x))
    return carry, cell.output(carry)


def _row(b: Array, ndim: int) -> Array:
    """A bias with the leading axes that broadcasting needs, said openly (rank promotion is off)."""
    return b.reshape((1,) * (ndim - 1) + b.shape)


def _project(params: Params, inputs: Array) -> Array:
    """x W + b, one product for all steps."""
    return jnp.dot(inputs, params["W"]) + _row(params["b"], inputs.ndim)


def _recurrent(params: Params) -> Params:
    return {name: leaf for name, leaf in params.items() if name not in ("W", "b")}


def _lstm_step(params: Params, carry: LSTMCarry, drive: Array) -> LSTMCarry:
    return lstm_update(drive + jnp.dot(carry[0], params["U"]), carry)


def _gru_step(params: Params, h: Array, drive: Array) -> Array:
    _, z, n, _ = gru_gates(params, h, drive)
    return (1 - z) * n + z * h


def _tanh_step(params: Params, h: Array, drive: Array) -> Array:
    return jnp.tanh(drive + jnp.dot(h, params["U"]))


def _rhn_step(params: Params, s: Array, drive: Array) -> Array:
    for micro_step in range(rhn_depth(params)):
        h, t, c = rhn_gates(params, micro_step, s, drive)
        s = h * t + s * c
    return s


def _lstm_zeros(shape: tuple[int, ...], dtype: Any = jnp.float32) -> LSTMCarry:
    return jnp.zeros(shape, dtype), jnp.zeros(shape, dtype)


def _zeros(shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
    return jnp.zeros(shape, dtype)


def _of_one_state(
    module: Callable[..., nn.Module], step: Callable[..., Array], gates: tuple[str, ...]
) -> Cell:
    """A cell whose carry is its output."""
    return Cell(module, _zeros, _project, _recurrent, step, lambda h: h, gates)


CELLS: dict[str, Cell] = {
    "lstm": Cell(
        module=lambda hidden_size, depth=1, coupled=True: LSTMCell(hidden_size),
        init_carry=_lstm_zeros,
        project=_project,
        recurrent=_recurrent,
        step=_lstm_step,
        output=lambda carry: carry[0],
        gates=("i", "f", "g", "o"),
    ),
    "rhn": _of_one_state(RHNCell, _rhn_step, ("h", "t", "c")),
    "gru": _of_one_state(
        lambda size, depth=1, coupled=True: GRUCell(size), _gru_step, ("r", "z", "n")
    ),
    "tanh": _of_one_state(lambda size, depth=1, coupled=True: TanhCell(size), _tanh_step, ("h",)),
}
