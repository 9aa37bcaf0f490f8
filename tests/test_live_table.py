import io
import math

import pytest
from rich.console import Console

from lsh_jax.config import SparsityConfig
from lsh_jax.live_table import followed, network_table
from lsh_jax.search.ledger import Record
from lsh_jax.search.measure import Measure


def ended(trial, epoch=1, *, score=None, **values):
    """An epoch on record; the score is the LS distance where nothing else is said."""
    own = {"val_nll": 5.0, "val_perplexity": 148.413, "ls_distance": score, "score": score}
    controls = values.pop("controls", {})
    if isinstance(controls, SparsityConfig):
        controls = controls.to_json()
    return "record", {"record": Record(trial, epoch, 0, controls, 1, **(own | values))}


def failed(trial, reason):
    nothing = {"val_nll": None, "val_perplexity": None}
    return ended(trial, 2, status="failed", reason=reason, **nothing)


def started(trial, epoch, **values):
    return "started", {"trial": trial, "epoch": epoch, **values}


def a_round(number, entered, survivors, failed=(), **values):
    own = {"round": number, "epochs": 1, "entered": entered, "failed": failed}
    return "round", {**own, "survivors": survivors, **values}


def known(*events):
    networks = {}
    for kind, values in events:
        networks = followed(networks, kind, values, 100.0)
    return networks


def drawn(*events, rows=20, width=120, now=112.0):
    """Lines of the table below its head, seen on a terminal."""
    console = Console(force_terminal=True, no_color=True, width=width, file=io.StringIO())
    console.print(network_table(known(*events), now, rows))
    plain = console.file.getvalue().replace("\x1b[1m", "").replace("\x1b[2m", "")
    head, _, *lines = plain.replace("\x1b[0m", "").splitlines()
    return head, [line.strip() for line in lines]


def states(*events, **options):
    """Trial and state of every row."""
    rows = [line.split("  ") for line in drawn(*events, **options)[1]]
    return [(row[0].strip(), row[-1].strip()) for row in rows]


def test_what_runs_comes_first_then_the_reference_then_the_best():
    assert states(
        ended("dense"),
        ended(0, score=0.3),
        ended(1, score=0.1),
        ended(2, score=0.2),
        started(2, 2),
    ) == [
        ("2", "epoch 2 runs, 12 s"),
        ("dense", "reference"),
        ("1", "waits"),
        ("0", "waits"),
    ]


def test_a_segment_says_that_an_epoch_runs_where_nothing_said_that_it_started():
    segment = ("segment", {"trial": 4, "epoch": 1, "done": 1})
    assert states(segment) == [("4", "epoch 1 runs, 12 s")]
    assert known(segment)[4] == known(segment, segment)[4]  # the clock goes on


def test_who_is_cut_or_fails_falls_to_the_end():
    pool = [ended(trial, score=trial / 10) for trial in range(5)]
    events = [*pool, failed(1, "the nll is nan"), a_round(0, [0, 1, 2, 3, 4], [0, 3, 2], [1])]
    assert states(*events) == [
        ("0", "waits"),
        ("2", "waits"),
        ("3", "waits"),
        ("4", "cut in round 0"),
        ("1", "failed: the nll is nan"),
    ]
    events += [a_round(1, [0, 3, 2], [2, 0]), a_round(2, [2, 0], [2, 0])]
    assert states(*events)[:3] == [("0", "finalist"), ("2", "finalist"), ("3", "cut in round 1")]


def test_finalists_are_who_is_left_where_one_fails_in_the_last_round():
    events = [ended(0, score=1), failed(1, "no"), a_round(3, [0, 1], [0], [1])]
    assert states(*events) == [("0", "finalist"), ("1", "failed: no")]


