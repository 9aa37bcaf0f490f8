"""Puts the toy task of the search and `searches`, which makes run directories with it, on path."""

import pathlib
import sys

import pytest

sys.path.append(str(pathlib.Path(__file__).parent))
sys.path.append(str(pathlib.Path(__file__).parents[1] / "search"))

from searches import search


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """The directory of a finished search of 6 candidates, one of which fails."""
    return search(tmp_path_factory.mktemp("finished") / "run")
