"""The flags of a command as data: read from the dataclass or the parser that reads them."""

import argparse
import ast
import dataclasses
import inspect
import runpy
import sys
import textwrap
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple
from unittest import mock

import tyro


class Flag(NamedTuple):
    """One flag.

    Attributes:
      name: as it is typed, with its dashes; without them where it is a place on the line.
      values: what it takes, in words; empty for a switch.
      default: as it would be typed; None where there is none.
      text: what it means.
    """

    name: str
    values: str
    default: str | None
    text: str


def settings_flags(kind: type, default: Any, prefix: str = "--") -> Iterator[Flag]:
    """The flags that tyro makes of a dataclass, without those of nested dataclasses.

    Args:
      kind: the dataclass.
      default: an instance, which says the defaults.
      prefix: of every flag, such as `--model.`.

    Yields:
      Flags, in the order of the fields.
    """
    hints = typing.get_type_hints(kind)
    texts = _texts(kind)
    for field in dataclasses.fields(kind):
        value = getattr(default, field.name)
        if dataclasses.is_dataclass(value):
            continue
        name, hint = field.name.replace("_", "-"), hints[field.name]
        text = texts.get(field.name, "")
        if value is tyro.MISSING:
            yield Flag(name.upper(), "", None, text)
        elif hint is bool:
            negated = f"{prefix}no-{name}" if value else f"{prefix}{name}"
            yield Flag(negated, "", None, text)
        else:
            yield Flag(prefix + name, _values(hint), _shown(value), text)


def parser_flags(parser: argparse.ArgumentParser) -> Iterator[Flag]:
    """The flags of an `argparse` parser."""
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction):
            continue
        name = action.option_strings[-1] if action.option_strings else action.dest.upper()
        values = "" if action.nargs == 0 else str(action.metavar or action.dest).upper()
        if action.choices:
            values = ", ".join(map(str, action.choices))
        if not action.option_strings:
            values = ""
        if action.nargs == "+" and action.option_strings:
            values += ", one or more words"
        known = action.default not in (None, False, argparse.SUPPRESS) and not action.choices
        yield Flag(name, values, _shown(action.default) if known else None, action.help or "")


def parser_of(run: Callable[[], Any]) -> argparse.ArgumentParser:
    """The parser that a command builds, caught as it is about to read the flags."""
    caught: list[argparse.ArgumentParser] = []

    def catch(parser: argparse.ArgumentParser, *_: Any) -> None:
        caught.append(parser)
        raise SystemExit

    with mock.patch.object(argparse.ArgumentParser, "parse_args", catch):
        try:
            run()
        except SystemExit:
            return caught[0]
    raise RuntimeError("the command has no parser")


def parser_of_script(path: str) -> argparse.ArgumentParser:
    """The parser of a script."""
    with mock.patch.object(sys, "argv", [path]):
        return parser_of(lambda: runpy.run_path(path, run_name="__main__"))


def _texts(kind: type) -> Mapping[str, str]:
    """What stands below each field of a dataclass, with that of the classes it extends."""
    found: dict[str, str] = {}
    for owner in reversed(kind.__mro__):
        if not dataclasses.is_dataclass(owner):
            continue
        (body,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
        assert isinstance(body, ast.ClassDef)
        for field, below in zip(body.body, body.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
                constant = below.value
                if isinstance(field.target, ast.Name) and isinstance(constant, ast.Constant):
                    found[field.target.id] = " ".join(str(constant.value).split())
    return found


def _values(hint: Any) -> str:
    """What a flag takes, in words."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return _values(arguments[0])
    if origin is typing.Literal:
        return ", ".join(map(str, arguments))
    if origin is tuple:
        return f"list of {_values(arguments[0])}"
    if arguments:  # a union; None is what stands where the flag is not given
        return " or ".join(_values(kind) for kind in arguments if kind is not type(None))
    return {int: "a whole number", float: "a number", str: "text", bool: "true, false"}[hint]


def _shown(value: Any) -> str | None:
    """A default as it would be typed."""
    if value in (None, (), [], ""):
        return None
    if isinstance(value, (tuple, list)):
        return ",".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
