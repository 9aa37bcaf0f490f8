"""Two PyTorch programs for the hidden-state spectrum of a stacked LSTM, as a whole stack.

Both follow the method of the authors' code (github.com/FATE4869/hyperpruning): one Jacobian
dh'/dh of all layers with the memories c held on their paths, L = layers * H, a frame of L x K,
products in the order J^T Q, QR at every step. They differ in how J comes about:

  torch_rows   row-scaled blocks of the weights, one H x H x H product for every pair of layers
  torch_dense  every diagonal held as a dense H x H matrix (`torch.diag_embed`) and multiplied as
               such wherever the authors multiply, the signs of R too

Written from the mathematics. Kinder than the authors' code in three points: diagonals are H x H and
made for the gate that needs them (theirs are 4 H x 4 H, then cut), J has one buffer, and the first
frame is made beforehand (random here and the identity there, which costs the same).

With preactivations a = W x + U h + b, gates i, f, g, o, c' = f c + i g, h' = o tanh(c'):

  dh' = o (1 - tanh^2 c') dc' + tanh(c') o (1 - o) da_o,
  dc' = c f (1 - f) da_f + g i (1 - i) da_i + i (1 - g^2) da_g,    da = U dh + W dx,

and x of an upper layer is the new h of the one below, so J[l, m] = (dh'_l/dx_l) J[l - 1, m].
"""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch

Blocks = tuple[torch.Tensor, ...]  # of the gates i, f, g, o: [H, H] of weights, [B, H] of gates


class Layer(NamedTuple):
    """Weights with a row for each gate's unit, as `torch.nn.LSTM` keeps them."""

    W: torch.Tensor  # [4H, E]
    U: torch.Tensor  # [4H, H]
    b: torch.Tensor  # [4H]


class Slopes(NamedTuple):
    """The factors of every derivative at one step of one layer, [B, H] each."""

    i: torch.Tensor
    g: torch.Tensor
    o: torch.Tensor
    di: torch.Tensor  # i (1 - i)
    df: torch.Tensor  # f (1 - f)
    dg: torch.Tensor  # 1 - g^2
    do: torch.Tensor  # o (1 - o)
    c: torch.Tensor  # before the step
    tanh_c: torch.Tensor  # of the memory after the step
    dtanh_c: torch.Tensor  # 1 - tanh^2


def load(
    params: Mapping[str, Any], tokens: np.ndarray, dtype: torch.dtype, device: str = "cpu"
) -> tuple[list[Layer], torch.Tensor]:
    """Takes over the weights of the JAX model: its layers, and the embedded tokens [T, B, E]."""

    def tensor(array: Any) -> torch.Tensor:
        return torch.tensor(np.asarray(array), dtype=dtype, device=device)

    count = sum(name.startswith("layers_") for name in params)
    layers = [
        Layer(
            tensor(params[name]["W"]).T.contiguous(),
            tensor(params[name]["U"]).T.contiguous(),
            tensor(params[name]["b"]),
        )
        for name in (f"layers_{number}" for number in range(count))
    ]
    return layers, tensor(params["embedding"]["table"])[torch.tensor(np.asarray(tokens))]


def random_frame(layers: list[Layer], batch: int, num_exponents: int) -> torch.Tensor:
    """Orthonormal deviation vectors, the same for every column of the batch, [B, L, K]."""
    U = layers[0].U
    size = len(layers) * U.shape[1]
    noise = torch.randn(size, num_exponents, generator=torch.Generator().manual_seed(0))
    frame = torch.linalg.qr(noise.to(U.dtype))[0].to(U.device)
    return frame.expand(batch, -1, -1).contiguous()


@torch.no_grad()
def log_growth(name: str, layers: list[Layer], inputs: torch.Tensor, Q: torch.Tensor) -> np.ndarray:
    """log |R_kk| of every step along the inputs, from a zero state.

    Args:
      name: "torch_rows" or "torch_dense".
      layers: from `load`.
      inputs: [T, B, E].
      Q: the first frame, [B, L, K].

    Returns:
      Nats, [T, B, K]; the mean over T estimates the exponents.
    """
    build, sign = _BASELINES[name]
    H = layers[0].U.shape[1]
    zeros = inputs.new_zeros(inputs.shape[1], H)
    h, c = [zeros] * len(layers), [zeros] * len(layers)
    J = inputs.new_zeros(inputs.shape[1], len(layers) * H, len(layers) * H)
    logs = []
    for x in inputs:
        for number, layer in enumerate(layers):
            h[number], c[number], slopes = _advance(layer, x, h[number], c[number])
            x = h[number]
            rows = J[:, number * H : (number + 1) * H]
            rows[:, :, number * H : (number + 1) * H] = build(slopes, layer.U, True)
            if number:
                J_x = build(slopes, layer.W, False)
                for below in range(number):
                    columns = slice(below * H, (below + 1) * H)
                    chained = J[:, (number - 1) * H : number * H, columns]
                    rows[:, :, columns] = J_x @ chained
        Q, R = torch.linalg.qr(J.mT @ Q)
        Q, diagonal = sign(Q, R)
        logs.append(diagonal.abs().log())
    return torch.stack(logs).cpu().numpy()


