"""The network: its cell and its sizes."""

import dataclasses
import math
import numbers
from typing import Literal

from lsh_jax.config.checks import (
    Config,
    ConfigError,
    check,
    check_choice,
    check_flag,
    check_numbers,
    choices,
)

Cell = Literal["lstm", "rhn", "gru", "tanh"]


@dataclasses.dataclass(frozen=True)
class ModelConfig(Config):
    """A word-level language model: embedding, stacked recurrent layers, decoder."""

    cell: Cell = "lstm"
    """Recurrent cell of every layer."""
    vocab_size: int = 10_000
    """Types that the model knows; rarer words become `<unk>`."""
    embed_size: int = 200
    """Width of the embedding."""
    hidden_size: int = 200
    """Units of each layer."""
    num_layers: int = 2
    """Recurrent layers, one above the other."""
    depth: int = 1
    """Micro-steps within a step of an RHN; 1 for the other cells."""
    coupled: bool = True
    """Whether the carry gate of an RHN is 1 - transform gate; True for the other cells."""
    tied: bool = False
    """Whether the decoder uses the table of the embedding, which the last layer must match."""
    layer_sizes: tuple[int, ...] = ()
    """Units of each layer where they differ, from the input upwards; empty for hidden_size."""
    init_bound: float = 0.0
    """Bound b of U(-b, b), from which all weights are drawn; 0 for torch's: 0.1 of the embedding
    and the decoder, 1 / sqrt(units) of the layers. The decoder's bias starts at 0."""
    transform_bias: float = -2.0
    """Start of the biases of an RHN's transform gate; 0 draws them as the other biases. With
    two_biases what is drawn of the second comes on top."""
    two_biases: bool = False
    """Whether a bias of a layer stands for the sum of the two of torch.nn, one of the input's and
    one of the state's product: then it starts as such a sum and is trained as one."""

    def __post_init__(self) -> None:
        """Checks every field."""
        check_numbers(self)
        check_choice("cell", self.cell, choices(Cell))
        check(self.vocab_size >= 2, "vocab_size", "be at least 2", self.vocab_size)
        for name in ("embed_size", "hidden_size", "num_layers", "depth"):
            check(getattr(self, name) >= 1, name, "be at least 1", getattr(self, name))
        for name in ("coupled", "tied", "two_biases"):
            check_flag(name, getattr(self, name))
        bound = self.init_bound
        check(0 <= bound < math.inf, "init_bound", "be 0 (torch's) or above and finite", bound)
        finite = math.isfinite(self.transform_bias)
        check(finite, "transform_bias", "be finite", self.transform_bias)
        if self.cell != "rhn":
            check(self.depth == 1, "depth", f"be 1 with cell={self.cell}", self.depth)
            check(self.coupled, "coupled", f"be true with cell={self.cell}", self.coupled)
        self._check_widths()

    def _check_widths(self) -> None:
        sizes = self.layer_sizes
        check(isinstance(sizes, tuple), "layer_sizes", "be a tuple", sizes)
        whole = all(isinstance(n, numbers.Integral) and not isinstance(n, bool) for n in sizes)
        valid = whole and all(size >= 1 for size in sizes)
        check(valid, "layer_sizes", "hold whole numbers of at least 1", sizes)
        condition = f"name the units of each of num_layers={self.num_layers} layers, or none"
        check(len(sizes) in (0, self.num_layers), "layer_sizes", condition, sizes)
        if self.tied and self.widths[-1] != self.embed_size:
            raise ConfigError(
                "`tied` needs a last layer as wide as the embedding, got "
                f"{self.widths[-1]} units and embed_size={self.embed_size}: set `embed_size` to "
                f"{self.widths[-1]}, or give the last layer {self.embed_size} units."
            )

    @property
    def widths(self) -> tuple[int, ...]:
        """Units of each layer, from the input upwards."""
        return self.layer_sizes or (self.hidden_size,) * self.num_layers
