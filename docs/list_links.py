"""Lists the external links of all pages with the pages that have them, and checks their form: python docs/list_links.py [--ask]

With `--ask` each address is requested, and the answer is shown. A test checks the form only, because a build needs no network.
Internal links and their anchors are checked by `python docs/build_site.py`.
"""

from __future__ import annotations

import re
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from build_site import ROOT, source_pages

CODE = re.compile(r"^```.*?^```|^    .*?$|`[^`\n]*`", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((\w+:[^)\s]*)\)|<(https?:[^>\s]*)>|(?<![(<\"'\w])(https?://\S+)")
HOST = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)+")
TIMEOUT_S = 10


def external_links(pages: list[Path] | None = None) -> dict[str, list[Path]]:
    """Every address outside of code, with the pages that have it."""
    found: dict[str, list[Path]] = {}
    for page in source_pages() if pages is None else pages:
        for groups in LINK.findall(CODE.sub("", page.read_text())):
            found.setdefault(next(filter(None, groups)), []).append(page)
    return dict(sorted(found.items()))


def fault_of(link: str) -> str:
    """What is wrong with the form of a link; empty: nothing."""
    parts = urlsplit(link)
    if parts.scheme != "https":
        return f"the scheme is {parts.scheme}, not https"
    if parts.netloc != parts.hostname:
        return "there is more than a host name before the path"
    if not HOST.fullmatch(parts.netloc) or parts.netloc.replace(".", "").isdecimal():
        return "the host is not a lower-case domain name"
    if link.endswith((".", ",", ";", ":", ")", "'", '"')):
        return "it ends with punctuation"
    return ""


def answer_of(link: str) -> str:
    """What the server of a link says."""
    # the scheme of every link that gets here is https
    request = urllib.request.Request(link, method="HEAD", headers={"User-Agent": "offloop-links"})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
            return str(answer.status)
    except urllib.error.HTTPError as error:
        return str(error.code)
    except OSError as error:
        return str(error)


def _report(links: Mapping[str, list[Path]], *, asks: bool) -> int:
    faults = 0
    for link, pages in links.items():
        fault = fault_of(link)
        answer = answer_of(link) if asks and not fault else ""
        faults += bool(fault) or (bool(answer) and not answer.startswith("2"))
        names = ", ".join(sorted({str(page.relative_to(ROOT)) for page in pages}))
        print("  ".join(filter(None, (fault or "ok", answer, link, f"({names})"))))
    print(f"{len(links)} external links, {faults} with a fault")
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(_report(external_links(), asks="--ask" in sys.argv))
