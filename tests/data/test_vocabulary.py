import pytest

from lsh_jax.config import ConfigError
from lsh_jax.data.vocabulary import build_vocabulary, encode, split_words


def test_every_line_end_is_an_eos_and_the_last_one_need_not_be_written():
    assert split_words("a b\nc\n") == ["a", "b", "<eos>", "c", "<eos>"]
    assert split_words("a b\nc") == ["a", "b", "<eos>", "c", "<eos>"]


def test_an_empty_line_is_one_eos():
    assert split_words("a\n\nb\n") == ["a", "<eos>", "<eos>", "b", "<eos>"]


def test_runs_of_blanks_and_tabs_separate_words_once():
    assert split_words("  a \t b  \n") == ["a", "b", "<eos>"]


def test_ids_follow_first_occurrence_through_train_then_validation_then_test():
    vocabulary = build_vocabulary(["b", "a", "b"], ["c", "a"], ["d", "c"], 10)
    assert vocabulary == ("b", "a", "c", "d")


def test_nothing_is_cut_and_no_unk_added_when_all_types_just_fit():
    assert build_vocabulary(["b", "a"], ["c"], ["d"], 4) == ("b", "a", "c", "d")


def test_rare_words_give_way_to_unk_which_counts_as_a_type():
    # Counts in train: x 1, a 3, b 2, c 2. Three types are <unk> and the two most frequent: a, and b
    # before c by first occurrence. <unk> stands where x, the first word that was cut, stood.
    train = ["x", "a", "b", "c", "a", "c", "b", "a"]
    vocabulary = build_vocabulary(train, ["c", "c", "c"], ["new"], 3)
    assert vocabulary == ("<unk>", "a", "b")
    assert encode(train, vocabulary).tolist() == [0, 1, 2, 0, 1, 0, 2, 1]
    assert encode(["new", "b"], vocabulary).tolist() == [0, 2]


def test_an_unk_in_the_text_and_the_cut_words_share_one_id():
    # <unk> is the rarest type and stays all the same; c is cut.
    train = ["a", "a", "b", "b", "<unk>", "c"]
    vocabulary = build_vocabulary(train, [], [], 3)
    assert vocabulary == ("a", "b", "<unk>")
    assert encode(train, vocabulary).tolist() == [0, 0, 1, 1, 2, 2]


def test_a_word_of_validation_alone_is_the_first_to_be_cut():
    assert build_vocabulary(["a", "b"], ["c", "c"], [], 3) == ("a", "b", "c")
    assert build_vocabulary(["a", "b"], ["c", "c"], ["d"], 3) == ("a", "b", "<unk>")


def test_cutting_equals_replacing_the_rare_words_in_the_text_first():
    train = split_words("a rose is a rose is a rose\nso it is\n")
    uncut = build_vocabulary(train, [], [], 100)
    cut = build_vocabulary(train, [], [], 4)
    replaced = [word if word in cut else "<unk>" for word in train]
    assert cut == build_vocabulary(replaced, [], [], 100)
    assert set(cut) - {"<unk>"} < set(uncut)
    assert encode(train, cut).tolist() == encode(replaced, cut).tolist()


def test_words_outside_a_given_vocabulary_become_unk():
    ids = encode(["b", "z", "a"], ("a", "<unk>", "b"))
    assert ids.tolist() == [2, 1, 0]
    assert ids.dtype == "int32"


def test_a_vocabulary_without_unk_must_hold_every_word():
    assert encode(["b", "a"], ("a", "b")).tolist() == [1, 0]
    with pytest.raises(ConfigError, match=r"`vocabulary` .*<unk>.* 2 of its words \(y, z"):
        encode(["a", "y", "z", "y"], ("a", "b"))


def test_a_vocabulary_that_names_a_word_twice_is_refused():
    with pytest.raises(ConfigError, match="`vocabulary` must name each word once, got 3"):
        encode(["a"], ("a", "b", "a"))
