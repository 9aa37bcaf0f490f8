"""Writes torch_cells.npz: a GRU and a tanh network of PyTorch, and their gradients.

    python tests/references/make_torch_cells.py      (any Python with torch >= 2 and numpy)

nn.GRU and nn.RNN of one layer, in float64 on the CPU. E=3, H=4, T=5, B=2. Arrays of the file, with
cell = gru or tanh and leaf = W [E, G], U [H, G], b [G] and, of the GRU, b_n [H] (G = 3 H or H), in
the layout of lsh_jax:

  inputs [T, B, E], carry [B, H]   of both
  <cell>/<leaf>                    parameters
  <cell>/outputs [T, B, H]
  <cell>/grad_<leaf>               of the sum of the squared outputs

lsh_jax has one bias where torch has two that act as their sum: b is that sum, whose gradient is
that of either. The GRU's recurrent bias of n acts inside the reset gate: b_n, apart from b.
"""

import pathlib

import numpy as np
import torch

EMBED, HIDDEN, STEPS, BATCH = 3, 4, 5, 2


def leaves(module: torch.nn.Module, read) -> dict[str, np.ndarray]:
    """The leaves of lsh_jax; `read` takes a torch parameter to its value or its gradient."""
    W, U, b, b_hh = (
        read(getattr(module, name)).detach().numpy()
        for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    )
    found = {"W": W.T, "U": U.T, "b": b}
    if isinstance(module, torch.nn.GRU):
        found["b_n"] = b_hh[2 * HIDDEN :]
    return found


def summed_biases(module: torch.nn.Module, values: dict[str, np.ndarray]) -> None:
    """Adds torch's second bias to b, but where it stands inside the reset gate."""
    second = module.bias_hh_l0.detach().numpy().copy()
    if isinstance(module, torch.nn.GRU):
        second[2 * HIDDEN :] = 0
    values["b"] = values["b"] + second


def main() -> None:
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    inputs, carry = torch.randn(STEPS, BATCH, EMBED), torch.randn(BATCH, HIDDEN)
    arrays = {"inputs": inputs.numpy(), "carry": carry.numpy()}
    for cell, kind in (("gru", torch.nn.GRU), ("tanh", torch.nn.RNN)):
        module = kind(EMBED, HIDDEN)
        outputs, _ = module(inputs, carry[None])
        outputs.square().sum().backward()
        params = leaves(module, lambda leaf: leaf)
        summed_biases(module, params)
        arrays[f"{cell}/outputs"] = outputs.detach().numpy()
        for name, value in params.items():
            arrays[f"{cell}/{name}"] = value
        for name, value in leaves(module, lambda leaf: leaf.grad).items():
            arrays[f"{cell}/grad_{name}"] = value

    path = pathlib.Path(__file__).with_name("torch_cells.npz")
    np.savez_compressed(path, **arrays)
    print(path.name, path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
