import os
import pathlib

import pytest

from lsh_jax.config import ConfigError
from lsh_jax.data import load_corpus
from lsh_jax.data.cache import cached_texts, default_cache_dir

# Loads the corpus while its generator does what `{during}` says; prints the training ids.
_LOAD = """
import os, pathlib, signal, sys, time
from lsh_jax.data import builders, load_corpus

folder, cache = map(pathlib.Path, sys.argv[1:3])
log = os.open(cache / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

def generate(self, text):
    {during}
    yield 0, {{"text": text}}

builders.Text._generate_examples = generate
(cache / str(os.getpid())).touch()
while len(list(cache.glob("[0-9]*"))) < {processes}:
    time.sleep(0.01)
print(load_corpus("text", folder, cache_dir=cache).train.tolist())
"""


def test_two_processes_that_prepare_at_once_both_succeed_and_one_does_the_work(
    write_corpus, python, tmp_path
):
    # Both start when both are there; three splits of 0.2 s each make them overlap.
    during = 'time.sleep(0.2); os.write(log, b"x")'
    script = _LOAD.format(during=during, processes=2)
    folder = write_corpus()
    both = [python(script, folder, tmp_path) for _ in range(2)]
    outputs = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert [out for out, _ in outputs] == ["[0, 1, 2, 3, 0, 4, 3]\n"] * 2
    assert (tmp_path / "log").read_text() == "xxx"  # one generator a split, in one process alone


def test_what_a_killed_preparation_leaves_is_swept_up_by_the_next(write_corpus, python, tmp_path):
    folder = write_corpus()
    killed = python(
        _LOAD.format(during="os.kill(os.getpid(), signal.SIGKILL)", processes=1), folder, tmp_path
    )
    killed.communicate(timeout=60)
    assert killed.returncode == -9
    assert list(tmp_path.rglob("incomplete.*"))
    assert load_corpus("text", folder, cache_dir=tmp_path).train.tolist() == [0, 1, 2, 3, 0, 4, 3]
    assert not list(tmp_path.rglob("incomplete.*"))


def test_preparing_says_nothing(write_corpus, tmp_path, capfd):
    load_corpus("text", write_corpus(), cache_dir=tmp_path)
    assert capfd.readouterr() == ("", "")


def test_a_prepared_corpus_is_read_without_writing(write_corpus, tmp_path):
    folder = write_corpus()
    load_corpus("text", folder, cache_dir=tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    load_corpus("text", folder, cache_dir=tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_cache_that_cannot_be_written_is_named(write_corpus):
    folder = write_corpus()
    with pytest.raises(ConfigError, match=r"`cache_dir` .*train\.txt': Not a directory"):
        load_corpus("text", folder, cache_dir=folder / "train.txt")


def test_a_full_disk_is_a_clear_error_and_the_next_run_succeeds(write_corpus, python, tmp_path):
    # A limit on the size of files stands for the full disk: a prepared split has 128 KiB.
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, 2**16))"
    folder = write_corpus()
    process = python(_LOAD.format(during=limit, processes=1), folder, tmp_path)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    last = stderr.strip().splitlines()[-1]
    assert last.startswith("lsh_jax.config.checks.ConfigError: `cache_dir` ")
    assert "File too large" in last
    assert load_corpus("text", folder, cache_dir=tmp_path).test.tolist() == [6, 1, 3]


def truncate(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flip(content: bytes) -> bytes:
    place = content.index(b"the cat")
    return content[:place] + b"T" + content[place + 1 :]


@pytest.mark.parametrize("damage", [truncate, flip])
def test_a_damaged_copy_is_named_and_prepared_anew_once_removed(write_corpus, tmp_path, damage):
    folder, cache = write_corpus(), tmp_path / "cache"
    expected = load_corpus("text", folder, cache_dir=cache)
    (record,) = cache.rglob("text-train.array_record*")
    record.write_bytes(damage(record.read_bytes()))
    with pytest.raises(ConfigError, match=r"`cache_dir` .*damaged.*remove .*1\.0\.0"):
        load_corpus("text", folder, cache_dir=cache)
    for path in record.parent.iterdir():
        path.unlink()
    record.parent.rmdir()
    assert load_corpus("text", folder, cache_dir=cache).train.tolist() == expected.train.tolist()


def test_the_cache_is_kept_by_the_hash_of_the_source(write_corpus, tmp_path):
    texts = cached_texts("text", "0" * 64, write_corpus(), tmp_path)
    assert texts["validation"] == "the owl\n"
    assert (tmp_path / "corpora" / ("0" * 64) / "text").is_dir()


def test_the_default_cache_follows_the_xdg_variable(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_dir() == tmp_path / "lsh_jax"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache_dir() == tmp_path / ".cache" / "lsh_jax"


def test_nothing_is_written_outside_the_cache(write_corpus, monkeypatch, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    load_corpus("text", write_corpus())
    assert [path.name for path in home.iterdir()] == [".cache"]
    assert os.listdir(home / ".cache") == ["lsh_jax"]
    assert pathlib.Path(home / ".cache" / "lsh_jax" / "corpora").is_dir()
