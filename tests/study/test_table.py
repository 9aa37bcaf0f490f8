import json

import numpy as np
import pytest

from lsh_jax.config import ConfigError
from lsh_jax.study.table import LINES, append, finished, load_table, seconds_each


def line(epoch, **changes):
    own = {
        "network": "3",
        "seed": 1,
        "epoch": epoch,
        "train_nll": 4.0,
        "val_nll": 3.0,
        "val_nll_averaged": 2.0 + epoch / 1000,
        "test_nll_averaged": 2.5,
        "churn": None,
        "nonzeros": 10,
        "wall_s": 1.5,
    }
    return own | changes


def test_spectra_come_back_within_half_a_unit(tmp_path):
    exponents = np.random.default_rng(0).uniform(-15, 2, (2, 3, 4))
    errors = np.random.default_rng(1).uniform(0, 0.2, (2, 3, 4))
    append(tmp_path, [line(1)], {1: {"hidden": exponents, "hidden_std_error": errors}})
    (tmp_path / "study.json").write_text("{}")
    spectra = load_table(tmp_path).trajectories["3", 1].spectra
    np.testing.assert_allclose(spectra["hidden"][1], exponents, atol=0.5001e-3)
    np.testing.assert_allclose(spectra["hidden_std_error"][1], errors, atol=0.5001e-5)


def test_what_no_integer_holds_is_as_far_away_as_one_can_say(tmp_path):
    append(tmp_path, [line(1)], {1: {"hidden": np.array([[[-np.inf, np.nan, np.inf]]])}})
    (tmp_path / "study.json").write_text("{}")
    values = load_table(tmp_path).trajectories["3", 1].spectra["hidden"][1]
    assert values.tolist() == [[[-32.768, 32.767, 32.767]]]


def test_a_network_that_two_processes_trained_stands_once(tmp_path):
    append(tmp_path, [line(1), line(2)], {})
    append(tmp_path, [line(1), line(2)], {})
    assert finished(tmp_path) == {("3", 1)}
    assert len((tmp_path / LINES).read_text().splitlines()) == 2
    assert seconds_each(tmp_path) == {"3": 3.0}


def test_the_final_is_that_of_the_best_validation(tmp_path):
    nlls = [3.0, 1.0, float("nan"), 2.0]
    lines = [
        line(epoch, val_nll_averaged=None if nll != nll else nll, test_nll_averaged=epoch / 10)
        for epoch, nll in enumerate(nlls, start=1)
    ]
    append(tmp_path, lines, {})
    (tmp_path / "study.json").write_text("{}")
    own = load_table(tmp_path).trajectories["3", 1]
    assert (own.best_epoch(), own.final(), own.final_test()) == (2, np.exp(1.0), np.exp(0.2))


def test_candidates_are_those_that_all_seeds_have(make_table):
    table = make_table([[5.0, 6.0], [5.0, 6.0]], [[1, 2], [1, 2]])
    del table.trajectories["1", 0]
    assert table.candidates() == ["0"]
    assert table.seeds() == [0, 1]


def test_a_folder_without_a_table_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"must be a folder with a study\.json"):
        load_table(tmp_path)


def test_lines_are_plain_json(trained):
    for text in (trained / LINES).read_text().splitlines():
        json.loads(text, parse_constant=pytest.fail)
