import io
import math
import re
from types import SimpleNamespace

import pytest

from lsh_jax.config import SearchConfig
from lsh_jax.progress import (
    both,
    describe,
    describe_training,
    duration,
    progress,
    records_so_far,
    search_progress,
    segment_time_left,
    time_left,
    training_progress,
)
from lsh_jax.search.ledger import Ledger, Record
from lsh_jax.search.measure import NLL, Measure


def record(**values):
    defaults = {
        "trial": 3,
        "epoch": 2,
        "round": 0,
        "controls": {},
        "seed": 1,
        "val_nll": 5.0,
        "val_perplexity": 148.413,
        "wall_s": 12.34,
    }
    return Record(**(defaults | values))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "under 1 s"),
        (0.4, "under 1 s"),
        (89.4, "89 s"),
        (90.0, "2 min"),
        (150.0, "2 min"),  # rounds half to even
        (5399.0, "90 min"),
        (5400.0, "1.5 h"),
        (86400.0, "24.0 h"),
        (172800.0, "2.0 days"),
        (math.inf, "inf s"),
        (math.nan, "nan s"),
    ],
)
def test_a_duration_is_said_in_the_unit_a_person_would_take(seconds, text):
    assert duration(seconds) == text


def test_the_time_left_is_the_median_epoch_times_the_epochs_left():
    # The first epoch compiled for 100 s and is left out: the median of 4 and 6 is 5; 5 * 10 = 50.
    assert time_left([100.0, 4.0, 6.0], 10) == "about 50 s left"
    assert time_left([], 10) == time_left([5.0], 10) == "time left known after the next epoch"
    assert time_left([5.0], 0) == "nothing left but the report"
    assert time_left([5.0], -1) == "nothing left but the report"


def test_an_epoch_of_a_candidate_is_described_with_its_distance_and_the_baseline():
    text = describe(record(ls_distance=0.1234, ls_std_error=0.0456), 200.4)
    assert text == (
        "candidate 3, epoch 2: validation perplexity 148.4 (unigram 200), "
        "LS distance 0.123 ± 0.046, 12.3 s"
    )


def test_an_epoch_of_another_task_is_described_by_its_measure():
    # sqrt(2 x 5 - log(2 pi)) x 0.02 = 0.0571
    text = describe(record(), 0.36, Measure("rms", 0.02, "no-change"))
    assert text == "candidate 3, epoch 2: validation rms error 0.05714 (no-change 0.36), 12.3 s"
    assert describe(record(), None, NLL) == "candidate 3, epoch 2: validation nll 5, 12.3 s"


def test_an_epoch_of_the_dense_network_is_described_without_what_it_has_not():
    text = describe(record(trial="dense", round=None), None)
    assert text == "dense, epoch 2: validation perplexity 148.4, 12.3 s"


def test_a_failed_epoch_tells_its_reason():
    failed = record(
        status="failed", reason="the training nll is nan", val_nll=None, val_perplexity=None
    )
    assert describe(failed, 200.0) == "candidate 3, epoch 2: failed, the training nll is nan"


def test_a_repeated_configuration_is_said_to_be_one():
    text = describe(record(duplicate_of=1), 200.0)
    assert text == "candidate 3, epoch 2: the configuration of candidate 1 again, not trained"


def lines_of(*events, total=6, unigram=None):
    stream = io.StringIO()
    with progress(total, 4, unigram, stream) as listener:
        for kind, values in events:
            listener(kind, values)
    return stream.getvalue().splitlines()


def test_off_a_terminal_each_event_of_note_is_one_plain_line():
    lines = lines_of(
        ("done", {"epochs": 1}),
        ("notice", {"text": "the space has [4] configurations"}),
        ("segment", {"trial": 3, "epoch": 2, "done": 1}),
        ("record", {"record": record(wall_s=10.0)}),
        ("record", {"record": record(trial=4, duplicate_of=3)}),
        ("record", {"record": record(trial=5, status="failed", reason="[red]no[/red]")}),
        ("round", {"round": 0, "epochs": 2, "entered": [3, 4, 5], "survivors": [4, 3]}),
        unigram=200.0,
    )
    assert lines == [
        "Note: the space has [4] configurations.",
        # One epoch was done before; this one makes two of six, and four take 10 s each.
        "[2/6] candidate 3, epoch 2: validation perplexity 148.4 (unigram 200), 10.0 s; "
        "time left known after the next epoch",
        "[2/6] candidate 4, epoch 2: the configuration of candidate 3 again, not trained; "
        "time left known after the next epoch",
        # The first may have compiled; of 12.34 s three are left.
        "[3/6] candidate 5, epoch 2: failed, [red]no[/red]; about 37 s left",
        "Round 0, epoch 2: 3 candidates scored, 2 go on: 4, 3",
    ]


