"""Recurrent cells: one pure update each, wrapped as a Flax linen module.

A step multiplies the state by a matrix and puts the product through elementwise arithmetic, once,
or `depth` times in an RHN. The two are kept apart here, so that a layer (`lsh_jax.layers`) can
decide how the products and their gradients are computed.

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

from lsh_jax.config import ModelConfig
from lsh_jax.types import Array, Carry, Params

LSTMCarry = tuple[Array, Array]  # (h, c), each [..., H]

_TRANSFORM_BIAS = -2.0  # `init_bias` for Penn Treebank in Zilly et al.'s code


class Cell(NamedTuple):
    """A recurrent cell as pure functions; the drive of a step is [..., G], G its gates times H."""

    module: Callable[[int, ModelConfig], nn.Module]
    """(hidden_size, config) -> linen module; of the config it reads how weights start, and what
    makes an RHN."""
    init_carry: Callable[..., Carry]
    """(shape (..., H), dtype=float32) -> zeros."""
    matrices: Callable[[Params], tuple[str, ...]]
    """Names of the leaves [H, G] that multiply the state, one for every micro-step of a step."""
    update: Callable[[Params, int, Array, Carry, Array], Carry]
    """(recurrent params, micro-step, product of the state and its matrix [..., G], carry, drive
    [..., G]) -> next carry, elementwise; of the matrices it reads the shapes alone."""
    output: Callable[[Carry], Array]
    """carry -> h [..., H]."""
    gates: tuple[str, ...]
    """What stands side by side in the last axis of the matrices, H columns each, in that order; a
    matrix that is narrower has the first of them."""
    num_doubled: int
    """Gates of "b", from the first, whose bias is the sum of two in torch."""

    def project(
        self, params: Params, inputs: Array, dot: Callable[[Array, Array], Array] = jnp.dot
    ) -> Array:
        """What does not wait for the carry: one product for all steps.

        Args:
          params: the layer's.
          inputs: [..., E].
          dot: the product.

        Returns:
          The drive x W + b, [..., G].
        """
        return dot(inputs, params["W"]) + _row(params["b"], inputs.ndim)

    def recurrent(self, params: Params) -> Params:
        """The leaves of the layer's params that `step` reads; the same shapes whatever E."""
        return {name: leaf for name, leaf in params.items() if name not in ("W", "b")}

    def step(self, params: Params, carry: Carry, drive: Array) -> Carry:
        """Advances the carry by a step, with any leading axes.

        Args:
          params: from `recurrent`.
          carry: [..., H] each part.
          drive: of the step, from `project`, [..., G].

        Returns:
          The next carry.
        """
        for micro_step, name in enumerate(self.matrices(params)):
            product = jnp.dot(self.output(carry), params[name])
            carry = self.update(params, micro_step, product, carry, drive)
        return carry


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


def gru_gates(params: Params, product: Array, drive: Array) -> GRUGates:
    """The gates of a GRU's step, shared by the step and the tangent.

    Args:
      params: {"b_n" [H], ...}.
      product: of the state and "U", gates in the order r, z, n of `torch.nn.GRU`, [..., 3H].
      drive: x W + b, [..., 3H].

    Returns:
      The gates; the next state is (1 - z) n + z h.
    """
    x_r, x_z, x_n = jnp.split(drive, 3, axis=-1)
    h_r, h_z, h_n = jnp.split(product, 3, axis=-1)
    r, z = nn.sigmoid(x_r + h_r), nn.sigmoid(x_z + h_z)
    m = h_n + _row(params["b_n"], h_n.ndim)
    return GRUGates(r, z, jnp.tanh(x_n + r * m), m)


class RHNGates(NamedTuple):
    """The gates of one micro-step of an RHN, [..., H] each; the next state is h t + s c."""

    h: Array
    t: Array  # transform gate
    c: Array  # carry gate; 1 - t where the two are coupled


