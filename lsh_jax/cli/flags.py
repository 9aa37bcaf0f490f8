"""Flags of a command: read over the preset that they name, and named in messages as typed."""

import dataclasses
import itertools
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

S = TypeVar("S")  # a frozen dataclass of settings

_PATHS = ("out", "cache_dir", "dense", "data_dir")
_GROUPS = ("model", "train", "spectrum", "space")


def read_flags(arguments: Sequence[str], default: S, prog: str) -> S:
    """Reads flags over `default`.

    Args:
      arguments: without the program's name.
      default: settings; what no flag names stays as it is here.
      prog: the program's name, for --help.

    Raises:
      SystemExit: with status 2 and a message on bad flags; with 0 after --help.
    """
    import tyro

    kind = type(default)
    return tyro.cli(
        kind,
        prog=prog,
        description=kind.__doc__,
        default=default,
        args=[*_split_unknown(_split_sets(arguments), set(_flags(kind)))],
        config=(tyro.conf.FlagCreatePairsOff, tyro.conf.HelptextFromCommentsOff),
    )


def given(arguments: Sequence[str], name: str) -> str:
    """The value of a flag before the flags are parsed, the last if there are two; or nothing."""
    value = ""
    for word, following in itertools.pairwise([*arguments, ""]):
        flag, equals, attached = word.partition("=")
        if flag.replace("_", "-") == f"--{name}":
            value = attached if equals else following
    return value


def expand_users(settings: S) -> S:
    """Reads `~` in paths, which a shell leaves alone behind `--flag=`."""
    paths = {name: getattr(settings, name, None) for name in _PATHS}
    expanded: dict[str, Any] = {
        name: str(pathlib.Path(path).expanduser()) for name, path in paths.items() if path
    }
    return dataclasses.replace(settings, **expanded)  # type: ignore[type-var]


def with_flags(message: str, settings: type) -> str:
    """Names settings in a message as the flags that the user typed.

    Args:
      message: with names of settings in backticks.
      settings: the dataclass that the flags were read into.
    """
    fields: dict[str, Any] = {field.name: field for field in dataclasses.fields(settings)}
    flags = {name: f"--{name}" for name in fields}
    for group in _GROUPS:
        nested = getattr(fields.get(group), "default_factory", None)
        for field in dataclasses.fields(nested) if dataclasses.is_dataclass(nested) else ():
            flags.setdefault(field.name, f"--{group}.{field.name}")
            flags[f"{group}.{field.name}"] = f"--{group}.{field.name}"

    def flag(match: re.Match[str]) -> str:
        return flags.get(match[1], match[0]).replace("_", "-")

    return re.sub(r"`([a-z0-9_.]+)`", flag, message)


def _split_sets(arguments: Sequence[str]) -> list[str]:
    """Turns the comma lists of --space.* into the separate words that tyro reads.

    It knows True and False by these spellings alone; true and false are meant as well. --try is
    --try-first, as no field can be called `try`.
    """
    split: list[str] = []
    in_space = False
    for argument in arguments:
        if argument.startswith("--"):
            flag, equals, value = argument.partition("=")
            if flag == "--try":
                flag = "--try-first"
                argument = flag + equals + value
            in_space = flag.startswith("--space.")
            split += [flag, *_words(value)] if in_space and equals else [argument]
        else:
            split += _words(argument) if in_space else [argument]
    return split


def _split_unknown(arguments: Sequence[str], known: set[str]) -> Iterator[str]:
    """Parts unknown flags from their values, without which tyro finds the flag that was meant."""
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        if equals and flag.startswith("--") and flag.replace("_", "-") not in known:
            yield from (flag, value)
        else:
            yield argument


def _flags(settings: type, prefix: str = "--") -> Iterator[str]:
    """The flags that a dataclass is read from."""
    fields: tuple[dataclasses.Field[Any], ...] = dataclasses.fields(settings)
    for field in fields:
        name = prefix + field.name.replace("_", "-")
        nested: Any = field.default_factory
        if dataclasses.is_dataclass(nested):
            yield from _flags(nested, f"{name}.")  # type: ignore[arg-type]
        else:
            yield name


def _words(values: str) -> list[str]:
    return [value.title() if value in ("true", "false") else value for value in values.split(",")]
