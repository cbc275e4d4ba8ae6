"""Builds the documentation site: collects the pages of the repository, writes the reference, runs mkdocs, writes llms.txt.

    python docs/build_site.py            # into build/site/html
    python docs/build_site.py --pages    # only the pages, into build/site/pages

The pages keep their places relative to each other, so a link works on the site as it does in the repository. Files that a page
links to come along. Requires the extra `docs`, and npm for the script of the diagrams.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from write_reference import GROUPS, write_reference

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "site"
PAGES = BUILD / "pages"

MERMAID = "@mermaid-js/tiny@11"  # draws the diagrams in the browser; MIT licence
DOWNLOADS = ROOT / "build" / "mermaid"

LINK = re.compile(r"\]\((?!\w+:|#)([^)#\s]+)")
CODE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
PICTURE = re.compile(
    r'<picture>\s*<source media="\(prefers-color-scheme: dark\)" srcset="([^"]+)">\s*'
    r'<img alt="([^"]*)" src="([^"]+)">\s*</picture>'
)
"""A picture for light and dark pages, as the host of a repository shows it."""


def source_pages() -> list[Path]:
    """Every page of the site that is written by hand."""
    return [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "CHANGELOG.md",
        ROOT / "SECURITY.md",
        *sorted(ROOT.glob("docs/**/*.md")),
        *sorted(ROOT.glob("plugins/*/README.md")),
    ]


def collect() -> None:
    """Copy all pages, and the files that they link to, to `PAGES`."""
    shutil.rmtree(BUILD, ignore_errors=True)
    pages = source_pages()
    for page in pages:
        # the site's reader may choose the colours, so a picture follows the page and not the system
        text = PICTURE.sub(r"![\2](\3#only-light)![\2](\1#only-dark)", page.read_text())
        for target in LINK.findall(CODE.sub("", text)):
            linked = (page.parent / target).resolve()
            if linked.is_dir():
                text = text.replace(f"]({target})", f"]({_page_of(linked, page)})")
            elif linked not in pages:
                _copy(linked)
        _write(page, text)
    for name in ("site.css", "site.js"):
        _copy(ROOT / "docs" / name)


def _page_of(folder: Path, page: Path) -> str:
    """A link to a folder as a link to a file in it, because a site has no listings."""
    readme = folder / "README.md"
    target = readme if readme.exists() else next(iter(sorted(folder.glob("*.py"))))
    if target != readme:
        _copy(target)
    return str(Path(*[".."] * len(page.parent.relative_to(ROOT).parts), target.relative_to(ROOT)))


def _copy(file: Path) -> None:
    copy = PAGES / file.relative_to(ROOT)
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, copy)


def _write(page: Path, text: str) -> None:
    copy = PAGES / page.relative_to(ROOT)
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_text(text)


def add_mermaid(folder: Path) -> None:
    """Copy Mermaid's script and licence into the folder. npm downloads them once.

    Raises:
        SystemExit: there is no npm, or it finds no such package.
    """
    if not any(DOWNLOADS.glob("*.tgz")):
        npm = shutil.which("npm")
        if npm is None:
            sys.exit("the diagrams of the site need the script of Mermaid, and npm to get it: install npm")
        DOWNLOADS.mkdir(parents=True, exist_ok=True)
        subprocess.run([npm, "pack", "--silent", MERMAID], cwd=DOWNLOADS, check=True, stdout=subprocess.DEVNULL)
    (archive,) = DOWNLOADS.glob("*.tgz")
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive) as package:
        for member in ("package/dist/mermaid.tiny.js", "package/LICENSE"):
            file = package.extractfile(member)
            assert file, f"{MERMAID} has no {member}"
            (folder / Path(member).name).write_bytes(file.read())


def write_llms_txt(site: Path) -> None:
    """Write `llms.txt` (https://llmstxt.org): every page with its first sentence, and the pages as Markdown beside it."""
    lines = ["# offloop", "", f"> {_first_sentence(PAGES / 'README.md')}", "", "## Pages", ""]
    for page in sorted(PAGES.rglob("*.md")):
        name = page.relative_to(PAGES)
        copy = site / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(page, copy)
        title = re.search(r"^# (.+)$", page.read_text(), re.MULTILINE)
        assert title, f"{name} has no title"
        lines.append(f"- [{title[1]}]({name}): {_first_sentence(page)}")
    (site / "llms.txt").write_text("\n".join(lines) + "\n")


def _first_sentence(page: Path) -> str:
    """The first sentence after the title, without links."""
    body = f"\n{page.read_text()}".partition("\n# ")[2]
    paragraph = next((part for part in body.split("\n\n")[1:] if re.match(r"[A-Za-z`\[]", part)), "")
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", " ".join(paragraph.split()))
    return re.split(r"(?<=[.])\s", text, maxsplit=1)[0]


def main() -> int:
    """Build the site. Returns the exit code of mkdocs."""
    collect()
    write_reference(PAGES / "docs" / "reference", GROUPS)
    if "--pages" in sys.argv:
        return 0
    add_mermaid(PAGES / "docs" / "mermaid")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict"]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, check=False, stderr=subprocess.PIPE, text=True)
    # --quiet would hide the warnings that make a strict build fail
    print("\n".join(line for line in built.stderr.splitlines() if not line.startswith("INFO")), file=sys.stderr)
    if built.returncode == 0:
        write_llms_txt(BUILD / "html")
    return built.returncode


if __name__ == "__main__":
    raise SystemExit(main())
