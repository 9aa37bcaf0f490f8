import itertools

import numpy as np
import pytest

from lsh_jax.config import ConfigError
from lsh_jax.data import load_corpus


def test_a_small_corpus_is_worked_out_by_hand(write_corpus, tmp_path):
    corpus = load_corpus("text", write_corpus(), cache_dir=tmp_path)
    assert corpus.vocabulary == ("the", "cat", "sat", "<eos>", "dog", "owl", "a")
    assert corpus.train.tolist() == [0, 1, 2, 3, 0, 4, 3]
    assert corpus.validation.tolist() == [0, 5, 3]
    assert corpus.test.tolist() == [6, 1, 3]
    assert {split.dtype for split in corpus[:3]} == {np.dtype(np.int32)}


def test_the_vocabulary_is_cut_to_the_frequent_words_of_training(write_corpus, tmp_path):
    # Train: the 2, cat 1, sat 1, <eos> 2, dog 1. Four types: the, <eos>, cat (first of the ties)
    # and <unk>, which stands at the place of sat.
    corpus = load_corpus("text", write_corpus(), vocab_size=4, cache_dir=tmp_path)
    assert corpus.vocabulary == ("the", "cat", "<unk>", "<eos>")
    assert corpus.train.tolist() == [0, 1, 2, 3, 0, 2, 3]
    assert corpus.test.tolist() == [2, 1, 3]


def test_a_given_vocabulary_sets_the_ids(write_corpus, tmp_path):
    vocabulary = ["<eos>", "<unk>", "dog", "the"]
    corpus = load_corpus("text", write_corpus(), 2, vocabulary, cache_dir=tmp_path)
    assert corpus.vocabulary == tuple(vocabulary)
    assert corpus.train.tolist() == [3, 1, 1, 0, 3, 2, 0]


def test_a_given_vocabulary_without_unk_must_cover_the_text(write_corpus, tmp_path):
    with pytest.raises(ConfigError, match="`vocabulary` must have <unk>"):
        load_corpus("text", write_corpus(), vocabulary=("the", "<eos>"), cache_dir=tmp_path)


def test_a_given_vocabulary_without_eos_does_not_end_lines_in_unk(write_corpus, tmp_path):
    with pytest.raises(ConfigError, match=r"`vocabulary` must have <eos>, .* got 3 words without"):
        load_corpus("text", write_corpus(), vocabulary=("the", "</s>", "<unk>"), cache_dir=tmp_path)


def test_a_vocabulary_of_one_endless_line_needs_no_eos(write_corpus, tmp_path):
    folder = write_corpus(train="the cat " * 1000 + "\n")
    corpus = load_corpus("text", folder, vocabulary=("the", "cat", "<unk>"), cache_dir=tmp_path)
    assert corpus.train.tolist() == [0, 1] * 1000 + [2]


def test_its_own_vocabulary_gives_the_same_ids_again(write_corpus, tmp_path):
    first = load_corpus("text", write_corpus(), 4, cache_dir=tmp_path)
    again = load_corpus("text", write_corpus(), 4, first.vocabulary, cache_dir=tmp_path)
    for a, b in zip(first[:3], again[:3], strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_changed_source_is_noticed(write_corpus, tmp_path):
    before = load_corpus("text", write_corpus(), cache_dir=tmp_path)
    after = load_corpus("text", write_corpus(train="the cat ran\nthe dog\n"), cache_dir=tmp_path)
    assert "ran" in after.vocabulary
    assert before.source_sha256 != after.source_sha256


def test_corpora_of_the_same_files_are_kept_apart(write_corpus, tmp_path):
    write_corpus(prefix="ptb.", train="penn\n")
    folder = write_corpus(train="plain\n")
    assert load_corpus("ptb", folder, cache_dir=tmp_path).vocabulary[0] == "penn"
    assert load_corpus("text", folder, cache_dir=tmp_path).vocabulary[0] == "plain"


def test_paths_may_hold_blanks_and_any_letter(write_corpus, tmp_path):
    folder = write_corpus("m\u00eas textes [1] {x} %20 ~", train="\u00e9t\u00e9 \u732b\n")
    corpus = load_corpus("text", folder, cache_dir=tmp_path / "cache \u00fc [*]")
    assert corpus.vocabulary[:3] == ("\u00e9t\u00e9", "\u732b", "<eos>")


def test_a_relative_folder_and_strings_will_do(write_corpus, monkeypatch, tmp_path):
    write_corpus("here")
    monkeypatch.chdir(tmp_path)
    assert len(load_corpus("text", "here", cache_dir="cache").train) == 7


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ConfigError, match="`name` must be one of sotu, ptb, text, got 'wiki'"):
        load_corpus("wiki")


def test_a_folder_for_the_embedded_corpus_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"`data_dir` must be left out .* choose .* ptb or text"):
        load_corpus("sotu", tmp_path)


def test_a_vocabulary_of_one_is_refused(write_corpus):
    with pytest.raises(ConfigError, match="`vocab_size` must be at least 2, got 1"):
        load_corpus("text", write_corpus(), 1)


def test_penn_treebank_has_its_published_counts_and_equals_its_files(penn_treebank, shared_cache):
    corpus = load_corpus("ptb", penn_treebank, cache_dir=shared_cache)
    assert [len(split) for split in corpus[:3]] == [929_589, 73_760, 82_430]
    assert len(corpus.vocabulary) == 10_000
    ids = {}  # the way of the PyTorch language-model scripts
    for split, name in zip(corpus[:3], ("train", "valid", "test"), strict=True):
        with open(penn_treebank / f"ptb.{name}.txt", encoding="utf-8") as file:
            words = list(itertools.chain.from_iterable([*line.split(), "<eos>"] for line in file))
        expected = [ids.setdefault(word, len(ids)) for word in words]
        np.testing.assert_array_equal(split, expected)
    assert list(corpus.vocabulary) == list(ids)


def test_the_embedded_corpus_is_loaded_without_its_package_or_tensorflow(python, shared_cache):
    script = """
import sys
import lsh_jax.data
assert "tensorflow_datasets" not in sys.modules
corpus = lsh_jax.data.load_corpus("sotu", cache_dir=sys.argv[1])
assert not {"sotu", "pandas", "tensorflow"} & set(sys.modules)
print(*map(len, corpus[:4]))
"""
    process = python(script, shared_cache)
    output, errors = process.communicate(timeout=120)
    assert errors == ""
    # Of sotu 0.1.2 and version 1.0.0 of the builder: a change of either shows here.
    assert output.split() == ["1775006", "151184", "141011", "10000"]


def test_the_embedded_corpus_reads_like_a_language_modelling_text(shared_cache):
    corpus = load_corpus("sotu", cache_dir=shared_cache)
    unknown, line_end = (corpus.vocabulary.index(word) for word in ("<unk>", "<eos>"))
    for split in corpus[:3]:
        assert 0.01 < np.mean(split == unknown) < 0.03
        assert 0.02 < np.mean(split == line_end) < 0.06  # 17 to 50 words a sentence
    start = " ".join(corpus.vocabulary[i] for i in corpus.train[:9])
    assert start == "fellow-citizens of the senate and house of representatives <eos>"
    assert not {"[", "laughter]", "[applause]"} & set(corpus.vocabulary)
