"""Counts the modules of a package in which any function runs, in all threads of this process.

As a script, it prints the modules that one run of a picture enters: python tests/process/entered_modules.py
"""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import anyio
import pyvips

import offloop
from offloop import Pool
from offloop_vips import Resize, Webp

_RUNS = 6


class EnteredModules:
    """Counts calls of Python functions by module, while it is active.

    It must be installed before the threads start that it should see, because a thread gets its profile function at its start.
    """

    def __init__(self, package: Path) -> None:
        self._package = package
        self._prefix = f"{package}/"
        self._active = False
        self.calls: Counter[str] = Counter()
        """Calls by module, below the package: "core/pool_state"."""

        self.passes: list[str] = []
        """The modules in the order in which they were entered, without repetitions in a row."""

    @contextmanager
    def installed(self) -> Generator[None]:
        """Installs the profile function in this thread, and in the threads that start in the block."""
        threading.setprofile(self._profile)
        sys.setprofile(self._profile)
        try:
            yield
        finally:
            sys.setprofile(None)
            threading.setprofile(None)

    @contextmanager
    def counting(self) -> Generator[None]:
        """Counts the calls in the block."""
        self._active = True
        try:
            yield
        finally:
            self._active = False

    def take(self) -> EnteredModules:
        """Returns the counts, and starts again from zero."""
        taken = EnteredModules(self._package)
        taken.calls, self.calls = self.calls, taken.calls
        taken.passes, self.passes = self.passes, taken.passes
        return taken

    def _profile(self, frame: FrameType, event: str, _argument: object) -> None:
        if not self._active or event != "call":
            return
        name = frame.f_code.co_filename
        if name.startswith(self._prefix):
            module = name.removeprefix(self._prefix).removesuffix(".py")
            self.calls[module] += 1
            if not self.passes or self.passes[-1] != module:
                self.passes.append(module)


def modules_of_a_run() -> EnteredModules:
    """Runs a JPEG picture through Resize and Webp, and counts the modules of offloop from `pool.run` to its result.

    Of several runs, the one with the fewest modules counts. The first run also fills caches and reserves pages, and work of the
    background may fall into any run.
    """
    entered = EnteredModules(Path(offloop.__file__).parent)
    pipeline = [Resize(200), Webp()]
    picture: bytes = pyvips.Image.black(800, 600, bands=3).copy(interpretation="srgb").jpegsave_buffer()
    found: list[EnteredModules] = []

    async def main() -> None:
        async with Pool(1, plugins=["vips"]) as pool:
            for _ in range(_RUNS):
                with entered.counting():
                    result = await pool.run(picture, pipeline)
                assert result.info.media_type == "image/webp"
                del result
                found.append(entered.take())

    with entered.installed():
        anyio.run(main)
    return min(found, key=lambda run: len(run.calls))


if __name__ == "__main__":
    found = modules_of_a_run()
    for name, calls in sorted(found.calls.items()):
        print(f"{calls:4} {name}")  # noqa: T201 (the report of this script)
    print(f"{len(found.calls)} modules, entered {len(found.passes)} times")  # noqa: T201
