"""Every setting as a frozen dataclass, checked on construction, to and from JSON."""

import dataclasses
import math
import numbers
from collections.abc import Collection, Mapping
from typing import Any, Literal, Self

from lsh_jax.types import Hyper

Cell = Literal["lstm", "rhn", "gru", "tanh"]
SparseInit = Literal["uniform", "er"]
Death = Literal["magnitude", "set", "threshold", "global_magnitude"]
Growth = Literal["random", "gradient"]
Redistribution = Literal["none", "magnitude", "nonzeros"]
Schedule = Literal["cosine", "constant"]
SpectrumState = Literal["hidden", "full"]
Metric = Literal["ls", "loss", "death-rate", "none"]
Algorithm = Literal["tpe", "random"]
Reference = Literal["same-epoch", "final", "same-loss"]
Halving = Literal["half", "authors"]


class ConfigError(ValueError):
    """A setting that cannot be met: the message names it, the value got and the condition."""


def check(holds: bool, name: str, condition: str, value: Any) -> None:
    """Raises a `ConfigError` unless `holds`; NaN fails every comparison, so it is refused too."""
    if not holds:
        raise ConfigError(f"`{name}` must {condition}, got {value!r}.")


def check_choice(name: str, value: Any, choices: Collection[str]) -> None:
    """Raises a `ConfigError` that lists the valid names unless `value` is one of them."""
    check(value in choices, name, f"be one of {', '.join(choices)}", value)


def choices(alias: Any) -> tuple[str, ...]:
    """The names that a `Literal` alias admits."""
    return tuple(alias.__args__)


def check_numbers(config: Any, prefix: str = "") -> None:
    """Raises a `ConfigError` unless the int and float fields of a dataclass hold such numbers."""
    kinds = {
        int: (numbers.Integral, "be a whole number"),
        float: (numbers.Real, "be a number"),
    }
    for field in dataclasses.fields(config):
        if field.type in kinds:
            kind, condition = kinds[field.type]
            value = getattr(config, field.name)
            valid = isinstance(value, kind) and not isinstance(value, bool)
            check(valid, prefix + field.name, condition, value)


class _Config:
    """To and from plain JSON values, for every dataclass below."""

    def to_json(self) -> dict[str, Any]:
        """The settings as JSON values; infinities become the string "inf"."""
        return _plain(dataclasses.asdict(self))  # type: ignore[call-overload]

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Builds the config from `to_json`'s output.

        Raises:
          ConfigError: for a key that the config does not have, or a value it refuses.
        """
        check(isinstance(values, Mapping), cls.__name__, "be a JSON object", values)
        fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
        for name in values:
            check_choice(cls.__name__ + " field", name, tuple(fields))
        return cls(**{name: _typed(fields[name], value) for name, value in values.items()})


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(inner) for inner in value]
    return "inf" if value == math.inf else value


def _typed(field: dataclasses.Field[Any], value: Any) -> Any:
    nested = field.default_factory
    if isinstance(nested, type) and issubclass(nested, _Config):
        return nested.from_json(value)
    if isinstance(value, list):
        return tuple(math.inf if inner == "inf" else inner for inner in value)
    return math.inf if value == "inf" else value


@dataclasses.dataclass(frozen=True)
class ModelConfig(_Config):
    """A word-level language model: embedding, stacked recurrent layers, decoder."""

    cell: Cell = "lstm"
    """Recurrent cell of every layer."""
    vocab_size: int = 10_000
    """Types that the model knows; rarer words become <unk>."""
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

    def __post_init__(self) -> None:
        """Checks every field."""
        check_numbers(self)
        check_choice("cell", self.cell, choices(Cell))
        check(self.vocab_size >= 2, "vocab_size", "be at least 2", self.vocab_size)
        for name in ("embed_size", "hidden_size", "num_layers", "depth"):
            check(getattr(self, name) >= 1, name, "be at least 1", getattr(self, name))
        for name in ("coupled", "tied"):
            flag = isinstance(getattr(self, name), bool)
            check(flag, name, "be true or false", getattr(self, name))
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


@dataclasses.dataclass(frozen=True)
class SparsityConfig(_Config):
    """One configuration of dynamic sparse training: what the search chooses."""

    sparsity: float = 0.67
    """Share of zeros over all prunable weights, in [0, 1); 1 - sparsity is the density."""
    init: SparseInit = "uniform"
    """How the live weights are shared out among the leaves at the start."""
    death: Death = "magnitude"
    growth: Growth = "random"
    redistribution: Redistribution = "none"
    death_rate: float = 0.5
    """Share of the live weights removed at a topology update, in [0, 1]."""
    schedule: Schedule = "cosine"
    """How the death rate falls over the topology updates."""
    horizon: int = 100
    """Topology updates after which the schedule has reached its floor, >= 1."""
    update_every: float = 1.0
    """Epochs between topology updates: 1, a fraction of 1, or inf for a static topology."""

    def __post_init__(self) -> None:
        """Checks every field."""
        check_numbers(self)
        check(0 <= self.sparsity < 1, "sparsity", "lie in [0, 1)", self.sparsity)
        check_choice("init", self.init, choices(SparseInit))
        check_choice("death", self.death, choices(Death))
        check_choice("growth", self.growth, choices(Growth))
        check_choice("redistribution", self.redistribution, choices(Redistribution))
        check(0 <= self.death_rate <= 1, "death_rate", "lie in [0, 1]", self.death_rate)
        check_choice("schedule", self.schedule, choices(Schedule))
        check(self.horizon >= 1, "horizon", "be at least 1", self.horizon)
        check(self.update_every > 0, "update_every", "be above 0", self.update_every)


@dataclasses.dataclass(frozen=True)
class TrainConfig(_Config):
    """SGD over windows of a contiguous token stream."""

    learning_rate: float = 20.0
    """Step size of SGD, constant."""
    clip: float = 0.25
    """Largest norm of the gradient of the dense weights, > 0."""
    weight_decay: float = 1.2e-6
    """Coefficient of the L2 penalty's gradient."""
    dropout_embed: float = 0.0
    """Rate at which whole words lose their embedding, in [0, 1); no dropout in evaluation."""
    dropout_input: float = 0.2
    """Rate for elements of the embedded input."""
    dropout_hidden: float = 0.2
    """Rate for elements between the layers."""
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
        for name in ("dropout_embed", "dropout_input", "dropout_hidden", "dropout_output"):
            check(0 <= getattr(self, name) < 1, name, "lie in [0, 1)", getattr(self, name))
        for name in ("batch_size", "bptt", "segments_per_epoch", "eval_batch_size"):
            check(getattr(self, name) >= 1, name, "be at least 1", getattr(self, name))
        for name in ("max_train_tokens", "max_eval_tokens"):
            check(getattr(self, name) >= 0, name, "be 0 (all) or above", getattr(self, name))

    def hyper(self) -> Hyper:
        """The part of the recipe that is traced."""
        return Hyper(**{name: getattr(self, name) for name in Hyper._fields})


