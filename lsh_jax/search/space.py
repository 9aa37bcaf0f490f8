"""The space of candidates as data: choices, what depends on what, and a candidate's own seed.

Gradual pruning (`sparsity_schedule="cubic"`) is no control of a search: on the way down a
candidate holds more weights than were asked for, so that early scores and best epochs would
compare networks of unequal size.
"""

import dataclasses
import hashlib
import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from lsh_jax.config import ConfigError, SearchConfig, SpaceConfig, SparsityConfig
from lsh_jax.types import Hyper

Assignment = dict[str, Any]  # active control -> the value chosen, in the order of the space


class Condition(NamedTuple):
    """Where a control matters: its parent does, and has one of some values, or none of them."""

    parent: str
    only: tuple[Any, ...] = ()
    unless: tuple[Any, ...] = ()

    def holds(self, value: Any) -> bool:
        """Whether the parent's value is one of those."""
        return value in self.only if self.only else value not in self.unless


_DYNAMIC = Condition("update_every", unless=(math.inf,))  # a static topology is never updated
_AT_A_RATE = Condition("death", unless=("sign_flip",))  # whose number of deaths is not chosen
CONDITIONS: Mapping[str, Condition] = {
    "death": _DYNAMIC,
    "growth": _DYNAMIC,
    "redistribution": _DYNAMIC,
    "exclude_dropped": _DYNAMIC,
    "death_rate": _AT_A_RATE,
    "schedule": _AT_A_RATE,
    "stop_fraction": _DYNAMIC,
    "rate_floor": Condition("schedule", unless=("constant",)),
    "threshold_init": Condition("death", only=("threshold",)),
}


class Space(NamedTuple):
    """What may be chosen.

    Attributes:
      choices: of each control, in the order of `SpaceConfig`.
      conditions: of the controls that do not always matter; a parent stands in `choices` too.
    """

    choices: Mapping[str, tuple[Any, ...]]
    conditions: Mapping[str, Condition] = {}


def make_space(config: SearchConfig) -> Space:
    """The choices of every control of the search; hyperparameters only where some are given."""
    fields = dataclasses.fields(config.space)
    choices = {field.name: getattr(config.space, field.name) for field in fields}
    return Space({name: values for name, values in choices.items() if values}, CONDITIONS)


def roots(space: Space) -> list[str]:
    """The controls that always matter."""
    return [name for name in space.choices if name not in space.conditions]


def children(space: Space, parent: str, value: Any) -> list[str]:
    """The controls that matter because `parent` has this value."""
    found = []
    for name in space.choices:
        condition = space.conditions.get(name)
        if condition is not None and condition.parent == parent and condition.holds(value):
            found.append(name)
    return found


def in_play(space: Space) -> list[str]:
    """The controls that matter in some configuration, in the order of the space."""
    found: set[str] = set()
    names = roots(space)
    while names:
        found.update(names)
        values = ((name, value) for name in names for value in space.choices[name])
        below = itertools.chain.from_iterable(children(space, *pair) for pair in values)
        names = [name for name in below if name not in found]
    return [name for name in space.choices if name in found]


def matters(name: str, controls: Mapping[str, Any]) -> bool:
    """Whether a control rules anything of a candidate.

    Args:
      name: of the control.
      controls: all of the candidate's, as the ledger has them.
    """
    condition = CONDITIONS.get(name)
    if condition is None or condition.parent not in controls:
        return True
    value = controls[condition.parent]
    value = math.inf if value == "inf" else value
    return matters(condition.parent, controls) and condition.holds(value)


def size(space: Space) -> int:
    """Number of distinct configurations in the space."""

    def count(names: Iterable[str]) -> int:
        return math.prod(
            sum(count(children(space, name, value)) for value in space.choices[name])
            for name in names
        )

    return count(roots(space))


def tried(config: SearchConfig) -> list[Space]:
    """The space of each candidate that the pool begins with: what it names is fixed.

    Raises:
      ConfigError: when it names what is not in the search's space.
    """
    space = make_space(config)
    named = [_named(space, text) for text in config.try_first]
    return [space._replace(choices={**space.choices, **own}) for own in named]


