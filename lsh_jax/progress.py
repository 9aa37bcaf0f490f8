"""Tells what a search is doing: bars on a terminal, one line an event elsewhere."""

import contextlib
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from lsh_jax.search.ledger import Record, perplexity

_LONG_SEGMENT = 60.0  # seconds, from which on a log has a line a segment

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
    with _bars(stream) as bar:
        console = bar.console
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


@contextlib.contextmanager
def training_progress(
    total_epochs: int,
    epochs_done: int,
    segments_per_epoch: int,
    tokens_per_epoch: int,
    unigram_perplexity: float | None,
    stream: TextIO | None = None,
) -> Iterator[Listener]:
    """Shows the events of `train_dense`: a line an epoch, and one a segment where these are long.

    Args:
      total_epochs: of the plan.
      epochs_done: of them, before this start.
      segments_per_epoch: for the bar of the epoch under way.
      tokens_per_epoch: for the speed.
      unigram_perplexity: printed beside the perplexities; None where there is none.
      stream: standard output if not given.

    Yields:
      The listener to hand to `train_dense`.
    """
    with _bars(stream) as bar:
        console = bar.console
        total = total_epochs * segments_per_epoch
        done = epochs_done * segments_per_epoch
        segments = bar.add_task("segments", total=total, completed=done, note="")
        seconds: list[float] = []  # of segments, with what stands between them
        started = time.perf_counter()

        def listener(kind: str, values: Mapping[str, Any]) -> None:
            nonlocal started
            if kind == "segment":
                now = time.perf_counter()
                seconds.append(max(now - started, 1e-9))
                started = now
                done = (values["epoch"] - 1) * segments_per_epoch + values["done"]
                left = segment_time_left(seconds, total - done, segments_per_epoch)
                speed = tokens_per_epoch / segments_per_epoch / seconds[-1]
                note = f"epoch {values['epoch']}: {speed:,.0f} tokens per second; {left}"
                bar.update(segments, completed=done, note=note)
                if not console.is_terminal and seconds[-1] > _LONG_SEGMENT:
                    place = f"{values['done']}/{segments_per_epoch}"
                    console.print(f"  segment {place} of {note}", markup=False)
            elif kind == "record":
                record: Record = values["record"]
                segments_left = (total_epochs - record.epoch) * segments_per_epoch
                left = segment_time_left(seconds, segments_left, segments_per_epoch)
                text = describe_training(record, tokens_per_epoch, unigram_perplexity)
                console.print(f"[{record.epoch}/{total_epochs}] {text}; {left}", markup=False)
            elif kind == "notice":
                console.print(f"Note: {values['text']}.", markup=False)

        yield listener


def _bars(stream: TextIO | None) -> Progress:
    """Bars that are seen on a terminal alone, over a console that prints lines anywhere."""
    console = Console(file=stream or sys.stdout, highlight=False, soft_wrap=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
    )
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def describe_training(
    record: Record, tokens_per_epoch: int, unigram_perplexity: float | None
) -> str:
    """One line on an epoch of a network that is trained alone."""
    text = "training perplexity "
    trained = None if record.train_nll is None else perplexity(record.train_nll)
    text += "beyond numbers" if trained is None else f"{trained:.1f}"
    text += f", validation perplexity {_perplexity(record)}"
    if record.averaging:
        text += " of averaged weights"
    if unigram_perplexity is not None:
        text += f" (unigram {unigram_perplexity:.0f})"
    wall = record.wall_s or 0.0
    speed = f", {tokens_per_epoch / wall:,.0f} tokens per second" if wall else ""
    return f"{text}, {duration(wall)}{speed}"


def segment_time_left(seconds: list[float], segments_left: int, segments_per_epoch: int) -> str:
    """The time that is left, from the seconds of the segments so far.

    The mean of the last epoch's, of which one has an evaluation before it, without the first of
    all, which also compiles.
    """
    if segments_left <= 0:
        return "nothing left but the test"
    if len(seconds) < 2:
        return "time left known after the next segment"
    recent = seconds[1:][-segments_per_epoch:]
    return f"{about(statistics.fmean(recent) * segments_left)} left"


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
    return f"{about(statistics.median(seconds[1:]) * epochs_left)} left"


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


def about(seconds: float) -> str:
    """Seconds as an estimate."""
    return duration(seconds) if seconds < 1 else f"about {duration(seconds)}"


def _perplexity(record: Record) -> str:
    return "beyond numbers" if record.val_perplexity is None else f"{record.val_perplexity:.1f}"


def _name(trial: int | str) -> str:
    return str(trial) if isinstance(trial, str) else f"candidate {trial}"