def rhn_gates(params: Params, micro_step: int, product: Array, drive: Array) -> RHNGates:
    """The gates of one micro-step, shared by the step and the tangent.

    Args:
      params: {"R_0", "R_1", ... [H, 2H] (coupled) or [H, 3H], "b_1", ...}, in the order h, t, c.
      micro_step: 0 <= micro_step < `rhn_depth(params)`.
      product: of the state before the micro-step and its matrix, [..., 2H] or [..., 3H].
      drive: x W + b, which the first micro-step alone reads, [..., 2H] or [..., 3H].

    Returns:
      The gates.
    """
    input_part = drive if micro_step == 0 else _row(params[f"b_{micro_step}"], product.ndim)
    hidden, width = params[f"R_{micro_step}"].shape
    a_h, a_t, *a_c = jnp.split(input_part + product, width // hidden, axis=-1)
    t = nn.sigmoid(a_t)
    return RHNGates(jnp.tanh(a_h), t, nn.sigmoid(a_c[0]) if a_c else 1 - t)


def rhn_depth(params: Params) -> int:
    """Micro-steps of an RHN, told from the names of its leaves."""
    return len(_rhn_matrices(params))


def _uniform(module: Any) -> Any:
    """Initializer U(-b, b); b is 1/sqrt(H), the default of torch's recurrent layers, if not set."""
    bound = module.init_bound or module.hidden_size**-0.5

    def init(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


class LSTMCell(nn.Module):
    """One LSTM step; parameters "W" [E, 4H], "U" [H, 4H] and "b" [4H].

    torch.nn.LSTM keeps two biases that only ever act as their sum; here they are that sum. Training
    departs by it: torch gives the gradient to both, so that its sum moves twice as far in a step.
    """

    hidden_size: int
    init_bound: float = 0.0

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
    init_bound: float = 0.0

    @nn.compact
    def __call__(self, carry: Array, x: Array) -> tuple[Array, Array]:
        """Advances h [..., H] by an input [..., E]; returns the new h twice."""
        params = _gated_params(self, 3, x)
        init = _uniform(self)
        params["b_n"] = self.param("b_n", init, (self.hidden_size,))
        return _advance("gru", params, carry, x)


class TanhCell(nn.Module):
    """One step of h' = tanh(x W + h U + b); parameters "W" [E, H], "U" [H, H] and "b" [H]."""

    hidden_size: int
    init_bound: float = 0.0

    @nn.compact
    def __call__(self, carry: Array, x: Array) -> tuple[Array, Array]:
        """Advances h [..., H] by an input [..., E]; returns the new h twice."""
        return _advance("tanh", _gated_params(self, 1, x), carry, x)


class RHNCell(nn.Module):
    """One step of a recurrent highway network: `depth` micro-steps s' = h t + s c.

    Parameters "W" [E, G], "R_0" ... [H, G], "b", "b_1" ... [G] in the order h, t(, c): G = 2 H with
    the carry gate coupled, c = 1 - t, or 3 H. "b" is that of the first micro-step, which alone sees
    the input.

    The biases of t start at `transform_bias` at every micro-step, by default -2 as in Zilly et
    al.'s code for Penn Treebank, and those of an uncoupled c at its negative, so that it starts
    like the coupled one. Matrices and the other biases are U(-1/sqrt(H), 1/sqrt(H)), which at the
    paper's H = 830 is close to the 0.04 there; with a `transform_bias` of 0 so are the biases of t
    and c.
    """

    hidden_size: int
    depth: int = 1
    coupled: bool = True
    transform_bias: float = _TRANSFORM_BIAS
    init_bound: float = 0.0

    @nn.compact
    def __call__(self, carry: Array, x: Array) -> tuple[Array, Array]:
        """Advances s [..., H] by an input [..., E]; returns the new s twice."""
        init = _uniform(self)
        gates = (2 if self.coupled else 3) * self.hidden_size

        def bias(key: Array, shape: tuple[int, ...]) -> Array:
            if not self.transform_bias:
                return init(key, shape)
            h = init(key, (self.hidden_size,))
            t = jnp.full_like(h, self.transform_bias)
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
    init = _uniform(module)
    shapes = {"W": (x.shape[-1], gates), "U": (hidden, gates), "b": (gates,)}
    return {name: module.param(name, init, shape) for name, shape in shapes.items()}


def _advance(name: str, params: Params, carry: Carry, x: Array) -> tuple[Carry, Array]:
    cell = CELLS[name]
    carry = cell.step(cell.recurrent(params), carry, cell.project(params, x))
    return carry, cell.output(carry)


def _row(b: Array, ndim: int) -> Array:
    """A bias with the leading axes that broadcasting needs, said openly (rank promotion is off)."""
    return b.reshape((1,) * (ndim - 1) + b.shape)


def _one_matrix(params: Params) -> tuple[str, ...]:
    del params
    return ("U",)


def _rhn_matrices(params: Params) -> tuple[str, ...]:
    return tuple(f"R_{d}" for d in range(sum(name.startswith("R_") for name in params)))


def _update_lstm(
    params: Params, micro_step: int, product: Array, carry: LSTMCarry, drive: Array
) -> LSTMCarry:
    return lstm_update(drive + product, carry)


def _update_gru(params: Params, micro_step: int, product: Array, h: Array, drive: Array) -> Array:
    _, z, n, _ = gru_gates(params, product, drive)
    return (1 - z) * n + z * h


def _update_tanh(params: Params, micro_step: int, product: Array, h: Array, drive: Array) -> Array:
    return jnp.tanh(drive + product)


def _update_rhn(params: Params, micro_step: int, product: Array, s: Array, drive: Array) -> Array:
    h, t, c = rhn_gates(params, micro_step, product, drive)
    return h * t + s * c


def _lstm_zeros(shape: tuple[int, ...], dtype: Any = jnp.float32) -> LSTMCarry:
    return jnp.zeros(shape, dtype), jnp.zeros(shape, dtype)


def _zeros(shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
    return jnp.zeros(shape, dtype)


def _same(h: Array) -> Array:
    return h


def _module(kind: Any) -> Callable[[int, ModelConfig], nn.Module]:
    """Makes the module of a cell without micro-steps."""
    return lambda hidden_size, config: kind(hidden_size, config.init_bound)


def _rhn_module(hidden_size: int, config: ModelConfig) -> RHNCell:
    options = config.depth, config.coupled, config.transform_bias, config.init_bound
    return RHNCell(hidden_size, *options)


CELLS: dict[str, Cell] = {
    "lstm": Cell(
        module=_module(LSTMCell),
        init_carry=_lstm_zeros,
        matrices=_one_matrix,
        update=_update_lstm,
        output=lambda carry: carry[0],
        gates=("i", "f", "g", "o"),
        num_doubled=4,
    ),
    "rhn": Cell(
        module=_rhn_module,
        init_carry=_zeros,
        matrices=_rhn_matrices,
        update=_update_rhn,
        output=_same,
        gates=("h", "t", "c"),
        num_doubled=3,
    ),
    "gru": Cell(
        module=_module(GRUCell),
        init_carry=_zeros,
        matrices=_one_matrix,
        update=_update_gru,
        output=_same,
        gates=("r", "z", "n"),
        num_doubled=2,
    ),
    "tanh": Cell(
        module=_module(TanhCell),
        init_carry=_zeros,
        matrices=_one_matrix,
        update=_update_tanh,
        output=_same,
        gates=("h",),
        num_doubled=1,
    ),
}
