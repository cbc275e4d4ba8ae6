"""What every test of the repository gets: three event loops, and the proof that nothing was left behind."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest

from offloop.testing import Surroundings

BACKENDS: list[Any] = [
    pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
    pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
    pytest.param(("trio", dict[str, Any]()), id="trio"),
]


@pytest.fixture(params=BACKENDS)
def anyio_backend(request: pytest.FixtureRequest) -> object:
    """Async tests run on each loop in turn."""
    return request.param


PURE = {"core", "wire", "property", "gates", "contract"}  # folders whose tests start nothing: looking costs more than they do


@pytest.fixture(autouse=True)
def nothing_is_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """After every test: no child process that was not there before, and no name in /dev/shm."""
    if PURE & set(request.path.parts):
        yield
        return
    before = Surroundings.now()
    yield
    gc.collect()
    before.assert_nothing_new()
