"""Writes torch_asgd.npz: forty steps of PyTorch's averaged SGD, and of its SGD with momentum.

    python tests/references/make_torch_asgd.py      (any Python with torch >= 2 and numpy)

Two leaves, W [3, 3] and b [2], in float64 on the CPU; the gradients are drawn, not those of a loss.
Arrays of the file, a vector [n] being W in C order and then b:

  params [n], grads [40, n]
  averages [40, n]  `ax` of torch.optim.ASGD after each step, with lambd=0, t0=0
  iterates [40, n]  its weights
  momentum [40, n]  the weights of torch.optim.SGD with momentum 0.9, from the same start

Gradients are clipped to norm 2.5, some of them longer and some shorter; learning rate 0.3, weight
decay 0.05.
"""

import pathlib

import numpy as np
import torch

STEPS, CLIP, LEARNING_RATE, WEIGHT_DECAY, MOMENTUM = 40, 2.5, 0.3, 0.05, 0.9


def run(make_optimizer, start: torch.Tensor, grads: torch.Tensor, read) -> np.ndarray:
    """What `read(optimizer, leaf)` finds of both leaves after each step, [40, n]."""
    leaves = [start[:9].reshape(3, 3).clone(), start[9:].clone()]
    optimizer = make_optimizer(leaves)
    found = []
    for grad in grads:
        leaves[0].grad, leaves[1].grad = grad[:9].reshape(3, 3).clone(), grad[9:].clone()
        torch.nn.utils.clip_grad_norm_(leaves, CLIP)
        optimizer.step()
        found.append(np.concatenate([read(optimizer, leaf).numpy().ravel() for leaf in leaves]))
    return np.stack(found)


def asgd(leaves):
    return torch.optim.ASGD(
        leaves, lr=LEARNING_RATE, lambd=0.0, t0=0, weight_decay=WEIGHT_DECAY, foreach=False
    )


def momentum_sgd(leaves):
    return torch.optim.SGD(leaves, lr=LEARNING_RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)


def main() -> None:
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    start, grads = torch.randn(11), 0.8 * torch.randn(STEPS, 11)
    norms = torch.linalg.vector_norm(grads, dim=1)
    print("clipped", int((norms > CLIP).sum()), "of", STEPS)

    path = pathlib.Path(__file__).with_name("torch_asgd.npz")
    np.savez_compressed(
        path,
        params=start.numpy(),
        grads=grads.numpy(),
        averages=run(asgd, start, grads, lambda optimizer, leaf: optimizer.state[leaf]["ax"]),
        iterates=run(asgd, start, grads, lambda optimizer, leaf: leaf),
        momentum=run(momentum_sgd, start, grads, lambda optimizer, leaf: leaf),
    )
    print(path.name, path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
