"""A run as a table and as a study of Optuna."""

import csv
import dataclasses
import json
import subprocess
import sys

import pytest

from lsh_jax.config import ConfigError, SearchConfig
from lsh_jax.export import main, write_csv, write_optuna_study
from lsh_jax.search.ledger import Record

HOSTILE = 'a "quoted", reason; =1+1\nwith a line\r and ü'
CONFIG = SearchConfig(max_evals=4, e0=2, ei=1, finalists=1, final_epochs=4)
ROUNDS = [
    {"round": 0, "epochs": 2, "entered": [0, 1, 3, 4], "failed": [4], "survivors": [1, 0]},
    {"round": 1, "epochs": 3, "entered": [1, 0], "failed": [], "survivors": [1]},
]
DEATHS = ("set", "magnitude", "set", "threshold", "set")


def record(trial, epoch, score, **changes):
    controls = {"sparsity": 0.67, "init": "er", "death": DEATHS[trial], "growth": "random"}
    controls |= {"death_rate": 0.4 + 0.1 * trial, "update_every": 1.0, "horizon": 4}
    made = Record(
        trial=trial,
        epoch=epoch,
        round=max(0, epoch - 2),
        controls=controls,
        seed=100 + trial,
        score=score,
        ls_distance=score,
        val_nll=5.0 - epoch,
        val_perplexity=100.0 - 10 * epoch - trial,
        nonzeros=330,
    )
    return dataclasses.replace(made, **changes)


def history(trial, *scores):
    return [record(trial, epoch, score) for epoch, score in enumerate(scores, start=1)]


def records():
    """Trial 1 wins, 0 and 3 are cut, 2 repeats 0, 4 fails."""
    failed = {"status": "failed", "reason": HOSTILE, "ls_distance": None, "val_perplexity": None}
    dense = Record("dense", 1, None, {}, 0, val_nll=4.0, val_perplexity=54.6, nonzeros=1000)
    return [
        dense,
        *history(1, 0.8, 0.3, 0.2, 0.6),
        *history(3, 0.9, 0.85),
        *history(0, 0.7, 0.4, 0.35),
        dataclasses.replace(record(0, 2, 0.4), trial=2, duplicate_of=0),
        record(4, 1, 0.5),
        record(4, 2, None, **failed),
    ]


def make_run(path, lines, *, finished):
    path.mkdir()
    (path / "config.json").write_text(json.dumps({"search": CONFIG.to_json()}))
    (path / "trials.jsonl").write_text("".join(f"{line.to_json()}\n" for line in lines))
    if finished:
        network = {"val_perplexity": 60.0, "test_perplexity": 61.0, "nonzeros": 330}
        names = ("epochs_spent", "epochs_dense", "epochs_full_search", "ratio", "ratio_with_dense")
        result = {
            "dense": {**network, "epochs": 4},
            "best": {**network, "trial": 1, "controls": {}, "sparsity": 0.67},
            "beats_dense": {"difference": 0.0, "low": -1.0, "high": 1.0},
            "budget": dict.fromkeys(names, 1),
            "rounds": ROUNDS,
        }
        (path / "result.json").write_text(json.dumps(result))
    return path


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "run", records(), finished=True)


