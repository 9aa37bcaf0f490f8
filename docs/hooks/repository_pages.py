"""Documents that stand beside the code they are about, as pages of the site.

Relative links between them lead to the pages, and those to other files of the repository, which
are no pages, become plain text. Pages of `docs/` link to them where they stand in the repository,
so that the links hold there too.
"""

import pathlib
import posixpath
import re
from typing import Any

from mkdocs.structure.files import File, Files

_ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = {
    "lsh_jax/lyapunov/README.md": "guides/lyapunov.md",
    "lsh_jax/sparsity/README.md": "guides/sparsity.md",
    "lsh_jax/search/README.md": "guides/own-task.md",
    "experiments/README.md": "guides/experiments.md",
    "benchmarks/README.md": "guides/benchmarks.md",
    "CONTRIBUTING.md": "guides/contributing.md",
    "CHANGELOG.md": "guides/changelog.md",
}
_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!\w+:|#)([^)#\s]+)(#[^)\s]+)?\)")


def on_files(files: Files, config: Any, **_: Any) -> Files:
    """Adds the documents and their pictures.

    Args:
      files: of the docs folder.
      config: of the site.

    Returns:
      The files with the documents among them.
    """
    pictures: set[str] = set()
    for source, page in PAGES.items():
        text = _relink((_ROOT / source).read_text(encoding="utf-8"), source, page, pictures)
        files.append(File.generated(config, page, content=text))
    for picture in sorted(pictures):
        path = _picture_page(picture)
        files.append(File.generated(config, path, abs_src_path=str(_ROOT / picture)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turns a page's links to the documents into links to their pages.

    Args:
      markdown: of the page.
      page: of the site.

    Returns:
      The Markdown; links elsewhere stay as they are, for the build to check.
    """
    name = page.file.src_uri
    if name in PAGES.values():
        return markdown  # linked already

    def link(match: re.Match[str]) -> str:
        picture, label, path, anchor = match.groups()
        target = posixpath.normpath(posixpath.join("docs", posixpath.dirname(name), path))
        if picture or target not in PAGES:
            return match[0]
        return (
            f"[{label}]({posixpath.relpath(PAGES[target], posixpath.dirname(name))}{anchor or ''})"
        )

    return _LINK.sub(link, markdown)


def _relink(text: str, source: str, page: str, pictures: set[str]) -> str:
    """The text with links that hold in the site; names the pictures that it shows."""

    def link(match: re.Match[str]) -> str:
        picture, label, path, anchor = match.groups()
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        if picture:
            pictures.add(target)
        found = _picture_page(target) if picture else _page(target)
        if found is None:
            return label if label.startswith("`") else f"`{label}`"
        address = posixpath.relpath(found, posixpath.dirname(page))
        return f"{picture}[{label}]({address}{anchor or ''})"

    return _LINK.sub(link, text)


def _page(target: str) -> str | None:
    """The page of a file of the repository, if it has one."""
    return target.removeprefix("docs/") if target.startswith("docs/") else PAGES.get(target)


def _picture_page(target: str) -> str:
    return f"guides/pictures/{target.replace('/', '-')}"
