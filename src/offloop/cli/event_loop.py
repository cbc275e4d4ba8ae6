"""The event loop of the commands: uvloop if it is installed, else asyncio's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TypeVar

import anyio

__all__ = ["name_of_loop", "run_in_loop"]

Returned = TypeVar("Returned")


def run_in_loop(main: Callable[[], Awaitable[Returned]]) -> Returned:
    """Run `main` in a new event loop. Returns its result."""
    return anyio.run(main, backend_options={"use_uvloop": _has_uvloop()})


def name_of_loop() -> str:
    """Returns the name of the loop, with the version of uvloop."""
    if not _has_uvloop():
        return "asyncio"
    try:
        return f"uvloop {version('uvloop')}"
    except PackageNotFoundError:
        return "uvloop"


def _has_uvloop() -> bool:
    return find_spec("uvloop") is not None
