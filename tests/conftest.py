"""What every test of the repository gets: three event loops, and the proof that nothing was left behind."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

SHARED_MEMORY = Path("/dev/shm")

BACKENDS: list[Any] = [
    pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
    pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
    pytest.param(("trio", dict[str, Any]()), id="trio"),
]


@pytest.fixture(params=BACKENDS)
def anyio_backend(request: pytest.FixtureRequest) -> object:
    """Async tests run on each loop in turn."""
    return request.param


def children() -> set[str]:
    """The living or unreaped children of this process, but for the resource tracker, which the standard library keeps."""
    found: set[str] = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            command = (entry / "cmdline").read_text().replace("\0", " ")
        except (OSError, ValueError):
            continue  # it ended while we looked
        if parent == os.getpid() and "resource_tracker" not in command:
            found.add(f"{entry.name} {command}")
    return found


def shared_memory() -> set[str]:
    """The names in /dev/shm."""
    return {entry.name for entry in SHARED_MEMORY.iterdir()}


PURE = {"core", "wire", "property", "gates", "contract"}  # folders whose tests start nothing: looking costs more than they do


@pytest.fixture(autouse=True)
def nothing_is_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """After every test: no child process that was not there before, and no name in /dev/shm."""
    if PURE & set(request.path.parts):
        yield
        return
    children_before, names_before = children(), shared_memory()
    yield
    gc.collect()
    assert children() - children_before == set()
    names = shared_memory() - names_before
    deadline = monotonic() + 1.0
    while names and monotonic() < deadline:  # a name that another process of the machine makes and unlinks is none of ours
        names &= shared_memory()
    assert names == set()
