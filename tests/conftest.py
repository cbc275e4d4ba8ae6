"""What every test of the repository gets: three event loops, and the proof that nothing was left behind."""

from __future__ import annotations

import compileall
import gc
import re
import sys
from binascii import crc32
from collections import defaultdict
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

LOOPS = {"asyncio", "uvloop", "trio"}  # ids of parameters that are a loop
LOOP_PARAMETERS = {"anyio_backend", "loop", "runner"}  # names of parameters that are a loop

EVERY_LOOP = """every_loop: the test runs on asyncio, uvloop and trio. For tests of cancellation, of the opening and the end \
of a pool, of waiting callers, timers, sockets, threads and signals, because these are a loop's own. A test without this mark \
runs on one loop, which follows from its name and the version of Python"""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--loops",
        choices=["marked", "one", "all"],
        default="marked",
        help="asynchronous tests run on: every loop if they are marked `every_loop`, else one; one; or all loops",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Compile what workers import from this folder: where Python is told to write no bytecode, each of thousands of workers
    would compile it."""
    config.addinivalue_line("markers", EVERY_LOOP)
    if not hasattr(config, "workerinput"):  # xdist's workers find it compiled
        for source in (ROOT / "src", *ROOT.glob("plugins/*/src"), *ROOT.glob("docs/examples/*/src")):
            compileall.compile_dir(source, quiet=2)
        compileall.compile_dir(ROOT / "tests" / "process", quiet=2, rx=re.compile("/test_"))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave each test on the loops that `EVERY_LOOP` and `--loops` say."""
    loops = config.getoption("loops")
    if loops == "all":
        return
    variants: defaultdict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        if name := _name_without_loop(item, one_only=loops == "one"):
            variants[name].append(item)
    # another Python takes the next loop, so that all Pythons together see more of them
    chosen = {id(same[(crc32(name.encode()) + sys.version_info.minor) % len(same)]) for name, same in variants.items()}
    left_out = [item for same in variants.values() for item in same if id(item) not in chosen]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        gone = set(map(id, left_out))
        items[:] = [item for item in items if id(item) not in gone]


def _name_without_loop(item: pytest.Item, *, one_only: bool) -> str | None:
    """What the variants of a test on several loops have in common; None if it stays on all of its loops."""
    call: Any = getattr(item, "callspec", None)
    if call is None or LOOP_PARAMETERS.isdisjoint(call.params):
        return None
    names_loops = any(name in mark.args[0] for mark in item.iter_markers("parametrize") for name in LOOP_PARAMETERS)
    if not one_only and (names_loops or item.get_closest_marker("every_loop")):
        return None
    others = [part for part in call.id.split("-") if part not in LOOPS]
    return f"{item.nodeid.partition('[')[0]}{others}"


@pytest.fixture(scope="module", autouse=True)
def what_there_is_stays() -> None:
    """What earlier modules have left (imports, reports) stays: no collection of garbage in this one needs to look at it again.

    Each test collects garbage. After thousands of tests one collection would take 0.1 s.
    """
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
