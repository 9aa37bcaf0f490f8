import pytest

from lsh_jax.config import ConfigError
from lsh_jax.data.sources import read_folder


def test_the_three_files_are_read_as_they_are(write_corpus):
    source = read_folder("text", write_corpus())
    assert source.texts == {
        "train": "the cat sat\nthe dog\n",
        "validation": "the owl\n",
        "test": "a cat\n",
    }


def test_line_ends_and_a_byte_order_mark_do_not_change_the_text(write_corpus):
    plain = read_folder("text", write_corpus("plain"))
    marked = write_corpus(
        "marked", train=b"\xef\xbb\xbfthe cat sat\r\nthe dog\r\n", valid=b"the owl\r"
    )
    assert read_folder("text", marked).texts == plain.texts


def test_only_line_ends_end_a_line(write_corpus):
    # A form feed, a next-line and a line separator are blanks within a sentence.
    folder = write_corpus(train="a\fb\x85c\u2028d\n")
    assert read_folder("text", folder).texts["train"].count("\n") == 1


@pytest.mark.parametrize("name", ["ptb", "text"])
@pytest.mark.parametrize("prefix", ["ptb.", ""])
def test_both_file_names_serve_both_corpora(write_corpus, name, prefix):
    assert read_folder(name, write_corpus(prefix=prefix)).texts["test"] == "a cat\n"


def test_where_both_file_names_exist_each_corpus_takes_its_own(write_corpus):
    write_corpus(prefix="ptb.", train="penn\n")
    folder = write_corpus(train="plain\n")
    assert read_folder("ptb", folder).texts["train"] == "penn\n"
    assert read_folder("text", folder).texts["train"] == "plain\n"


def test_the_hash_tells_contents_apart_and_not_places(write_corpus):
    first = read_folder("text", write_corpus("first")).sha256
    assert len(first) == 64
    assert read_folder("text", write_corpus("second")).sha256 == first
    assert read_folder("text", write_corpus("third", test="a dog\n")).sha256 != first
    # The same bytes, divided otherwise.
    moved = write_corpus("fourth", train="the cat sat\n", valid="the dog\nthe owl\n")
    assert read_folder("text", moved).sha256 != first


@pytest.mark.parametrize("data_dir", [None, ""])
def test_a_folder_must_be_given(data_dir):
    with pytest.raises(ConfigError, match=r"`data_dir` must be given .* ptb, .*ptb\.train\.txt"):
        read_folder("ptb", data_dir)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"`data_dir` .*nowhere', which does not exist"):
        read_folder("text", tmp_path / "nowhere")


def test_a_file_in_place_of_the_folder_is_refused(write_corpus):
    with pytest.raises(ConfigError, match=r"`data_dir` .*train\.txt', which is not a folder"):
        read_folder("text", write_corpus() / "train.txt")


@pytest.mark.parametrize("missing", ["train", "valid", "test"])
def test_a_missing_file_is_named(write_corpus, missing):
    with pytest.raises(ConfigError, match=rf"`data_dir` must hold {missing}\.txt, got "):
        read_folder("text", write_corpus(**{missing: None}))


def test_file_names_are_not_mixed_within_a_corpus(write_corpus):
    write_corpus(valid=None)
    folder = write_corpus(prefix="ptb.", train=None, test=None)
    with pytest.raises(ConfigError, match=r"must hold valid\.txt"):
        read_folder("text", folder)


@pytest.mark.parametrize("content", ["", " \n\n\t\n", b"\xef\xbb\xbf"])
def test_a_file_without_words_is_named(write_corpus, content):
    with pytest.raises(ConfigError, match=r"`data_dir` .*empty .*valid\.txt"):
        read_folder("text", write_corpus(valid=content))


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_bytes_that_are_not_utf8_are_placed(write_corpus, mark):
    # "caf" is three bytes, after the mark's three or none.
    folder = write_corpus(test=mark + "caf\u00e9\n".encode("latin-1"))
    place = rf"test\.txt with byte 0xe9 at offset {len(mark) + 3}:"
    with pytest.raises(ConfigError, match=rf"`data_dir` must hold UTF-8 .*{place}"):
        read_folder("text", folder)


def test_a_folder_in_place_of_a_file_is_refused(write_corpus):
    folder = write_corpus(valid=None)
    (folder / "valid.txt").mkdir()
    with pytest.raises(ConfigError, match=r"`data_dir` .*valid\.txt': Is a directory"):
        read_folder("text", folder)
