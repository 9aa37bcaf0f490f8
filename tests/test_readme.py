"""What the parts' READMEs print is what works; `tests/docs/` tries the README itself."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
EXAMPLES = [
    pytest.param(code, id=f"{part}-{number}")
    for part in ("lyapunov", "sparsity")
    for number, code in enumerate(
        re.findall(
            r"```python\n(.*?)```",
            (ROOT / "lsh_jax" / part / "README.md").read_text(),
            flags=re.DOTALL,
        )
    )
]


@pytest.mark.slow
@pytest.mark.parametrize("code", EXAMPLES)
def test_every_example_runs_as_printed(code, capsys, runs, monkeypatch):
    monkeypatch.chdir(runs)
    exec(compile(code, "README.md", "exec"), {})
    assert "nan" not in capsys.readouterr().out


def test_the_spectrum_of_the_tutorial_is_the_published_one():
    namespace = {}
    tutorial = (ROOT / "docs" / "tutorial.md").read_text()
    (code,) = (
        block
        for block in re.findall(r"```python\n(.*?)```", tutorial, flags=re.DOTALL)
        if "def henon" in block
    )
    exec(compile(code, "tutorial.md", "exec"), namespace)
    result = namespace["result"]
    # One run of 20,000 steps: sd 1.1e-3 at 1e5 steps times sqrt(5), 4 sd.
    assert abs(float(result.exponents[0]) - 0.41922) < 0.01
    assert abs(float(result.exponents[1]) + 1.62319) < 0.01
