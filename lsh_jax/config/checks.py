"""Checks of settings, and configs to and from JSON."""

import dataclasses
import math
import numbers
from collections.abc import Collection, Mapping
from typing import Any, Self


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


def check_flag(name: str, value: Any) -> None:
    """Raises a `ConfigError` unless `value` is a Python bool."""
    check(isinstance(value, bool), name, "be true or false", value)


class Config:
    """To and from plain JSON values, for every dataclass of settings."""

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
    if isinstance(nested, type) and issubclass(nested, Config):
        return nested.from_json(value)
    if isinstance(value, list):
        return tuple(math.inf if inner == "inf" else inner for inner in value)
    return math.inf if value == "inf" else value
