"""The built site asks nothing of another host, whatever a page holds.

The theme's script would fetch what this site does not use: a program for diagrams, a stand-in for
a part that every browser has had since 2020, and the numbers of a repository.
"""

import pathlib
import re
from typing import Any

_FETCHED = re.compile(r"https://(unpkg\.com|api\.github\.com|[^/\"`]*/api/v4)/")


def on_post_build(config: Any, **_: Any) -> None:
    """Takes the addresses that the theme's scripts would fetch from out of them.

    Args:
      config: of the site.
    """
    for script in pathlib.Path(config.site_dir).rglob("*.js"):
        text = script.read_text(encoding="utf-8")
        script.write_text(_FETCHED.sub("about:blank#", text), encoding="utf-8")
