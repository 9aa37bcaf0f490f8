"""Every block of code in the README and in `docs/` is tried, by the word behind its fence.

python  All blocks of a page run in order, in one namespace, in a folder that holds a finished
        search (runs/RUN), a model of PyTorch (model.npz, words.txt), two small corpora (TEXT, PTB)
        and the repository's experiments. After `<!-- raises: NAME -->` a block must end with that
        error.
        What stands under `if __name__ == "__main__":` is left out, as in a module.
sh      Runs as it is printed, in such a folder, after what stands above it on the page, and must
        exit with 0 (slow). A comment right before the fence says otherwise:
        `<!-- dry-run -->`  each command runs with --dry-run behind it (slow)
        `<!-- fails -->`    it must not exit with 0 (slow)
        `<!-- parsed -->`   it needs hardware or hours: bash and the programs read it, no more
        `<!-- set-up -->`   it makes an environment: as the Makefile and pyproject.toml say
json, toml, yaml   are parsed.
text    is output, math a formula, bibtex a reference.

Any other word, and a mark that is none of these, is an error.
"""

import argparse
import builtins
import importlib
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tomllib

import jax
import pytest
import yaml
from documents import MARKS, PAGES, README, ROOT, blocks, commands
from settings_flags import parser_of

BLOCKS = [block for page in PAGES for block in blocks(page)]
PARSED = {"json": json.loads, "toml": tomllib.loads, "yaml": yaml.safe_load}
LANGUAGES = {*MARKS, *PARSED, "text", "math", "bibtex"}
EXECUTED = ("", "dry-run", "fails")  # marks of shell blocks that run
# Pages whose Python takes more than a few seconds.
SLOW = {
    "how-to/add-a-pruning-method.md",
    "how-to/compute-a-spectrum.md",
    "how-to/your-own-model.md",
    "tutorial.md",
}
# Pages whose shell blocks train for minutes.
LONG = {"tutorial.md"}

_SECONDS = 1200
_EXTRAS = re.compile(r"(?<=[x.])\[([\w,]+)\]")  # behind lsh-jax, or the dot of this folder
_OURS = re.compile(
    r"(?:^|\s)(?P<program>python experiments/\w+\.py|python -m lsh_jax[\w.]*|lsh-jax|ray start)"
    r"(?P<arguments>(?:\s[^&|;]*)?)"
)


def of(language, marks=None):
    found = [b for b in BLOCKS if b.language == language and (marks is None or b.mark in marks)]
    return [pytest.param(block, id=block.place) for block in found]


def pages(found, slow):
    chosen = dict.fromkeys(param.values[0].page for param in found)
    return [pytest.param(page, marks=slow(page)) for page in chosen]


def test_every_block_is_of_a_known_kind():
    assert BLOCKS
    for block in BLOCKS:
        assert block.language in LANGUAGES, f"{block.place}: unknown kind {block.language!r}"
        known = ("", *MARKS.get(block.language, ()))
        assert block.mark in known, f"{block.place}: unknown mark {block.mark!r}"


@pytest.mark.parametrize(
    "page", pages(of("python"), lambda p: pytest.mark.slow if p in SLOW else ())
)
def test_the_python_of_a_page_runs(page, folder, monkeypatch, user_session):
    monkeypatch.chdir(folder)
    if page == README:  # which has the command in between that makes it
        (folder / "runs" / "first").symlink_to("RUN")
    run_blocks([block for block in blocks(page) if block.language == "python"], folder, {})


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", pages(of("sh", EXECUTED), lambda p: pytest.mark.long if p in LONG else ())
)
def test_the_commands_of_a_page_run(page, folder, monkeypatch, user_session):
    monkeypatch.chdir(folder)
    environment = {
        name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "COLUMNS")
    }
    environment["PATH"] = f"{pathlib.Path(sys.executable).parent}:{environment['PATH']}"
    wanted = [b for b in blocks(page) if b.language == "python" or b.mark in EXECUTED]
    run_blocks([b for b in wanted if b.language in MARKS], folder, environment)


