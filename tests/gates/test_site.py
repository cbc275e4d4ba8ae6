"""The site has every page in its navigation, the reference has every public name, and external links have the right form."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import offloop

ROOT = Path(__file__).parents[2]
NAVIGATION = (ROOT / "mkdocs.yml").read_text().partition("\nnav:\n")[2]
PAGES = re.findall(r"(\S+\.md)$", NAVIGATION, re.MULTILINE)


@pytest.fixture(scope="module")
def scripts() -> Iterator[None]:
    """Lets the scripts of `docs` be imported."""
    sys.path.insert(0, str(ROOT / "docs"))
    yield
    sys.path.remove(str(ROOT / "docs"))


@pytest.fixture(scope="module")
def reference(scripts: None) -> Any:
    """The module that writes the reference."""
    return import_module("write_reference")


@pytest.fixture(scope="module")
def links(scripts: None) -> Any:
    """The module that lists the external links."""
    return import_module("list_links")


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


def test_the_overview_says_of_every_name_what_it_is_and_since_when(reference: Any, tmp_path: Path) -> None:
    reference.write_reference(tmp_path, reference.GROUPS)
    row = re.compile(r"^\| \[`([\w.]+)`\]\[\S+\] \| (.*) \| (\w+) \| (\d+\.\d+\.\d+) \|$", re.MULTILINE)
    rows = row.findall((tmp_path / "README.md").read_text())
    described = {name: text for name, text, _, _ in rows}
    assert set(described) > set(offloop.__all__)
    assert [name for name, text in described.items() if not text] == []
    assert set(reference.ADDED_LATER) <= set(described)


def test_there_are_fifteen_how_to_pages_and_the_overview_has_all() -> None:
    pages = {path.name for path in (ROOT / "docs" / "howto").glob("*.md")} - {"README.md"}
    assert len(pages) >= 15
    linked = set(re.findall(r"\((\w[\w-]*\.md)\)", (ROOT / "docs" / "howto" / "README.md").read_text()))
    assert linked == pages


def test_external_links_have_the_right_form(links: Any) -> None:
    found = links.external_links()
    assert len(found) > 8
    assert {link: fault for link in found if (fault := links.fault_of(link))} == {}


@pytest.mark.parametrize(
    "link",
    [
        "http://example.org/page",
        "https://Example.org/page",
        "https://user@example.org",
        "https://example.org:8080/page",
        "https://127.0.0.1/page",
        "https://example/page",
        "https://example.org/page.",
        "ftp://example.org/file",
    ],
)
def test_a_link_of_another_form_is_found(links: Any, link: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Page\n\nSee [this]({link}).\n\n    in code: https://example.org\n\n```\nhttp://localhost:8000\n```\n")
    (found,) = links.external_links([page])
    assert found == link
    assert links.fault_of(found)


def test_a_link_of_the_right_form_has_no_fault(links: Any) -> None:
    assert links.fault_of("https://docs.example.org/a/b.html#c") == ""
