"""A text and a cache for the commands; puts their helper, `commands`, on the path."""

import pathlib
import sys

import numpy as np
import pytest

sys.path.append(str(pathlib.Path(__file__).parent))


@pytest.fixture(scope="session")
def text_folder(tmp_path_factory):
    """Sentences of a small Markov chain over 40 words, which a network can learn a little of."""
    folder = tmp_path_factory.mktemp("corpus") / "some text"
    folder.mkdir()
    rng = np.random.default_rng(0)
    words = [f"w{index}" for index in range(40)]
    for name, lines in (("train", 250), ("valid", 40), ("test", 40)):
        text = []
        for _ in range(lines):
            state = int(rng.integers(40))
            sentence = []
            for _ in range(8):
                sentence.append(words[state])
                state = (3 * state + int(rng.integers(4))) % 40
            text.append(" ".join(sentence))
        (folder / f"{name}.txt").write_text("\n".join(text) + "\n")
    return folder


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def no_compile_cache(monkeypatch):
    """`main` in this process leaves the compiler's settings of the other tests alone."""
    monkeypatch.setattr("lsh_jax.cli.workplace.use_compile_cache", lambda directory: None)
