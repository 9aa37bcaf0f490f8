"""Each case in a process of its own: a backend is chosen once in the life of a process."""

import os
import subprocess
import sys

import jax
import pytest

PREAMBLE = """
import pathlib, sys
from lsh_jax.accelerators import select_accelerator, use_compile_cache
from lsh_jax.config import ConfigError
"""


def run(code, *arguments):
    environment = {name: x for name, x in os.environ.items() if not name.startswith("JAX_")}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", PREAMBLE + code, *arguments],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )


@pytest.mark.parametrize(
    ("accelerator", "remedy"), [("gpu", "lsh-jax[cuda12]"), ("tpu", "lsh-jax[tpu]")]
)
def test_an_accelerator_that_is_not_there_is_refused_with_its_remedy(accelerator, remedy):
    if any(device.platform == accelerator for device in jax.devices()):
        pytest.skip(f"there is a {accelerator}")
    done = run(
        """
try:
    select_accelerator(sys.argv[1])
except ConfigError as error:
    print(error)
    sys.exit(2)
""",
        accelerator,
    )
    assert done.returncode == 2, done.stderr
    assert done.stdout.startswith(
        f"`accelerator` must be one that JAX can use, got {accelerator!r}"
    )
    assert remedy in done.stdout
    assert done.stdout.endswith("or take --accelerator=cpu.\n")
    assert done.stdout.count("\n") == 1


def test_the_cpu_is_always_there_and_compiled_programs_are_kept(tmp_path):
    done = run(
        """
use_compile_cache(pathlib.Path(sys.argv[1]))
device = select_accelerator("cpu")
import jax
total = jax.jit(lambda x: x + 1)(1.0)
print(device.platform, jax.default_backend(), float(total), *total.devices())
""",
        str(tmp_path / "a" / "compiled"),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[:3] == ["cpu", "cpu", "2.0"]
    assert any((tmp_path / "a" / "compiled").iterdir())


def test_auto_takes_what_jax_prefers():
    done = run(
        """
import jax
print(select_accelerator("auto") == jax.devices()[0])
"""
    )
    assert done.stdout == "True\n", done.stderr
