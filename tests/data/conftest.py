"""Small corpora in temporary folders, and the caches that the tests share."""

import pathlib
import subprocess
import sys
from collections.abc import Callable

import pytest

SMALL = {"train": "the cat sat\nthe dog\n", "valid": "the owl\n", "test": "a cat\n"}


@pytest.fixture
def write_corpus(tmp_path) -> Callable[..., pathlib.Path]:
    """Writes a folder of three files; strings as UTF-8, bytes as they are, None not at all."""

    def write(folder="corpus", prefix="", **contents) -> pathlib.Path:
        path = tmp_path / folder
        path.mkdir(parents=True, exist_ok=True)
        for split, content in {**SMALL, **contents}.items():
            if content is not None:
                data = content if isinstance(content, bytes) else content.encode()
                (path / f"{prefix}{split}.txt").write_bytes(data)
        return path

    return write


@pytest.fixture
def python() -> Callable[..., subprocess.Popen[str]]:
    """Starts a fresh interpreter on a script; its output is piped."""

    def start(script: str, *arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-W", "error", "-c", script, *map(str, arguments)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return start


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory) -> pathlib.Path:
    """One cache for the session, for corpora that take seconds to prepare."""
    return tmp_path_factory.mktemp("cache")
