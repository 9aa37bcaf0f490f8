"""Pictures of one's own in the report: files of the run directory, embedded in the page.

A run directory may come from a stranger. A picture is shown as an image, in which a browser runs no
script and from which it asks for nothing; what is said of it is text, which the page escapes.
"""

import base64
import os
import pathlib
import re
import shutil
from collections.abc import Iterator
from typing import Any

from lsh_jax.checkpoint import write_json
from lsh_jax.report.page import Block, Image, Section
from lsh_jax.report.run import check_values, read_json, refusal
from lsh_jax.report.svg import to_file
from lsh_jax.report.values import FIGURE

_FOLDER = "figures"
_MOST = 20  # pictures of a page
_LARGEST = 4 * 2**20  # bytes of each
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
      ConfigError: when it cannot be shown, or one of the texts is none.
    """
    run = pathlib.Path(run)
    is_file = isinstance(picture, str | os.PathLike)
    suffix = pathlib.Path(picture).suffix.lower() if is_file else ".svg"
    told = {"title": title, "alt": alt, "caption": caption, "file": f"{name}{suffix}"}
    check_values(run, f"{_FOLDER}/{name}.json", told, FIGURE)
    path = run / _FOLDER / f"{name}{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    paper = True
    if is_file:
        shutil.copyfile(picture, path)
    else:
        text, themed = to_file(picture)
        path.write_text(text, encoding="utf-8")
        paper = not themed
    _embedded(run, path.name)
    write_json(run / _FOLDER / f"{name}.json", told | {"paper": paper})


def figure_sections(run: pathlib.Path) -> Iterator[Section]:
    """The pictures that were added to a run.

    Raises:
      ConfigError: when there are too many, or one is not what `add_figure` writes.
    """
    files = sorted(path.name for path in (run / _FOLDER).glob("*.json"))
    if len(files) > _MOST:
        raise refusal(run, f"which holds more than {_MOST} figures")
    for name in files:
        if not re.fullmatch(r"[a-z0-9_-]{1,60}\.json", name):
            raise refusal(run, f"whose {_FOLDER} hold {name!r}, which is no name of a figure")
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


def _embedded(run: pathlib.Path, name: str) -> str:
    """A picture as a data URL."""
    path, whole = run / _FOLDER / name, f"{_FOLDER}/{name}"
    if not path.is_file() or not path.resolve().is_relative_to(run.resolve()):
        raise refusal(run, f"whose {whole} is no file of its own")
    if path.stat().st_size > _LARGEST:
        raise refusal(run, f"whose {whole} is larger than {_LARGEST:,} bytes")
    content = path.read_bytes()
    is_picture = content.startswith(_PNG)
    if path.suffix == ".svg":  # entities of its own could grow without end
        is_picture = b"<svg" in content[:4096] and b"<!ENTITY" not in content
    if not is_picture:
        raise refusal(run, f"whose {whole} is no picture")
    return f"data:{_MEDIA[path.suffix]};base64,{base64.b64encode(content).decode()}"
