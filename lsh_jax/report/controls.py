"""The controls of candidates as a report shows them: those that rule something.

The ledger has every field of a candidate's configuration. One that its other controls make idle
(the death rate of a static topology) has its default there, which nobody chose.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from lsh_jax.config import SpaceConfig
from lsh_jax.report.formatting import MISSING, setting
from lsh_jax.report.page import Block, Facts, Text
from lsh_jax.report.run import Run
from lsh_jax.search.space import matters

_ALWAYS = ("init", "death", "growth", "redistribution", "death_rate")
_OWN = tuple(field.name for field in dataclasses.fields(SpaceConfig))


def column_names(run: Run) -> list[str]:
    """The methodological controls and whatever else differs between the candidates.

    Those that rule nothing in any candidate are left out.
    """
    seen: dict[str, set[str]] = {name: set() for name in _ALWAYS}
    for history in run.candidates.values():
        for name in history[0].controls:
            if name in _OWN:
                seen.setdefault(name, set()).add(control(history[0].controls, name))
    values = {name: own - {MISSING} for name, own in seen.items()}
    differing = [name for name, own in values.items() if len(own) > 1]
    return [name for name, own in values.items() if name in differing or (name in _ALWAYS and own)]


def control(controls: Mapping[str, Any], name: str) -> str:
    """A control of a candidate, or a dash where it has none or it rules nothing."""
    return setting(controls.get(name)) if matters(name, controls) else MISSING


def heading(name: str) -> str:
    """The column of a control in a table."""
    short = {"redistribution": "redistr.", "death_rate": "#death rate"}
    return short.get(name, _words(name))


def winner_controls(run: Run) -> Iterator[Block]:
    """What was chosen for the winner, and in small print what was fixed for all."""
    controls = run.result["best"]["controls"]
    own = [name for name in controls if name in _OWN and matters(name, controls)]
    searched = [name for name in own if name in _searched(run)]
    if searched:
        yield Text("The winner's controls, of those that were searched:")
        yield Facts([(_words(name), control(controls, name)) for name in searched])
    fixed = [f"{_words(name)} {control(controls, name)}" for name in own if name not in searched]
    if fixed:
        yield Text(f"Fixed for all candidates: {', '.join(fixed)}.", "note")


def _searched(run: Run) -> list[str]:
    """The controls that had several choices; by the candidates where the settings do not tell."""
    space = run.search.get("space")
    if isinstance(space, dict):
        return [name for name, choices in space.items() if len(choices) > 1]
    values: dict[str, set[str]] = {}
    for history in run.candidates.values():
        for name, value in history[0].controls.items():
            values.setdefault(name, set()).add(str(value))
    return [name for name, own in values.items() if len(own) > 1]


def _words(name: str) -> str:
    return name.replace("_", " ")
