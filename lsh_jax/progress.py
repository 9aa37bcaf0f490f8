"""Tells what a search is doing: bars and a table on a terminal, one line an event elsewhere."""

import contextlib
import dataclasses
import pathlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from lsh_jax import live_table, pace
from lsh_jax.config import SearchConfig
from lsh_jax.pace import about, duration, segment_time_left, time_left
from lsh_jax.search.ledger import Ledger, Record, TrialId, perplexity
from lsh_jax.search.measure import PERPLEXITY, Measure
from lsh_jax.search.run_directory import LEDGER
from lsh_jax.search.successive_halving import num_epochs, plan
from lsh_jax.search.task import Task
from lsh_jax.search.tuning import epochs_tuning

__all__ = [
    "Listener",
    "about",
    "both",
    "describe",
    "describe_round",
    "describe_training",
    "duration",
    "progress",
    "records_so_far",
    "search_progress",
    "segment_time_left",
    "time_left",
    "training_progress",
]

_LONG_SEGMENT = 60.0  # seconds, from which on a log has a line a segment
_LINES_BESIDE = 7  # of a terminal: two bars, blank, head and rule of the table, two to print on
_PER_SECOND = 2  # times that a terminal is drawn

Listener = Callable[[str, Mapping[str, Any]], None]


@contextlib.contextmanager
def search_progress(
    task: Task, config: SearchConfig, stream: TextIO | None = None
) -> Iterator[Listener]:
    """Shows the events of the search of a task, of which `hyperprune` itself prints nothing.

    `with search_progress(task, config) as shown: hyperprune(task, config, on_event=shown)`; see
    `progress` for what is shown.

    Args:
      task: that is searched.
      config: of the search, its dense networks trained by itself.
      stream: standard output if not given.

    Yields:
      The listener to hand to `hyperprune`.
    """
    own = num_epochs(config, plan(config)) + epochs_tuning(config)
    baseline = task.measure.of((task.baseline_nll or {}).get("validation"))
    sizes = own + config.dense_seeds * config.final_epochs, task.segments_per_epoch, baseline
    with progress(*sizes, stream, measure=task.measure) as listener:
        yield listener


@contextlib.contextmanager
def progress(
    total_epochs: int,
    segments_per_epoch: int,
    baseline: float | None,
    stream: TextIO | None = None,
    *,
    records: Iterable[Record] = (),
    measure: Measure = PERPLEXITY,
) -> Iterator[Listener]:
    """Shows the events of `hyperprune`.

    A terminal has two bars and the table of the networks in play below the lines on rounds, notices
    and failures; the table stays at the end. Elsewhere every event of note is one line.

    Args:
      total_epochs: that the plan holds, the dense network's and its tuning's among them.
      segments_per_epoch: for the bar of the epoch under way.
      baseline: printed beside the values of the measure; None where there is none.
      stream: standard output if not given.
      records: of a run that is resumed, for the table, see `records_so_far`.
      measure: of the task.

    Yields:
      The listener to hand to `hyperprune`.
    """
    bar = _bars(stream)
    console = bar.console
    bar.add_task("search, epochs", total=total_epochs, note="")
    bar.add_task("this epoch", total=segments_per_epoch, note="", visible=False)
    course = _Course()
    for record in records:
        networks = live_table.followed(course.networks, "record", {"record": record}, 0.0)
        course = course._replace(networks=networks)

    def listener(kind: str, values: Mapping[str, Any]) -> None:
        nonlocal course
        course = _after(course, kind, values)
        left = pace.search_time_left(course.speed, total_epochs - course.epochs)
        _move(bar, kind, values, course, left)
        text = _line(kind, values, baseline, measure)
        if not bar.disable:
            text = "" if _is_routine(kind, values) else live_table.one_line(text)
        elif kind == "record":
            text = f"[{course.epochs}/{total_epochs}] {text}; {left}"
        if text:
            console.print(text, markup=False)

    def drawn() -> Group:
        rows = console.height - _LINES_BESIDE
        now = time.perf_counter()
        table = live_table.network_table(course.networks, now, rows, measure)
        return Group(bar, "", table)

    with contextlib.ExitStack() as stack:
        if not bar.disable:
            live = Live(console=console, get_renderable=drawn, refresh_per_second=_PER_SECOND)
            stack.enter_context(live)
            stack.callback(bar.update, bar.tasks[1].id, visible=False)
        yield listener


