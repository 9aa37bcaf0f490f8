"""The same language models in PyTorch, trained as its word-language-model scripts train.

The LSTM is `torch.nn.LSTM`. PyTorch has no recurrent highway network: that one is a loop over steps
and micro-steps, written as one writes it first. Both start from the weights of the JAX model.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from lsh_jax.config import ModelConfig, TrainConfig
from lsh_jax.data.batching import Windows


class LSTM(torch.nn.Module):
    """Embedding, stacked LSTM, decoder, with dropout between all of them."""

    def __init__(self, config: ModelConfig, recipe: TrainConfig) -> None:
        super().__init__()
        between = recipe.dropout_hidden if config.num_layers > 1 else 0.0
        self.embedding = torch.nn.Embedding(config.vocab_size, config.embed_size)
        self.layers = torch.nn.LSTM(
            config.embed_size, config.hidden_size, config.num_layers, dropout=between
        )
        self.decoder = torch.nn.Linear(config.hidden_size, config.vocab_size)
        self.below = torch.nn.Dropout(recipe.dropout_input)
        self.above = torch.nn.Dropout(recipe.dropout_output)

    def forward(self, tokens: torch.Tensor, carry: Any) -> tuple[torch.Tensor, Any]:
        """Logits [T, B, V] of tokens [T, B], and the carry; None for zeros."""
        outputs, carry = self.layers(self.below(self.embedding(tokens)), carry)
        return self.decoder(self.above(outputs)), carry

    @torch.no_grad()
    def load(self, params: Any) -> None:
        """Takes over weights: all of a bias goes to the first of torch's two."""
        self.embedding.weight.copy_(_tensor(params["embedding"]["table"]))
        for number in range(self.layers.num_layers):
            layer = params[f"layers_{number}"]
            getattr(self.layers, f"weight_ih_l{number}").copy_(_tensor(layer["W"]).T)
            getattr(self.layers, f"weight_hh_l{number}").copy_(_tensor(layer["U"]).T)
            getattr(self.layers, f"bias_ih_l{number}").copy_(_tensor(layer["b"]))
            getattr(self.layers, f"bias_hh_l{number}").zero_()
        self.decoder.weight.copy_(_tensor(params["decoder"]["W"]).T)
        self.decoder.bias.copy_(_tensor(params["decoder"]["b"]))


class RHN(torch.nn.Module):
    """One coupled recurrent highway layer with a tied decoder and one mask for all steps."""

    def __init__(self, config: ModelConfig, recipe: TrainConfig) -> None:
        super().__init__()
        assert config.tied and config.coupled and config.num_layers == 1 and recipe.locked_dropout
        hidden = config.hidden_size
        self.recipe = recipe
        self.embedding = torch.nn.Embedding(config.vocab_size, config.embed_size)
        self.input = torch.nn.Linear(config.embed_size, 2 * hidden)
        self.recurrent = torch.nn.ModuleList(
            torch.nn.Linear(hidden, 2 * hidden) for _ in range(config.depth)
        )
        self.bias = torch.nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, tokens: torch.Tensor, s: Any) -> tuple[torch.Tensor, Any]:
        """Logits [T, B, V] of tokens [T, B], and the state [B, H]; None for zeros."""
        recipe, table = self.recipe, self.embedding.weight
        batch, hidden = tokens.shape[1], self.recurrent[0].in_features
        s = table.new_zeros(batch, hidden) if s is None else s
        words = _mask(recipe.dropout_embed, table.shape[0], 1)
        x = self.embedding(tokens) * words[tokens] * _mask(recipe.dropout_input, batch, hidden)
        kept = _mask(recipe.dropout_hidden, batch, hidden)
        outputs = []
        for drive in self.input(x):
            for micro_step, matrix in enumerate(self.recurrent):
                gates = matrix(s * kept) + (0 if micro_step else drive)
                h, t = gates.chunk(2, dim=1)
                h, t = h.tanh(), t.sigmoid()
                s = h * t + s * (1 - t)
            outputs.append(s)
        output = torch.stack(outputs) * _mask(recipe.dropout_output, batch, hidden)
        return functional.linear(output, table, self.bias), s

    @torch.no_grad()
    def load(self, params: Any) -> None:
        """Takes over weights: all of the first bias goes to that of the input."""
        layer = params["layers_0"]
        self.embedding.weight.copy_(_tensor(params["embedding"]["table"]))
        self.input.weight.copy_(_tensor(layer["W"]).T)
        self.input.bias.copy_(_tensor(layer["b"]))
        for micro_step, matrix in enumerate(self.recurrent):
            matrix.weight.copy_(_tensor(layer[f"R_{micro_step}"]).T)
            matrix.bias.zero_()
            if micro_step:
                matrix.bias.copy_(_tensor(layer[f"b_{micro_step}"]))
        self.bias.copy_(_tensor(params["decoder"]["b"]))


def make(
    config: ModelConfig, recipe: TrainConfig, params: Any, windows: Windows
) -> tuple[torch.nn.Module, Callable[[], float]]:
    """A model, and what trains it on some windows.

    Args:
      config: the sizes.
      recipe: rates, clipping, decay; averaging is left out.
      params: of the JAX model, the first weights.
      windows: [W, bptt, B] each.

    Returns:
      The model, and a function that trains on all windows from a zero carry, then tells their mean
      nll; each call goes on from the weights that the last has left.
    """
    model: Any = {"lstm": LSTM, "rhn": RHN}[config.cell](config, recipe)
    model.load(params)
    decay = recipe.weight_decay
    optimizer = torch.optim.SGD(model.parameters(), lr=recipe.learning_rate, weight_decay=decay)
    inputs, targets = (torch.tensor(np.asarray(array)).long() for array in windows[:2])

    def train() -> float:
        carry, total = None, 0.0
        for window, following in zip(inputs, targets, strict=True):
            optimizer.zero_grad()
            logits, carry = model(window, carry)
            loss = functional.cross_entropy(logits.flatten(0, 1), following.flatten())
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
            optimizer.step()
            carry = [part.detach() for part in carry] if config.cell == "lstm" else carry.detach()
            total += loss.item()
        assert math.isfinite(total), "the training has diverged"
        return total / len(inputs)

    return model, train


def _tensor(array: Any) -> torch.Tensor:
    return torch.tensor(np.asarray(array))


def _mask(rate: float, *shape: int) -> torch.Tensor:
    return torch.empty(shape).bernoulli_(1 - rate).div_(1 - rate)
