"""Extension of griffe for the reference: the comment behind a field of a public class is its description.

The fields of structs have comments in place of docstrings, because a comment costs nothing at run time.
"""

from __future__ import annotations

import io
import tokenize
from functools import cache
from pathlib import Path
from typing import Any

import griffe


class FieldComments(griffe.Extension):
    """Gives each attribute without a docstring the comment on its line, or the comment lines above it."""

    def on_attribute_instance(self, *, attr: griffe.Attribute, **_: Any) -> None:
        """Set the docstring."""
        if attr.docstring is None and attr.lineno is not None and isinstance(attr.filepath, Path):
            text = _comment_of(attr.filepath, attr.lineno, attr.endlineno or attr.lineno)
            if text:
                attr.docstring = griffe.Docstring(text, lineno=attr.lineno, parent=attr)


def _comment_of(path: Path, first: int, last: int) -> str:
    comments, alone = _comments(path)
    if last in comments and last not in alone:
        return _sentence(comments[last])
    lines: list[str] = []
    line = first - 1
    while line in alone:
        lines.insert(0, comments[line])
        line -= 1
    return _sentence(" ".join(lines)) if lines else ""


@cache
def _comments(path: Path) -> tuple[dict[int, str], set[int]]:
    """Comments of a module by line, and the lines that have nothing else."""
    comments: dict[int, str] = {}
    alone: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        if token.type == tokenize.COMMENT:
            comments[token.start[0]] = token.string.removeprefix("#").strip()
            if not token.line[: token.start[1]].strip():
                alone.add(token.start[0])
    return comments, alone


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", ":", "?")) else ".")