class _Course(NamedTuple):
    """What is known of a search from its events."""

    networks: Mapping[TrialId, live_table.Network] = {}
    speed: pace.Pace = pace.Pace()
    epochs: int = 0  # done


def _after(course: _Course, kind: str, values: Mapping[str, Any]) -> _Course:
    now = time.perf_counter()
    epochs = course.epochs
    if kind == "done":
        epochs = values["epochs"]
    elif kind == "record" and values["record"].duplicate_of is None:
        epochs += 1
    return _Course(
        networks=live_table.followed(course.networks, kind, values, now),
        speed=pace.followed(course.speed, kind, values, now),
        epochs=epochs,
    )


def _move(bar: Progress, kind: str, values: Mapping[str, Any], course: _Course, left: str) -> None:
    """Moves the bars of a search after an event: of all epochs, and of one where but one runs."""
    search, epoch = (task.id for task in bar.tasks)
    if kind in ("started", "segment"):  # of processes of their own no segments are told
        note = f"{_name(values['trial'])}, epoch {values['epoch']}"
        alone = course.speed.at_a_time == 1
        bar.update(epoch, completed=values.get("done", 0), note=note, visible=alone)
    elif kind in ("done", "record"):
        bar.update(search, completed=course.epochs, note=left if kind == "record" else "")


def _line(kind: str, values: Mapping[str, Any], baseline: float | None, measure: Measure) -> str:
    """The line on an event; empty for one without."""
    if kind == "record":
        return describe(values["record"], baseline, measure)
    if kind == "round":
        return describe_round(values)
    return f"Note: {values['text']}." if kind == "notice" else ""


def _is_routine(kind: str, values: Mapping[str, Any]) -> bool:
    """Whether the table says what a line would: an epoch that went well."""
    return kind == "record" and values["record"].status == "ok"


def both(first: Listener, second: Listener) -> Listener:
    """A listener that tells two others."""

    def listener(kind: str, values: Mapping[str, Any]) -> None:
        first(kind, values)
        second(kind, values)

    return listener


def records_so_far(run: pathlib.Path) -> list[Record]:
    """What a run has on record, under the names by which its listeners are told of it.

    Args:
      run: the run directory; it need not be there yet.

    Returns:
      The records of the dense network's tuning, then those of the search.
    """
    tuning = Ledger(run / "tuning" / LEDGER).records()
    renamed = [dataclasses.replace(r, trial=f"tuning-{r.trial}") for r in tuning]
    return renamed + Ledger(run / LEDGER).records()


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
        TextColumn("{task.fields[note]}", markup=False),
    )
    moves = console.is_terminal and not console.is_dumb_terminal
    return Progress(*columns, console=console, transient=True, disable=not moves)


def describe_training(
    record: Record, tokens_per_epoch: int, unigram_perplexity: float | None
) -> str:
    """One line on an epoch of a network that is trained alone."""
    text = "training perplexity "
    trained = None if record.train_nll is None else perplexity(record.train_nll)
    text += PERPLEXITY.shown(trained)
    text += f", validation perplexity {PERPLEXITY.shown(record.val_perplexity)}"
    if record.averaging:
        text += " of averaged weights"
    text += PERPLEXITY.shown_baseline(unigram_perplexity)
    wall = record.wall_s or 0.0
    speed = f", {tokens_per_epoch / wall:,.0f} tokens per second" if wall else ""
    return f"{text}, {duration(wall)}{speed}"


def describe(record: Record, baseline: float | None, measure: Measure = PERPLEXITY) -> str:
    """One line on an epoch of a network.

    Args:
      record: of the epoch.
      baseline: printed beside the value of the measure; None where there is none.
      measure: of the task.
    """
    name = f"{_name(record.trial)}, epoch {record.epoch}"
    if record.status == "failed":
        return f"{name}: failed, {record.reason}"
    if record.duplicate_of is not None:
        return f"{name}: the configuration of candidate {record.duplicate_of} again, not trained"
    text = f"{name}: validation {measure.name} {measure.shown(measure.of_record(record))}"
    text += measure.shown_baseline(baseline)
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


def _name(trial: int | str) -> str:
    return str(trial) if isinstance(trial, str) else f"candidate {trial}"
