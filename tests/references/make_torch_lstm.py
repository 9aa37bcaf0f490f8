"""Writes torch_lstm.npz: a language model of PyTorch, its gradients and three steps of its SGD.

    python tests/references/make_torch_lstm.py      (any Python with torch >= 2 and numpy)

nn.Embedding, nn.LSTM of 2 layers and nn.Linear, in float64 on the CPU. V=13, E=5, H=4, T=6, B=3.
Arrays of the file:

  tokens [T + 1, B]   inputs are the first T rows, targets the last T
  carry [L, 2, B, H]  (h, c) of each layer before the first token
  logits [T, B, V], new_carry [L, 2, B, H], loss [] (mean cross entropy)
  params [n], grads [n], trajectory [3, n], norms [3]

A vector [n] is the parameters one after the other, each in C order and in the layout of lsh_jax:
decoder/W [H, V], decoder/b, embedding/table [V, E], then of each layer U [H, 4H], W [E, 4H], b.
`trajectory` is the parameters after each of three steps on this one window, `norms` the gradient's
before each: clipped to 0.25, then SGD with learning rate 1 and weight decay 0.01.

nn.LSTM has two biases that act only as their sum, and lsh_jax has that sum. Trained both, as is
torch's default, they move their sum twice as far in a step. Here bias_hh is zero and not trained,
so that there is one bias on both sides.
"""

import pathlib

import numpy as np
import torch

VOCAB, EMBED, HIDDEN, LAYERS, STEPS, BATCH = 13, 5, 4, 2, 6, 3
CLIP, LEARNING_RATE, WEIGHT_DECAY = 0.25, 1.0, 1e-2


def build() -> torch.nn.ModuleDict:
    model = torch.nn.ModuleDict(
        {
            "embedding": torch.nn.Embedding(VOCAB, EMBED),
            "lstm": torch.nn.LSTM(EMBED, HIDDEN, LAYERS),
            "decoder": torch.nn.Linear(HIDDEN, VOCAB),
        }
    )
    for layer in range(LAYERS):
        bias = getattr(model["lstm"], f"bias_hh_l{layer}")
        bias.requires_grad_(False)
        bias.zero_()
    return model


def pack(model: torch.nn.ModuleDict, read) -> np.ndarray:
    """One vector, in the order and layout of the head of this file."""
    decoder, lstm = model["decoder"], model["lstm"]
    leaves = [read(decoder.weight).T, read(decoder.bias), read(model["embedding"].weight)]
    for layer in range(LAYERS):
        leaves += [
            read(getattr(lstm, f"weight_hh_l{layer}")).T,
            read(getattr(lstm, f"weight_ih_l{layer}")).T,
            read(getattr(lstm, f"bias_ih_l{layer}")),
        ]
    return np.concatenate([np.ravel(leaf.detach().numpy()) for leaf in leaves])


def forward(model, tokens, carry):
    outputs, carry = model["lstm"](model["embedding"](tokens[:-1]), carry)
    logits = model["decoder"](outputs)
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[1:].flatten())
    return logits, carry, loss


def main() -> None:
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    model = build()
    tokens = torch.randint(VOCAB, (STEPS + 1, BATCH))
    carry = tuple(0.5 * torch.randn(LAYERS, BATCH, HIDDEN) for _ in range(2))
    params = pack(model, lambda leaf: leaf)
    logits, new_carry, loss = forward(model, tokens, carry)
    loss.backward()
    grads = pack(model, lambda leaf: leaf.grad)

    trained = [leaf for leaf in model.parameters() if leaf.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    trajectory, norms = [], []
    for _ in range(3):
        optimizer.zero_grad()
        forward(model, tokens, carry)[2].backward()
        norms.append(torch.nn.utils.clip_grad_norm_(trained, CLIP).item())
        optimizer.step()
        trajectory.append(pack(model, lambda leaf: leaf))
    print("loss", loss.item(), "norms", norms)

    path = pathlib.Path(__file__).with_name("torch_lstm.npz")
    np.savez_compressed(
        path,
        tokens=tokens.numpy().astype(np.int32),
        carry=torch.stack(carry, 1).numpy(),
        logits=logits.detach().numpy(),
        new_carry=torch.stack(new_carry, 1).detach().numpy(),
        loss=loss.item(),
        params=params,
        grads=grads,
        trajectory=np.stack(trajectory),
        norms=np.array(norms),
    )
    print(path.name, path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