def read_table(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_table_has_a_line_a_record_and_gives_text_and_numbers_back(run, tmp_path):
    write_csv(run, tmp_path / "table.csv")
    rows = read_table(tmp_path / "table.csv")
    found = {(row["trial"], row["epoch"]): row for row in rows}
    assert len(rows) == len(found) == len(records())
    for own in records():
        row = found[str(own.trial), str(own.epoch)]
        assert row["reason"] == (own.reason or "")
        assert row["status"] == own.status
        for name in ("score", "val_perplexity", "ls_distance"):
            value = getattr(own, name)
            assert row[name] == "" if value is None else float(row[name]) == value
        for name, value in own.controls.items():
            assert row[f"control.{name}"] == str(value)
        assert row["duplicate_of"] == ("0" if own.trial == 2 else "")


def test_shares_of_masks_have_columns_of_their_own(tmp_path):
    shares = {"density": {"layers_0/U/i": 0.25}, "overlap": 0.5, "explored": 0.75}
    run = make_run(tmp_path / "run", [record(0, 1, 0.1, topology=shares)], finished=False)
    write_csv(run, tmp_path / "table.csv")
    (row,) = read_table(tmp_path / "table.csv")
    assert row["topology.density.layers_0/U/i"] == "0.25" and row["topology.overlap"] == "0.5"


def test_a_run_without_records_gives_a_table_of_headings(tmp_path):
    write_csv(make_run(tmp_path / "run", [], finished=False), tmp_path / "table.csv")
    assert read_table(tmp_path / "table.csv") == []
    assert (tmp_path / "table.csv").read_text().startswith("trial,epoch,round,seed,status")


@pytest.fixture
def optuna():
    module = pytest.importorskip("optuna")
    module.logging.set_verbosity(module.logging.WARNING)
    return module


def study_of(optuna, run, tmp_path):
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    write_optuna_study(run, storage)
    pool = {"poolclass": pytest.importorskip("sqlalchemy.pool").NullPool}  # leaves nothing open
    database = optuna.storages.RDBStorage(storage, engine_kwargs=pool)
    return optuna.load_study(study_name=run.name, storage=database)


def test_every_trial_of_a_finished_run_has_its_state_and_the_score_it_was_judged_by(
    optuna, run, tmp_path
):
    study = study_of(optuna, run, tmp_path)
    assert study.direction.name == "MINIMIZE" and study.user_attrs["metric"] == "ls"
    assert study.user_attrs["measure"] == "perplexity"
    # Trial 1 was last judged after epoch 3; its score after epoch 4 chose nobody.
    assert [(trial.state.name, trial.value) for trial in study.trials] == [
        ("PRUNED", 0.35),
        ("COMPLETE", 0.2),
        ("PRUNED", 0.4),
        ("PRUNED", 0.85),
        ("FAIL", None),
    ]
    cut = study.trials[0]
    assert cut.value == cut.intermediate_values[cut.last_step]
    assert study.trials[1].intermediate_values == {1: 0.8, 2: 0.3, 3: 0.2, 4: 0.6}
    assert study.best_trial.number == 1


def test_attributes_tell_what_else_is_known_of_a_trial(optuna, run, tmp_path):
    trials = study_of(optuna, run, tmp_path).trials
    assert trials[1].user_attrs == {
        "trial": 1,
        "epochs": 4,
        "seed": 101,
        "sparsity": 0.67,
        "nonzeros": 330,
        "val_nll": 1.0,
        "val_perplexity": 59.0,
        "ls_distance": 0.6,
        "winner": True,
    }
    assert trials[2].user_attrs["duplicate_of"] == 0
    assert trials[4].user_attrs["reason"] == HOSTILE


def test_numbers_become_ranges_and_names_become_choices(optuna, run, tmp_path):
    trial = study_of(optuna, run, tmp_path).trials[3]
    distributions = optuna.distributions
    assert trial.distributions["death_rate"] == distributions.FloatDistribution(0.4, 0.8)
    choices = distributions.CategoricalDistribution(["magnitude", "set", "threshold"])
    assert trial.distributions["death"] == choices
    assert trial.params["death"] == "threshold" and trial.params["death_rate"] == 0.4 + 0.1 * 3
    assert "horizon" not in trial.params


def test_controls_that_rule_nothing_are_no_parameters(optuna, tmp_path):
    static = record(1, 2, 0.2)
    static.controls["update_every"] = "inf"
    run = make_run(tmp_path / "run", [*history(0, 0.3, 0.1), static], finished=False)
    trials = study_of(optuna, run, tmp_path).trials
    assert trials[1].params == {"init": "er", "update_every": "inf"}
    assert trials[0].params["update_every"] == 1.0 and "death" in trials[0].params


def test_trials_that_may_go_on_are_running(optuna, tmp_path):
    lines = [line for line in records() if line.epoch <= 2]
    trials = study_of(optuna, make_run(tmp_path / "run", lines, finished=False), tmp_path).trials
    states = [trial.state.name for trial in trials]
    assert states == ["RUNNING", "RUNNING", "PRUNED", "PRUNED", "FAIL"]
    assert trials[0].value is None and trials[0].intermediate_values == {1: 0.7, 2: 0.4}


def test_a_study_is_not_written_over_another(optuna, run, tmp_path, capsys):
    del optuna
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    assert main([str(run), f"--optuna={storage}"]) == 0
    assert main([str(run), f"--optuna={storage}"]) == 2
    assert "`study_name` must be new in the storage, got 'run'" in capsys.readouterr().err
    assert main([str(run), f"--optuna={storage}", "--study-name=again"]) == 0


@pytest.mark.parametrize("storage", ["nonsense", "sqlite:////nowhere/at/all/study.db"])
def test_a_storage_that_cannot_be_opened_gives_one_clear_line(optuna, run, capsys, storage):
    del optuna
    assert main([str(run), f"--optuna={storage}"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: `storage` must be the URL") and error.count("\n") == 1


def test_without_optuna_the_line_says_what_to_install(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError, match=r"pip install \"lsh-jax\[optuna\]\""):
        write_optuna_study(run, "sqlite:///:memory:")


def test_the_command_refuses_what_is_no_run_and_what_it_cannot_write(run, tmp_path):
    command = [sys.executable, "-m", "lsh_jax.export"]
    for arguments, complaint in (
        (
            [tmp_path / "missing", f"--csv={tmp_path / 'a.csv'}"],
            "must be the directory of a search",
        ),
        ([run, f"--csv={tmp_path / 'no' / 'a.csv'}"], "No such file"),
        ([run], "--csv=FILE, --optuna=URL, or both"),
    ):
        done = subprocess.run(
            [*command, *map(str, arguments)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 2 and complaint in done.stderr
        assert "Traceback" not in done.stderr
    done = subprocess.run(
        [*command, str(run), f"--csv={tmp_path / 'a.csv'}"], capture_output=True, text=True
    )
    assert done.returncode == 0 and len(read_table(tmp_path / "a.csv")) == len(records())