@pytest.mark.parametrize("block", of("sh", ("parsed",)))
def test_a_command_for_other_machines_has_flags_that_exist(block):
    read = subprocess.run(["bash", "-n"], input=block.code, capture_output=True, text=True)
    assert read.returncode == 0, read.stderr
    found = [match for line in commands(block.code) for match in _OURS.finditer(line)]
    assert found, f"{block.place}: no command that anything here could read"
    for match in found:
        words = shlex.split(match["arguments"])
        read_flags(match["program"], [word for word in words if not re.fullmatch(r"\$\w+", word)])


def test_a_set_up_is_that_of_the_makefile():
    blocks_ = [block for block in BLOCKS if block.mark == "set-up"]
    assert blocks_
    for block in blocks_:
        for command in commands(block.code):
            assert is_set_up(command), f"{block.place}: {command}"


@pytest.mark.parametrize("page", PAGES)
def test_links_hold_in_the_folder_too(page):
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?!\w+:|#)([^)#\s]+)(?:#[^)\s]+)?\)", text)
    folder = (ROOT / "docs" / page).parent
    assert [target for target in targets if not (folder / target).exists()] == []


def test_data_can_be_read():
    for block in BLOCKS:
        if block.language in PARSED:
            PARSED[block.language](block.code)


def run_blocks(wanted, folder, environment):
    """Runs blocks in order: Python in this process, commands in a shell."""
    namespace = {"__name__": "page"}
    for block in wanted:
        if block.language == "sh":
            run_shell(block, folder, environment)
            continue
        code = compile("\n" * (block.line - 1) + block.code, f"docs/{block.page}", "exec")
        if block.mark == "raises":
            with pytest.raises(Exception) as caught:
                exec(code, namespace)
            named = (getattr(builtins, block.value, None), *type(caught.value).__mro__)
            assert block.value in [kind.__name__ for kind in named if kind], block.place
        else:
            exec(code, namespace)


def run_shell(block, folder, environment):
    """Runs a shell block and holds its exit status."""
    code = block.code
    if block.mark == "dry-run":
        code = "\n".join(f"{command} --dry-run" for command in commands(code))
    done = subprocess.run(
        ["bash", "-ex", "-o", "pipefail", "-c", code],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
    )
    failed = done.returncode != 0
    assert failed == (block.mark == "fails"), f"{block.place}\n{done.stdout}\n{done.stderr}"


def read_flags(program, arguments):
    """Lets a program read its flags; SystemExit or an error where it does not know one."""
    name = program.split()[-1].removeprefix("experiments/").removesuffix(".py")
    if program == "ray start":
        scripts = pytest.importorskip("ray.scripts.scripts")
        scripts.start.make_context("start", arguments)
    elif name in ("hypersearch", "lsh-jax", "lsh_jax", "train_dense", "evaluate", "generate"):
        search = name in ("lsh-jax", "lsh_jax")
        module = importlib.import_module(f"lsh_jax.cli.{'hypersearch' if search else name}")
        module.parse(arguments)
    else:
        module = "lsh_jax.report.__main__" if name == "lsh_jax.report" else name
        main = importlib.import_module(module).main
        parser: argparse.ArgumentParser = parser_of(lambda: main([]))
        parser.parse_args(arguments)


def is_set_up(command):
    """Whether the Makefile does the same, or pyproject.toml has the extras that are asked for."""
    makefile = (ROOT / "Makefile").read_text()
    recipes = makefile.replace("$(PYTHON)", "python3").replace("$(VENV)", ".venv/bin")
    recipes = [_EXTRAS.sub("[]", line.strip().replace(" -q ", " ")) for line in recipes.split("\n")]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = _EXTRAS.search(command)
    words = command.split()
    if words[0] == "make":
        return all(f"{target}:" in makefile for target in words[1:])
    if extras and not set(extras[1].split(",")) <= set(project["optional-dependencies"]):
        return False
    if _EXTRAS.sub("[]", command) in recipes:
        return True
    if re.fullmatch(r"(python -m )?pip install .*", command):
        return bool(extras)
    return words[0] in ("cd", "mkdir", "source", "git") or command.startswith("python3 -m venv ")


@pytest.fixture
def user_session(monkeypatch, shared_cache):
    """JAX as a reader's session has it, less strict than that of the tests; no window is opened."""
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.setenv("XDG_CACHE_HOME", str(shared_cache))
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield
