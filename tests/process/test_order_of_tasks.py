"""Order of tasks with real workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from offloop import Pool
from offloop.testing.faults import Echo, FaultsPlugin, HoldOn, Noop

pytestmark = pytest.mark.anyio


class Log:
    """In which order tasks ended."""

    def __init__(self) -> None:
        self.ended: list[str] = []

    async def run(self, pool: Pool, name: str, source: bytes, **more: object) -> None:
        await pool.run(source, [Echo()], **more)  # pyright: ignore[reportArgumentType]
        self.ended.append(name)


async def test_small_work_goes_before_large_work_that_came_first(tmp_path: Path, anyio_backend: object) -> None:
    log, hold = Log(), tmp_path / "hold"
    async with Pool(1, plugins=[FaultsPlugin], memory_limit="512MiB") as pool, anyio.create_task_group() as task_group:
        task_group.start_soon(pool.run, b"", [HoldOn(str(hold))])
        await anyio.wait_all_tasks_blocked()
        task_group.start_soon(log.run, pool, "large", bytes(16 << 20))
        while pool.statistics().waiting_by_tenant != {"": 1}:
            await anyio.sleep(0.001)
        for number in range(3):
            task_group.start_soon(log.run, pool, f"small {number}", b"abc")
        while pool.statistics().waiting_by_tenant != {"": 4}:
            await anyio.sleep(0.001)
        hold.touch()
    assert sorted(log.ended[:3]) == ["small 0", "small 1", "small 2"]
    assert log.ended[3:] == ["large"]


async def test_a_higher_class_goes_first_and_tenants_take_turns(tmp_path: Path, anyio_backend: object) -> None:
    log, hold = Log(), tmp_path / "hold"
    async with Pool(1, plugins=[FaultsPlugin]) as pool, anyio.create_task_group() as task_group:
        task_group.start_soon(pool.run, b"", [HoldOn(str(hold))])
        await anyio.wait_all_tasks_blocked()
        for number in range(40):
            task_group.start_soon(lambda number=number: log.run(pool, f"crowd {number}", b"abc", tenant="crowd"))
        task_group.start_soon(lambda: log.run(pool, "urgent", b"abc", tenant="crowd", priority=1))
        task_group.start_soon(lambda: log.run(pool, "other", b"abc", tenant="other"))
        await anyio.wait_all_tasks_blocked()
        assert pool.statistics().waiting_by_tenant == {"crowd": 41, "other": 1}
        hold.touch()
    assert log.ended.index("urgent") < log.ended.index("crowd 0")
    assert log.ended.index("other") < 25, "it did not wait for the crowd"
    assert len(log.ended) == 42


async def test_a_class_or_tenant_that_makes_no_sense_is_refused(pool: Pool) -> None:
    nonsense: list[tuple[dict[str, Any], str]] = [
        ({"priority": 11}, "priority=11: must be from -10 to 10"),
        ({"priority": 0.5}, "priority=0.5: must be a whole number"),
        ({"tenant": 5}, "tenant=5: must be text"),
        ({"tenant": "x" * 257}, "257 characters; at most 256"),
    ]
    for more, text in nonsense:
        with pytest.raises((ValueError, TypeError), match=text):
            await pool.run(b"", [Noop()], **more)
