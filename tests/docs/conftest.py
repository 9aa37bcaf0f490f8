"""A folder to try the pages in: a finished search, a model of PyTorch and some text.

Puts `documents`, which finds the blocks of the pages, and the hooks of the site on the path.
"""

import pathlib
import shutil
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path += [str(pathlib.Path(__file__).parent), str(ROOT / "docs" / "hooks")]

# A search that trains in seconds and ends with a model and a report.
TINY = (
    "--data=text --model.hidden-size=8 --model.embed-size=8 --model.vocab-size=48 "
    "--train.batch-size=4 --train.bptt=8 --train.segments-per-epoch=2 --train.eval-batch-size=4 "
    "--spectrum.length=20 --spectrum.burn-in=5 --spectrum.batch=2 --max-evals=4 --e0=2 "
    "--final-epochs=4 --space.update-every=0.5 --space.init=uniform"
).split()
WORDS = "the state of our union is strong and we will make it so for all".split()
WORDS += [f"word{number}" for number in range(40)]  # more than the model has room for


def write_text(folder, pattern):
    """Writes the three parts of a small corpus, 250, 100 and 100 lines of WORDS."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, lines in (("train", 250), ("valid", 100), ("test", 100)):
        starts = rng.integers(len(WORDS), size=lines)
        steps = rng.integers(1, 3, size=(lines, 8)).cumsum(axis=1)
        places = (starts[:, None] + steps) % len(WORDS)
        text = "\n".join(" ".join(WORDS[place] for place in row) for row in places)
        (folder / pattern.format(name)).write_text(text + "\n")


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory):
    """The directory of a finished search, made once for all pages."""
    from lsh_jax.cli import main

    folder = tmp_path_factory.mktemp("finished")
    write_text(folder / "TEXT", "{}.txt")
    run = folder / "RUN"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lsh_jax.cli.workplace.use_compile_cache", lambda directory: None)
        patch.chdir(folder)
        flags = ["--data-dir=TEXT", f"--out={run}", f"--cache-dir={folder / 'cache'}"]
        assert main([*TINY, *flags]) == 0
    return run


@pytest.fixture
def folder(runs, finished_run, tmp_path):
    """What a page finds where it is tried: runs/RUN, model.npz, words.txt, TEXT, PTB, experiments.

    The run is a finished search; TEXT and PTB are small corpora; experiments is the repository's.
    """
    shutil.copytree(runs, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "runs")
    shutil.copytree(finished_run, tmp_path / "runs" / "RUN")
    write_text(tmp_path / "TEXT", "{}.txt")
    write_text(tmp_path / "PTB", "ptb.{}.txt")
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    return tmp_path


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory):
    """Of the commands of all pages: corpora and compiled programs."""
    return tmp_path_factory.mktemp("cache")
