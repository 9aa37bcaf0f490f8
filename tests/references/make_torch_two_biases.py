"""Writes torch_two_biases.npz: three windows of training of PyTorch models, two biases a gate.

    python tests/references/make_torch_two_biases.py   (any Python with torch >= 2 and numpy)

nn.Embedding, nn.LSTM (two layers) or nn.GRU (one) and nn.Linear, in float64 on the CPU; V=7, E=3,
H=4, three windows of T=5 by B=2, the carry handed on. Each window: the mean cross-entropy, its
gradient clipped to norm 0.325, a step of torch.optim.SGD with learning rate 2 and weight decay
0.05.
Arrays of the file, `name` being lstm or gru:

  inputs [3, T, B], targets [3, T, B]
  norms/<name> [3]  of the gradient of each window, before it is clipped
  start/<name>/..., end/<name>/...  parameters before the first step and after the last, in the
      layout of lsh_jax: the matrices transposed, the biases of a gate summed up, but for those of n
      of the GRU, of which the second is b_n
"""

import pathlib

import numpy as np
import torch

VOCAB, EMBED, HIDDEN, WINDOWS, STEPS, BATCH = 7, 3, 4, 3, 5, 2
CLIP, LEARNING_RATE, WEIGHT_DECAY = 0.325, 2.0, 0.05


def packed(name: str, embedding, rnn, decoder) -> dict[str, np.ndarray]:
    """The parameters in the layout of lsh_jax, by their paths."""
    leaves = {
        "embedding/table": embedding.weight,
        "decoder/W": decoder.weight.T,
        "decoder/b": decoder.bias,
    }
    for layer in range(rnn.num_layers):
        W, U, b_ih, b_hh = (
            getattr(rnn, f"{kind}_l{layer}")
            for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        own = f"layers_{layer}"
        leaves |= {f"{own}/W": W.T, f"{own}/U": U.T, f"{own}/b": b_ih + b_hh}
        if name == "gru":
            border = 2 * HIDDEN
            leaves[f"{own}/b"] = torch.cat([(b_ih + b_hh)[:border], b_ih[border:]])
            leaves[f"{own}/b_n"] = b_hh[border:]
    return {path: leaf.detach().numpy().copy() for path, leaf in leaves.items()}


def trained(name: str, inputs: torch.Tensor, targets: torch.Tensor) -> dict[str, np.ndarray]:
    kind, num_layers = {"lstm": (torch.nn.LSTM, 2), "gru": (torch.nn.GRU, 1)}[name]
    embedding = torch.nn.Embedding(VOCAB, EMBED)
    rnn = kind(EMBED, HIDDEN, num_layers)
    decoder = torch.nn.Linear(HIDDEN, VOCAB)
    model = torch.nn.ModuleList([embedding, rnn, decoder])
    arrays = {f"start/{name}/{path}": leaf for path, leaf in packed(name, *model).items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    carry, norms = None, []
    for window in range(WINDOWS):
        outputs, carry = rnn(embedding(inputs[window]), carry)
        carry = tuple(part.detach() for part in carry) if name == "lstm" else carry.detach()
        logits = decoder(outputs).flatten(0, 1)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits, targets[window].flatten()).backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)))
        optimizer.step()
    arrays |= {f"end/{name}/{path}": leaf for path, leaf in packed(name, *model).items()}
    return arrays | {f"norms/{name}": np.array(norms)}


def main() -> None:
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(1)
    tokens = torch.randint(VOCAB, (WINDOWS * STEPS + 1, BATCH))
    inputs, targets = (part.reshape(WINDOWS, STEPS, BATCH) for part in (tokens[:-1], tokens[1:]))
    arrays = {"inputs": inputs.numpy(), "targets": targets.numpy()}
    for name in ("lstm", "gru"):
        arrays |= trained(name, inputs, targets)
        print(name, "norms", arrays[f"norms/{name}"])
    path = pathlib.Path(__file__).with_name("torch_two_biases.npz")
    np.savez_compressed(path, **arrays)
    print(path.name, path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
