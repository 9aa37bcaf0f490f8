"""What a comment says beside the field of a class, as its documentation: an extension of Griffe."""

import ast
import io
import tokenize
from typing import Any

import griffe


class FieldComments(griffe.Extension):
    """Gives a field without a docstring the comment at the end of its line, and those below it."""

    def on_attribute_instance(self, *, node: Any, attr: griffe.Attribute, **_: Any) -> None:
        """Reads the comment of a field.

        Args:
          node: of the assignment, None for a module that was only imported.
          attr: the field.
        """
        known = attr.docstring or not attr.lines_collection
        if known or not isinstance(node, ast.Assign | ast.AnnAssign):
            return
        lines = attr.lines_collection[attr.filepath]
        column, text = _comment(lines[node.end_lineno - 1])
        for line in lines[node.end_lineno :] if text else ():
            below, more = _comment(line)
            if line[:below].strip() or below != column:  # a line of its own, under the first
                break
            text += f" {more}"
        if text:
            whole = f"{text[0].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"
            attr.docstring = griffe.Docstring(whole, parent=attr, lineno=node.end_lineno)


def _comment(line: str) -> tuple[int, str]:
    """Where a line's comment begins and what it says; nothing where there is none."""
    try:
        for token in tokenize.generate_tokens(io.StringIO(line.strip() + "\n").readline):
            if token.type == tokenize.COMMENT:
                indent = len(line) - len(line.lstrip())
                return indent + token.start[1], token.string.lstrip("# ").strip()
    except tokenize.TokenError:
        pass
    return len(line), ""