@dataclasses.dataclass(frozen=True)
class SpectrumConfig(_Config):
    """The recipe of the Lyapunov spectra by which candidates are compared."""

    state: SpectrumState = "hidden"
    """hidden: the cell state is held on its path, as in the paper; full: (h, c)."""
    share: float = 0.3
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


@dataclasses.dataclass(frozen=True)
class SpaceConfig(_Config):
    """The choices of each control; a control with one choice is fixed."""

    init: tuple[SparseInit, ...] = ("uniform", "er")
    """How the live weights are shared out among the matrices at the start."""
    death: tuple[Death, ...] = ("magnitude", "set", "threshold", "global_magnitude")
    """Which weights are removed at a topology update."""
    growth: tuple[Growth, ...] = ("random", "gradient")
    """Which weights are grown in their place."""
    redistribution: tuple[Redistribution, ...] = ("none", "magnitude", "nonzeros")
    """How the grown weights are shared out among the matrices."""
    death_rate: tuple[float, ...] = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    """Share of the live weights removed at an update, at first; it falls along a cosine."""
    update_every: tuple[float, ...] = (1.0,)
    """Epochs between topology updates: 1, a fraction of 1, or inf for a static topology."""

    def __post_init__(self) -> None:
        """Checks that every control has a choice, named once and valid."""
        for field in dataclasses.fields(self):
            values = getattr(self, field.name)
            check(isinstance(values, tuple), f"space.{field.name}", "be a tuple", values)
            check(len(values) > 0, f"space.{field.name}", "name at least one choice", values)
            distinct = len(set(values)) == len(values)
            check(distinct, f"space.{field.name}", "name each choice once", values)
            for value in values:
                SparsityConfig(**{field.name: value})


@dataclasses.dataclass(frozen=True)
class SearchConfig(_Config):
    """How candidates are proposed, scored, halved and trained to the end."""

    metric: Metric = "ls"
    algo: Algorithm = "tpe"
    max_evals: int = 40
    """Distinct configurations in the pool."""
    e0: int = 3
    """Epochs before the first score."""
    ei: int = 3
    """Epochs more in each round of halving."""
    final_epochs: int = 100
    """Epochs in all for the dense network and for each finalist."""
    finalists: int = 2
    sparsity: float = 0.67
    seed: int = 0
    ask_batch: int = 4
    """Proposals asked for at a time; part of the search, not of the machine."""
    reference: Reference = "same-epoch"
    """Which epoch of the dense network a candidate's spectrum is compared with."""
    halving: Halving = "half"
    """half keeps ceil(n/2), authors keeps floor(n/2) + 1, neither fewer than the finalists."""
    dense_seeds: int = 1
    """Dense networks trained; more than one gives the seed-to-seed distance as a noise floor."""
    space: SpaceConfig = dataclasses.field(default_factory=SpaceConfig)

    def __post_init__(self) -> None:
        """Checks every field, and that candidates differ by the time of their first score."""
        check_numbers(self)
        check_choice("metric", self.metric, choices(Metric))
        check_choice("algo", self.algo, choices(Algorithm))
        check_choice("reference", self.reference, choices(Reference))
        check_choice("halving", self.halving, choices(Halving))
        counts = ("max_evals", "e0", "ei", "final_epochs", "finalists", "ask_batch", "dense_seeds")
        for name in counts:
            check(getattr(self, name) >= 1, name, "be at least 1", getattr(self, name))
        check(0 < self.sparsity < 1, "sparsity", "lie in (0, 1)", self.sparsity)
        check(0 <= self.seed < 2**31, "seed", "lie in [0, 2^31)", self.seed)
        self._check_first_score()

    def _check_first_score(self) -> None:
        """A candidate is first scored after an update of its topology: until then all are alike."""
        updating = [every for every in self.space.update_every if every < math.inf]
        slowest = max(updating, default=0.0)
        if self.e0 <= slowest:
            raise ConfigError(
                f"`e0` must exceed `space.update_every`, got e0={self.e0} and update_every="
                f"{slowest:g}: before a topology update has taken effect all candidates of one "
                "init are the same network. Raise e0, or update within the epoch "
                "(--space.update-every=0.25)."
            )
