"""All pages of the documentation site in a real browser: light, dark and narrow, without faults, and without other hosts."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

SITE = Path(__file__).parents[2] / "build" / "site" / "html"
PAGES = sorted(str(path.relative_to(SITE)).removesuffix("index.html") for path in SITE.rglob("*.html"))
WITH_DIAGRAMS = ["docs/design/", "docs/protocol/"]
VIEWS: list[Any] = [("light", 1280), ("dark", 320)]

pytestmark = [
    pytest.mark.skipif(not SITE.exists(), reason="the site is not built: python docs/build_site.py"),
    pytest.mark.timeout(120),
]


class Quiet(SimpleHTTPRequestHandler):
    """A server of files that logs nothing."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the name is the contract)
        pass


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """The address of the site."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(SITE)))
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()
    thread.join()


class Visit:
    """A page that is open, with all that it has asked for and complained about."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.requests: list[str] = []
        self.errors: list[str] = []
        page.add_init_script("localStorage.clear()")  # the theme would keep the colours of the first visit
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("requestfailed", lambda request: self.errors.append(f"failed: {request.url}"))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)

    def open(self, address: str) -> None:
        """Open a page, and wait until it asks for nothing more and its diagrams are drawn."""
        self.page.goto(address)
        self.page.wait_for_load_state("networkidle")
        expect(self.page.locator("pre.mermaid")).to_have_count(0)

    def faults(self) -> list[str]:
        """What axe finds, and what is wider than the window."""
        axe: Any = Axe()  # without types
        found = axe.run(self.page)
        faults = [found.generate_report()] if found.violations_count else []
        if self.page.evaluate("document.documentElement.scrollWidth > window.innerWidth"):
            faults.append("the page is wider than the window")
        return faults


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    """A page whose requests to other hosts are refused and remembered."""
    page = browser.new_page(reduced_motion="reduce")
    yield Visit(page)
    page.close()


def test_there_are_pages() -> None:
    assert len(PAGES) > 50
    assert set(WITH_DIAGRAMS) <= set(PAGES)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_no_fault_and_asks_no_other_host(visit: Visit, site: str, name: str) -> None:
    faults: dict[Any, list[str]] = {}
    visit.page.route(lambda url: not url.startswith(site), lambda route: route.abort())
    for scheme, width in VIEWS:
        visit.page.emulate_media(color_scheme=scheme)
        visit.page.set_viewport_size({"width": width, "height": 900})
        visit.open(site + name)
        faults[scheme, width] = visit.faults()
    assert [url for url in visit.requests if not url.startswith(site)] == []
    assert visit.errors == []
    assert {view: found for view, found in faults.items() if found} == {}


@pytest.mark.parametrize("name", WITH_DIAGRAMS)
def test_diagrams_are_drawn_by_a_script_of_the_site(visit: Visit, site: str, name: str) -> None:
    visit.open(site + name)
    source = (SITE.parent / "pages" / f"{name.rstrip('/')}.md").read_text()
    heights = visit.page.eval_on_selector_all("div.mermaid", "diagrams => diagrams.map(diagram => diagram.clientHeight)")
    assert len(heights) == source.count("```mermaid") > 0
    assert min(heights) > 200
    assert f"{site}docs/mermaid/mermaid.tiny.js" in visit.requests


def test_a_plot_follows_the_colours_of_the_page(visit: Visit, site: str) -> None:
    """The light picture is shown on a light page only, and the dark one on a dark page only."""
    pairs: list[Any] = [("light", "dark"), ("dark", "light")]
    for scheme, other in pairs:
        visit.page.emulate_media(color_scheme=scheme)
        visit.open(site + "docs/benchmarks/calls/")
        expect(visit.page.locator(f"img[src$='#only-{scheme}']").first).to_be_visible()
        expect(visit.page.locator(f"img[src$='#only-{other}']").first).to_be_hidden()
