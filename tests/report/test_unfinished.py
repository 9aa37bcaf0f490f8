"""The page of a search that has no result yet."""

import dataclasses
import json
import random
import re
import shutil
import threading
import time

import numpy as np
import pytest
from searches import CONFIG, all_fail, cut_short, pages, search, up_to

from lsh_jax.machine import is_locked, locked
from lsh_jax.report import write_report
from lsh_jax.report.__main__ import main
from lsh_jax.report.run import read_run
from lsh_jax.report.standing import read_standing, replay
from lsh_jax.search.dense import SearchError
from lsh_jax.search.ledger import Ledger, Record

REFRESH = '<meta http-equiv="refresh" content="30">'


def markdown(run):
    write_report(run)
    return (run / "report.md").read_text(encoding="utf-8").replace("\\", "")


def lead(run):
    (sentence,) = re.findall(r"^\*\*(.*)\*\*$", markdown(run), re.MULTILINE)
    return sentence


def table(text, title):
    """The rows of the first table below a heading, by column."""
    lines = text.partition(f"## {title}")[2].split("## ")[0].splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("|")]
    return [dict(zip(rows[0], row, strict=True)) for row in rows[2:]]


@pytest.mark.parametrize(
    "changes", [{}, {"halving": "eta"}, {"halving": "authors"}, {"settled_after": 1}]
)
def test_the_rounds_replayed_from_the_ledger_are_those_that_the_search_went_through(
    tmp_path, changes
):
    run = read_run(search(tmp_path / "run", **changes))
    rounds, finalists = replay(dataclasses.replace(CONFIG, **changes), run.candidates)
    assert rounds == run.rounds
    assert finalists == run.finalists
    assert len(run.candidates) < 6 or "settled_after" not in changes


def test_the_lead_counts_who_was_scored_and_who_failed(finished, tmp_path):
    run = cut_short(finished, tmp_path / "run", up_to(2))
    records = Ledger(run / "trials.jsonl").records()
    failed = {record.trial for record in records if record.status == "failed"}
    assert failed
    assert lead(run).startswith(
        f"Not finished: {6 - len(failed)} of at most 6 candidates scored, {len(failed)} failed; "
    )
    assert "the dense network has 5 of 5 epochs. The search is stopped; continue it with" in lead(
        run
    )


def test_who_survived_waits_and_who_did_not_is_cut(finished, tmp_path):
    result = json.loads((finished / "result.json").read_text())
    pool, later = result["rounds"][:2]
    run = cut_short(finished, tmp_path / "run", up_to(2))
    outcomes = {row["trial"]: row["outcome"] for row in table(markdown(run), "Trials")}
    for trial in pool["entered"]:
        expected = "running or waiting" if trial in later["entered"] else "cut after the pool"
        if trial in pool["failed"]:
            expected = "failed in the pool"
        assert outcomes[str(trial)] == expected


def test_while_the_pool_is_filled_nobody_is_cut_and_the_best_is_the_lowest_score(
    finished, tmp_path
):
    run = cut_short(
        finished,
        tmp_path / "run",
        lambda r: r.epoch <= 2 and r.trial in (0, 1, 2, 3) if r.trial != "dense" else True,
    )
    text = markdown(run)
    assert "cut after" not in text.partition("## Trials")[2].partition("## Settings")[0]
    scores = {
        record.trial: record.score
        for record in Ledger(run / "trials.jsonl").records()
        if record.epoch == 2 and record.score is not None and record.trial != "dense"
    }
    best = [int(row["trial"]) for row in table(text, "Where it stands")]
    assert best == sorted(scores, key=scores.get)
    assert f"- best so far: trial {best[0]}" in text


def test_the_finalists_are_ranked_by_their_validation_perplexity(finished, tmp_path):
    run = cut_short(finished, tmp_path / "run", lambda r: r.trial == "dense" or r.epoch <= 4)
    text = markdown(run)
    assert "under way: the finals" in text
    rows = table(text, "Where it stands")
    values = [float(row["val. ppl"]) for row in rows]
    finalists = json.loads((finished / "result.json").read_text())["rounds"][-1]["survivors"]
    assert {int(row["trial"]) for row in rows} == set(finalists) and values == sorted(values)


def test_where_every_candidate_failed_the_reasons_and_a_remedy_are_told(tmp_path):
    run = tmp_path / "run"
    with pytest.raises(SearchError):
        search(run, all_fail)
    sentence = lead(run)
    assert sentence.startswith("All 6 candidates failed: ")
    counts = [int(number) for number in re.findall(r"\((\d+)\)", sentence)]
    assert sum(counts) == 6 and counts == sorted(counts, reverse=True)
    assert "e.g. lower the learning rate" in sentence and "--resume" not in sentence
    rows = table(markdown(run), "Failures by reason")
    assert [int(row["times"]) for row in rows] == counts
    page = (run / "report.html").read_text()
    assert REFRESH not in page and "<b>high" not in page and "&lt;b&gt;high" in page


def test_a_running_search_is_said_to_run_and_its_page_reads_itself_again(finished, tmp_path):
    run = cut_short(finished, tmp_path / "run", up_to(2))
    before = (run / ".lock").read_bytes()
    assert not is_locked(run) and not is_locked(tmp_path / "missing")
    with locked(run, wait=False):
        owner = (run / ".lock").read_bytes()
        assert is_locked(run)
        assert lead(run).endswith("The search is running.")
        assert REFRESH in (run / "report.html").read_text()
        assert (run / ".lock").read_bytes() == owner
    assert "The search is stopped" in lead(run)
    assert REFRESH not in (run / "report.html").read_text()
    assert before.split()[0] == b"process"


