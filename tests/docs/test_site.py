"""The built site: complete, its links hold, and a browser asks no other host for anything."""

import html.parser
import os
import pathlib
import re
import subprocess
import sys
import urllib.parse

import pytest
from documents import ROOT

pytest.importorskip("mkdocs", reason="needs the extra docs")

# Attributes that a browser follows by itself; <a href> is for the reader to click.
_LOADED = {
    ("script", "src"),
    ("img", "src"),
    ("img", "srcset"),
    ("iframe", "src"),
    ("source", "src"),
    ("video", "src"),
    ("object", "data"),
    ("embed", "src"),
    ("link", "href"),
    ("form", "action"),
}
_NAMESPACES = ("http://www.w3.org/", "http://www.mozilla.org/MPL/")


class Page(html.parser.HTMLParser):
    """The addresses in a page, and the places in it that an address may name."""

    def __init__(self, path):
        super().__init__()
        self.loaded, self.links, self.places, self.tags = [], [], {"", "__tabbed"}, set()
        self.styles = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        for name, value in attributes:
            if name in ("id", "name") and value:
                self.places.add(value)
            elif name == "style":
                self.styles.append(value or "")
            elif (tag, name) in _LOADED:
                self.loaded.append(value or "")
            elif (tag, name) == ("a", "href"):
                self.links.append(value or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the site, built as `make docs` does."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", f"--site-dir={folder}"],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def built(site):
    return {path: Page(path) for path in site.rglob("*.html")}


def is_foreign(address):
    return bool(re.match(r"(?:[a-z]+:)?//", address))


def test_every_page_of_the_nav_is_built(built, site):
    names = {path.relative_to(site).as_posix() for path in built}
    assert {"index.html", "search.html", "promises.html", "reference/command.html"} <= names


def test_no_page_loads_from_another_host(built):
    for path, page in built.items():
        assert [address for address in page.loaded if is_foreign(address)] == [], path
        assert [style for style in page.styles if "url(" in style] == [], path


def test_no_style_loads_from_another_host(site):
    for path in site.rglob("*.css"):
        addresses = re.findall(r"url\(\s*[\"']?([^\"')]+)", path.read_text(encoding="utf-8"))
        assert [address for address in addresses if is_foreign(address)] == [], path
        assert "@import" not in path.read_text(encoding="utf-8"), path


def test_no_script_holds_an_address_that_it_could_load(site):
    """Addresses in comments, and the names of XML namespaces, are no more than names."""
    scripts = list(site.rglob("*.js"))
    assert scripts
    for path in scripts:
        code = re.sub(r"/\*.*?\*/", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        quoted = re.findall(r"[\"'`](?:https?:)?//[\w-]+\.[\w.-]+[^\"'`]*", code)
        assert [q for q in quoted if not q[1:].startswith(_NAMESPACES)] == [], path


def test_every_link_and_anchor_leads_somewhere(built, site):
    for path, page in built.items():
        if path.name == "404.html":  # its links are from the root of a server
            continue
        for link in [*page.links, *page.loaded]:
            target = urllib.parse.urlsplit(link)
            if target.scheme or is_foreign(link):
                continue
            named = urllib.parse.unquote(target.path)
            file = pathlib.Path(os.path.normpath(path.parent / named)) if named else path
            file = file / "index.html" if file.is_dir() else file
            assert file.is_file(), f"{path.relative_to(site)}: {link}"
            if file in built and target.fragment:
                place = urllib.parse.unquote(target.fragment)
                assert place in built[file].places, f"{path.relative_to(site)}: {link}"


def test_formulas_are_drawn_without_a_script(built):
    assert any("math" in page.tags for page in built.values())
    for path in built:
        assert "arithmatex" not in path.read_text(encoding="utf-8"), path
