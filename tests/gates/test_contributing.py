"""The answers for new maintainers in CONTRIBUTING.md name files and functions that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "offloop"
SECTION = (ROOT / "CONTRIBUTING.md").read_text().partition("\n## Where things are\n")[2].partition("\n## ")[0]

# `path.py`: `Name`, `Class.method`
ANSWER = re.compile(r"`(?P<path>[\w/]+\.py)`:(?P<names>(?:,?\s+`[\w.]+`)+)")


def answers() -> list[tuple[str, str]]:
    """Each file that an answer names, with each name that is said to be in it."""
    return [(found["path"], name) for found in ANSWER.finditer(SECTION) for name in re.findall(r"`([\w.]+)`", found["names"])]


def defined_in(path: str) -> set[str]:
    """Names of a module: constants, functions, classes, and their methods as "Class.method"."""
    names: set[str] = set()
    for node in ast.parse((SOURCE / path).read_text()).body:
        match node:
            case ast.ClassDef():
                members = [item.name for item in node.body if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef)]
                names |= {node.name, *(f"{node.name}.{member}" for member in members)}
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                names.add(node.name)
            case ast.Assign():
                names |= {ast.unparse(target) for target in node.targets}
            case ast.AnnAssign():
                names.add(ast.unparse(node.target))
            case _:
                pass
    return names


def test_ten_questions_have_an_answer_with_a_file_and_a_name() -> None:
    items = re.split(r"^\d+\. ", SECTION, flags=re.MULTILINE)[1:]
    assert len(items) == 10
    assert [item for item in items if not ANSWER.search(item)] == []


def test_every_name_in_an_answer_exists_in_its_file() -> None:
    assert [(path, name) for path, name in answers() if name not in defined_in(path)] == []
