"""Every setting as a frozen dataclass, checked on construction, to and from JSON."""

from lsh_jax.config.checks import (
    Config,
    ConfigError,
    check,
    check_choice,
    check_flag,
    check_numbers,
    choices,
)
from lsh_jax.config.model import Cell, ModelConfig
from lsh_jax.config.search import (
    Algorithm,
    Halving,
    Metric,
    Reference,
    SearchConfig,
    SpaceConfig,
)
from lsh_jax.config.sparsity import (
    Death,
    Growth,
    Redistribution,
    Sampling,
    Schedule,
    SparseInit,
    SparsityConfig,
    SparsitySchedule,
)
from lsh_jax.config.training import (
    Averaging,
    Precision,
    SpectrumConfig,
    SpectrumState,
    TrainConfig,
)

__all__ = (
    "Algorithm",
    "Averaging",
    "Cell",
    "Config",
    "ConfigError",
    "Death",
    "Growth",
    "Halving",
    "Metric",
    "ModelConfig",
    "Precision",
    "Redistribution",
    "Reference",
    "Sampling",
    "Schedule",
    "SearchConfig",
    "SpaceConfig",
    "SparseInit",
    "SparsityConfig",
    "SparsitySchedule",
    "SpectrumConfig",
    "SpectrumState",
    "TrainConfig",
    "check",
    "check_choice",
    "check_flag",
    "check_numbers",
    "choices",
)
