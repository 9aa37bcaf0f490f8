"""Checkpoints that are damaged, missing or cut short: seen, set aside, and trained again."""

import dataclasses
import math
import pathlib
import shutil

import pytest

from lsh_jax.checkpoint import CheckpointError, has_checkpoint
from lsh_jax.config import ConfigError
from lsh_jax.search.dense import SearchError
from lsh_jax.search.hyperpruning import hyperprune
from lsh_jax.search.ledger import Ledger, best_epoch
from lsh_jax.search.run_directory import checkpoint_path


def lines(run):
    """The ledger without wall times."""
    records = Ledger(pathlib.Path(run) / "trials.jsonl").records()
    return [dataclasses.replace(record, wall_s=None) for record in records]


@pytest.fixture(scope="module")
def config(search_config):
    return search_config(final_epochs=6)


@pytest.fixture(scope="module")
def straight(toy_task, config, tmp_path_factory):
    run = tmp_path_factory.mktemp("straight") / "run"
    return hyperprune(toy_task(), config, out=run), run


@pytest.fixture(scope="module")
def stopped(toy_task, config, tmp_path_factory):
    """A run that was stopped in its second round."""
    run = tmp_path_factory.mktemp("stopped") / "run"

    def listener(kind, values):
        if kind == "record" and values["record"].round == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hyperprune(toy_task(), config, out=run, on_event=listener)
    return run


def largest_file(path):
    return max((file for file in path.rglob("*") if file.is_file()), key=lambda f: f.stat().st_size)


def manifest_of(path):
    return path.with_name(path.name + ".json")


def truncate(path):
    file = largest_file(path)
    file.write_bytes(file.read_bytes()[:-1])


def flip_first(path):
    flip(path, 0.0)


def flip_middle(path):
    flip(path, 0.5)


def flip_last(path):
    flip(path, 1.0)


def flip(path, part):
    file = largest_file(path)
    content = bytearray(file.read_bytes())
    content[int(part * (len(content) - 1))] ^= 16
    file.write_bytes(content)


def remove_metadata(path):
    (path / "_METADATA").unlink()


def remove_manifest(path):
    manifest_of(path).unlink()


def spoil_manifest(path):
    manifest_of(path).write_text('{"sha256": 3}')


def remove_all(path):
    shutil.rmtree(path)
    remove_manifest(path)


def leave_unfinished(path):
    """What Orbax leaves of a checkpoint whose writer was killed."""
    remove_manifest(path)
    path.rename(path.with_name(path.name + ".orbax-checkpoint-tmp"))