def test_the_page_can_be_written_at_every_moment_of_a_search(tmp_path):
    """From its first segment on, with the ledger growing; none of it breaks the search."""
    run, leads = tmp_path / "run", []

    def listener(kind, values):
        del values
        if kind == "record" or not leads:
            leads.append(lead(run))

    search(run, on_event=listener)
    assert leads[0] == "Not finished: nothing is recorded yet. The search is running."
    assert any("the dense network has 3 of 5 epochs" in text for text in leads)
    assert any("the finals are under way with 2 candidates" in text for text in leads)
    assert all(text.endswith("The search is running.") for text in leads)
    write_report(run)
    assert REFRESH not in (run / "report.html").read_text()


def test_the_tuning_of_the_dense_network_is_told_while_it_goes_on(tmp_path):
    run, leads = tmp_path / "run", []
    space = dataclasses.replace(CONFIG.space, learning_rate=(1.0, 2.0, 4.0))

    def listener(kind, values):
        if kind == "record" and str(values["record"].trial).startswith("tuning-"):
            leads.append(lead(run))

    search(run, on_event=listener, space=space, max_evals=3)
    assert "the dense network is being tuned, 1 trial on record, 0 failed." in leads[0]
    cut_short(run, tmp_path / "stopped", lambda record: False)
    text = markdown(tmp_path / "stopped")
    assert "the dense network is tuned first: 3 trials so far, the lowest validation" in text


def test_a_torn_last_line_and_half_written_spectra_are_left_out(finished, tmp_path):
    run = cut_short(finished, tmp_path / "run", up_to(2))
    write_report(run)
    before = pages(run)
    with (run / "trials.jsonl").open("a") as ledger:
        ledger.write('{"trial": 3, "epo')
    (run / "spectra" / "0-77.npy").write_bytes(b"\x93NUMPY\x01")
    (run / "spectra" / "1-77.npy").write_bytes(b"")
    write_report(run)
    assert pages(run) == before


def test_a_run_without_a_ledger_says_that_nothing_is_recorded(finished, tmp_path):
    run = cut_short(finished, tmp_path / "run", lambda record: False)
    (run / "trials.jsonl").unlink()
    assert "nothing is recorded yet" in lead(run)
    assert main([str(run)]) == 0


@pytest.mark.parametrize("whole", [True, False])
def test_pages_do_not_depend_on_the_order_of_the_ledgers_lines(finished, tmp_path, whole):
    run = tmp_path / "run"
    if whole:
        shutil.copytree(finished, run)
    else:
        cut_short(finished, run, up_to(3))
    write_report(run)
    expected = pages(run)
    lines = (run / "trials.jsonl").read_text().splitlines(keepends=True)
    for seed in range(3):
        random.Random(seed).shuffle(lines)
        (run / "trials.jsonl").write_text("".join(lines))
        write_report(run)
        assert pages(run) == expected


def test_a_reader_never_sees_a_part_of_a_page(finished, tmp_path):
    run = cut_short(finished, tmp_path / "run", up_to(2))
    write_report(run)
    whole, seen, done = (run / "report.html").read_bytes(), [], threading.Event()

    def read():
        while not done.is_set():
            seen.append((run / "report.html").read_bytes() == whole)

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(3):
        write_report(run)
    done.set()
    reader.join()
    assert seen and all(seen)
    assert not list(run.glob("*.tmp"))


def many_candidates(run, settings, count, epochs=3, exponents=450):
    """An unfinished run with made-up records and spectra."""
    run.mkdir()
    (run / "spectra").mkdir()
    config = dataclasses.replace(CONFIG, max_evals=count, e0=epochs, final_epochs=100)
    (run / "config.json").write_text(json.dumps({**settings, "search": config.to_json()}))
    generator, lines = np.random.default_rng(0), []
    for trial in ["dense", *range(count)]:
        level = 0.0 if trial == "dense" else generator.uniform()
        spectrum = -np.sort(generator.uniform(level, 1 + level, (2, exponents)), axis=1)
        np.save(run / "spectra" / f"{trial}-{epochs}.npy", spectrum)
        for epoch in range(1, epochs + 1):
            value = 50 + 100 * level + 40 / epoch
            record = Record(trial, epoch, 0, {"death": "set", "death_rate": 0.5}, 0)
            scores = {} if trial == "dense" else {"score": level, "ls_distance": level}
            lines.append(dataclasses.replace(record, val_perplexity=value, val_nll=5.0, **scores))
    (run / "trials.jsonl").write_text("".join(f"{line.to_json()}\n" for line in lines))
    return run


def test_five_hundred_candidates_make_a_page_that_loads(tmp_path):
    run = many_candidates(tmp_path / "run", {"data": "sotu"}, 500)
    start = time.perf_counter()
    text = markdown(run)
    assert time.perf_counter() - start < 60  # seconds; 3 on two cores
    assert (run / "report.html").stat().st_size < 5e6
    assert "The best 10 of 500 candidates" in text
    assert "So many curves are drawn through every few exponents only" in text
    few = many_candidates(tmp_path / "few", {"data": "sotu"}, 5)
    assert "So many curves" not in markdown(few)
    assert len(read_standing(run).run.candidates) == 500
