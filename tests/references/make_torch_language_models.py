"""Writes torch_language_models.json: state dicts of PyTorch language models, and their logits.

    python tests/references/make_torch_language_models.py   (any Python with torch >= 2 and numpy)

nn.Embedding, layers of nn.LSTM, nn.GRU or nn.RNN and nn.Linear, in float64 on the CPU, with weights
of three decimals. V=11, E=3 (4 where tied), T=5, B=2. The file maps the name of a model to

  state_dict   {name: nested list}, in the names that the modules give
  logits       [T, B, V], from a carry of zeros, rounded to 8 decimals

and "tokens" to [T, B]. The models: two layers of each kind of module in the names of the
word-language-model script; without biases; tied, wrapped in DataParallel; a list of modules with
one layer each, of unequal sizes.
"""

import json
import pathlib

import torch

VOCAB, STEPS, BATCH = 11, 5, 2


class Model(torch.nn.Module):
    """The word-language-model script's, without dropout."""

    def __init__(self, kind, embed: int, hidden: int, *, bias: bool = True, tied: bool = False):
        super().__init__()
        self.encoder = torch.nn.Embedding(VOCAB, embed)
        self.rnn = kind(embed, hidden, 2, bias=bias)
        self.decoder = torch.nn.Linear(hidden, VOCAB, bias=bias)
        if tied:
            self.decoder.weight = self.encoder.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.rnn(self.encoder(tokens))[0])


class ListModel(torch.nn.Module):
    """One module a layer, of 5 and of 4 units."""

    def __init__(self):
        super().__init__()
        self.encoder = torch.nn.Embedding(VOCAB, 3)
        self.rnns = torch.nn.ModuleList([torch.nn.LSTM(3, 5), torch.nn.LSTM(5, 4)])
        self.decoder = torch.nn.Linear(4, VOCAB)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.encoder(tokens)
        for rnn in self.rnns:
            x, _ = rnn(x)
        return self.decoder(x)


def main() -> None:
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    tokens = torch.randint(VOCAB, (STEPS, BATCH))
    models = {
        "lstm": Model(torch.nn.LSTM, 3, 4),
        "gru": Model(torch.nn.GRU, 3, 4),
        "rnn": Model(torch.nn.RNN, 3, 4),
        "gru without biases": Model(torch.nn.GRU, 3, 4, bias=False),
        "tied lstm": torch.nn.DataParallel(Model(torch.nn.LSTM, 4, 4, tied=True)),
        "unequal lstm": ListModel(),
    }
    values: dict[str, object] = {"tokens": tokens.tolist()}
    for name, model in models.items():
        for leaf in model.parameters():
            leaf.data = torch.round(leaf, decimals=3).detach()
        values[name] = {
            "state_dict": {key: leaf.tolist() for key, leaf in model.state_dict().items()},
            "logits": torch.round(model(tokens), decimals=8).tolist(),
        }
    path = pathlib.Path(__file__).with_name("torch_language_models.json")
    lines = (f"{json.dumps(key)}: {json.dumps(value)}" for key, value in values.items())
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(path.name, path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
