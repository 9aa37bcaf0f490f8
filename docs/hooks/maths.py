"""Formulas as MathML, made when the site is built: browsers draw them without a script.

`pymdownx.arithmatex` finds them: ```math fences and $...$ within a line.
"""

import html
import re
from typing import Any

from latex2mathml.converter import convert

_FORMULA = re.compile(r'<(span|div) class="arithmatex">(.*?)</\1>', re.DOTALL)


def on_page_content(content: str, **_: Any) -> str:
    """Turns every formula of a page into MathML.

    Args:
      content: of the page, as HTML.

    Returns:
      The same with MathML in place of LaTeX, which stays as the alternative text.
    """
    return _FORMULA.sub(_to_mathml, content)


def _to_mathml(match: re.Match[str]) -> str:
    """The element that stands for \\(...\\) or \\[...\\]."""
    tag, text = match.groups()
    latex = html.unescape(text).strip()[2:-2].strip()
    mathml = convert(latex, display="block" if tag == "div" else "inline")
    spoken = html.escape(" ".join(latex.split()))
    named = mathml.replace("<math ", f'<math alttext="{spoken}" ', 1)
    return f'<{tag} class="formula">{named}</{tag}>'
