"""The networks of a search as a table that is drawn anew while they train.

What is known of each follows from the events of the search, by a pure function; a second one draws
the table. Names and reasons come from runs: they are shown as they are, never read as markup.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from rich import box
from rich.table import Table
from rich.text import Text

from lsh_jax.pace import duration
from lsh_jax.search.ledger import Record, TrialId
from lsh_jax.search.measure import PERPLEXITY, Measure
from lsh_jax.search.space import matters

_MISSING = "\N{EN DASH}"
_WIDEST_STATE = 24  # columns; the whole reason of a failure has a line above the table
_STYLES = {"failed": "red", "cut": "dim", "finalist": "green"}


class Network(NamedTuple):
    """What is known of a network in play."""

    trial: TrialId
    state: Literal["waits", "finalist", "cut", "failed"] = "waits"
    note: str = ""  # why it failed, or when it was cut
    epoch: int = 0  # the last that is on record
    running: int | None = None  # the epoch under way
    since: float = 0.0  # when that began, on the wall clock
    controls: Mapping[str, Any] = {}
    measured: Record | None = None  # its latest epoch that did not fail
    score: float | None = None  # its latest


Networks = Mapping[TrialId, Network]


def followed(networks: Networks, kind: str, values: Mapping[str, Any], now: float) -> Networks:
    """The networks after an event of the search; kinds that are not known change nothing.

    Args:
      networks: before.
      kind: of the event, see `hyperprune`.
      values: what it carries.
      now: the wall clock, in seconds.
    """
    if kind in ("started", "segment"):
        known = networks.get(values["trial"], Network(values["trial"]))
        if known.running == values["epoch"]:
            return networks
        known = known._replace(running=values["epoch"], since=now)
        known = known._replace(controls=known.controls or values.get("controls", {}))
        return {**networks, known.trial: known}
    if kind == "record":
        record: Record = values["record"]
        if record.duplicate_of is not None:
            return networks
        known = networks.get(record.trial, Network(record.trial))
        return {**networks, record.trial: _recorded(known, record)}
    if kind == "round":
        return {**networks, **_after_round(networks, values)}
    return networks


def _recorded(network: Network, record: Record) -> Network:
    failed = record.status == "failed"
    return network._replace(
        state="failed" if failed else network.state,
        note=one_line(record.reason or "") if failed else network.note,
        epoch=record.epoch,
        running=None,
        controls=record.controls,
        measured=network.measured if failed else record,
        score=network.score if record.score is None else record.score,
    )


def _after_round(networks: Networks, values: Mapping[str, Any]) -> dict[TrialId, Network]:
    """Those that entered a round, after it; where none is cut all are finalists."""
    failed, survivors = set(values.get("failed", ())), set(values["survivors"])
    ended = survivors | failed >= set(values["entered"])
    after: dict[TrialId, Network] = {}
    for number in values["entered"]:
        trial = f"tuning-{number}" if values.get("tuning") else number
        network = networks.get(trial, Network(trial))
        if number in survivors:
            network = network._replace(state="finalist" if ended else "waits", note="")
        elif number not in failed and network.state != "failed":
            network = network._replace(state="cut", note=f"in round {values['round']}")
        after[trial] = network
    return after


def network_table(
    networks: Networks, now: float, num_rows: int, measure: Measure = PERPLEXITY
) -> Table:
    """Draws the table: those that run first, then the dense network, then by score.

    Args:
      networks: from `followed`.
      now: the wall clock, in seconds.
      num_rows: that there is room for, the last of which may tell how many are not shown.
      measure: of the task.
    """
    shown = _in_order(_in_play(networks))
    names = _differing(network for network in shown if not _is_dense(network))
    judged = any(network.score not in (None, _distance(network)) for network in shown)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("trial", justify="right", no_wrap=True)
    if names:
        table.add_column(Text(", ".join(map(_shortened, names)), no_wrap=True, overflow="ellipsis"))
    table.add_column("epoch", justify="right", no_wrap=True)
    table.add_column(measure.name, justify="right", no_wrap=True)
    table.add_column("score" if judged else "LS distance", justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True, max_width=_WIDEST_STATE)
    room = num_rows if len(shown) <= num_rows else max(num_rows - 1, 0)
    for network in shown[:room]:
        row = _row(network, names, now, measure, judged=judged)
        table.add_row(*row, style=_style(network))
    if len(shown) > room:
        blank = [""] * (len(table.columns) - 1)
        table.add_row(*blank, f"and {len(shown) - room} more")
    return table


def _in_play(networks: Networks) -> list[Network]:
    """Without the trials of the tuning once the search itself has begun."""
    begun = any(isinstance(trial, int) for trial in networks)
    return [
        network
        for trial, network in networks.items()
        if not (begun and str(trial).startswith("tuning-"))
    ]


def _in_order(networks: Iterable[Network]) -> list[Network]:
    """Those that run, the dense network, the others by score; cut ones and failed ones last."""

    def key(network: Network) -> tuple[int, float]:
        place = {"failed": 4, "cut": 3}.get(network.state, 2)
        place = 1 if _is_dense(network) and place == 2 else place
        score = math.inf if network.score is None else network.score
        return (place if network.running is None else 0, score)

    return sorted(networks, key=key)


def _is_dense(network: Network) -> bool:
    return str(network.trial).startswith("dense")


def _differing(networks: Iterable[Network]) -> list[str]:
    """The controls in which candidates differ, in the order of the ledger."""
    seen: dict[str, set[str]] = {}
    for network in networks:
        for name, value in network.controls.items():
            if matters(name, network.controls):
                seen.setdefault(name, set()).add(str(value))
    return [name for name, values in seen.items() if len(values) > 1]


def _row(
    network: Network, names: Sequence[str], now: float, measure: Measure, *, judged: bool
) -> list[Text]:
    controls = ", ".join(_control(network.controls, name) for name in names)
    cells = [
        str(network.trial),
        *([controls if network.controls and not _is_dense(network) else ""] if names else []),
        str(network.epoch or ""),
        _value(network.measured, measure),
        _judgement(network, judged=judged),
        _standing(network, now),
    ]
    return [Text(one_line(cell), no_wrap=True, overflow="ellipsis") for cell in cells]


def _control(controls: Mapping[str, Any], name: str) -> str:
    if name not in controls or not matters(name, controls):
        return _MISSING
    value = controls[name]
    return f"{value:g}" if isinstance(value, float) else _shortened(str(value))


def _shortened(name: str) -> str:
    """Words of more than six letters by their first four: "glob. magn."."""
    words = name.replace("_", " ").split()
    return " ".join(word if len(word) <= 6 else f"{word[:4]}." for word in words)


def _value(record: Record | None, measure: Measure) -> str:
    if record is None or record.val_nll is None:
        return ""
    value = measure.of_record(record)
    return "\N{INFINITY}" if value is None else measure.shown(value)


def _distance(network: Network) -> float | None:
    return None if network.measured is None else network.measured.ls_distance


def _judgement(network: Network, *, judged: bool) -> str:
    """The score, or the LS distance and its standard error where that is the score."""
    if judged:
        return "" if network.score is None else f"{network.score:.4g}"
    record = network.measured
    if record is None or record.ls_distance is None:
        return ""
    error = "" if record.ls_std_error is None else f" ± {record.ls_std_error:.3f}"
    return f"{record.ls_distance:.3f}{error}"


def _standing(network: Network, now: float) -> str:
    """What a network is doing, or what has become of it."""
    if network.running is not None:
        return f"epoch {network.running} runs, {duration(max(now - network.since, 0))}"
    if network.state == "failed":
        return f"failed: {network.note}"
    if network.state == "waits" and _is_dense(network):
        return "reference"
    return f"{network.state} {network.note}".rstrip()


def _style(network: Network) -> str:
    return "bold" if network.running is not None else _STYLES.get(network.state, "")


def one_line(text: str) -> str:
    """Text of a run as one line that a terminal shows and does not obey."""
    printable = (letter if letter.isprintable() else " " for letter in text)
    return " ".join("".join(printable).split())
