"""The command that trains the dense network alone."""

import contextlib
import io
import json
import os

import jax
import pytest
from commands import TINY_TRAINING, ledger, run_script

from lsh_jax import load_model
from lsh_jax.cli.train_dense import main, parse
from lsh_jax.config import ConfigError
from lsh_jax.data import load_corpus
from lsh_jax.presets import PRESETS, TrainingSettings, training_part
from lsh_jax.search import segments
from lsh_jax.search.dense import SearchError, load_dense, train_dense
from lsh_jax.search.language_model_task import make_language_model_task


@pytest.fixture(scope="module")
def make_task():
    """Builds a task once for its settings, so that its programs are compiled once."""
    made = {}

    def make(corpus, *settings):
        if settings not in made:
            made[settings] = make_language_model_task(corpus, *settings)
        return made[settings]

    return make


@pytest.fixture(scope="module")
def task(text_folder, cache, make_task):
    """What `flags` train."""
    settings = parse(TINY_TRAINING)
    corpus = load_corpus("text", text_folder, settings.model.vocab_size, cache_dir=cache)
    return make_task(corpus, settings.model, settings.train, settings.spectrum, settings.seed)


@pytest.fixture(scope="module")
def flags(text_folder, cache, make_task):
    """Of a run of seconds in this process; its time is not measured before it starts."""
    own = [f"--data-dir={text_folder}", f"--cache-dir={cache}"]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("lsh_jax.cli.workplace.use_compile_cache", lambda directory: None)
        patched.setattr("lsh_jax.cli.workplace.make_language_model_task", make_task)
        patched.setattr("lsh_jax.cli.train_dense.measure_epoch", lambda *_: (60.0, 2**20))
        yield ["--data=text", *own, *TINY_TRAINING]


@pytest.fixture(scope="module")
def whole(flags, tmp_path_factory):
    """A run without interruption, and what it printed."""
    run = tmp_path_factory.mktemp("whole") / "run"
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert main([*flags, f"--out={run}"]) == 0
    return run, printed.getvalue()


def interrupting(monkeypatch, epoch, segment):
    """Ctrl-C when a segment of an epoch is done."""

    @contextlib.contextmanager
    def progress(*arguments):
        def listener(kind, values):
            if kind == "segment" and (values["epoch"], values["done"]) == (epoch, segment):
                raise KeyboardInterrupt

        yield listener

    monkeypatch.setattr("lsh_jax.cli.train_dense.training_progress", progress)


def test_a_run_ends_with_a_model_and_a_line_on_it(whole, task):
    run, printed = whole
    # Weights 2 x 60 x 8 and 2 x 8 x 32; biases 32 and 60, torch's layer has 32 more.
    assert "1,472 weights and 92 biases (124 where" in printed
    assert "[4/4] training perplexity" in printed
    result = json.loads((run / "result.json").read_text())
    dense = result["dense"]
    assert dense["epochs"] == 4
    assert result["sizes"]["weights"] == 1472
    assert (result["seed"], result["settings"]["data"]) == (0, "text")
    last = printed.splitlines()[-1]
    assert last.startswith(f"Dense network: validation perplexity {dense['val_perplexity']:.2f}, ")
    for name in ("history.png", "spectra.npz", "config.json", "model/weights.safetensors"):
        assert (run / name).stat().st_size > 0
    rows = ledger(run)
    best = min(rows, key=lambda row: row["val_nll"])
    assert dense["best_epoch"] == best["epoch"]
    assert dense["val_perplexity"] == best["val_perplexity"] < result["unigram_perplexity"]
    saved, state = load_model(run), load_dense(task, run).state
    jax.tree.map(lambda a, b: (a == b).all() or pytest.fail("weights"), saved.params, state.params)


def test_a_search_takes_the_run_as_its_dense_network(whole, task):
    dense = load_dense(task, whole[0])
    assert [record.epoch for record in dense.records] == sorted(dense.spectra) == [1, 2, 3, 4]
    with pytest.raises(ConfigError, match="differs in seed"):
        load_dense(task.with_seed(1), whole[0])


@pytest.mark.slow
def test_the_script_does_the_same(whole, text_folder, cache, tmp_path):
    where = (f"--data-dir={text_folder}", f"--out={tmp_path / 'run'}")
    done = run_script("train_dense.py", "--data=text", *where, *TINY_TRAINING, cache=cache)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    assert "\nTime: " in done.stdout
    assert ledger(tmp_path / "run") == ledger(whole[0])
    measured = run_script(
        *("evaluate.py", tmp_path / "run", "--data=text", f"--data-dir={text_folder}"),
        *("--spectrum.length=20", "--spectrum.burn-in=5", "--spectrum.batch=2"),
        *("--training-text", "--eval-batch-size=4"),
        cache=cache,
    )
    assert (measured.returncode, measured.stderr) == (0, ""), measured.stdout
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert f" {result['dense']['test_perplexity']:.2f} " in measured.stdout


@pytest.mark.slow
def test_the_whole_search_takes_the_run(whole, text_folder, cache, tmp_path):
    where = (f"--data-dir={text_folder}", f"--out={tmp_path / 'run'}", f"--dense={whole[0]}")
    own = ("--e0=2", "--space.update-every=0.5", "--max-evals=2")
    done = run_script("hypersearch.py", "--data=text", *where, *TINY_TRAINING, *own, cache=cache)
    assert done.returncode == 0, done.stdout + done.stderr
    dense = [row for row in ledger(tmp_path / "run") if row["trial"] == "dense"]
    assert dense == ledger(whole[0])