def _named(space: Space, text: str) -> dict[str, tuple[Any, ...]]:
    """The controls that a text like "death=set,death_rate=0.5" names, each with its one choice."""
    named: dict[str, tuple[Any, ...]] = {}
    for part in text.split(","):
        name, equals, value = part.strip().partition("=")
        name = name.replace("-", "_")
        if not equals or name not in space.choices:
            known = ", ".join(name for name in space.choices if len(space.choices[name]) > 1)
            raise ConfigError(
                f"`try_first` must hold control=value with controls of the space, got {text!r}: "
                f"there are {known}."
            )
        choices = [choice for choice in space.choices[name] if _is_written(choice, value)]
        if not choices:
            offered = ", ".join(map(str, space.choices[name]))
            raise ConfigError(
                f"`try_first` must name choices of the space, got {part.strip()!r}: "
                f"space.{name} has {offered}."
            )
        named[name] = (choices[0],)
    return named


def _is_written(choice: Any, text: str) -> bool:
    """Whether a text means a choice."""
    if isinstance(choice, (str, bool)):
        return text.lower() == str(choice).lower()
    try:
        return float(text) == choice
    except ValueError:
        return False


def pool_size(config: SearchConfig) -> int:
    """Candidates in the pool: `max_evals`, or the whole space where that is smaller."""
    return min(config.max_evals, size(make_space(config)))


def assignments(space: Space) -> Iterator[Assignment]:
    """All distinct configurations."""

    def expand(names: list[str]) -> Iterator[Assignment]:
        for parts in itertools.product(*([*choose(name)] for name in names)):
            yield {name: value for part in parts for name, value in part.items()}

    def choose(name: str) -> Iterator[Assignment]:
        for value in space.choices[name]:
            for below in expand(children(space, name, value)):
                yield {name: value, **below}

    for assignment in expand(roots(space)):
        yield in_order(space, assignment)


def in_order(space: Space, assignment: Assignment) -> Assignment:
    """The same assignment, its controls in the order of the space."""
    return {name: assignment[name] for name in space.choices if name in assignment}


def sparsity_config(assignment: Assignment, config: SearchConfig) -> SparsityConfig:
    """The full configuration of a candidate; controls that do not matter have their defaults.

    The schedule's horizon is the number of updates up to `final_epochs`, during screening too.
    """
    every = assignment["update_every"]
    horizon = 1 if math.isinf(every) else max(1, round(config.final_epochs / every))
    own = {name: value for name, value in assignment.items() if name not in Hyper._fields}
    return SparsityConfig(sparsity=config.sparsity, horizon=horizon, **own)


def hyper(assignment: Mapping[str, Any]) -> dict[str, float]:
    """The hyperparameters among the controls of a candidate."""
    return {name: value for name, value in assignment.items() if name in Hyper._fields}


def candidate_seed(controls: Mapping[str, Any], seed: int) -> int:
    """The seed of a candidate's masks and growth, in [0, 2^31).

    A hash of its sparsity configuration and of the run's seed: the same candidate gets the same
    masks whenever, wherever and in whatever order it is trained, and whatever its learning rate.
    """
    text = json.dumps([dict(controls), seed], sort_keys=True)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little") >> 1


def check_space(
    space: SpaceConfig, *, momentum: bool, gates: bool = True, matrices: bool = False
) -> None:
    """Refuses modes that a task cannot serve.

    Args:
      space: the choices.
      momentum: whether its optimizer keeps one.
      gates: whether there are several side by side in any of its matrices.
      matrices: whether all its prunable leaves have two axes.

    Raises:
      ConfigError: when a candidate would grow or redistribute by a momentum that there is not, or
        when growth by gates or init by kernels would be another mode under a second name.
    """
    if matrices and {"er", "erk"} <= set(space.init):
        raise ConfigError(
            "`space.init` must not hold both er and erk where all prunable weights are matrices: "
            "they are the same there, and candidates would be trained twice. Leave erk out."
        )
    if all(map(math.isinf, space.update_every)):
        return
    if not gates and {"random", "random_gates"} <= set(space.growth):
        raise ConfigError(
            "`space.growth` must not hold both random and random_gates for a cell without gates, "
            "where they are the same. Leave random_gates out."
        )
    for name in ("growth", "redistribution"):
        if not momentum and "momentum" in getattr(space, name):
            raise ConfigError(
                f"`space.{name}` must be without momentum where training has none, got "
                f"{','.join(getattr(space, name))} and train.momentum=0. Set "
                "--train.momentum=0.9, or leave that mode out."
            )
