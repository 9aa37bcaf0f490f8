"""The flags of every command on the page that has a place for them, made from what reads them.

`<!-- flags: NAME -->` on a page becomes the flags of that command, `<!-- presets -->` what each
preset sets; so neither can differ from the program.
"""

import argparse
import dataclasses
import pathlib
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import tyro

sys.path.append(str(pathlib.Path(__file__).parent))
from settings_flags import Flag, parser_flags, parser_of, parser_of_script, settings_flags

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_GROUPS = {
    "model": "the network",
    "train": "the training recipe",
    "spectrum": "the Lyapunov spectra",
    "space": "the space of candidates: one choice, or several with commas between them",
}
_PLACE = re.compile(r"^<!-- (flags: (?P<name>[\w.-]+)|presets) -->$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fills the places of a page.

    Args:
      markdown: of the page.

    Returns:
      The same with flags in the places for them.
    """
    return _PLACE.sub(_fill, markdown)


def _fill(match: re.Match[str]) -> str:
    name = match["name"]
    return _describe_presets() if name is None else "\n".join(COMMANDS[name](name))


def _search(name: str) -> Iterator[str]:
    """All flags of the search, in groups."""
    from lsh_jax.presets import PRESETS, Settings

    yield from _settings(name, Settings, PRESETS["quick"], skip=())


def _training(name: str) -> Iterator[str]:
    """The flags that the training of a dense network shares with a search, as links."""
    from lsh_jax.presets import PRESETS, TrainingSettings

    own = settings_flags(TrainingSettings, PRESETS["quick"])
    shared = [f"[`{flag.name}`](#{_anchor('search', flag.name)})" for flag in own]
    groups = [f"[`--{group}.*`](#search-{group})" for group in ("model", "train", "spectrum")]
    yield ", ".join([*shared, *groups]) + "."


def _settings(name: str, kind: type, default: Any, skip: Iterable[str]) -> Iterator[str]:
    yield from _listed(name, settings_flags(kind, default))
    for group, title in _GROUPS.items():
        nested = getattr(default, group, None)
        if nested in (None, tyro.MISSING) or group in skip:
            continue
        flags = settings_flags(type(nested), nested, f"--{group}.")
        yield f"\n#### `--{group}.*`: {title} {{: #{name}-{group} }}\n"
        yield from _listed(name, flags)


def _evaluation(name: str) -> Iterator[str]:
    from lsh_jax.cli.evaluate import EvaluationSettings

    default = EvaluationSettings(model=tyro.MISSING)
    yield from _settings(name, EvaluationSettings, default, skip=("spectrum",))
    yield "\nand [`--spectrum.*`](#search-spectrum), as for the search.\n"


def _generation(name: str) -> Iterator[str]:
    from lsh_jax.cli.generate import GenerationSettings

    yield from _settings(name, GenerationSettings, GenerationSettings(model=tyro.MISSING), ())


def _own_task(name: str) -> Iterator[str]:
    from lsh_jax.cli.own_task import OwnTaskSettings

    yield from _settings(name, OwnTaskSettings, OwnTaskSettings(), skip=("space",))
    yield "\nand [`--space.*`](#search-space), as for the search.\n"


def _studies(name: str) -> Iterator[str]:
    from lsh_jax.cli.study import StudySettings

    yield from _settings(name, StudySettings, StudySettings(), ())


def _module(name: str) -> Iterator[str]:
    from lsh_jax import export, export_model
    from lsh_jax.report.__main__ import main as report

    mains = {"report": report, "export": export.main, "export_model": export_model.main}
    yield from _listed(name, parser_flags(parser_of(lambda: mains[name]([]))))


def _script(name: str) -> Iterator[str]:
    parser: argparse.ArgumentParser = parser_of_script(str(_ROOT / "experiments" / f"{name}.py"))
    yield from _listed(name, parser_flags(parser))


def _listed(command: str, flags: Iterable[Flag]) -> Iterator[str]:
    """Flags as a list of definitions, each with an address of its own."""
    for flag in flags:
        shown = f"`{flag.name}`{{: #{_anchor(command, flag.name)} }}"
        details = [flag.values] if flag.values else []
        if flag.default is not None:
            details.append(f"default `{flag.default}`")
        if details:
            shown += f" <span class='values'>{'; '.join(details)}</span>"
        yield f"{shown}\n:   {_escape(flag.text) or '&nbsp;'}\n"


def _anchor(command: str, flag: str) -> str:
    return f"{command}-{flag.lstrip('-').replace('.', '-').lower()}"


def _escape(text: str) -> str:
    return text.replace("<", "&lt;").replace("%", "&#37;").replace("*", "\\*")


def _describe_presets() -> str:
    """A table of what the presets set, where they differ."""
    from lsh_jax.presets import PRESETS

    columns = {name: dict(_flat(settings)) for name, settings in PRESETS.items()}
    names = [n for n in columns["quick"] if len({str(own.get(n)) for own in columns.values()}) > 1]
    lines = [["flag", *(f"`{name}`" for name in columns)], ["---"] * (len(columns) + 1)]
    for name in names:
        lines.append([f"`--{name}`", *(str(own[name]) for own in columns.values())])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _flat(settings: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every setting but the preset's name, by flag."""
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        name = prefix + field.name.replace("_", "-")
        if dataclasses.is_dataclass(value):
            yield from _flat(value, f"{name}.")
        elif name != "preset":
            text = ", ".join(map(_number, value)) if isinstance(value, tuple) else _number(value)
            yield name, text


def _number(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


COMMANDS: dict[str, Callable[[str], Iterator[str]]] = {
    "search": _search,
    "train_dense": _training,
    "evaluate": _evaluation,
    "generate": _generation,
    "own_task": _own_task,
    "studies": _studies,
    "report": _module,
    "export": _module,
    "export_model": _module,
    "compare_search": _script,
    "published_trials": _script,
    "analyse_study": _script,
    "spectrum_length": _script,
}
