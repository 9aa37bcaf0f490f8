"""The space of candidates, and how it is searched."""

import dataclasses
import math
from typing import Literal

from lsh_jax.config.checks import (
    Config,
    ConfigError,
    check,
    check_choice,
    check_numbers,
    choices,
)
from lsh_jax.config.sparsity import (
    Death,
    Growth,
    Redistribution,
    Sampling,
    Schedule,
    SparseInit,
    SparsityConfig,
)
from lsh_jax.config.training import TrainConfig
from lsh_jax.types import Hyper

Metric = Literal["ls", "loss", "death-rate", "none"]
Algorithm = Literal["tpe", "random", "grid", "anneal"]
Reference = Literal["same-epoch", "final", "same-loss"]
Halving = Literal["half", "authors", "eta"]


@dataclasses.dataclass(frozen=True)
class SpaceConfig(Config):
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
    """Share of the live weights removed at an update, at first; it falls as `schedule` says."""
    update_every: tuple[float, ...] = (1.0,)
    """Epochs between topology updates: 1, a fraction of 1, or inf for a static topology."""
    init_sampling: tuple[Sampling, ...] = ("exact",)
    """exact: so many of a matrix, at random; bernoulli: each by itself; magnitude: the largest."""
    threshold_init: tuple[float, ...] = (0.0,)
    """Where the threshold of threshold death starts; 0 for the quantile that it aims at."""
    exclude_dropped: tuple[bool, ...] = (False,)
    """Whether weights that have just died stay dead for an update."""
    schedule: tuple[Schedule, ...] = ("cosine",)
    """How the death rate falls over the topology updates."""
    rate_floor: tuple[float, ...] = (0.005,)
    """Where the schedule of the death rate ends."""
    stop_fraction: tuple[float, ...] = (1.0,)
    """Part of training after which the topology is frozen."""
    learning_rate: tuple[float, ...] = ()
    """Step sizes to choose among; none to take that of the recipe, as for those below."""
    clip: tuple[float, ...] = ()
    """Largest norms of the gradient."""
    weight_decay: tuple[float, ...] = ()
    """Coefficients of the L2 penalty's gradient."""
    dropout_embed: tuple[float, ...] = ()
    """Rates at which whole words lose their embedding."""
    dropout_input: tuple[float, ...] = ()
    """Rates for elements of the embedded input."""
    dropout_hidden: tuple[float, ...] = ()
    """Rates for elements between the layers."""
    dropout_output: tuple[float, ...] = ()
    """Rates for elements of the last layer's output."""

    def __post_init__(self) -> None:
        """Checks that every control has a choice, named once and valid."""
        for field in dataclasses.fields(self):
            name, values = field.name, getattr(self, field.name)
            owner = TrainConfig if name in Hyper._fields else SparsityConfig
            check(isinstance(values, tuple), f"space.{name}", "be a tuple", values)
            if owner is SparsityConfig:
                check(len(values) > 0, f"space.{name}", "name at least one choice", values)
            distinct = len(set(values)) == len(values)
            check(distinct, f"space.{name}", "name each choice once", values)
            for value in values:
                plain = isinstance(value, (str, int, float))  # JSON knows no other numbers
                check(plain, f"space.{name}", "hold plain Python values", value)
                owner(**{name: value})
        self._check_modes()

    def _check_modes(self) -> None:
        """Refuses what a search cannot offer, and choices that are one and the same."""
        if "given" in self.init:
            raise ConfigError(
                "`space.init` must not be given in a search: densities of the leaves are an "
                "argument of `dynamic_sparsity`. Take uniform, er or erk."
            )
        others = [mode for mode in self.death if mode != "threshold"]
        if others and {"none", "none_authors"} <= set(self.redistribution):
            raise ConfigError(
                "`space.redistribution` must not hold both none and none_authors with "
                f"space.death={','.join(others)}: they differ after threshold death alone, and "
                "one candidate would be trained twice. Name one of them."
            )
        by_rate = [mode for mode in self.death if mode not in ("threshold", "sign_flip")]
        if self.death_rate == (0,) and by_rate and not all(map(math.isinf, self.update_every)):
            raise ConfigError(
                f"`space.death_rate` must hold more than 0 with space.death={','.join(by_rate)}, "
                "which then removes nothing: for static topologies take "
                "--space.update-every=inf."
            )


@dataclasses.dataclass(frozen=True)
class SearchConfig(Config):
    """How candidates are proposed, scored, halved and trained to the end."""

    metric: Metric = "ls"
    """What candidates are judged by: LS distance, validation loss, death rate alone, or chance."""
    algo: Algorithm = "tpe"
    """How candidates are proposed."""
    max_evals: int = 40
    """Distinct configurations in the pool."""
    e0: int = 3
    """Epochs before the first score."""
    ei: int = 3
    """Epochs more in each round of halving."""
    final_epochs: int = 100
    """Epochs in all for the dense network and for each finalist."""
    finalists: int = 2
    """Candidates trained to the end."""
    sparsity: float = 0.67
    """Share of zeros over all prunable weights, in (0, 1)."""
    seed: int = 0
    """Of proposals, masks and growth, in [0, 2^31)."""
    ask_batch: int = 4
    """Proposals asked for at a time; part of the search, not of the machine."""
    reference: Reference = "same-epoch"
    """Which epoch of the dense network a candidate's spectrum is compared with."""
    halving: Halving = "half"
    """half keeps ceil(n/2), authors floor(n/2) + 1, eta ceil(n/eta), none fewer than finalists."""
    eta: int = 3
    """What a round divides the number of candidates by, with halving=eta."""
    dense_seeds: int = 1
    """Dense networks trained; more than one gives the seed-to-seed distance as a noise floor."""
    try_first: tuple[str, ...] = ()
    """Candidates that the pool begins with, each as "death=set,death_rate=0.5"; controls that are
    not named are drawn at random."""
    settled_after: int = 0
    """The pool is closed once the best score is so many distinct candidates old; 0 to fill it."""
    space: SpaceConfig = dataclasses.field(default_factory=SpaceConfig)
    """What candidates are chosen among."""

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
        check(self.eta >= 2, "eta", "be at least 2", self.eta)
        check(self.settled_after >= 0, "settled_after", "be at least 0", self.settled_after)
        texts = isinstance(self.try_first, tuple) and all(
            isinstance(t, str) for t in self.try_first
        )
        check(texts, "try_first", "be a tuple of texts", self.try_first)
        few = len(self.try_first) <= self.max_evals
        check(few, "try_first", f"name at most max_evals={self.max_evals}", self.try_first)
        check(0 < self.sparsity < 1, "sparsity", "lie in (0, 1)", self.sparsity)
        check(0 <= self.seed < 2**31, "seed", "lie in [0, 2^31)", self.seed)
        self._check_first_score()
        updating = any(every < math.inf for every in self.space.update_every)
        if self.metric == "death-rate" and updating and "sign_flip" in self.space.death:
            raise ConfigError(
                "`metric` death-rate needs a death rate, which space.death=sign_flip has not: as "
                "many weights die as change sign. Leave sign_flip out, or take another metric."
            )

    def _check_first_score(self) -> None:
        """A candidate is first scored after an update of its topology, in which its rules show."""
        updating = [every for every in self.space.update_every if every < math.inf]
        slowest = max(updating, default=0.0)
        if self.e0 <= slowest:
            raise ConfigError(
                f"`e0` must exceed `space.update_every`, got e0={self.e0} and update_every="
                f"{slowest:g}: before a topology update has taken effect candidates differ by "
                "chance, not by their rules. Raise e0, or update within the epoch "
                "(--space.update-every=0.25)."
            )