@pytest.mark.parametrize(("epoch", "segment"), [(1, 1), (2, 2)])
def test_an_interrupted_run_resumes_to_the_same_ledger(
    epoch, segment, whole, flags, tmp_path, capsys, monkeypatch
):
    run = tmp_path / "run"
    with monkeypatch.context() as patched:
        interrupting(patched, epoch, segment)
        assert main([*flags, f"--out={run}"]) == 130
    assert f"--resume --out={run}" in capsys.readouterr().err
    assert main([*flags, f"--out={run}", "--resume"]) == 0
    assert f"Epochs: 4{', 1 of them done' if epoch == 2 else ''}" in capsys.readouterr().out
    assert ledger(run) == ledger(whole[0])


def test_a_segment_that_was_kept_is_not_trained_again(
    whole, task, flags, tmp_path, capsys, monkeypatch
):
    run = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(segments, "INTERVAL", 0.0)
        interrupting(patched, 2, 2)
        assert main([*flags, f"--out={run}"]) == 130
    trained = []

    def train(state, *arguments):
        trained.append(int(state.num_segments))
        return task.train(state, *arguments)

    train_dense(task._replace(train=train), 4, 0, run, lambda kind, values: None, {})
    assert trained == [3, 4, 5, 6, 7]  # of 2 an epoch; the third was kept
    assert ledger(run) == ledger(whole[0])
    assert not list((run / "checkpoints").rglob("*-*.json"))


def test_a_network_that_diverges_is_told_of_whenever_checkpoints_are_due(
    task, tmp_path, monkeypatch
):
    monkeypatch.setattr(segments, "INTERVAL", 0.0)
    with pytest.raises(SearchError, match="the training nll is nan"):
        train_dense(task, 1, 0, tmp_path, lambda kind, values: None, {"learning_rate": 1e30})


def cut_short(path):
    path.with_name(path.name + ".json").unlink()


def turn_a_byte(path):
    largest = max((file for file in path.rglob("*") if file.is_file()), key=os.path.getsize)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)


@pytest.mark.parametrize("damage", [cut_short, turn_a_byte])
def test_a_damaged_checkpoint_costs_its_segments_only(task, tmp_path, monkeypatch, damage):
    def interrupt(kind, values):
        if (kind, values.get("epoch"), values.get("done")) == ("segment", 2, 2):
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(segments, "INTERVAL", 0.0)
        with pytest.raises(KeyboardInterrupt):
            train_dense(task, 2, 0, tmp_path, interrupt, {})
    (manifest,) = (tmp_path / "checkpoints" / "dense").glob("2-1.json")
    damage(manifest.with_suffix(""))
    records = train_dense(task, 2, 0, tmp_path, lambda kind, values: None, {}).records
    again = train_dense(task, 2, 0, tmp_path / "whole", lambda kind, values: None, {}).records
    assert [r.val_nll for r in records] == [r.val_nll for r in again]


def test_a_run_can_be_resumed_to_more_epochs_but_not_by_another_recipe(
    whole, flags, tmp_path, capsys
):
    run = tmp_path / "run"
    assert main([*flags, f"--out={run}", "--final-epochs=1"]) == 0
    assert main([*flags, f"--out={run}", "--resume"]) == 0
    assert ledger(run) == ledger(whole[0])
    capsys.readouterr()
    assert main([*flags, f"--out={run}", "--resume", "--train.learning-rate=1"]) == 2
    assert "train.learning_rate was 20.0 and is 1.0" in capsys.readouterr().err
    assert main([*flags, f"--out={run}"]) == 2
    assert "--out must be a new or empty directory" in capsys.readouterr().err


def test_a_dry_run_tells_the_cost_and_writes_nothing(flags, tmp_path, capsys):
    assert main([*flags, f"--out={tmp_path / 'run'}", "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "Data: text, 2,250 training tokens" in printed
    assert "Epochs: 4\nDisk: at most 4.0 MiB of checkpoints\nTime: about 4 min, 60 s an" in printed
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--sparsity=0.5"], "Unrecognized options: --sparsity, 0.5"),
        (["--space.death=set"], "Unrecognized options: --space.death"),
        (["--preset=huge"], "invalid choice 'huge'"),
        (["--final-epochs=0"], "--final-epochs must be at least 1, got 0"),
        (["--seed=-1"], "--seed must lie in [0, 2^31), got -1"),
        (["--train.decay=0.5"], "`decay` must be at least 1"),
        (["--resume", "--out=no/such/run"], "no/such/run"),
        (["--data-dir=no/such/folder"], "no/such/folder"),
        (["--train.segments-per-epoch=9999"], "--train.segments-per-epoch must leave"),
    ],
)
def test_bad_input_gets_one_clear_message_and_status_2(
    wrong, message, flags, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    try:
        status = main([*flags, "--out=run", *wrong])
    except SystemExit as leaving:  # how the parser of the flags refuses
        status = leaving.code
    assert status == 2
    assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_the_training_half_of_that_of_the_search(preset):
    settings = parse([f"--preset={preset}"])
    assert settings == training_part(PRESETS[preset])
    assert type(settings) is TrainingSettings
    assert settings.train == PRESETS[preset].train


def test_a_run_without_a_name_is_told_from_a_search_of_its_preset(tmp_path, monkeypatch):
    from lsh_jax.cli.running import run_directory

    monkeypatch.chdir(tmp_path)
    for name in ("20260101-000000-quick-0", "20260102-000000-dense-quick-0"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    again = parse(["--resume"])
    assert run_directory(again, "dense-").name == "20260102-000000-dense-quick-0"
    assert run_directory(again).name == "20260101-000000-quick-0"
