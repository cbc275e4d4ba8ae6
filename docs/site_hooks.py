"""Hook of mkdocs: pages with a diagram load Mermaid from this site, and a table's empty corner is no header."""

from __future__ import annotations

import re
from typing import Any

from mkdocs.structure.pages import Page
from mkdocs.utils import get_relative_url

SCRIPT = "docs/mermaid/mermaid.tiny.js"


def on_page_content(html: str, *, page: Page, **_: Any) -> str:
    """Return the content of a page with both changes."""
    # a header without text says nothing to a screen reader
    html = re.sub(r"<th\b([^>]*)></th>", r"<td\1></td>", html)
    if '<pre class="mermaid">' in html:
        # the theme loads the script from another host, unless `mermaid` is defined already
        html += f'\n<script src="{get_relative_url(SCRIPT, page.url)}"></script>\n'
    return html
