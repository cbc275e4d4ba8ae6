"""The design document shows the tables that the code uses, and names what there is; no page points to nowhere."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from offloop.wire.messages import FromSupervisor, FromWorker

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
DESIGN = (DOCS / "design.md").read_text()
PAGES = [*ROOT.glob("*.md"), *DOCS.glob("*.md"), *ROOT.glob("plugins/*/README.md")]
SOURCE = ROOT / "src" / "offloop"


def section(title: str) -> str:
    found = DESIGN.partition(f"\n## {title}")[2].partition("\n## ")[0]
    assert found, f"there is no section {title!r}"
    return found


def modules(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("__"))


def test_the_drawing_of_the_workers_life_is_the_tables() -> None:
    drawing = runpy.run_path(str(DOCS / "draw_worker_life.py"))
    assert drawing["redrawn"](DESIGN) == DESIGN, "run: python docs/draw_worker_life.py"
    assert "BUSY --> TIMED_OUT: CancelRequested, DeadlineExpired" in DESIGN


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
    links = re.findall(r"\]\((?!\w+:)([^)#]+)", text)
    assert [link for link in links if not (page.parent / link).exists()] == []


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


@pytest.mark.parametrize(("folder", "title"), [("core", "Core: decisions"), ("host", "The host"), ("worker", "The worker")])
def test_every_module_has_its_place_in_the_tables(folder: str, title: str) -> None:
    parts = [name for line in section(title).splitlines() if line.startswith("| `") for name in line.split("|")[1].split(", ")]
    assert sorted(part.strip(" `") for part in parts) == modules(SOURCE / folder)


def test_every_room_is_on_the_map_and_nothing_else() -> None:
    words = set(re.findall(r"\w+/?", section("The rooms").partition("offloop/\n")[2].partition("```")[0]))
    packages = {f"{path.parent.name}/" for path in SOURCE.glob("*/__init__.py")}
    assert {*modules(SOURCE), *packages} <= words
    assert {word for word in words if word.endswith("/")} == packages


@pytest.mark.parametrize("union", [FromSupervisor, FromWorker])
def test_every_message_is_named(union: object) -> None:
    names = [kind.__name__ for kind in getattr(union, "__args__", ())]
    assert len(names) >= 4
    assert [name for name in names if f"`{name}`" not in section("Messages")] == []
