"""The space of candidates as data: the choices of each control, and a candidate's own seed."""

import dataclasses
import hashlib
import itertools
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from lsh_jax.config import SearchConfig, SparsityConfig

Space = Mapping[str, tuple[Any, ...]]  # control -> its choices, in the order of SpaceConfig
Assignment = dict[str, Any]  # control -> the value chosen


def make_space(config: SearchConfig) -> Space:
    """The choices of every control of the search."""
    fields = dataclasses.fields(config.space)
    return {field.name: getattr(config.space, field.name) for field in fields}


def size(space: Space) -> int:
    """Number of distinct configurations in the space."""
    return math.prod(len(values) for values in space.values())


def pool_size(config: SearchConfig) -> int:
    """Candidates in the pool: `max_evals`, or the whole space where that is smaller."""
    return min(config.max_evals, size(make_space(config)))


def assignments(space: Space) -> Iterator[Assignment]:
    """All configurations, the last control varying fastest."""
    for values in itertools.product(*space.values()):
        yield dict(zip(space, values, strict=True))


def sparsity_config(assignment: Assignment, config: SearchConfig) -> SparsityConfig:
    """The full configuration of a candidate.

    The schedule's horizon is the number of updates up to `final_epochs`, during screening too.
    """
    every = assignment["update_every"]
    horizon = 1 if math.isinf(every) else max(1, round(config.final_epochs / every))
    return SparsityConfig(sparsity=config.sparsity, horizon=horizon, **assignment)


def candidate_seed(controls: Mapping[str, Any], seed: int) -> int:
    """The seed of a candidate's masks and growth, in [0, 2^31).

    A hash of its configuration and of the run's seed: the same candidate gets the same masks
    whenever, wherever and in whatever order it is trained.
    """
    text = json.dumps([dict(controls), seed], sort_keys=True)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little") >> 1