def faster_threads(name: str, layers: list[Layer], inputs: torch.Tensor, Q: torch.Tensor) -> int:
    """One thread or as many as torch takes by itself, whichever runs two steps faster here.

    Where cores are few or busy, threads that wait for each other can cost more than they bring.
    """
    seconds = {}
    usual = torch.get_num_threads()
    for threads in (usual, 1):
        torch.set_num_threads(threads)
        log_growth(name, layers, inputs[:1], Q)
        started = time.perf_counter()
        log_growth(name, layers, inputs[:2], Q)
        seconds[threads] = time.perf_counter() - started
    torch.set_num_threads(usual)
    return min(seconds, key=lambda threads: seconds[threads])


def _advance(
    layer: Layer, x: torch.Tensor, h: torch.Tensor, c: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, Slopes]:
    """The next h and c [B, H], and what the derivatives of the step are made of."""
    a_i, a_f, a_g, a_o = (x @ layer.W.T + h @ layer.U.T + layer.b).chunk(4, dim=1)
    i, f, o, g = a_i.sigmoid(), a_f.sigmoid(), a_o.sigmoid(), a_g.tanh()
    new_c = f * c + i * g
    tanh_c = new_c.tanh()
    slopes = Slopes(
        i=i,
        g=g,
        o=o,
        di=i * (1 - i),
        df=f * (1 - f),
        dg=1 - g**2,
        do=o * (1 - o),
        c=c,
        tanh_c=tanh_c,
        dtanh_c=1 - tanh_c**2,
    )
    return o * tanh_c, new_c, slopes


def _build_rows(s: Slopes, weights: torch.Tensor, recurrent: bool) -> torch.Tensor:
    """dh' by h (or by x) [B, H, E]: four blocks of weights, rows scaled, added in place."""
    del recurrent
    by_c = s.o * s.dtanh_c
    scales = (by_c * s.g * s.di, by_c * s.c * s.df, by_c * s.i * s.dg, s.tanh_c * s.do)
    first, *rest = zip(scales, weights.chunk(4), strict=True)
    J = first[0][:, :, None] * first[1]
    for scale, block in rest:
        J.addcmul_(scale[:, :, None], block)
    return J


def _build_dense(s: Slopes, weights: torch.Tensor, recurrent: bool) -> torch.Tensor:
    """The same from dense diagonals: 7 products for the recurrent block, 6 for the input's.

    The authors multiply two of the diagonals as matrices in the one and entry by entry in the
    other; so here.
    """
    D = Slopes(*(torch.diag_embed(factor) for factor in s))
    W_i, W_f, W_g, W_o = weights.chunk(4)
    forget = D.df @ D.c if recurrent else D.df * D.c
    dc = forget @ W_f + (D.di * D.g) @ W_i + (D.i * D.dg) @ W_g
    return (D.o @ D.dtanh_c) @ dc + (D.do * D.tanh_c) @ W_o


def _leave_signs(Q: torch.Tensor, R: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return Q, R.diagonal(dim1=1, dim2=2)


def _sign_dense(Q: torch.Tensor, R: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Turns the diagonal of R positive by a dense diagonal of signs; sign(0) := +1."""
    diagonal = R.diagonal(dim1=1, dim2=2)
    signs = torch.diag_embed(torch.where(diagonal < 0, -1, 1).to(R.dtype))
    return Q @ signs, (signs @ R).diagonal(dim1=1, dim2=2)


_BASELINES: dict[str, tuple[Callable[..., torch.Tensor], Callable[..., Any]]] = {
    "torch_rows": (_build_rows, _leave_signs),
    "torch_dense": (_build_dense, _sign_dense),
}
