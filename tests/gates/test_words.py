"""The prose of the pages is plain technical English."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("plugins/*/*.md")])

# the subject of a sentence is a noun that exists in the code
NO_SUBJECTS = re.compile(r"\b(whoever|whatever|whomever|somebody|nobody|anybody|everybody)\b", re.IGNORECASE)


def test_the_walk_finds_the_pages() -> None:
    assert {"README.md", "CHANGELOG.md", "docs/design.md", "plugins/offloop-vips/README.md"} <= {
        str(page.relative_to(ROOT)) for page in PAGES
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_sentence_in_the_pages_has_a_noun_as_its_subject(page: Path) -> None:
    lines = enumerate(page.read_text().splitlines(), 1)
    assert [(number, found[0]) for number, line in lines for found in NO_SUBJECTS.finditer(line)] == []


@pytest.mark.parametrize("text", ["Whoever waits is told.", "a worker that nobody needs"])
def test_a_wrong_word_is_found(text: str) -> None:
    assert NO_SUBJECTS.search(text)
