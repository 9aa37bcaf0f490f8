"""One configuration of dynamic sparse training."""

import dataclasses
import math
from typing import Literal

from lsh_jax.config.checks import Config, check, check_choice, check_flag, check_numbers, choices

SparseInit = Literal["uniform", "er", "erk", "given"]
Sampling = Literal["exact", "bernoulli", "magnitude"]
Death = Literal[
    "magnitude",
    "set",
    "set_authors",
    "threshold",
    "global_magnitude",
    "global_normalized",
    "taylor",
    "sign_flip",
]
Growth = Literal["random", "random_gates", "gradient", "momentum"]
Redistribution = Literal[
    "none", "none_authors", "magnitude", "nonzeros", "survivors", "momentum", "gradient"
]
Schedule = Literal["cosine", "linear", "constant"]
SparsitySchedule = Literal["constant", "cubic"]


@dataclasses.dataclass(frozen=True)
class SparsityConfig(Config):
    """One configuration of dynamic sparse training: what the search chooses."""

    sparsity: float = 0.67
    """Share of zeros over all prunable weights, in [0, 1); 1 - sparsity is the density."""
    init: SparseInit = "uniform"
    """How the live weights are shared out among the leaves; `given`: by the user's densities."""
    init_sampling: Sampling = "exact"
    """exact: so many of each leaf, at random; bernoulli: each by itself; magnitude: the largest."""
    death: Death = "magnitude"
    """Which weights are removed at a topology update."""
    growth: Growth = "random"
    """Which weights come to life in their place."""
    redistribution: Redistribution = "none"
    """How the grown weights are shared out among the leaves."""
    death_rate: float = 0.5
    """Share of the live weights removed at a topology update, in [0, 1]."""
    threshold_init: float = 0.0
    """Where the threshold of threshold death starts, >= 0; 0 for the quantile that it aims at."""
    exclude_dropped: bool = False
    """Whether weights that have just died may return only where no other dead ones are left."""
    schedule: Schedule = "cosine"
    """How the death rate falls over the topology updates."""
    rate_floor: float = 0.005
    """Where the schedule ends, in [0, 1]; a death rate below it stays as it is."""
    stop_fraction: float = 1.0
    """Part of the horizon over which the schedules run, in (0, 1]; then the topology is frozen."""
    horizon: int = 100
    """Topology updates planned, >= 1: the schedules run over `stop_fraction` of them."""
    update_every: float = 1.0
    """Epochs between topology updates: 1, a fraction of 1, or inf for a static topology; read by
    the training loop, not by `update`."""
    sparsity_schedule: SparsitySchedule = "constant"
    """constant, or cubic: from dense at the start to `sparsity` where the schedules end."""

    def __post_init__(self) -> None:
        """Checks every field."""
        check_numbers(self)
        check(0 <= self.sparsity < 1, "sparsity", "lie in [0, 1)", self.sparsity)
        for name, alias in (
            ("init", SparseInit),
            ("init_sampling", Sampling),
            ("death", Death),
            ("growth", Growth),
            ("redistribution", Redistribution),
            ("schedule", Schedule),
            ("sparsity_schedule", SparsitySchedule),
        ):
            check_choice(name, getattr(self, name), choices(alias))
        for name in ("death_rate", "rate_floor"):
            check(0 <= getattr(self, name) <= 1, name, "lie in [0, 1]", getattr(self, name))
        start = self.threshold_init
        check(0 <= start < math.inf, "threshold_init", "be 0 or above and finite", start)
        check_flag("exclude_dropped", self.exclude_dropped)
        check(0 < self.stop_fraction <= 1, "stop_fraction", "lie in (0, 1]", self.stop_fraction)
        check(self.horizon >= 1, "horizon", "be at least 1", self.horizon)
        check(self.update_every > 0, "update_every", "be above 0", self.update_every)
