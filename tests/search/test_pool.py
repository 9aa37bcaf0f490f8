"""How the pool begins, and when it is closed."""

import pytest

from lsh_jax.config import ConfigError, SpaceConfig
from lsh_jax.search.hyperpruning import hyperprune


@pytest.fixture(scope="module")
def config(search_config):
    def make(**changes):
        space = SpaceConfig(
            init=("uniform",), growth=("random",), redistribution=("none", "magnitude")
        )
        return search_config(**({"max_evals": 8, "final_epochs": 6, "space": space} | changes))

    return make


def pool(found):
    """The first record of every candidate that was trained."""
    return [
        record
        for record in found.records
        if record.duplicate_of is None and (record.round, record.epoch) == (0, 1)
    ]


def test_the_pool_begins_with_what_is_to_be_tried(toy_task, config, tmp_path):
    own = ("death=set, death-rate=0.9, redistribution=magnitude", "death_rate=.50")
    found = hyperprune(toy_task(), config(try_first=own), out=tmp_path / "run")
    first, second, third = (record.controls for record in pool(found)[:3])
    assert (first["death"], first["death_rate"], first["redistribution"]) == (
        "set",
        0.9,
        "magnitude",
    )
    assert second["death_rate"] == 0.5
    assert third["death_rate"] != 0.5 or third["death"] != second["death"]
    assert len(found.result["rounds"][0]["entered"]) == 8
    again = hyperprune(toy_task(), config(try_first=own), out=tmp_path / "again")
    assert [r.controls for r in pool(again)] == [r.controls for r in pool(found)]


def test_what_is_tried_twice_is_trained_once(toy_task, config, tmp_path):
    whole = "death=set,death_rate=0.9,redistribution=none"
    found = hyperprune(toy_task(), config(try_first=(whole, whole)), out=tmp_path / "run")
    assert [r.duplicate_of for r in found.records if r.trial == 1] == [0]
    assert len(found.result["rounds"][0]["entered"]) == 8


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("death", "must hold control=value with controls of the space, got 'death'"),
        ("depth=3", "there are death, redistribution, death_rate"),
        ("death=taylor", "space.death has magnitude, set, threshold, global_magnitude"),
        ("death_rate=high", "got 'death_rate=high'"),
        ("death_rate=0.45", "space.death_rate has 0.4, 0.5"),
        ("", "got ''"),
    ],
)
def test_what_cannot_be_tried_is_refused_before_anything_is_trained(
    toy_task, config, tmp_path, text, words
):
    with pytest.raises(ConfigError, match=words):
        hyperprune(toy_task(), config(try_first=(text,)), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_pool_is_closed_when_the_best_score_has_stood_for_long(toy_task, config, tmp_path):
    notices = []

    def listen(kind, values):
        if kind == "notice":
            notices.append(values["text"])

    # The toy's dense network has rate 0.6: no candidate comes nearer than this one.
    own = {"try_first": ("death=magnitude,death_rate=0.6",), "settled_after": 3, "ask_batch": 2}
    large = config(max_evals=40, final_epochs=9, **own)
    found = hyperprune(toy_task(), large, out=tmp_path / "run", on_event=listen)
    entered = found.result["rounds"][0]["entered"]
    assert 4 <= len(entered) <= 5  # the best, three more, and the rest of their batch
    assert f"the pool is closed with {len(entered)} candidates" in notices[-1]
    assert found.result["best"]["trial"] in entered


def test_a_pool_without_a_score_is_not_settled(toy_task, config, tmp_path):
    def fails(controls, epoch):
        return float("nan") if float(controls.death_rate) < 0.85 else None

    own = {"try_first": ("death_rate=0.4",), "settled_after": 1, "ask_batch": 1}
    found = hyperprune(toy_task(fails), config(max_evals=12, **own), out=tmp_path / "run")
    assert any(record.status == "ok" for record in found.records if isinstance(record.trial, int))
