"""The prose is plain technical English, and the code uses the words of the vocabulary."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("src", "plugins", "benchmarks", "tests", "docs")
CODE = sorted(
    path
    for folder in FOLDERS
    for path in (ROOT / folder).rglob("*.py")
    if ".venv" not in path.parts and path.name != "test_words.py"
)
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("plugins/*/*.md")])

# the subject of a sentence is a noun that exists in the code
NO_SUBJECTS = re.compile(r"\b(whoever|whatever|whomever|somebody|nobody|anybody|everybody)\b", re.IGNORECASE)

# metaphors of older versions, and second names for one concept
NO_NAMES = re.compile(
    r"(^|_)(desk|errands?|standing|crew|warmth|bury|chronicle|ledger|hiring|milestones?|pager|journal|look_around|see_to)(_|$)",
    re.IGNORECASE,
)


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """Comments and docstrings of a module, with the numbers of their first lines."""
    text = path.read_text()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, node.value.value


def names(path: Path) -> Iterator[tuple[int, str]]:
    """Every identifier of a module, with the number of its line."""
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        if token.type == tokenize.NAME:
            yield token.start[0], token.string


def wrong_words(path: Path) -> list[tuple[int, str]]:
    return [(line, found[0]) for line, text in prose(path) for found in NO_SUBJECTS.finditer(text)]


def wrong_names(path: Path) -> list[tuple[int, str]]:
    return [(line, name) for line, name in names(path) if NO_NAMES.search(name)]


def test_the_walk_finds_the_pages() -> None:
    assert {"README.md", "CHANGELOG.md", "docs/design.md", "plugins/offloop-vips/README.md"} <= set(map(relative, PAGES))


def test_the_walk_finds_the_code() -> None:
    found = set(map(relative, CODE))
    assert {"src/offloop/pool.py", "src/offloop/core/pool_state.py", "src/offloop/worker/__main__.py"} <= found
    assert {"benchmarks/simulation/the_core.py", "tests/conftest.py", "docs/examples/server.py"} <= found
    assert any(name.startswith("plugins/offloop-vips/src/") for name in found)


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_a_sentence_in_the_pages_has_a_noun_as_its_subject(page: Path) -> None:
    lines = enumerate(page.read_text().splitlines(), 1)
    assert [(number, found[0]) for number, line in lines for found in NO_SUBJECTS.finditer(line)] == []


@pytest.mark.parametrize("module", CODE, ids=relative)
def test_a_sentence_in_the_code_has_a_noun_as_its_subject(module: Path) -> None:
    assert wrong_words(module) == []


@pytest.mark.parametrize("module", CODE, ids=relative)
def test_no_name_is_a_metaphor(module: Path) -> None:
    assert wrong_names(module) == []


@pytest.mark.parametrize("text", ["# whoever waits", '"""Whatever comes."""', "x = 1  # nobody waits"])
def test_a_wrong_word_is_found(text: str, tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text(text + "\n")
    assert len(wrong_words(module)) == 1


@pytest.mark.parametrize("name", ["_desk", "crew", "pool_journal", "Holder.standing"])
def test_a_wrong_name_is_found(name: str, tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text(f"{name} = outstanding\n")
    assert wrong_names(module) == [(1, name.rpartition(".")[2])]
