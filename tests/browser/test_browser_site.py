"""The documentation site in a real browser: light, dark and narrow, without faults of accessibility and without other hosts."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

SITE = Path(__file__).parents[2] / "build" / "site" / "html"

pytestmark = [
    pytest.mark.skipif(not SITE.exists(), reason="the site is not built: python docs/build_site.py"),
    pytest.mark.timeout(120),
]

PAGES = ["", "docs/tutorial/1-thumbnail/", "docs/web/", "docs/operations/", "docs/reference/pool/", "docs/peers/"]
VIEWS: list[Any] = [("light", 1280), ("dark", 1280), ("light", 380)]


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


@pytest.mark.parametrize(("scheme", "width"), VIEWS)
def test_pages_have_no_fault(browser: Browser, site: str, scheme: Any, width: int) -> None:
    page = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": 900})
    asked: list[str] = []
    faults: dict[str, Any] = {}
    page.on("request", lambda request: asked.append(request.url))
    for name in PAGES:
        page.goto(site + name)
        page.wait_for_load_state("networkidle")
        axe: Any = Axe()  # without types
        found = axe.run(page)
        if found.violations_count:
            faults[name] = found.generate_report()
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), f"{name} is wider than the window"
    page.close()
    assert faults == {}
    assert [url for url in asked if not url.startswith(site)] == []