def test_only_the_controls_that_differ_are_shown_and_short():
    own = SparsityConfig(init="er", death="global_magnitude", death_rate=0.7)
    static = SparsityConfig(init="uniform", update_every=float("inf"))
    head, (first, second, _) = drawn(
        ended(0, score=0.1, controls=own),
        ended(1, score=0.2, controls=SparsityConfig(init="er", death="set", death_rate=0.5)),
        ended(2, score=0.3, controls=static),
    )
    assert "init, death, death rate, update every" in head
    assert "er, global magn., 0.7, 1" in first
    assert "er, set, 0.5, 1" in second
    (line,) = [line for line in drawn(ended(0, controls=own))[1] if "global" in line] or [""]
    assert line == ""  # a single candidate differs from none


def test_a_control_that_rules_nothing_is_a_dash():
    static = SparsityConfig(update_every=float("inf"))
    rows = drawn(
        ended(0, score=0.1, controls=SparsityConfig(death_rate=0.7)),
        ended(1, score=0.2, controls=SparsityConfig(death_rate=0.6)),
        ended(2, score=0.3, controls=static),
    )[1]
    assert "\N{EN DASH}, inf" in rows[2]


def test_controls_are_shown_from_the_start_where_the_event_has_them():
    controls = [SparsityConfig(init=init).to_json() for init in ("er", "uniform")]
    events = [started(trial, 1, controls=own) for trial, own in enumerate(controls)]
    assert ["er" in row for row in drawn(*events)[1]] == [True, False]


@pytest.mark.parametrize(
    ("own", "head", "text"),
    [
        ({"score": 0.5, "ls_std_error": 0.125}, "LS distance", "0.500 ± 0.125"),
        ({"score": 0.5}, "LS distance", "0.500"),
        ({"ls_distance": 0.5, "score": 4.98765}, "score", "4.988"),  # another metric
    ],
)
def test_the_judgement_is_the_distance_or_the_score_of_another_metric(own, head, text):
    score = own.pop("score")
    heads, (row,) = drawn(ended(0, **({"score": score} | own | {"score": score})))
    assert head in heads and text in row
    assert ("LS distance" in heads) == (head == "LS distance")


def test_a_perplexity_beyond_numbers_is_infinite():
    assert "∞" in drawn(ended(0, val_perplexity=None))[1][0]


def test_the_table_shows_the_measure_of_the_task():
    console = Console(file=io.StringIO(), width=80)
    measure = Measure("rms", 0.02)
    networks = known(ended(0), ended(1, val_nll=math.inf))
    console.print(network_table(networks, 112.0, 20, measure))
    head, _, *rows = console.file.getvalue().splitlines()
    assert "rms error" in head and "perplexity" not in head
    assert [row.split()[2] for row in rows] == ["0.05714", "∞"]


def test_trials_of_the_tuning_leave_when_the_search_begins():
    tuning = [ended("tuning-0", score=0.2), ended("tuning-1", score=0.1)]
    cut = a_round(0, [0, 1], [1], tuning=True)
    assert states(*tuning, cut) == [("tuning-1", "waits"), ("tuning-0", "cut in round 0")]
    assert states(*tuning, cut, started(0, 1)) == [("0", "epoch 1 runs, 12 s")]


def test_repeats_and_unknown_events_change_nothing():
    events = [ended(0, score=0.1)]
    more = [ended(1, score=0.1, duplicate_of=0), ("a kind of later years", {})]
    assert known(*events) == known(*events, *more)


def test_as_many_rows_as_fit_and_how_many_do_not():
    events = [ended(trial, score=trial) for trial in range(10)]
    rows = states(*events, rows=4)
    assert [trial for trial, _ in rows] == ["0", "1", "2", "and 7 more"]
    assert len(states(*events, rows=10)) == 10


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_every_row_is_one_line_and_no_reason_is_read_as_markup(width):
    reason = "[red]ValueError[/red]: \x1b[2J bad\nlines " + "x" * 100
    rows = drawn(ended(0, score=0.1), failed(1, reason), width=width)[1]
    assert len(rows) == 2
    assert "\x1b" not in rows[1]
    if width == 200:
        assert "failed: [red]ValueError…" in rows[1]
