"""Plugin code in the server is loaded in a thread, and its exceptions do not end the pool."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import anyio
import pytest

from offloop import Encoded, Pool
from offloop.errors import PluginError, PoolClosed
from offloop.operation import Estimate, Header, Operation, Plugin
from offloop.processor import Payload, Task, WorkerContext
from offloop.testing.faults import Echo, FaultsPlugin

pytestmark = pytest.mark.anyio

EXITS: list[type[BaseException]] = [SystemExit, GeneratorExit, KeyboardInterrupt, RuntimeError]


class Copy(Operation, frozen=True):
    pass


class ExitingPlugin(Plugin):
    """Raises what it is told to, where it is told to."""

    name = "exiting"
    operations = (Copy,)
    processor = f"{__name__}:Copier"
    raises: type[BaseException] = SystemExit
    where = "probe"

    def check(self, operations: Sequence[Operation]) -> None:
        self._reach("check")

    def probe(self, data: memoryview) -> Header | None:
        self._reach("probe")
        return Header(media_type="x/y", width=1, height=1)

    def estimate(self, header: Header | None, operations: Sequence[Operation], nbytes: int) -> Estimate | None:
        self._reach("estimate")
        return None

    def _reach(self, where: str) -> None:
        if where == ExitingPlugin.where:
            raise ExitingPlugin.raises("as ordered")


class QuickExitingPlugin(ExitingPlugin):
    quick = True


class Copier:
    def open(self, worker: WorkerContext) -> None:
        pass

    def run(self, payload: Payload, operations: Sequence[Operation], task: Task) -> Payload:
        return Encoded(bytes(payload.data))


@pytest.mark.parametrize("error", EXITS)
@pytest.mark.parametrize("where", ["probe", "estimate"])
async def test_whatever_a_probe_or_an_estimate_raises_in_its_thread_the_task_runs(
    anyio_backend: object, monkeypatch: pytest.MonkeyPatch, error: type[BaseException], where: str
) -> None:
    monkeypatch.setattr(ExitingPlugin, "raises", error)
    monkeypatch.setattr(ExitingPlugin, "where", where)
    async with Pool(1, plugins=[ExitingPlugin]) as pool:
        assert bytes(await pool.run(b"abc", [Copy()])) == b"abc"


@pytest.mark.parametrize("error", [error for error in EXITS if error is not KeyboardInterrupt])  # may be the user's, there
@pytest.mark.parametrize("where", ["probe", "estimate"])
async def test_whatever_a_quick_plugin_raises_on_the_loop_the_task_runs(
    anyio_backend: object, monkeypatch: pytest.MonkeyPatch, error: type[BaseException], where: str
) -> None:
    monkeypatch.setattr(ExitingPlugin, "raises", error)
    monkeypatch.setattr(ExitingPlugin, "where", where)
    async with Pool(1, plugins=[QuickExitingPlugin]) as pool:
        assert bytes(await pool.run(b"abc", [Copy()])) == b"abc"


@pytest.mark.parametrize("error", [SystemExit, RuntimeError])
async def test_a_check_that_raises_something_of_its_own_is_named(
    anyio_backend: object, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    monkeypatch.setattr(ExitingPlugin, "raises", error)
    monkeypatch.setattr(ExitingPlugin, "where", "check")
    async with Pool(1, plugins=[ExitingPlugin, FaultsPlugin]) as pool:
        with pytest.raises(PluginError, match=f"plugin 'exiting': its check raised {error.__name__}: as ordered"):
            await pool.run(b"abc", [Copy()])
        assert bytes(await pool.run(b"abc", [Echo()])) == b"abc"


async def test_a_probe_that_exits_is_named_by_the_pools_own_probe(
    anyio_backend: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ExitingPlugin, "raises", SystemExit)
    monkeypatch.setattr(ExitingPlugin, "where", "probe")
    async with Pool(1, plugins=[ExitingPlugin]) as pool:
        with pytest.raises(PluginError, match="plugin 'exiting': its probe raised SystemExit: as ordered"):
            await pool.probe(b"abc")


@pytest.mark.every_loop
async def test_plugins_are_imported_in_a_thread(anyio_backend: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = ModuleType("offloop_test_gate")
    gate.begun, gate.opened = threading.Event(), threading.Event()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "offloop_test_gate", gate)
    monkeypatch.syspath_prepend(str(tmp_path))  # pyright: ignore[reportUnknownMemberType]
    (tmp_path / "offloop_slow_import.py").write_text(
        "import offloop_test_gate as gate\n"
        "gate.begun.set()\n"
        "assert gate.opened.wait(20), 'the event loop stood still'\n"
        "from offloop.testing.faults import FaultsPlugin\n"
    )

    async def open_gate() -> None:
        while not gate.begun.is_set():
            await anyio.sleep(0.001)
        gate.opened.set()

    try:
        async with anyio.create_task_group() as task_group:
            task_group.start_soon(open_gate)
            async with Pool(1, plugins=["offloop_slow_import:FaultsPlugin"]):
                pass
    finally:
        sys.modules.pop("offloop_slow_import", None)


async def test_a_pool_cannot_be_entered_again_while_its_plugins_are_imported(anyio_backend: object) -> None:
    pool = Pool(1, plugins=[FaultsPlugin])
    second: list[BaseException] = []

    async def enter_again() -> None:
        try:
            await pool.__aenter__()
        except PoolClosed as error:
            second.append(error)

    async with anyio.create_task_group() as task_group:
        task_group.start_soon(enter_again)
        async with pool:
            await anyio.sleep(0)
    assert len(second) == 1
