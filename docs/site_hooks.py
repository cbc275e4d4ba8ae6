"""Hook of mkdocs: pages with a diagram load Mermaid from this site. The theme would load it from another host."""

from __future__ import annotations

from typing import Any

from mkdocs.structure.pages import Page
from mkdocs.utils import get_relative_url

SCRIPT = "docs/mermaid/mermaid.tiny.js"


def on_page_content(html: str, *, page: Page, **_: Any) -> str:
    """Return the content of a page. The theme asks for no script where `mermaid` is defined already."""
    if '<pre class="mermaid">' not in html:
        return html
    return f'{html}\n<script src="{get_relative_url(SCRIPT, page.url)}"></script>\n'
