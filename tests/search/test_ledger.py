import json
import math
import subprocess
import sys

import pytest

from lsh_jax.search.ledger import Ledger, LedgerError, Record, best_epoch, perplexity


def record(trial=0, epoch=1, **values):
    return Record(trial=trial, epoch=epoch, round=0, controls={"death": "set"}, seed=5, **values)


def test_what_was_appended_is_read_back(tmp_path):
    written = [
        record("dense"),
        record(0, reason="ß\n"),
        record(0, 2, val_nll=1.5, val_perplexity=2),
    ]
    ledger = Ledger(tmp_path / "run" / "trials.jsonl")
    for line in written:
        ledger.append(line)
    again = Ledger(tmp_path / "run" / "trials.jsonl")
    assert again.records() == ledger.records() == written
    assert again.history(0) == written[1:]
    assert again.get("dense", 1) == written[0]
    assert again.get("dense", 2) is None


def test_every_byte_at_which_the_last_line_may_be_cut_leaves_the_whole_ones(tmp_path):
    path = tmp_path / "trials.jsonl"
    ledger = Ledger(path)
    ledger.append(record(0))
    first = path.stat().st_size
    ledger.append(record(1))
    content = path.read_bytes()
    for cut in range(first, len(content)):
        path.write_bytes(content[:cut])
        torn = Ledger(path)
        assert torn.records() == [record(0)]
        torn.append(record(2))
        assert Ledger(path).records() == [record(0), record(2)]


def test_garbage_in_the_middle_is_an_error_that_names_its_line(tmp_path):
    path = tmp_path / "trials.jsonl"
    ledger = Ledger(path)
    ledger.append(record(0))
    path.write_text(path.read_text() + "garbage\n" + record(1).to_json() + "\n")
    with pytest.raises(LedgerError, match="line 2 is not a record"):
        Ledger(path)


def test_an_empty_file_is_an_empty_ledger(tmp_path):
    (tmp_path / "trials.jsonl").touch()
    assert Ledger(tmp_path / "trials.jsonl").records() == []


def test_nan_never_reaches_the_file(tmp_path):
    ledger = Ledger(tmp_path / "trials.jsonl")
    with pytest.raises(ValueError, match="JSON"):
        ledger.append(record(score=math.nan))
    assert Ledger(tmp_path / "trials.jsonl").records() == []


def test_a_line_has_the_keys_of_the_published_schema():
    keys = {
        *("trial", "epoch", "round", "controls", "seed", "status", "reason", "score"),
        *("ls_distance", "ls_std_error", "floored", "train_nll", "val_nll", "val_perplexity"),
        *("averaging", "churn", "nonzeros", "duplicate_of", "wall_s", "topology", "spectra_digest"),
    }
    assert set(json.loads(record().to_json())) == keys


def test_the_best_epoch_is_the_earliest_of_the_lowest_losses():
    history = [record(epoch=e, val_nll=v) for e, v in [(1, 3.0), (2, 2.0), (3, 2.0), (4, None)]]
    assert best_epoch(history) == 2


def test_perplexity_of_a_hopeless_network_is_none_rather_than_infinite():
    assert perplexity(1.0) == pytest.approx(math.e)
    assert perplexity(800.0) is None
    assert perplexity(math.nan) is None


def test_lines_of_an_older_version_without_a_topology_are_read(tmp_path):
    path = tmp_path / "trials.jsonl"
    line = json.loads(record(0, topology={"overlap": 0.5}).to_json())
    del line["topology"]
    path.write_text(json.dumps(line) + "\n")
    assert Ledger(path).records() == [record(0)]


def test_an_epoch_is_recorded_once(tmp_path):
    path = tmp_path / "trials.jsonl"
    ledger = Ledger(path)
    ledger.append(record(0))
    with pytest.raises(LedgerError, match="Trial 0, epoch 1 is on record already"):
        ledger.append(record(0, val_nll=1.0))
    path.write_text(path.read_text() * 2)
    with pytest.raises(LedgerError, match="line 2 is a second one of trial 0, epoch 1"):
        Ledger(path)


@pytest.mark.parametrize("tail", ["\0" * 4096, "{", '{"trial": 0}', record(9).to_json(), " "])
def test_a_tail_without_its_end_is_dropped(tmp_path, tail):
    path = tmp_path / "trials.jsonl"
    Ledger(path).append(record(0))
    with path.open("a") as file:
        file.write(tail)
    torn = Ledger(path)
    assert torn.records() == [record(0)]
    torn.append(record(1))
    assert Ledger(path).records() == [record(0), record(1)]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("trial", "../../home"),
        ("trial", -1),
        ("trial", True),
        ("trial", 1.5),
        ("trial", None),
        ("trial", "dense-1/../.."),
        ("epoch", "1"),
        ("epoch", None),
        ("epoch", [1]),
        ("status", "fine"),
        ("averaging", 1),
        ("controls", None),
        ("controls", "death"),
        ("topology", []),
        ("val_nll", "1"),
        ("score", {}),
        ("reason", 3),
        ("nonzeros", -5),
        ("no such field", 1),
    ],
)
def test_nothing_in_a_line_is_taken_on_trust(tmp_path, field, value):
    path = tmp_path / "trials.jsonl"
    line = json.loads(record(0).to_json()) | {field: value}
    path.write_text(json.dumps(line) + "\n")
    with pytest.raises(LedgerError, match="line 1 is not a record"):
        Ledger(path)


@pytest.mark.parametrize("text", ["NaN", "1e400", "1" + "0" * 400, "-Infinity", "[" * 100_000])
def test_what_is_no_number_is_refused(tmp_path, text):
    path = tmp_path / "trials.jsonl"
    path.write_text(record(0).to_json().replace('"score": null', f'"score": {text}') + "\n")
    with pytest.raises(LedgerError, match="line 1 is not a record"):
        Ledger(path)


WRITER = """
import pathlib, sys
from lsh_jax.search.ledger import Ledger, Record
path, own = pathlib.Path(sys.argv[1]), int(sys.argv[2])
ledger = Ledger(path)
print("ready", flush=True)
sys.stdin.readline()
for epoch in range(200):
    ledger.append(Record(own, epoch, 0, {"long": "x" * 300}, 0))
    print(epoch, flush=True)
"""


def test_lines_of_several_writers_stand_whole_though_one_is_killed(tmp_path):
    """Only the driver writes a ledger; but should others do, nothing that was told of is lost."""
    path = tmp_path / "trials.jsonl"
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(own)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for own in range(3)
    ]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.stdin.write("\n")
        writer.stdin.flush()
    told = [int(writers[0].stdout.readline()) for _ in range(50)]
    writers[0].kill()
    told += [int(line) for line in writers[0].stdout.read().split("\n")[:-1]]
    for writer in writers[1:]:
        out, _ = writer.communicate(timeout=60)
        assert out.split() == [str(epoch) for epoch in range(200)]
    writers[0].communicate(timeout=60)
    with path.open("a") as file:  # should the last line have been torn, an append mends it
        file.write('{"trial": 0')
    Ledger(path).append(record(7))
    ledger = Ledger(path)
    assert [r.epoch for r in ledger.history(1)] == list(range(200))
    assert [r.epoch for r in ledger.history(2)] == list(range(200))
    assert {r.epoch for r in ledger.history(0)} >= set(told)
    assert ledger.history(7) == [record(7)]
