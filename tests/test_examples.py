"""The worked examples of tasks of one's own, at a tiny size from end to end."""

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

EXPERIMENTS = pathlib.Path(__file__).resolve().parents[1] / "experiments"
EXAMPLES = ("forecast_lorenz.py", "adding_problem.py")
TINY = "--max-evals=2 --e0=2 --ei=1 --final-epochs=3 --finalists=1".split()


def run(script, *flags):
    command = [sys.executable, str(EXPERIMENTS / script), *TINY, *map(str, flags)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=os.environ)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("script", EXAMPLES)
def test_a_script_is_thin_and_says_how_it_is_called(script):
    text = (EXPERIMENTS / script).read_text()
    assert len(text.splitlines()) <= 80
    assert f"    python experiments/{script}" in text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "files"),
    [("forecast_lorenz.py", ["figures/exponents.svg"]), ("adding_problem.py", [])],
)
def test_an_example_ends_with_a_report(script, files, tmp_path):
    shared = [f"--out={tmp_path / 'run'}", f"--cache-dir={tmp_path / 'cache'}"]
    out = run(script, *shared)
    for name in ("report.html", "result.json", "model/params.json", *files):
        assert (tmp_path / "run" / name).is_file(), name
    assert ": test rms error " in out
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["best"]["sparsity"] == pytest.approx(0.67, abs=1e-3)
    assert "taken from the cache" in run(script, *shared, "--resume")


@pytest.mark.slow
@pytest.mark.long
def test_an_example_can_use_workers(tmp_path):
    flags = ["--executor=process", "--workers=1", f"--cache-dir={tmp_path / 'cache'}"]
    run("forecast_lorenz.py", *flags, f"--out={tmp_path / 'run'}")
    assert (tmp_path / "run" / "report.html").is_file()


@pytest.mark.slow
def test_the_network_of_the_readme_is_searched(tmp_path, monkeypatch, capsys):
    text = (EXPERIMENTS.parent / "lsh_jax" / "search" / "README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert sum(bool(line.strip()) for line in code.splitlines()) <= 40
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    assert (tmp_path / "runs" / "waves" / "model" / "params.json").is_file()
    assert len(capsys.readouterr().out.split()) == 2
