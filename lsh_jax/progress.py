"""Tells what a search is doing: bars on a terminal, one line an event elsewhere."""

import contextlib
import math
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from lsh_jax.search.ledger import Record

Listener = Callable[[str, Mapping[str, Any]], None]


@contextlib.contextmanager
def progress(
    total_epochs: int,
    segments_per_epoch: int,
    unigram_perplexity: float | None,
    stream: TextIO | None = None,
) -> Iterator[Listener]:
    """Shows the events of `hyperprune`.

    Args:
      total_epochs: that the plan holds, the dense network's and its tuning's among them.
      segments_per_epoch: for the bar of the epoch under way.
      unigram_perplexity: printed beside the perplexities; None where there is none.
      stream: standard output if not given.

    Yields:
      The listener to hand to `hyperprune`.
    """
    console = Console(file=stream or sys.stdout, highlight=False, soft_wrap=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        search = bar.add_task("search, epochs", total=total_epochs, note="")
        epoch = bar.add_task("this epoch", total=segments_per_epoch, note="")
        seconds: list[float] = []

        def listener(kind: str, values: Mapping[str, Any]) -> None:
            if kind == "segment":
                note = f"{_name(values['trial'])}, epoch {values['epoch']}"
                bar.update(epoch, completed=values["done"], note=note)
            elif kind == "done":
                bar.update(search, completed=values["epochs"])
            elif kind == "record":
                record: Record = values["record"]
                if record.duplicate_of is None:
                    bar.advance(search)
                    seconds.append(record.wall_s or 0.0)
                left = time_left(seconds, total_epochs - int(bar.tasks[0].completed))
                bar.update(search, note=left)
                done = f"[{int(bar.tasks[0].completed)}/{total_epochs}]"
                console.print(
                    f"{done} {describe(record, unigram_perplexity)}; {left}", markup=False
                )
            elif kind == "round":
                console.print(describe_round(values))
            elif kind == "notice":
                console.print(f"Note: {values['text']}.", markup=False)

        yield listener


def describe(record: Record, unigram_perplexity: float | None) -> str:
    """One line on an epoch of a network."""
    name = f"{_name(record.trial)}, epoch {record.epoch}"
    if record.status == "failed":
        return f"{name}: failed, {record.reason}"
    if record.duplicate_of is not None:
        return f"{name}: the configuration of candidate {record.duplicate_of} again, not trained"
    text = f"{name}: validation perplexity {_perplexity(record)}"
    if unigram_perplexity is not None:
        text += f" (unigram {unigram_perplexity:.0f})"
    if record.ls_distance is not None:
        text += f", LS distance {record.ls_distance:.3f}"
        if record.ls_std_error is not None:
            text += f" ± {record.ls_std_error:.3f}"
    return text + f", {record.wall_s:.1f} s"


def describe_round(values: Mapping[str, Any]) -> str:
    """One line on a round of halving: who entered, who goes on."""
    entered, survivors = values["entered"], values["survivors"]
    kept = ", ".join(map(str, survivors))
    tuning = values.get("tuning")
    name, entrants = ("Tuning, round", "trials") if tuning else ("Round", "candidates")
    text = f"{name} {values['round']}, epoch {values['epochs']}: {len(entered)} {entrants} scored"
    if len(survivors) == len(entered):
        return f"{text}, none cut: {kept}"
    return f"{text}, {len(survivors)} go on: {kept}"


def time_left(seconds: list[float], epochs_left: int) -> str:
    """The time that is left, from the seconds of the epochs so far.

    The median of all but the first, which also compiles.
    """
    if epochs_left <= 0:
        return "nothing left but the report"
    if len(seconds) < 2:
        return "time left known after the next epoch"
    return f"about {duration(statistics.median(seconds[1:]) * epochs_left)} left"


def duration(seconds: float) -> str:
    """Seconds as a person would say them."""
    if seconds < 1:
        return "under 1 s"
    if not math.isfinite(seconds) or seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"


def _perplexity(record: Record) -> str:
    return "beyond numbers" if record.val_perplexity is None else f"{record.val_perplexity:.1f}"


def _name(trial: int | str) -> str:
    return str(trial) if isinstance(trial, str) else f"candidate {trial}"
