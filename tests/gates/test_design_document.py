"""The design page shows what the code has: the layout, the worker states, the events with their handlers."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from offloop.core.model.events import Event

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
DESIGN = (DOCS / "design.md").read_text()
PAGES = [*ROOT.glob("*.md"), *DOCS.glob("*.md"), *DOCS.glob("[ht]*/*.md"), *ROOT.glob("plugins/*/README.md")]
SOURCE = ROOT / "src" / "offloop"

MAX_WORDS = 2500


def section(title: str) -> str:
    found = DESIGN.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    assert found, f"there is no section {title!r}"
    return found


def test_the_page_is_short_enough_to_be_read() -> None:
    assert len(DESIGN.split()) <= MAX_WORDS


def test_the_diagrams_of_states_are_drawn_from_the_tables() -> None:
    drawing = runpy.run_path(str(DOCS / "draw_states.py"))
    assert drawing["redrawn"](DESIGN) == DESIGN, "run: python docs/draw_states.py"
    assert "BUSY --> TIMED_OUT: CancelRequested, DeadlineExpired" in DESIGN
    assert "WAITING --> RUNNING: Dispatched" in DESIGN


def test_the_page_of_settings_is_written_from_the_code() -> None:
    writing = runpy.run_path(str(DOCS / "write_settings.py"))
    assert writing["written"]() == (DOCS / "settings.md").read_text(), "run: python docs/write_settings.py"


def test_every_law_names_a_test_and_every_test_that_is_named_exists() -> None:
    laws = re.split(r"^\d+\. ", section("The laws"), flags=re.MULTILINE)[1:]
    assert len(laws) == 8
    assert [law for law in laws if "`tests/" not in law and "`test_" not in law] == []
    functions = "\n".join(path.read_text() for path in ROOT.glob("tests/**/test_*.py"))
    named = re.findall(r"`(test_\w+)`", DESIGN)
    assert named
    assert [name for name in named if f"def {name}(" not in functions] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text()
    paths = re.findall(r"\b((?:tests|docs|benchmarks|plugins|src)/[\w./-]*\w)", text)
    assert [path for path in paths if not (ROOT / path).exists()] == []
    links = re.findall(r"\]\((?!\w+:)([^)#]+)", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_message_of_a_sequence_diagram_has_a_semicolon(page: Path) -> None:
    # because Mermaid takes it for the end of the line, and then shows an error instead of the diagram
    diagrams = re.findall(r"^```mermaid\nsequenceDiagram\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    assert [line for diagram in diagrams for line in diagram.splitlines() if ";" in line] == []


def anchors(page: Path) -> set[str]:
    """The names of a page's sections in links, as GitHub makes them: lower case, no punctuation, hyphens for spaces."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_section_that_a_page_links_to_exists(page: Path) -> None:
    links = re.findall(r"\]\((?!\w+:)([^)#]*)#([^)]+)\)", page.read_text())
    assert [link for link in links if link[1] not in anchors(page.parent / link[0] if link[0] else page)] == []


def test_every_link_to_a_measurement_names_its_section() -> None:
    links = re.findall(r"\[measured\]\(([^)]*)\)", "".join(page.read_text() for page in PAGES))
    assert [link for link in links if "#" not in link] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_module_that_a_page_names_exists(page: Path) -> None:
    packages = "|".join(path.parent.name for path in SOURCE.glob("*/__init__.py"))
    named = re.findall(rf"`(?:offloop/)?((?:{packages})/[\w/]+?)(?:\.py)?`", page.read_text())
    missing = [name for name in named if not (SOURCE / f"{name}.py").exists() and not (SOURCE / name).is_dir()]
    assert missing == []


def test_the_layout_has_every_package() -> None:
    drawn = re.findall(r"`([\w/]+)`", "".join(re.findall(r"^\| (`.*?) \|", section("Layout"), flags=re.MULTILINE)))
    packages = [str(path.parent.relative_to(SOURCE)) for path in SOURCE.rglob("__init__.py") if path.parent != SOURCE]
    assert sorted(drawn) == sorted(packages)


def test_every_event_is_in_the_table_of_events() -> None:
    names = [kind.__name__ for kind in getattr(Event, "__args__", ())]
    rows = re.findall(r"^\| `(\w+)` \|", section("Events and commands"), flags=re.MULTILINE)
    assert sorted(rows) == sorted(names)