DAMAGES = [
    truncate,
    flip_first,
    flip_middle,
    flip_last,
    remove_metadata,
    remove_manifest,
    spoil_manifest,
    remove_all,
    leave_unfinished,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_checkpoints_are_set_aside_and_trained_again(
    toy_task, config, straight, stopped, tmp_path, damage
):
    run, notices = tmp_path / "run", []
    shutil.copytree(stopped, run)
    paths = [
        path.with_suffix("")
        for path in (run / "checkpoints").glob("[0-9]*/*.json")
        if path.parent.name != "0"  # one is left alone
    ]
    assert len(paths) >= 3
    for path in paths:
        damage(path)

    def listen(kind, values):
        if kind == "notice":
            notices.append(values["text"])

    found = hyperprune(toy_task(), config, out=run, resume=True, on_event=listen)
    assert lines(run) == lines(straight[1])
    for name in ("best", "dense", "beats_dense", "budget", "rounds"):
        assert found.result[name] == straight[0].result[name]
    told = [text for text in notices if "trained again" in text]
    assert told
    assert all("checkpoint at" in text for text in told)
    aside = list(run.glob("corrupt/*"))
    nothing_left = damage in (remove_all, leave_unfinished)
    assert bool(aside) != nothing_left
    assert all("corrupt" in text for text in told) != nothing_left


def test_a_winner_whose_checkpoint_is_damaged_is_still_written(
    toy_task, config, straight, tmp_path
):
    run = tmp_path / "run"
    shutil.copytree(straight[1], run)
    best = straight[0].result["best"]
    flip_middle(checkpoint_path(run, best["trial"], best["epoch"]))
    shutil.rmtree(run / "model")
    hyperprune(toy_task(), config, out=run, resume=True)
    weights = "model/weights.npy"
    assert (run / weights).read_bytes() == (straight[1] / weights).read_bytes()


def test_the_dense_network_of_a_cache_is_mended_too(toy_task, config, straight, tmp_path):
    cache = tmp_path / "cache"
    hyperprune(toy_task(), config, out=tmp_path / "first", cache_dir=cache)
    (folder,) = (cache / "dense").iterdir()
    for manifest in (folder / "checkpoints" / "dense").glob("*.json"):
        flip_middle(manifest.with_suffix(""))
    hyperprune(toy_task(), config, out=tmp_path / "second", cache_dir=cache)
    assert lines(tmp_path / "second") == lines(straight[1])
    assert list((folder / "corrupt").iterdir())


def test_a_spectrum_that_is_not_the_one_on_record_is_refused(toy_task, config, tmp_path):
    cache = tmp_path / "cache"
    hyperprune(toy_task(), config, out=tmp_path / "first", cache_dir=cache)
    (folder,) = (cache / "dense").iterdir()
    for spoil, words in ((lambda b: b[:-1] + b"\1", "is damaged"), (lambda b: b[:40], "read")):
        path = folder / "spectra" / "dense-2.npy"
        before = path.read_bytes()
        path.write_bytes(spoil(before))
        with pytest.raises(ConfigError, match=rf"spectrum of dense after epoch 2 .*{words}"):
            hyperprune(toy_task(), config, out=tmp_path / "second", cache_dir=cache)
        path.write_bytes(before)
        shutil.rmtree(tmp_path / "second")


def test_a_checkpoint_of_another_state_is_no_damage(toy_task, config, stopped, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(stopped, run)
    task = toy_task()

    def init(key, controls, hyper):
        state = task.init(key, controls, hyper)
        return state | {"weights": state["rate"]}

    with pytest.raises(SearchError, match="is of another state"):
        hyperprune(task._replace(init=init), config, out=run, resume=True)
    assert not (run / "corrupt").exists()


def test_what_cannot_be_trained_again_is_an_error_that_says_so(toy_task, config, stopped, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(stopped, run)
    for path in (run / "checkpoints").glob("[0-9]*"):
        shutil.rmtree(path)
    task = toy_task(fails=lambda controls, epoch: math.nan)
    with pytest.raises(CheckpointError, match=r"whose checkpoint is lost, cannot be trained again"):
        hyperprune(task, config, out=run, resume=True)


def test_the_best_and_the_latest_checkpoint_are_kept_also_when_a_loss_is_nan(
    toy_task, search_config, tmp_path
):
    """Of losses that rise after epoch 2, with a NaN: Orbax's own policy drops the best there."""
    kept = {}

    def listen(kind, values):
        if kind == "record" and isinstance(values["record"].trial, int):
            trial = values["record"].trial
            history = Ledger(run / "trials.jsonl").history(trial)
            epochs = {r.epoch for r in history if r.status == "ok"}
            there = {e for e in epochs if has_checkpoint(checkpoint_path(run, trial, e))}
            kept[trial, values["record"].epoch] = (there, max(epochs), best_epoch(history))

    run = tmp_path / "run"
    task = toy_task(
        fails=lambda controls, epoch: (
            math.nan if epoch == 6 and float(controls.death_rate) > 0.45 else None
        )
    )
    task = task._replace(evaluate=lambda state, split: 1 + abs(int(state["segments"]) / 2 - 2))
    config = search_config(final_epochs=7, finalists=5, max_evals=5)
    found = hyperprune(task, config, out=run, on_event=listen)
    assert any(record.status == "failed" for record in found.records)
    for there, latest, best in kept.values():
        assert {latest, best} <= there | {latest}
        assert best in there or best == latest
    for trial in range(5):
        history = Ledger(run / "trials.jsonl").history(trial)
        if history[-1].duplicate_of is None:
            assert has_checkpoint(checkpoint_path(run, trial, best_epoch(history)))
    assert found.result["best"]["epoch"] == 2
