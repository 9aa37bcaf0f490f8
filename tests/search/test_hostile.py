"""A run directory from a stranger: what it holds cannot run code, nor be written to elsewhere."""

import ast
import json
import pathlib
import shutil

import pytest

import lsh_jax
from lsh_jax.checkpoint import CheckpointError
from lsh_jax.config import ConfigError
from lsh_jax.search.dense import SearchError
from lsh_jax.search.hyperpruning import hyperprune
from lsh_jax.search.ledger import LedgerError

SOURCES = sorted(pathlib.Path(lsh_jax.__file__).parent.rglob("*.py"))


@pytest.fixture(scope="module")
def stopped(toy_task, search_config, tmp_path_factory):
    """A run that was stopped in its pool."""
    run = tmp_path_factory.mktemp("stopped") / "run"

    def listener(kind, values):
        if kind == "record" and values["record"].trial == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hyperprune(toy_task(), search_config(), out=run, on_event=listener)
    return run


@pytest.fixture
def run(stopped, tmp_path):
    """A copy, to be spoilt."""
    shutil.copytree(stopped, tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.parametrize(
    "place", ["checkpoints", "checkpoints/1", "spectra", "corrupt", "model", "trials.jsonl"]
)
def test_links_out_of_the_run_are_refused_before_anything_is_written(
    toy_task, search_config, run, tmp_path, place
):
    outside = tmp_path / "home"
    path = run / place
    if path.exists():
        shutil.move(path, outside)
    else:
        outside.mkdir()
    path.symlink_to(outside)
    before = sorted(entry.name for entry in tmp_path.rglob("*"))
    with pytest.raises(ConfigError, match="must hold no links to places outside it"):
        hyperprune(toy_task(), search_config(), out=run, resume=True)
    assert sorted(entry.name for entry in tmp_path.rglob("*")) == before


def test_links_within_the_run_do_no_harm(toy_task, search_config, run):
    (run / "notes").mkdir()
    (run / "latest").symlink_to(run / "notes")
    hyperprune(toy_task(), search_config(), out=run, resume=True)


@pytest.mark.parametrize("trial", ["../../home", "/tmp/home", "0/../../home", ".."])
def test_trials_whose_names_lead_elsewhere_are_no_records(toy_task, search_config, run, trial):
    lines = (run / "trials.jsonl").read_text().splitlines()
    lines[-1] = json.dumps(json.loads(lines[-1]) | {"trial": trial})
    (run / "trials.jsonl").write_text("\n".join(lines) + "\n")
    with pytest.raises(LedgerError, match=f"line {len(lines)} is not a record: its trial is"):
        hyperprune(toy_task(), search_config(), out=run, resume=True)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{}",
        '{"search": "__import__(\'os\')"}',
        "[" * 100_000,
        '{"search": {"seed": 1' + "0" * 5000 + "}}",
        '{"fingerprint": "{' + "[" * 50_000 + '"}',
        '{"a\\u001b[2J": "\\u001b]0;title\\u0007"}',
        "\0\xff",
    ],
)
def test_a_hostile_config_is_refused_in_one_line(toy_task, search_config, run, text):
    (run / "config.json").write_text(text, encoding="latin-1")
    with pytest.raises(ConfigError) as refused:
        hyperprune(toy_task(), search_config(), out=run, resume=True)
    message = str(refused.value)
    assert len(message) < 20_000
    assert all(letter.isprintable() for letter in message)


@pytest.mark.parametrize(
    "manifest",
    [
        "{}",
        '{"sha256": {}, "leaves": {}, "notes": {}}',
        '{"sha256": {"../../x": "0"}, "leaves": {}, "notes": {}}',
        "[" * 100_000,
        '{"sha256": [], "leaves": 1, "notes": null}',
    ],
)
def test_a_hostile_manifest_is_damage(toy_task, search_config, run, manifest):
    for path in (run / "checkpoints").glob("[0-9]*/*.json"):
        path.write_text(manifest)
    hyperprune(toy_task(), search_config(), out=run, resume=True)  # set aside, and trained again


def test_a_checkpoint_within_an_epoch_cannot_lie_about_its_sums(toy_task, search_config, run):
    (whole,) = (run / "checkpoints" / "2").glob("*.json")
    manifest = json.loads(whole.read_text())
    for notes in ({}, {"total": 3}, {"total": ["x"] * 5}, {"total": [1e308] * 9}):
        part = whole.with_name("2-1.json")
        part.write_text(json.dumps(manifest | {"notes": notes}))
        shutil.copytree(whole.with_suffix(""), part.with_suffix(""), dirs_exist_ok=True)
    hyperprune(toy_task(), search_config(), out=run, resume=True)


@pytest.mark.parametrize("name", ["dense-1.npy", "dense-2.npy"])
def test_a_pickle_in_the_place_of_a_spectrum_is_not_opened(toy_task, search_config, run, name):
    import pickle

    class Bomb:
        def __reduce__(self):
            return (pathlib.Path(run / "exploded").touch, ())

    path = run / "dense" / "0" / "spectra" / name
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises((ConfigError, SearchError, CheckpointError), match="cannot be read"):
        hyperprune(toy_task(), search_config(), out=run, resume=True)
    assert not (run / "exploded").exists()


def test_no_source_evaluates_text_or_reads_a_pickle():
    assert len(SOURCES) > 100
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in ("eval", "exec", "compile", "__import__"), path
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                assert isinstance(node.value, ast.Constant) and node.value.value is False, path
