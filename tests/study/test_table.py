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


def test_a_number_that_is_none_is_null_and_comes_back_as_nan(tmp_path):
    append(tmp_path, [line(1, val_nll=float("inf"), val_nll_averaged=float("nan"))], {})
    (tmp_path / "study.json").write_text("{}")
    (text,) = (tmp_path / LINES).read_text().splitlines()
    stored = json.loads(text, parse_constant=pytest.fail)
    assert stored["val_nll"] is stored["val_nll_averaged"] is stored["churn"] is None
    own = load_table(tmp_path).trajectories["3", 1]
    assert np.isnan([own.val_nll[0], own.val_averaged[0]]).all()
    assert own.churn[0] == 0  # no update is no churn


def test_an_nll_keeps_five_digits(tmp_path):
    append(tmp_path, [line(1, val_nll=4.123456789)], {})
    (tmp_path / "study.json").write_text("{}")
    assert load_table(tmp_path).trajectories["3", 1].val_nll[0] == 4.12346


def test_every_spectrum_comes_back_under_its_name_and_epoch(tmp_path):
    spectra = {
        epoch: {name: np.full((1, 2, 3), -scale * epoch) for name, scale in scales.items()}
        for epoch, scales in {2: {"hidden": 1.0, "paper": 0.5}, 6: {"hidden": 1.0}}.items()
    }
    append(tmp_path, [line(1)], spectra)
    (tmp_path / "study.json").write_text("{}")
    found = load_table(tmp_path).trajectories["3", 1].spectra
    assert {name: sorted(own) for name, own in found.items()} == {"hidden": [2, 6], "paper": [2]}
    assert found["hidden"][6].tolist() == spectra[6]["hidden"].tolist()
    assert found["paper"][2].tolist() == spectra[2]["paper"].tolist()


def test_what_is_appended_again_changes_nothing_that_is_read(tmp_path):
    spectra = {1: {"hidden": np.linspace(-3, 1, 6).reshape(1, 2, 3)}}
    (tmp_path / "study.json").write_text("{}")
    append(tmp_path, [line(1), line(2)], spectra)
    first = load_table(tmp_path).trajectories["3", 1]
    append(tmp_path, [line(1, wall_s=9.0), line(2, wall_s=9.0)], spectra)
    again = load_table(tmp_path).trajectories["3", 1]
    assert again.wall_s.tolist() == first.wall_s.tolist() == [1.5, 1.5]
    assert again.spectra["hidden"][1].tolist() == first.spectra["hidden"][1].tolist()


def test_candidates_are_in_the_order_of_their_numbers(make_table):
    finals = np.ones((1, 12))
    table = make_table(finals, finals)
    backwards = table._replace(trajectories=dict(reversed(table.trajectories.items())))
    assert backwards.candidates() == [str(n) for n in range(12)]


def test_the_seconds_of_a_network_are_the_mean_over_its_seeds(tmp_path):
    append(tmp_path, [line(1), line(2)], {})
    append(tmp_path, [line(1, seed=0, wall_s=5.0)], {})
    append(tmp_path, [line(1, network="dense", wall_s=7.0)], {})
    assert seconds_each(tmp_path) == {"3": (3.0 + 5.0) / 2, "dense": 7.0}


def test_a_seed_whose_dense_network_is_not_trained_yet_waits(make_table):
    table = make_table([[5.0, 6.0], [5.0, 6.0]], [[1, 2], [1, 2]])
    del table.trajectories["dense", 1], table.trajectories["1", 1]
    assert (table.seeds(), table.candidates()) == ([0], ["0", "1"])
    del table.trajectories["dense", 0]
    assert (table.seeds(), table.candidates()) == ([], [])
