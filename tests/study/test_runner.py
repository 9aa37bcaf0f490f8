import contextlib
import dataclasses
import json

import numpy as np
import pytest

from lsh_jax.config import ConfigError
from lsh_jax.study.runner import jobs, run_study
from lsh_jax.study.table import LINES, finished, load_table


def lines_of(directory):
    """Lines without wall times, by network, seed and epoch."""
    found = [json.loads(text) for text in (directory / LINES).read_text().splitlines()]
    return sorted(
        ({k: v for k, v in line.items() if k != "wall_s"} for line in found),
        key=lambda line: (line["network"], line["seed"], line["epoch"]),
    )


def test_two_parts_train_every_network_with_every_seed(trained, tiny_study):
    every = {(network.name, seed) for network, seed in jobs(tiny_study)}
    assert finished(trained) == every
    assert len(every) == (1 + 3 + 1) * 2
    assert len(lines_of(trained)) == 10 * tiny_study.final_epochs


def test_baselines_come_last_and_seeds_one_after_the_other(tiny_study):
    order = [(network.name, seed) for network, seed in jobs(tiny_study)]
    assert order[:5] == [("dense", 0), ("0", 0), ("1", 0), ("2", 0), ("dense", 1)]
    assert order[-2:] == [("static-er", 0), ("static-er", 1)]


def test_a_study_that_is_stopped_trains_only_what_is_missing(
    trained, tiny_study, corpus, workshops, tmp_path
):
    class StopError(Exception):
        pass

    told = []

    def on_line(of, line):
        told.append((line["network"], line["seed"], line["epoch"]))
        if told[-1] == ("1", 0, 2):
            raise StopError

    with pytest.raises(StopError):
        run_study(tiny_study, corpus, tmp_path, workshops=workshops, on_line=on_line)
    assert finished(tmp_path) == {("dense", 0), ("0", 0)}
    run_study(
        tiny_study, corpus, tmp_path, workshops=workshops, on_line=lambda _, line: told.append(line)
    )
    assert next(line["network"] for line in told if isinstance(line, dict)) == "1"
    assert lines_of(tmp_path) == lines_of(trained)


def test_the_table_of_another_setting_is_refused(trained, tiny_study, corpus):
    other = dataclasses.replace(tiny_study, sparsity=0.6)
    with pytest.raises(ConfigError, match="whose study and networks differ"):
        run_study(other, corpus, trained)


def test_the_unigram_perplexity_is_recorded(trained):
    text = json.loads((trained / "study.json").read_text())["text"]
    assert text["train_tokens"] == 700
    assert 11 < text["unigram_perplexity"] < 13  # twelve words, about alike


def test_a_study_that_stopped_and_went_on_has_the_spectra_of_one_that_did_not(
    trained, tiny_study, corpus, workshops, tmp_path
):
    class StopError(Exception):
        pass

    def on_line(of, line):
        if (line["seed"], line["epoch"]) == (0, 3) and line["network"] == "0":
            raise StopError

    short = dataclasses.replace(tiny_study, num_seeds=1, baselines=())
    for stops in (True, False):
        told = {"on_line": on_line} if stops else {}
        with pytest.raises(StopError) if stops else contextlib.nullcontext():
            run_study(short, corpus, tmp_path, workshops=workshops, **told)
    own, whole = load_table(tmp_path).trajectories, load_table(trained).trajectories
    assert set(own) == {("dense", 0), ("0", 0), ("1", 0), ("2", 0)}
    for key, trajectory in own.items():
        assert trajectory.spectra.keys() == whole[key].spectra.keys()
        for name, by_epoch in trajectory.spectra.items():
            assert by_epoch.keys() == whole[key].spectra[name].keys()
            for epoch, values in by_epoch.items():
                np.testing.assert_array_equal(values, whole[key].spectra[name][epoch])


def test_a_study_that_is_done_is_left_alone(trained, tiny_study, corpus):
    before = {path: path.read_bytes() for path in trained.rglob("*.*") if path.name != ".lock"}
    assert len(before) == 2 + 8  # study.json, lines.jsonl; spectra of all but the baseline
    run_study(tiny_study, corpus, trained, on_line=lambda of, line: pytest.fail(f"{of} {line}"))
    assert {path: path.read_bytes() for path in before} == before


def test_another_text_is_another_setting_and_another_machine_is_not(trained, tiny_study, corpus):
    shorter = corpus._replace(train=corpus.train[:600])
    with pytest.raises(ConfigError, match="whose text differ"):
        run_study(tiny_study, shorter, trained)
    run_study(tiny_study, corpus, trained, machine={"day": "another"})
    assert json.loads((trained / "study.json").read_text())["machine"] == {}
