"""The packages that a user installs: what they hold, and that they run far from the sources."""

import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile

import pytest

import lsh_jax

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).resolve().parents[1]
FOLDERS = ("benchmarks", "docs", "experiments", "lsh_jax", "tests")
FILES = (
    "CHANGELOG.md CITATION.cff CONTRIBUTING.md LICENSE MANIFEST.in Makefile NOTICE README.md "
    "constraints.txt mkdocs.yml pyproject.toml"
).split()
LEAVINGS = (
    "experiments/runs/left/report.html",
    "lsh_jax/__pycache__/left.cpython-311.pyc",
    "runs/left/report.html",
    "tests/__pycache__/left.cpython-311.pyc",
)
TINY = (
    "--max-evals=2 --e0=2 --ei=1 --final-epochs=3 --finalists=1 --space.update-every=0.5 "
    "--model.hidden-size=8 --model.embed-size=8 --model.vocab-size=60 --model.num-layers=1 "
    "--train.batch-size=4 --train.bptt=8 --train.max-train-tokens=2000 "
    "--spectrum.length=20 --spectrum.burn-in=5 --spectrum.batch=2"
).split()

USER_SCRIPT = """\
import jax
import jax.numpy as jnp

import lsh_jax

result = lsh_jax.lyapunov_spectrum(lambda s, _: 2 * s, jnp.ones(2), num_steps=9)
exponents: jax.Array = result.exponents
words: tuple[str, ...] = lsh_jax.load_model("runs/RUN").vocabulary
distance: int = lsh_jax.ls_distance(exponents, exponents)
search = lsh_jax.SearchConfig(max_eval=3)
lsh_jax.lyapunov_spectra
"""


def call(*command, cwd):
    """Runs a command away from the sources, and returns what it printed."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        timeout=600,
        cwd=cwd,
        env=environment,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def files_under(folder, names):
    """The files of some folders, by their paths from the folder that holds them."""
    found = (path for name in names for path in (folder / name).rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix() for path in found}


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A copy of the sources, for building leaves files behind."""
    copy = tmp_path_factory.mktemp("sources")
    leave = shutil.ignore_patterns(".*", "__pycache__", "runs")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, copy / name, ignore=leave)
    for name in FILES:
        shutil.copy(ROOT / name, copy)
    return copy


@pytest.fixture(scope="module")
def packages(sources, tmp_path_factory):
    """The source distribution, of a tree that has been worked in, and the wheel made from it."""
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("packages")
    shutil.copytree(sources, tree, dirs_exist_ok=True)
    for name in LEAVINGS:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text("left")
    call(sys.executable, "-m", "build", "--no-isolation", f"--outdir={out}", tree, cwd=out)
    (sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def unpacked(packages, tmp_path_factory):
    """The source distribution, unpacked."""
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(packages[0]) as archive:
        archive.extractall(folder, filter="data")
    return folder / f"lsh_jax-{lsh_jax.__version__}"


@pytest.fixture(scope="module")
def installed(packages, tmp_path_factory):
    """The programs of a fresh environment with the wheel; all else it borrows from this one."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    call(folder / "bin/pip", "install", "--no-index", "--no-deps", packages[1], cwd=folder)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "borrowed.pth").write_text(
        "\n".join({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
    )
    return folder / "bin"


@pytest.fixture(scope="module")
def run(installed, tmp_path_factory):
    """The run directory of a search by the installed command, begun in an empty directory."""
    folder = tmp_path_factory.mktemp("empty")
    call(installed / "lsh-jax", *TINY, "--cache-dir=cache", "--out=run", cwd=folder)
    return folder / "run"


def test_the_wheel_holds_the_package_and_nothing_else(packages, sources):
    with zipfile.ZipFile(packages[1]) as archive:
        names = set(archive.namelist())
    info = f"lsh_jax-{lsh_jax.__version__}.dist-info"
    kinds = (".py", ".css", ".js", "/py.typed")
    assert {name for name in names if not name.startswith(info)} == {
        name for name in files_under(sources, ["lsh_jax"]) if name.endswith(kinds)
    }
    assert {f"{info}/licenses/LICENSE", f"{info}/licenses/NOTICE"} <= names


def test_the_source_distribution_holds_all_that_its_tests_need(unpacked, sources):
    made = {"PKG-INFO", "setup.cfg"}
    own = {name for name in files_under(unpacked, ["."]) if ".egg-info/" not in name}
    assert own == made | set(FILES) | files_under(sources, FOLDERS)


def test_the_tests_of_the_source_distribution_run(unpacked):
    pytest_here = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    call(*pytest_here, "--collect-only", cwd=unpacked)
    parts = ["tests/test_layout.py", "tests/test_readme.py", "tests/study/test_documents.py"]
    assert " passed" in call(*pytest_here, "-m", "not slow", *parts, cwd=unpacked)


def test_the_installed_package_is_the_one_that_is_imported(installed, tmp_path):
    code = "import lsh_jax; print(lsh_jax.__file__)"
    place = pathlib.Path(call(installed / "python", "-c", code, cwd=tmp_path).strip())
    assert place.is_relative_to(installed.parent)
    out = call(installed / "python", "-m", "lsh_jax", "--version", cwd=tmp_path)
    assert out.startswith(f"lsh_jax {lsh_jax.__version__}\n")


def test_the_installed_command_searches_and_reports(run):
    for name in ("trials.jsonl", "result.json", "report.md", "model/vocabulary.json"):
        assert (run / name).stat().st_size > 0, name
    page = (run / "report.html").read_text()
    for name in ("page.css", "page.js", "charts.js", "tables.js"):
        assert (ROOT / "lsh_jax" / "report" / name).read_text().strip() in page, name


def test_the_other_installed_commands_read_the_run(run, installed):
    python, folder = installed / "python", run.parent
    page = (run / "report.html").read_bytes()
    (run / "report.html").unlink()
    call(python, "-m", "lsh_jax.report", "run", cwd=folder)
    assert (run / "report.html").read_bytes() == page
    call(python, "-m", "lsh_jax.export", "run", "--csv=table.csv", cwd=folder)
    assert (folder / "table.csv").read_text().startswith("trial,epoch,")
    out = call(python, "-m", "lsh_jax.export_model", "run", "--out=exported", cwd=folder)
    assert "the same bits" in out


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_the_completions_that_are_printed_for_bash_complete_a_flag(installed, tmp_path):
    script = call(installed / "lsh-jax", "--tyro-print-completion", "bash", cwd=tmp_path)
    (tmp_path / "completions.sh").write_text(script)
    asked = """
        source ./completions.sh
        set -- $(complete -p)  # complete -F <function> <command>
        COMP_WORDS=(lsh-jax --max-ev) COMP_CWORD=1
        $3
        echo "${COMPREPLY[@]}"
    """
    assert call("bash", "-c", asked, cwd=tmp_path) == "--max-evals\n"


def test_type_checkers_see_the_types_of_the_installed_package(installed, tmp_path):
    (tmp_path / "script.py").write_text(USER_SCRIPT)
    flags = ["--strict", "--config-file=", f"--python-executable={installed / 'python'}"]
    command = [sys.executable, "-m", "mypy", *flags, "script.py"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    errors = [line for line in done.stdout.splitlines() if ": error: " in line]
    assert [line.split(":")[1] for line in errors] == ["9", "10", "11"], errors
