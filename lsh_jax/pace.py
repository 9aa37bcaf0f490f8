"""How long things take, and how long the rest will: in the words of a person."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from lsh_jax.search.ledger import Record, TrialId

_WAVES = 4  # of epochs side by side, over which their pace is taken


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


class Pace(NamedTuple):
    """What is known of the speed of a search, from its events."""

    seconds: tuple[float, ...] = ()  # of every epoch, by its own clock
    running: frozenset[TrialId] = frozenset()  # epochs that are under way
    at_a_time: int = 1  # the most that ever were
    marks: tuple[float, ...] = ()  # on the wall clock: when two first ran, then every end since


def followed(pace: Pace, kind: str, values: Mapping[str, Any], now: float) -> Pace:
    """The pace after an event; kinds that do not bear on it leave it as it is.

    Args:
      pace: before.
      kind: of the event.
      values: what it carries.
      now: the wall clock, in seconds.
    """
    if kind == "started":
        running = pace.running | {values["trial"]}
        marks = pace.marks or ((now,) if len(running) > 1 else ())
        at_a_time = max(pace.at_a_time, len(running))
        return pace._replace(running=running, at_a_time=at_a_time, marks=marks)
    if kind != "record":
        return pace
    record: Record = values["record"]
    if record.duplicate_of is not None:
        return pace
    return pace._replace(
        seconds=(*pace.seconds, record.wall_s or 0.0),
        running=pace.running - {record.trial},
        marks=(*pace.marks, now) if pace.marks else (),
    )


def search_time_left(pace: Pace, epochs_left: int) -> str:
    """The time that is left of a search.

    Where several epochs run at a time the wall clock tells how many end in a while: over the latest
    waves of them, without the first, which also compiles, once there is a second.

    Args:
      pace: so far.
      epochs_left: of all networks.
    """
    width = pace.at_a_time
    if epochs_left <= 0 or width == 1:
        return time_left(pace.seconds, epochs_left)
    if len(pace.marks) <= width:  # the first wave has not ended: by the epochs before
        return time_left(pace.seconds, math.ceil(epochs_left / width))
    marks = pace.marks[width:] if len(pace.marks) > 2 * width else pace.marks
    marks = marks[-_WAVES * width - 1 :]
    return f"{about((marks[-1] - marks[0]) / (len(marks) - 1) * epochs_left)} left"


def time_left(seconds: Sequence[float], epochs_left: int) -> str:
    """The time that is left, from the seconds of the epochs so far, one after another.

    The median of all but the first, which also compiles.
    """
    if epochs_left <= 0:
        return "nothing left but the report"
    if len(seconds) < 2:
        return "time left known after the next epoch"
    return f"{about(statistics.median(seconds[1:]) * epochs_left)} left"


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
