"""Pictures of one's own in the report: files of the run directory, embedded in the page.

A run directory may come from a stranger. A picture is shown as an image, in which a browser runs no
script and from which it asks for nothing; what is said of it is text, which the page escapes.
"""

import base64
import math
import os
import pathlib
import re
import struct
from collections.abc import Iterator
from typing import Any

from lsh_jax.checkpoint import write_json
from lsh_jax.config import ConfigError
from lsh_jax.report.page import Block, Image, Section
from lsh_jax.report.run import check_values, read_json, refusal
from lsh_jax.report.svg import to_file
from lsh_jax.report.values import FIGURE

_FOLDER = "figures"
_MOST = 20  # pictures of a page
_LARGEST = 4 * 2**20  # bytes of each
_PIXELS = 2**26  # of a PNG: few bytes may stand for more than a browser has room for
_PNG = b"\x89PNG\r\n\x1a\n"
_MEDIA = {".svg": "image/svg+xml", ".png": "image/png"}


def add_figure(
    run: pathlib.Path | str,
    name: str,
    picture: Any,
    title: str,
    alt: str,
    caption: str = "",
) -> None:
    """Puts a picture into the report of a run, whenever that is written, as a section of its own.

    Args:
      run: the run directory.
      name: of its files in `run/figures`, of a-z, 0-9, "_" and "-"; one of that name is replaced.
        Sections stand in the order of the names.
      picture: a `matplotlib` Figure, which becomes an SVG; or the path of an SVG or PNG to copy. A
        figure in the colours of `lsh_jax.plots` is light or dark as the page; any other picture
        keeps a light ground.
      title: of the section, a line.
      alt: what a reader who cannot see it is told, a line.
      caption: below it; a new line begins one.

    Raises:
      ConfigError: when it cannot be shown, or one of the texts is none; the run is as before.
    """
    run = pathlib.Path(run)
    if not (run / "config.json").is_file():
        raise refusal(run, "which has no config.json")
    is_file = isinstance(picture, str | os.PathLike)
    suffix = pathlib.Path(picture).suffix.lower() if is_file else ".svg"
    told = {"title": title, "alt": alt, "caption": caption, "file": f"{name}{suffix}"}
    check_values(run, f"{_FOLDER}/{name}.json", told, FIGURE)
    paper = True
    try:
        if is_file:
            content = _read(pathlib.Path(picture), suffix)
        else:
            text, themed = to_file(picture)
            content, paper = _checked(text.encode(), suffix), not themed
    except (OSError, ValueError) as fault:
        shown = str(picture) if is_file else "a figure"
        raise ConfigError(f"`picture` must be a picture, got {shown!r}: it {fault}.") from fault
    folder = run / _FOLDER
    if not folder.resolve().is_relative_to(run.resolve()):
        raise refusal(run, f"whose {_FOLDER} lie elsewhere")
    if len({*_names(run), f"{name}.json"}) > _MOST:
        raise refusal(run, f"which has room for {_MOST} figures")
    folder.mkdir(exist_ok=True)
    temporary = folder / f"{told['file']}.tmp"
    temporary.write_bytes(content)
    temporary.replace(folder / told["file"])
    write_json(folder / f"{name}.json", told | {"paper": paper})


def figure_sections(run: pathlib.Path) -> Iterator[Section]:
    """The pictures that were added to a run.

    Raises:
      ConfigError: when there are too many, or one is not what `add_figure` writes.
    """
    files = _names(run)
    if len(files) > _MOST:
        raise refusal(run, f"which holds more than {_MOST} figures")
    for name in files:
        if not re.fullmatch(r"[a-z0-9_-]{1,60}\.json", name):
            raise refusal(run, f"whose {_FOLDER} hold {name!r}, which is no name of a figure")
        _check_own(run, name)
        told = read_json(run, f"{_FOLDER}/{name}")
        check_values(run, f"{_FOLDER}/{name}", told, FIGURE)
        file, caption = told["file"], told.get("caption", "")
        image: Block = Image(
            source=_embedded(run, file),
            path=f"{_FOLDER}/{file}",
            alt=told["alt"],
            caption=caption,
            paper=told.get("paper", True),
        )
        yield Section(told["title"], [image])


def _names(run: pathlib.Path) -> list[str]:
    """The files that tell of pictures, without what other systems leave beside them."""
    names = (path.name for path in (run / _FOLDER).glob("*.json"))
    return sorted(name for name in names if not name.startswith("."))


def _check_own(run: pathlib.Path, name: str) -> None:
    """Refuses what is no file, or one that lies outside the run."""
    path = run / _FOLDER / name
    if not path.is_file() or not path.resolve().is_relative_to(run.resolve()):
        raise refusal(run, f"whose {_FOLDER}/{name} is no file of its own")


def _embedded(run: pathlib.Path, name: str) -> str:
    """A picture as a data URL."""
    _check_own(run, name)
    path = run / _FOLDER / name
    try:
        content = _read(path, path.suffix)
    except (OSError, ValueError) as fault:
        raise refusal(run, f"whose {_FOLDER}/{name} {fault}") from fault
    return f"data:{_MEDIA[path.suffix]};base64,{base64.b64encode(content).decode()}"


def _read(path: pathlib.Path, suffix: str) -> bytes:
    if not path.is_file():
        raise ValueError("is no file")
    with path.open("rb") as file:
        return _checked(file.read(_LARGEST + 1), suffix)


def _checked(content: bytes, suffix: str) -> bytes:
    """The bytes of a picture; a ValueError says what is wrong with them."""
    if len(content) > _LARGEST:
        raise ValueError(f"is larger than {_LARGEST:,} bytes")
    if suffix == ".svg":  # entities of its own could grow without end
        is_picture = b"<svg" in content[:4096] and b"<!ENTITY" not in content
    else:
        is_picture = content.startswith(_PNG) and len(content) >= 24
        if is_picture and math.prod(struct.unpack(">II", content[16:24])) > _PIXELS:
            raise ValueError(f"has more than {_PIXELS:,} pixels")
    if not is_picture:
        raise ValueError("is no picture")
    return content
