"""What the README prints is what works."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
README = ROOT / "README.md"


def blocks(path):
    return re.findall(r"```python\n(.*?)```", path.read_text(), flags=re.DOTALL)


BLOCKS = blocks(README)
PARTS = [
    code
    for part in ("lyapunov", "sparsity")
    for code in blocks(ROOT / "lsh_jax" / part / "README.md")
]


@pytest.mark.parametrize(
    "code", [*BLOCKS, *(pytest.param(code, marks=pytest.mark.slow) for code in PARTS)]
)
def test_every_example_runs_as_printed(code, capsys, runs, monkeypatch):
    monkeypatch.chdir(runs)
    exec(compile(code, "README.md", "exec"), {})
    assert "nan" not in capsys.readouterr().out


def test_the_spectrum_of_the_first_example_is_the_published_one():
    namespace = {}
    code = PARTS[0]  # of lsh_jax/lyapunov
    assert "henon" in code
    exec(compile(code, "README.md", "exec"), namespace)
    result = namespace["result"]
    # One run of 20,000 steps: sd 1.1e-3 at 1e5 steps times sqrt(5), 4 sd.
    assert abs(float(result.exponents[0]) - 0.41922) < 0.01
    assert abs(float(result.exponents[1]) + 1.62319) < 0.01


def test_every_flag_in_the_commands_exists():
    from lsh_jax.cli import parse

    commands = re.findall(
        r"^python experiments/hypersearch\.py (.*?)(?:#.*)?$",
        README.read_text(),
        flags=re.MULTILINE,
    )
    assert len(commands) >= 4
    for command in commands:
        parse(command.split())
