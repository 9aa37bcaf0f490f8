"""The training recipe, and the recipe of the spectra."""

import dataclasses
import math
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
from lsh_jax.types import Hyper

SpectrumState = Literal["hidden", "full"]
Averaging = Literal["none", "nt-asgd"]
Precision = Literal["float32", "bfloat16"]


@dataclasses.dataclass(frozen=True)
class TrainConfig(Config):
    """SGD over windows of a contiguous token stream."""

    learning_rate: float = 20.0
    """Step size of SGD, that of the first epoch."""
    decay: float = 1.0
    """What the step size is divided by after every epoch from decay_after on, at least 1."""
    decay_after: int = 1
    """Epochs that are trained at the first step size, at least 1."""
    clip: float = 0.25
    """Largest norm of the gradient of the dense weights, > 0."""
    weight_decay: float = 1.2e-6
    """Coefficient of the L2 penalty's gradient."""
    momentum: float = 0.0
    """Of SGD, in [0, 1); growth and redistribution by momentum need it above 0."""
    averaging: Averaging = "none"
    """nt-asgd: once validation stops to improve, averages of the weights are kept and evaluated."""
    nonmonotone: int = 5
    """Epochs that averaging leaves out when it asks whether validation still improves."""
    patience: int = 0
    """Epochs without a better validation after which training ends early; 0 for never."""
    precision: Precision = "float32"
    """Of the products in training; weights, averages, evaluation and spectra are float32."""
    locked_dropout: bool = False
    """Whether a dropout mask serves all steps of a window (variational dropout)."""
    dropout_embed: float = 0.0
    """Rate at which whole words lose their embedding, in [0, 1); no dropout in evaluation."""
    dropout_input: float = 0.2
    """Rate for elements of the embedded input."""
    dropout_hidden: float = 0.2
    """Rate for elements between the layers; of an RHN, for its state, one mask a window."""
    dropout_output: float = 0.2
    """Rate for elements of the last layer's output."""
    batch_size: int = 20
    """Columns of the token stream that are trained side by side."""
    bptt: int = 35
    """Tokens of a window, through which the gradient is propagated."""
    segments_per_epoch: int = 4
    """Segments of an epoch; progress, checkpoints and topology updates sit on their borders."""
    eval_batch_size: int = 10
    """Columns of validation and of test that are read side by side."""
    max_train_tokens: int = 0
    """Use only the first so many training tokens; 0 for all."""
    max_eval_tokens: int = 0
    """Use only the first so many tokens of validation and of test; 0 for all."""

    def __post_init__(self) -> None:
        """Checks every field."""
        check_numbers(self)
        rate = self.learning_rate
        check(0 < rate < math.inf, "learning_rate", "be above 0 and finite", rate)
        check(self.clip > 0, "clip", "be above 0", self.clip)
        decay = self.weight_decay
        check(0 <= decay < math.inf, "weight_decay", "be 0 or above and finite", decay)
        check(0 <= self.momentum < 1, "momentum", "lie in [0, 1)", self.momentum)
        check(1 <= self.decay < math.inf, "decay", "be at least 1 and finite", self.decay)
        check_choice("averaging", self.averaging, choices(Averaging))
        check_choice("precision", self.precision, choices(Precision))
        check_flag("locked_dropout", self.locked_dropout)
        if self.averaging != "none":
            check(self.momentum == 0, "momentum", "be 0 with averaging=nt-asgd", self.momentum)
        for name in ("dropout_embed", "dropout_input", "dropout_hidden", "dropout_output"):
            check(0 <= getattr(self, name) < 1, name, "lie in [0, 1)", getattr(self, name))
        for name in ("batch_size", "bptt", "segments_per_epoch", "eval_batch_size"):
            check(getattr(self, name) >= 1, name, "be at least 1", getattr(self, name))
        check(self.decay_after >= 1, "decay_after", "be at least 1", self.decay_after)
        for name in ("nonmonotone", "patience"):
            check(getattr(self, name) >= 0, name, "be at least 0", getattr(self, name))
        for name in ("max_train_tokens", "max_eval_tokens"):
            check(getattr(self, name) >= 0, name, "be 0 (all) or above", getattr(self, name))

    def hyper(self) -> Hyper:
        """The part of the recipe that is traced."""
        return Hyper(**{name: getattr(self, name) for name in Hyper._fields})


@dataclasses.dataclass(frozen=True)
class SpectrumConfig(Config):
    """The recipe of the Lyapunov spectra by which candidates are compared."""

    state: SpectrumState = "hidden"
    """hidden: the cell state is held on its path, as in the paper; full: (h, c)."""
    share: float = 1.0
    """Leading part of each layer's exponents that is computed and scored, in (0, 1]."""
    length: int = 100
    """Steps that are averaged."""
    burn_in: int = 40
    """Steps before them that only turn state and frame."""
    batch: int = 4
    """Columns of validation text that are averaged."""

    def __post_init__(self) -> None:
        """Checks every field."""
        check_numbers(self, "spectrum.")
        check_choice("spectrum.state", self.state, choices(SpectrumState))
        check(0 < self.share <= 1, "spectrum.share", "lie in (0, 1]", self.share)
        for name, least in (("length", 1), ("burn_in", 0), ("batch", 1)):
            value = getattr(self, name)
            check(value >= least, f"spectrum.{name}", f"be at least {least}", value)
        if self.batch * math.isqrt(self.length) < 2:
            raise ConfigError(
                "`spectrum.length` must be at least 4 with spectrum.batch=1, got "
                f"{self.length}: a standard error needs four steps, or two columns."
            )
