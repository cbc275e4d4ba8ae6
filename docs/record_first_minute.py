"""Records the picture at the top of the README: `offloop convert` in a terminal, then the same folder on the page.

    python docs/record_first_minute.py

Writes docs/pictures/first-minute.webp. Requires the extra `docs`, the distributions of this repository, and Chromium.
"""

from __future__ import annotations

import fcntl
import html
import io
import os
import pty
import shutil
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyte
from PIL import Image
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
PHOTOS = ROOT / "docs" / "photos"
TARGET = ROOT / "docs" / "pictures" / "first-minute.webp"

COLUMNS, ROWS = 92, 18
WIDTH, HEIGHT = 820, 460
FRAME_MS, LAST_MS = 220, 2500  # how long the animation shows a picture, and the last one of a scene
MIN_INTERVAL_S = 0.15  # between two pictures of the terminal
SETTLE_MS = 500  # until the last previews are drawn
COMMAND = ["convert", "photos", "--out", "small", "--to", "webp", "--resize", "400"]
STYLE = (
    "body { margin: 0; background: #16181d; color: #e6e6e6 } b { color: #7fd1b9 }"
    "pre { margin: 16px; font: 14px/1.35 'DejaVu Sans Mono', monospace }"
)


def terminal_frames(folder: Path) -> Iterator[str]:
    """The screen of a terminal at each moment of a conversion, as text."""
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    command = [sys.executable, "-m", "offloop.cli", *COMMAND]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": str(COLUMNS), "LINES": str(ROWS)}
    with subprocess.Popen(command, cwd=folder, stdin=child, stdout=child, stderr=child, env=environment) as process:
        os.close(child)
        shown = time.monotonic()
        while True:
            try:
                data = os.read(parent, 4096)
            except OSError:  # the program has ended
                break
            if not data:
                break
            stream.feed(data)
            if time.monotonic() - shown > MIN_INTERVAL_S:
                shown = time.monotonic()
                yield text_of(screen)
        os.close(parent)
        if process.wait():
            sys.exit(text_of(screen))
    yield text_of(screen)


def text_of(screen: pyte.Screen) -> str:
    """The text on a screen."""
    return "\n".join(line.rstrip() for line in screen.display).rstrip()


def record_terminal(page: Page, folder: Path) -> Iterator[bytes]:
    """Pictures of the conversion."""
    page.set_content(f"<style>{STYLE}</style><pre></pre>")
    prompt = f"<b>$</b> offloop {html.escape(' '.join(COMMAND))}"
    for text in ("", *terminal_frames(folder)):
        page.eval_on_selector("pre", "(pre, text) => { pre.innerHTML = text }", f"{prompt}\n{html.escape(text)}")
        yield page.screenshot()


def record_page(page: Page, folder: Path) -> Iterator[bytes]:
    """Pictures of the page while it converts the same folder."""
    command = [sys.executable, "-m", "offloop.cli", "page", "--port", "0", "--workers", "2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            page.goto(process.stdout.readline().strip())
            yield page.screenshot()
            count = len(list((folder / "photos").iterdir()))
            page.locator("#folder-input").set_input_files(folder / "photos")
            page.locator("file-row").first.wait_for()
            text = ""
            while f"{count} of {count} done" not in text:
                text = page.locator("#totals-text").inner_text()
                page.locator("#totals-text").evaluate("text => text.scrollIntoView({ block: 'start' })")
                yield page.screenshot()
            page.wait_for_timeout(SETTLE_MS)
            yield page.screenshot()
        finally:
            process.terminate()


def main() -> None:
    """Record both, and write one animation."""
    with sync_playwright() as playwright, TemporaryDirectory() as scratch:
        folder = Path(scratch)
        shutil.copytree(PHOTOS, folder / "photos", ignore=shutil.ignore_patterns("*.md"))
        flags = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="dark")
        scenes = [list(record_terminal(page, folder)), list(record_page(page, folder))]
        browser.close()
    pictures, durations = list[Image.Image](), list[int]()
    for scene in scenes:
        kept = [picture for index, picture in enumerate(scene) if index == 0 or picture != scene[index - 1]]
        pictures += [Image.open(io.BytesIO(picture)).convert("RGB") for picture in kept]
        durations += [*([FRAME_MS] * (len(kept) - 1)), LAST_MS]
    options: dict[str, Any] = {"quality": 70, "method": 4, "minimize_size": True, "loop": 0}
    pictures[0].save(TARGET, save_all=True, append_images=pictures[1:], duration=durations, **options)
    print(f"{TARGET}: {len(pictures)} pictures, {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
