"""How large a language model is: weights and biases by leaf, counted exactly, and its products."""

import dataclasses
from typing import NamedTuple

import jax
import numpy as np

from lsh_jax.config import ModelConfig
from lsh_jax.language_models import bias_copies, leaf_gates, make_language_model, uses_per_token
from lsh_jax.sparsity.counting import CountedLeaves, counted_leaves


class ModelSizes(NamedTuple):
    """The dense network of a configuration, in numbers."""

    leaves: CountedLeaves  # in the order of the parameters
    weights: int  # entries of matrices, the embedding's among them
    biases: int
    torch_biases: int  # where torch.nn has one bias for the input and one for the state
    multiply_adds: int  # of a token, forward; training takes three times as many


def model_sizes(config: ModelConfig) -> ModelSizes:
    """Counts the parameters of a model without drawing them.

    Biases are what has one axis; `bias_copies` says which of them torch.nn has two of.

    Args:
      config: the model.
    """
    params = jax.eval_shape(make_language_model(config).init, jax.random.key(0))
    leaves = counted_leaves(params, gates=leaf_gates(config), uses=uses_per_token(config))
    copies = bias_copies(dataclasses.replace(config, two_biases=True))
    vectors = [leaf for leaf in leaves if len(leaf.shape) == 1]
    in_torch = (
        np.broadcast_to(copies(tuple(leaf.name.split("/")), leaf), leaf.shape) for leaf in vectors
    )
    return ModelSizes(
        leaves=leaves,
        weights=sum(leaf.size for leaf in leaves if len(leaf.shape) > 1),
        biases=sum(leaf.size for leaf in vectors),
        torch_biases=sum(int(counts.sum()) for counts in in_torch),
        multiply_adds=sum(leaf.size * leaf.uses for leaf in leaves),
    )


def describe_network(config: ModelConfig, sizes: ModelSizes) -> str:
    """The network and its parameters, counted, as text."""
    tied = "tied" if config.tied else "untied"
    torch = sizes.torch_biases
    note = f" ({torch:,} where the input and the state have one each)"
    return (
        f"Model: {describe_layers(config)}, embedding {config.embed_size}, {tied}: "
        f"{sizes.weights:,} weights and {sizes.biases:,} biases"
        f"{note if torch != sizes.biases else ''}, {sizes.multiply_adds:,} multiply-adds a token"
    )


def describe_layers(config: ModelConfig) -> str:
    """The cell and the sizes of its layers, "LSTM 2 x 200", as text."""
    widths = set(config.widths)
    shape = f"{config.num_layers} x {widths.pop()}" if len(widths) == 1 else f"{config.widths}"
    depth = f", depth {config.depth}" if config.depth > 1 else ""
    return f"{config.cell.upper()} {shape}{depth}"
