"""What every test of the repository gets: three event loops, and the proof that nothing was left behind."""

from __future__ import annotations

import compileall
import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from offloop.testing import Surroundings

ROOT = Path(__file__).parents[1]

BACKENDS: list[Any] = [
    pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
    pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
    pytest.param(("trio", dict[str, Any]()), id="trio"),
]


def pytest_configure(config: pytest.Config) -> None:
    """Compile what is installed to be edited: where Python is told to write no bytecode, each of thousands of workers would."""
    if not hasattr(config, "workerinput"):  # xdist's workers find it compiled
        for source in (ROOT / "src", *ROOT.glob("plugins/*/src"), *ROOT.glob("docs/examples/*/src")):
            compileall.compile_dir(source, quiet=2)


def pytest_collection_finish() -> None:
    """What was collected and imported stays: no collection of garbage after it needs to look at it again."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """A search for references at the end (Hypothesis does one, if it is loaded) must find all objects."""
    gc.unfreeze()


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