def test_the_search_of_a_task_is_shown_by_its_measure_out_of_the_epochs_of_its_plan():
    # 4 x 2 epochs, 2 x 1, 2 x 3 to the end, and 6 of the dense network.
    config = SearchConfig(max_evals=4, e0=2, ei=1, final_epochs=6)
    task = SimpleNamespace(segments_per_epoch=4, measure=NLL, baseline_nll={"validation": 7.0})
    stream = io.StringIO()
    with search_progress(task, config, stream) as listener:
        listener("record", {"record": record()})
    shown = "[1/22] candidate 3, epoch 2: validation nll 5 (memoryless 7)"
    assert stream.getvalue().startswith(shown)


def test_a_long_line_is_not_broken_and_has_no_colour():
    text = "x" * 300
    assert lines_of(("notice", {"text": text})) == [f"Note: {text}."]


def test_segments_alone_print_nothing_off_a_terminal():
    assert lines_of(("segment", {"trial": "dense", "epoch": 1, "done": 1})) == []


def test_the_last_epoch_leaves_nothing_but_the_report():
    lines = lines_of(("done", {"epochs": 5}), ("record", {"record": record()}))
    assert len(lines) == 1
    assert lines[0].startswith("[6/6] ")
    assert lines[0].endswith("; nothing left but the report")


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    """What a terminal of 100 columns and 14 lines is sent."""
    for name, value in {"COLUMNS": "100", "LINES": "14", "TERM": "xterm", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    return Terminal()


def last_drawn(stream):
    """The lines of what a terminal was sent last: bars and table."""
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    drawn = plain[plain.rindex("search, epochs") :]
    return [line.strip() for line in drawn.splitlines() if line.strip()]


def test_a_terminal_has_bars_and_a_table_that_stays(terminal):
    with progress(6, 4, None, terminal) as listener:
        listener("started", {"trial": 3, "epoch": 2})
        listener("segment", {"trial": 3, "epoch": 2, "done": 1})
        listener("record", {"record": record(ls_distance=0.5, ls_std_error=0.25)})
    search, heads, _, row = last_drawn(terminal)
    assert "1/6 time left known after the next epoch" in search
    assert heads.split() == ["trial", "epoch", "perplexity", "LS", "distance", "state"]
    assert row.split() == ["3", "2", "148.4", "0.500", "±", "0.250", "waits"]


def test_a_terminal_has_the_measure_of_the_task(terminal):
    with progress(6, 4, None, terminal, measure=NLL) as listener:
        listener("record", {"record": record()})
    heads, _, row = last_drawn(terminal)[1:]
    assert heads.split()[:3] == ["trial", "epoch", "nll"] and row.split()[:3] == ["3", "2", "5"]


def test_a_terminal_is_told_of_rounds_notices_and_failures_alone(terminal):
    with progress(6, 4, None, terminal) as listener:
        listener("notice", {"text": "[red]look[/red]"})
        listener("record", {"record": record()})
        listener("record", {"record": record(trial=4, status="failed", reason="\x1b[2J[b]\nno")})
        listener("round", {"round": 0, "epochs": 2, "entered": [3, 4], "survivors": [3]})
        listener("a kind of later years", {})
    told = terminal.getvalue()
    assert "Note: [red]look[/red]." in told
    assert "candidate 4, epoch 2: failed, [2J[b] no" in told
    assert "\x1b[2J" not in told
    assert "Round 0, epoch 2: 2 candidates scored, 1 go on: 3" in told
    assert "candidate 3, epoch 2" not in told


def test_a_terminal_that_cannot_move_its_cursor_has_lines(terminal, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    with progress(6, 4, None, terminal) as listener:
        listener("record", {"record": record()})
    assert terminal.getvalue() == (
        "[1/6] candidate 3, epoch 2: validation perplexity 148.4, 12.3 s; time left known after "
        "the next epoch\n"
    )


def test_the_table_of_a_run_that_is_resumed_begins_with_its_records(terminal, tmp_path):
    Ledger(tmp_path / "trials.jsonl").append(record(trial=7))
    Ledger(tmp_path / "tuning" / "trials.jsonl").append(record(trial=1))
    before = records_so_far(tmp_path)
    assert [found.trial for found in before] == ["tuning-1", 7]
    with progress(6, 4, None, terminal, records=before):
        pass
    assert last_drawn(terminal)[-1].split() == ["7", "2", "148.4", "waits"]
    assert records_so_far(tmp_path / "no run yet") == []


def test_two_listeners_are_told_the_same():
    told = []
    tell = both(lambda *event: told.append((1, *event)), lambda *event: told.append((2, *event)))
    tell("done", {"epochs": 3})
    assert told == [(1, "done", {"epochs": 3}), (2, "done", {"epochs": 3})]


def training_lines(monkeypatch, times, *events):
    """Of a training of 3 epochs of 2 segments and 1,000 tokens, one of them done before."""
    clock = iter(times)
    monkeypatch.setattr("lsh_jax.progress.time.perf_counter", lambda: next(clock))
    stream = io.StringIO()
    with training_progress(3, 1, 2, 1000, 300.0, stream) as listener:
        for kind, values in events:
            listener(kind, values)
    return stream.getvalue().splitlines()


def segment(epoch, done):
    return "segment", {"trial": "dense", "epoch": epoch, "done": done}


def dense_record(epoch, **values):
    return record(trial="dense", epoch=epoch, train_nll=math.log(200), wall_s=8.0, **values)


def test_a_training_has_a_line_an_epoch(monkeypatch):
    lines = training_lines(
        monkeypatch,
        [0, 9, 13, 19],
        segment(2, 1),
        segment(2, 2),
        ("record", {"record": dense_record(2)}),
        segment(3, 1),
        ("notice", {"text": "it ends"}),
        ("record", {"record": dense_record(3, averaging=True)}),
    )
    assert lines == [
        # The first segment compiled for 9 s, the second took 4 s, and two are left.
        "[2/3] training perplexity 200.0, validation perplexity 148.4 (unigram 300), 8 s, 125 "
        "tokens per second; about 8 s left",
        "Note: it ends.",
        "[3/3] training perplexity 200.0, validation perplexity 148.4 of averaged weights (unigram "
        "300), 8 s, 125 tokens per second; nothing left but the test",
    ]


def test_a_long_segment_has_a_line_of_its_own_in_a_log(monkeypatch):
    times = [0, 100, 300]
    first, second = training_lines(monkeypatch, times, segment(1, 1), segment(1, 2))
    assert first == (
        "  segment 1/2 of epoch 1: 5 tokens per second; time left known after the next segment"
    )
    # 500 tokens in 200 s; 4 segments are left.
    assert second == "  segment 2/2 of epoch 1: 2 tokens per second; about 13 min left"


def test_the_time_left_of_a_training_is_a_recent_segment_times_the_segments_left():
    # The first compiled for 100 s and is left out: the mean of 4 and 6 is 5.
    assert segment_time_left([100.0, 4.0, 6.0], 10, 4) == "about 50 s left"
    assert segment_time_left([100.0, 40.0, 4.0, 6.0], 10, 2) == "about 50 s left"  # of an epoch
    assert segment_time_left([5.0], 3, 4) == "time left known after the next segment"
    assert segment_time_left([5.0, 5.0], 0, 4) == "nothing left but the test"


def test_an_epoch_beyond_numbers_is_said_to_be_one():
    told = describe_training(record(train_nll=1e4, val_perplexity=None, wall_s=None), 10, None)
    assert told == (
        "training perplexity beyond numbers, validation perplexity beyond numbers, under 1 s"
    )
