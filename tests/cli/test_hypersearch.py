"""The command as a user runs it: in a process of its own, on real text and on text made here."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import pytest
from commands import EXPERIMENTS, TINY_TRAINING, ledger, run_script

from lsh_jax import load_model, save_model
from lsh_jax.cli import main, parse
from lsh_jax.cli.running import run_directory
from lsh_jax.config import Death, Growth, Redistribution, SpaceConfig, choices
from lsh_jax.estimate import describe_model, describe_rounds, describe_unused_rows, total_epochs
from lsh_jax.presets import PRESETS
from lsh_jax.search.space import assignments, check_space, make_space, sparsity_config

SCRIPT = EXPERIMENTS / "hypersearch.py"
TINY = [*TINY_TRAINING, "--e0=2", "--space.update-every=0.5"]


def command(*arguments, **options):
    return run_script("hypersearch.py", *arguments, **options)


@pytest.fixture(scope="session")
def small_run(text_folder, cache, tmp_path_factory):
    """A search of 4 candidates with the compile cache still empty."""
    run = tmp_path_factory.mktemp("small") / "run"
    done = command(
        "--data=text",
        f"--data-dir={text_folder}",
        *TINY,
        "--max-evals=4",
        f"--out={run}",
        cache=cache,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return run, done


def test_a_search_on_a_folder_of_text_ends_with_a_report_and_a_model(small_run):
    run, done = small_run
    assert "Device: " in done.stdout
    assert re.search(r"Epochs: 12 of candidates and 4 of the dense network", done.stdout)
    for name in ("report.html", "report.md", "result.json", "spectra.npz", "config.json"):
        assert (run / name).stat().st_size > 0
    assert done.stderr == ""


def test_the_winner_can_be_loaded_and_has_the_sparsity_asked_for(small_run):
    run, _ = small_run
    result = json.loads((run / "result.json").read_text())
    saved = load_model(run)
    live = sum(
        int(mask.sum())
        for mask in (
            saved.masks["embedding"]["table"],
            saved.masks["layers_0"]["W"],
            saved.masks["layers_0"]["U"],
            saved.masks["decoder"]["W"],
        )
    )
    prunable = 60 * 8 + 2 * 8 * 32 + 8 * 60
    assert live == result["best"]["nonzeros"] == round(0.33 * prunable)
    assert "w0" in saved.vocabulary


@pytest.mark.slow
def test_the_same_command_twice_gives_the_same_ledger(small_run, text_folder, cache, tmp_path):
    again = command(
        "--data=text",
        f"--data-dir={text_folder}",
        *TINY,
        "--max-evals=4",
        f"--out={tmp_path / 'run'}",
        cache=cache,
    )
    assert again.returncode == 0, again.stderr
    assert ledger(tmp_path / "run") == ledger(small_run[0])


@pytest.mark.slow
def test_twelve_candidates_compile_no_more_programs_than_four(small_run, text_folder, tmp_path):
    """Each with an empty cache of its own and in a process of its own."""
    more = command(
        "--data=text",
        f"--data-dir={text_folder}",
        *TINY,
        "--max-evals=12",
        "--final-epochs=6",
        f"--out={tmp_path / 'run'}",
        cache=tmp_path / "cache",
    )
    assert more.returncode == 0, more.stderr
    counts = [
        json.loads((run / "result.json").read_text())["compilations"]
        for run in (small_run[0], tmp_path / "run")
    ]
    assert counts[1] <= counts[0]


@pytest.mark.slow
def test_an_interrupted_command_resumes_to_the_same_ledger(small_run, text_folder, cache, tmp_path):
    arguments = [
        f"--cache-dir={cache}",
        "--data=text",
        f"--data-dir={text_folder}",
        *TINY,
        "--max-evals=4",
        f"--out={tmp_path / 'run'}",
    ]
    # A job in a shell's background starts with Ctrl-C ignored, and so would its children.
    heeding = (
        "import runpy, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "sys.argv = sys.argv[1:]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", heeding, str(SCRIPT), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        for line in process.stdout:
            if "candidate 1, epoch 1" in line:
                process.send_signal(signal.SIGINT)
                break
        _, message = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "--resume" in message
    assert "Traceback" not in message
    resumed = command(*arguments, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert ledger(tmp_path / "run") == ledger(small_run[0])


def test_a_run_is_never_written_over(small_run, text_folder, capsys):
    run, _ = small_run
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    assert main(["--data=text", f"--data-dir={text_folder}", *TINY, f"--out={run}"]) == 2
    assert "--resume" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_resuming_with_another_seed_is_refused(
    small_run, text_folder, cache, capsys, no_compile_cache
):
    status = main(
        [
            *("--data=text", f"--data-dir={text_folder}", *TINY, "--max-evals=4", "--seed=1"),
            *(f"--out={small_run[0]}", "--resume", f"--cache-dir={cache}"),
        ]
    )
    assert status == 2
    assert "search.seed was 0 and is 1" in capsys.readouterr().err


@pytest.mark.slow
def test_an_earlier_run_and_its_model_serve_as_dense_references(
    small_run, text_folder, cache, tmp_path
):
    run, _ = small_run
    base = ["--data=text", f"--data-dir={text_folder}", *TINY, "--max-evals=4"]
    by_run = command(*base, f"--dense={run}", f"--out={tmp_path / 'a'}", cache=cache)
    assert by_run.returncode == 0, by_run.stderr
    assert ledger(tmp_path / "a") == ledger(run)
    pruned = command(*base, f"--dense={run / 'model'}", f"--out={tmp_path / 'b'}", cache=cache)
    assert pruned.returncode == 2
    assert "--dense must be a dense network, got the pruned one" in pruned.stderr
    saved = load_model(run)
    ones = jax.tree.map(jnp.ones_like, saved.masks)
    save_model(tmp_path / "model", saved.model, saved.params, ones, saved.vocabulary)
    by_model = command(
        *base, f"--dense={tmp_path / 'model'}", f"--out={tmp_path / 'b'}", cache=cache
    )
    assert by_model.returncode == 0, by_model.stderr
    result = json.loads((tmp_path / "b" / "result.json").read_text())
    assert result["dense"]["epochs"] == result["budget"]["epochs_dense"] == 0


@pytest.mark.slow
def test_a_search_of_the_learning_rate_tunes_the_dense_network_and_says_so(
    text_folder, cache, tmp_path
):
    done = command(
        "--data=text",
        f"--data-dir={text_folder}",
        *TINY,
        "--max-evals=4",
        "--space.learning-rate=0.01,5",
        "--space.dropout-output=0.1,0.3",
        f"--out={tmp_path / 'run'}",
        cache=cache,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["dense"]["hyper"]["learning_rate"] == 5.0  # by 0.01 nothing is learnt
    # 4 trials of 2 epochs, the better 2 of one more and one to the end; one of these is the dense
    # network's, with its 4 epochs.
    assert result["budget"]["epochs_tuning"] == 4 * 2 + 2 + 2 - 4
    assert "tuning-0, epoch 1: validation perplexity" in done.stdout
    assert "[24/24]" in done.stdout  # 12 + 10 of the pool and the rounds + 2 of the finals
    text = (tmp_path / "run" / "report.md").read_text()
    assert "the dense network was tuned first, over 4 trials in rounds" in text


@pytest.mark.slow
def test_penn_treebank_is_searched(penn_treebank, cache, tmp_path):
    small = (
        "--model.hidden-size=16 --model.embed-size=16 --model.vocab-size=500 "
        "--train.max-train-tokens=10000 --train.max-eval-tokens=4000 --train.learning-rate=10 "
        "--train.bptt=10 --train.batch-size=10 --space.update-every=0.5"
    ).split()
    done = command(
        "--data=ptb",
        f"--data-dir={penn_treebank}",
        "--max-evals=6",
        "--e0=2",
        "--ei=1",
        "--final-epochs=6",
        *small,
        f"--out={tmp_path / 'run'}",
        cache=cache,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "report.html").is_file()


def test_a_dry_run_prints_the_plan_and_writes_no_run(text_folder, cache, tmp_path):
    done = command(
        "--data=text",
        f"--data-dir={text_folder}",
        *TINY,
        "--max-evals=4",
        "--dry-run",
        f"--out={tmp_path / 'run'}",
        cache=cache,
    )
    assert done.returncode == 0, done.stderr
    for word in (
        "1,472 prunable weights, 486 of them live",
        "Rounds: 4 to epoch 2",
        "Epochs: ",
        "Disk: ",
        "Time: ",
    ):
        assert word in done.stdout
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--sparsity=1.2"], "--sparsity must lie in (0, 1), got 1.2"),
        (["--sparsity=nan"], "--sparsity must lie in (0, 1), got nan"),
        (["--e0=0"], "--e0 must be at least 1, got 0"),
        (["--e0=1"], "--e0 must exceed --space.update-every"),
        (["--max-evals=0"], "--max-evals must be at least 1, got 0"),
        (["--metric=guess"], "invalid choice 'guess'"),
        (["--preset=huge"], "invalid choice 'huge'"),
        (["--space.death=magnitude,decay"], "invalid choice 'decay'"),
        (["--no-such-flag=1"], "Unrecognized options: --no-such-flag"),
        (["--sparsity=much"], "--sparsity"),
        (["--model.hidden-size=0"], "`hidden_size` must be at least 1, got 0"),
        (["--final-epochs=3"], "--final-epochs must be at least"),
        (["--data=ptb"], "--data-dir"),
        (["--data=text", "--data-dir=no/such/folder"], "no/such/folder"),
        (
            ["--resume", "--out=no/such/run"],
            "got 'no/such/run', which does not exist: leave out --resume to start one.",
        ),
        (["--sparsty=0.5"], "Perhaps you meant: --sparsity FLOAT"),
        (["--train.batchsize=5"], "Perhaps you meant: --train.batch-size INT"),
        (["--out=run[1]"], "--out must be without square brackets"),
        (["--sparsity=0.9999999"], "--sparsity must leave a live weight"),
        (["--spectrum.length=3", "--spectrum.batch=1"], "`spectrum.length` must be at least 4"),
        (["--train.max-eval-tokens=60"], "--train.eval-batch-size must leave"),
        (["--dense=no/such/run"], "--dense must be a run directory or a saved model"),
        (["--space-preset=all"], "invalid choice 'all'"),
        (["--space.growth=random,momentum"], "Set --train.momentum=0.9, or leave that mode out"),
        (
            ["--space.growth=random,random_gates", "--model.cell=tanh"],
            "--space.growth must not hold both",
        ),
        (["--space.init=er,erk"], "--space.init must not hold both er and erk where all"),
        (["--space.death-rate=0"], "static topologies take --space.update-every=inf"),
        (["--metric=death-rate", "--space.death=sign_flip"], "--metric death-rate needs"),
        (["--dense=run", "--space.learning-rate=1,2"], "--dense must not be given where"),
        (["--try=death=decay"], "--try-first must name choices of the space, got 'death=decay'"),
        (["--try", "speed=3"], "--try-first must hold control=value"),
        (["--settled-after=-1"], "--settled-after must be at least 0, got -1"),
        (["--executor=cluster"], "invalid choice 'cluster'"),
        (["--executor=process", "--workers=0"], "--workers must be at least 1, or auto, got 0"),
        (["--workers=many"], "--workers"),
        (["--executor=ray", "--worker-gpus=-1"], "--worker-gpus must be at least 0"),
        (["--retries=-1"], "--retries must be at least 0, got -1"),
        (["--time-limit=0"], "--time-limit must be positive, got 0"),
        (["--time-limit=nan"], "--time-limit must be positive, got nan"),
    ],
)
def test_bad_input_gets_one_clear_message_and_status_2(
    flags, message, tmp_path, cache, capsys, monkeypatch, no_compile_cache
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    arguments = ["--space.update-every=1", "--out=run", f"--cache-dir={cache}", *flags]
    try:
        status = main(arguments)
    except SystemExit as leaving:  # how the parser of the flags refuses
        status = leaving.code
    assert status == 2
    printed = capsys.readouterr().err
    assert message in " ".join(printed.replace("│", " ").split())
    assert not list(tmp_path.iterdir())


def test_a_reader_who_leaves_ends_the_command_quietly(cache, text_folder, tmp_path):
    flags = ["--dry-run", "--data=text", f"--data-dir={text_folder}", *TINY]
    reader, writer = os.pipe()
    os.close(reader)
    command_line = [sys.executable, str(SCRIPT), f"--cache-dir={cache}", *flags]
    done = subprocess.run(
        command_line, stdout=writer, stderr=subprocess.PIPE, text=True, cwd=tmp_path, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_the_run_that_was_last_changed_is_resumed_and_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for hour, name in enumerate(["20260102-000000-quick-0", "20260101-000000-quick-0"]):
        path = tmp_path / "runs" / name / "trials.jsonl"
        path.parent.mkdir(parents=True)
        path.touch()
        os.utime(path, (3600 * hour, 3600 * hour))
    assert run_directory(parse(["--resume"])).name == "20260101-000000-quick-0"
    told = capsys.readouterr().out
    assert told.startswith("Resuming runs/20260101-000000-quick-0, the last changed of 2 ")


def test_an_accelerator_that_is_not_there_is_refused_without_a_traceback(tmp_path, cache):
    if any(device.platform == "gpu" for device in jax.devices()):
        pytest.skip("this machine has a GPU")
    refused = command("--accelerator=gpu", cache=cache, cwd=tmp_path)
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: --accelerator must be one that JAX can use")
    assert "--accelerator=cpu" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"caf\xe9 au lait\n"])
def test_a_damaged_corpus_is_refused_by_name(
    content, text_folder, tmp_path, cache, capsys, no_compile_cache
):
    for path in text_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "valid.txt").write_bytes(content)
    out = tmp_path / "run"
    status = main(
        ["--data=text", f"--data-dir={tmp_path}", *TINY, f"--out={out}", f"--cache-dir={cache}"]
    )
    assert status == 2
    assert "valid.txt" in capsys.readouterr().err
    assert not out.exists()


def test_no_flag_at_all_is_the_quick_preset():
    assert parse([]) == PRESETS["quick"]


def test_flags_override_the_preset_wherever_it_stands():
    settings = parse(["--e0=5", "--preset=paper-lstm", "--space.death=set,threshold", "--seed=3"])
    assert settings.model == PRESETS["paper-lstm"].model
    assert (settings.e0, settings.seed) == (5, 3)
    assert settings.space.death == ("set", "threshold")
    assert settings.space.growth == ("random",)


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(SpaceConfig)])
def test_every_control_of_the_space_can_be_fixed_and_widened(name):
    flag = f"--space.{name.replace('_', '-')}"
    choices = {
        "init": "er,erk",
        "death": "taylor,set",
        "growth": "random,gradient",
        "redistribution": "survivors,none",
        "init_sampling": "bernoulli,exact",
        "schedule": "linear,constant",
        "exclude_dropped": "true,False",
        "update_every": "0.25,inf",
        "clip": "0.25,inf",
    }.get(name, "0.3,0.6")
    wide = getattr(parse([f"{flag}={choices}"]).space, name)
    assert ",".join(map(str, wide)).lower() == choices.lower()
    assert getattr(parse([flag, *choices.split(",")]).space, name) == wide
    assert getattr(parse([f"{flag}={choices.split(',')[0]}"]).space, name) == wide[:1]


def test_the_authors_space_is_their_144_configurations():
    for settings in (parse(["--space-preset=lsh-authors"]), PRESETS["paper-lstm"]):
        config = settings.search()
        found = [sparsity_config(a, config) for a in assignments(make_space(config))]
        assert len(set(found)) == len(found) == 144
        assert {made.init_sampling for made in found} == {"bernoulli"}
        assert {made.update_every for made in found} == {1.0}
        by_threshold = [made for made in found if made.death == "threshold"]
        assert {made.threshold_init for made in by_threshold} == {1e-3}


def test_a_space_preset_is_read_before_the_other_flags_of_the_space():
    settings = parse(["--space.death=set", "--space_preset", "wide", "--space.learning-rate=1,2"])
    assert settings.space.death == ("set",)
    assert settings.space.init == ("uniform", "er")
    assert settings.space.learning_rate == (1.0, 2.0)
    assert settings.space.update_every == PRESETS["quick"].space.update_every


def test_the_wide_space_has_every_mode_that_needs_no_momentum():
    space = parse(["--space-preset=wide"]).space
    check_space(space, momentum=False)
    assert set(choices(Death)) == set(space.death)
    assert set(choices(Growth)) - set(space.growth) == {"momentum"}
    missing = set(choices(Redistribution)) - set(space.redistribution)
    assert missing == {"momentum", "none_authors"}


def test_hyperparameters_in_the_space_are_in_the_plan():
    settings = parse(["--max-evals=8", "--space.learning-rate=5,10,20"])
    # quick: e0=4, ei=1, 2 finalists, 30 epochs; the tuning has 3 trials, then 2, which go on to the
    # end: 3 x 4 + 2 x 1 + 2 x 25, of which 30 are the dense network's.
    # The pool: 8 x 4 + 4 + 2, the finals 2 x 24.
    text = describe_rounds(settings)
    assert "Tuning: the dense network's hyperparameters over 3 trials, before the rest" in text
    assert "its own run and 34 epochs of the others" in text
    assert "Epochs: 86 of candidates and 30 of the dense network" in text
    assert f"with the dense network and its tuning {(86 + 30 + 34) / 240:.2f}" in text
    assert "no less than training every candidate" not in text
    assert total_epochs(settings) == 86 + 30 + 34
    assert "Tuning" not in describe_rounds(parse([]))


def test_the_plan_shows_the_space():
    flags = ["--space.init=er", "--space.death-rate=0.5", "--space.update-every=0.25,inf"]
    text = describe_rounds(parse([*flags, "--space.threshold-init=0,0.001"]))
    # A static network, and 2 growths x 3 redistributions x (3 deaths and 2 starts of a threshold).
    assert "Space: 31 distinct configurations" in text
    assert "  death: magnitude, set, threshold, global_magnitude\n" in text
    assert "  update every: 0.25, inf\n  threshold init: 0, 0.001\n" in text
    assert "  fixed: init er; death rate 0.5\n" in text
    static = describe_rounds(parse(["--space.update-every=inf"]))
    assert (
        "Space: 2 distinct configurations\n  init: uniform, er\n  fixed: update every inf" in static
    )
    assert "death" not in static  # nothing dies


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ([], False),  # 26 + 6 of 48
        (["--max-evals=3"], True),  # 3 x 2 + 2 + 2 x 3 and 6 dense ones of 18
        (["--max-evals=3", "--dense=run"], False),
        (["--max-evals=2", "--dense=run"], True),  # both are finalists: 12 of 12
    ],
)
def test_a_search_that_saves_nothing_is_told_so(flags, told):
    text = describe_rounds(parse(flags))
    assert ("costs no less than training every candidate to the end" in text) == told


def test_a_drawn_number_of_live_weights_is_not_told_as_exact():
    assert ", about " in describe_model(parse(["--space.init-sampling=bernoulli,exact"]))
    assert "about" not in describe_model(parse([]))


@pytest.mark.parametrize(("types", "told"), [(61, True), (790, True), (800, False)])
def test_rows_of_words_that_never_occur_are_told(types, told):
    text = describe_unused_rows(parse([]), types)  # of a vocabulary of 1000
    assert ("rows of words that never occur are pruned and counted too" in text) == told
    assert (f"Take --model.vocab-size={types}." in text) == told


@pytest.mark.parametrize("preset", list(PRESETS))
def test_a_preset_of_the_space_replaces_that_of_the_preset(preset):
    """All but how often topologies are updated, where it does not say so itself."""
    own = PRESETS[preset].space.update_every
    default = parse([f"--preset={preset}", "--space-preset=default"])
    assert default.space == SpaceConfig(update_every=own)
    assert default.space_preset == "default"
    wide = parse([f"--preset={preset}", "--space-preset=wide"]).space
    assert (wide.init_sampling, wide.threshold_init) == (("exact",), (0.0,))
    assert wide.update_every == own
    paper = parse([f"--preset={preset}", "--space-preset=lsh-authors"]).space
    assert paper == PRESETS["paper-lstm"].space


def test_every_preset_is_a_search_that_ends():
    from lsh_jax.search.successive_halving import plan

    for settings in PRESETS.values():
        assert plan(settings.search())[-1].num_entering == settings.finalists


def test_runs_started_in_one_second_do_not_share_a_directory(tmp_path, monkeypatch):
    from lsh_jax.cli.running import run_directory

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(time, "strftime", lambda *_: "20260101-000000")
    found = {run_directory(parse([])) for _ in range(3)}
    assert len(found) == 3
    assert all(path.is_dir() for path in found)
