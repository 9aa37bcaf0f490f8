"""The published methods by name, as settings of the same controls.

| preset | source |
| --- | --- |
| `set` | Mocanu et al. 2018, Nature Communications 9 |
| `deepr` | Bellec et al. 2018, ICLR |
| `dsr` | Mostafa & Wang 2019, ICML |
| `snfs` | Dettmers & Zettlemoyer 2019, arXiv 1907.04840 |
| `rigl` | Evci et al. 2020, ICML |
| `selfish` | Liu et al. 2021, ICML (Selfish-RNN) |
| `static` | a random mask that stays |
| `gradual` | Zhu & Gupta 2017, arXiv 1710.01878 |
| `one_shot` | Han et al. 2015, NeurIPS, without the retraining |

What belongs to the optimizer is not in them: the L1 penalty and the noise of DeepR, the momentum
of SNFS, the averaging of Selfish-RNN (`lsh_jax.averaging.snt_asgd`).
"""

import dataclasses
import math
from typing import Any

from lsh_jax.config import ConfigError, SparsityConfig, check_choice

_RIGL_RATE = 0.3  # which the authors of RigL give to all methods that they compare

PRESETS: dict[str, dict[str, Any]] = {
    "set": {"init": "er", "death": "set", "death_rate": _RIGL_RATE, "schedule": "constant"},
    # Redistribution within each leaf, as in the code that DSR's authors compare with; in the paper
    # a connection returns anywhere in the network. Death ignores the rate.
    "deepr": {"death": "sign_flip", "exclude_dropped": True, "schedule": "constant"},
    "dsr": {
        "death": "threshold",
        "threshold_init": 1e-3,
        "redistribution": "survivors",
        "exclude_dropped": True,
        "death_rate": _RIGL_RATE,
        "schedule": "constant",
    },
    "snfs": {"growth": "momentum", "redistribution": "momentum"},
    "rigl": {
        "init": "erk",
        "growth": "gradient",
        "death_rate": _RIGL_RATE,
        "rate_floor": 0.0,
        "stop_fraction": 0.75,
    },
    "selfish": {"death_rate": 0.8},  # of its stacked LSTM; 0.5 for its RHN
    "static": {"death_rate": 0.0, "update_every": math.inf},
    "gradual": {"sparsity_schedule": "cubic", "death_rate": 0.0},
    "one_shot": {"init_sampling": "magnitude", "death_rate": 0.0, "update_every": math.inf},
}


def preset(name: str, **changes: Any) -> SparsityConfig:
    """The configuration of a published method.

    `horizon` is the number of updates that are planned: give yours. `rigl` stops after
    `stop_fraction` = 0.75 of it, as its authors do. `gradual` starts dense and must know it.
    `one_shot` prunes at `init`, which must see the parameters of a trained network.

    Args:
      name: of the method, see `PRESETS`.
      changes: fields of `SparsityConfig` that differ from the preset, e.g. `sparsity=0.9`.

    Raises:
      ConfigError: for an unknown name, a value out of range, or `gradual` without `horizon`.
    """
    check_choice("name", name, tuple(PRESETS))
    fields = tuple(field.name for field in dataclasses.fields(SparsityConfig))
    for change in changes:
        check_choice(f"{name} setting", change, fields)
    if name == "gradual" and "horizon" not in changes:
        raise ConfigError("`horizon` must be given for gradual, got none: the updates planned.")
    return SparsityConfig(**{**PRESETS[name], **changes})
