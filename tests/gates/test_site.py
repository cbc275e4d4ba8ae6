"""The site has every page in its navigation, and the reference has every public name once, with its stability."""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import offloop

ROOT = Path(__file__).parents[2]
NAVIGATION = (ROOT / "mkdocs.yml").read_text().partition("\nnav:\n")[2]
PAGES = re.findall(r"(\S+\.md)$", NAVIGATION, re.MULTILINE)


@pytest.fixture(scope="module")
def reference() -> Any:
    """The module that writes the reference."""
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        import write_reference  # type: ignore[import-not-found]

        return write_reference  # type: ignore[no-any-return]
    finally:
        sys.path.pop(0)


def written_by_hand() -> set[str]:
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("plugins/*/README.md")]
    return {str(page.relative_to(ROOT)) for page in pages} - {"docs/photos/SOURCES.md"}


def test_every_page_is_in_the_navigation_once(reference: Any, tmp_path: Path) -> None:
    reference.write_reference(tmp_path / "docs" / "reference", reference.GROUPS)
    made = {str(page.relative_to(tmp_path)) for page in tmp_path.rglob("*.md")}
    assert Counter(PAGES) == Counter(written_by_hand() | made)


def test_every_public_name_has_one_place_in_the_reference_and_a_stability(reference: Any) -> None:
    names = [name for group in reference.GROUPS for name in group.names if name in offloop.__all__]
    assert sorted(names) == sorted(offloop.__all__)
    assert {group.stability for group in reference.GROUPS} <= set(reference.STABILITY)


def test_there_are_fifteen_how_to_pages_and_the_overview_has_all() -> None:
    pages = {path.name for path in (ROOT / "docs" / "howto").glob("*.md")} - {"README.md"}
    assert len(pages) >= 15
    linked = set(re.findall(r"\((\w[\w-]*\.md)\)", (ROOT / "docs" / "howto" / "README.md").read_text()))
    assert linked == pages
