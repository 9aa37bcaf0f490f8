"""The toy task, `toy`, which is put on the path so that worker processes find it, and a search."""

import pathlib
import sys

import pytest

from lsh_jax.config import SearchConfig, SpaceConfig

sys.path.append(str(pathlib.Path(__file__).parent))

from toy import make_task


@pytest.fixture(scope="session")
def toy_task():
    """Builds a toy task; `fails(controls, epoch)` may return a value that spoils the nll."""
    return make_task


@pytest.fixture(scope="session")
def search_config():
    """A small search over the toy task; keyword arguments change it."""

    def make(**changes):
        small = {
            "max_evals": 5,
            "e0": 2,
            "ei": 1,
            "final_epochs": 4,
            "space": SpaceConfig(init=("uniform",), growth=("random",), redistribution=("none",)),
        }
        return SearchConfig(**(small | changes))

    return make
