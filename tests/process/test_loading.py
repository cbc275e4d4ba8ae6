"""Workers load their plugins before their first task: no task pays for a load, and a broken load costs its own plugin only."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from load_plugins import (
    Exits,
    ExitsPlugin,
    Good,
    GoodPlugin,
    Hangs,
    HangsPlugin,
    Raises,
    RaisesPlugin,
    Slow,
    SlowPlugin,
)

from offloop import PluginError, Pool

pytestmark = pytest.mark.anyio


async def test_a_load_that_takes_longer_than_a_tasks_timeout_costs_no_task(anyio_backend: object) -> None:
    async with Pool(2, plugins=[SlowPlugin], timeout=0.5) as pool:
        async with anyio.create_task_group() as task_group:
            for _ in range(4):
                task_group.start_soon(pool.run, b"abc", [Slow()])
        assert pool.statistics().completed == 4
        assert pool.statistics().worker_crashes == 0


@pytest.mark.parametrize(("plugin", "operation"), [(ExitsPlugin, Exits()), (HangsPlugin, Hangs())])
async def test_a_plugin_whose_load_ends_workers_is_switched_off_and_the_others_go_on(
    anyio_backend: object, plugin: Any, operation: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with Pool(2, plugins=[plugin, GoodPlugin], load_timeout=1.0) as pool:
        for _ in range(3):
            assert bytes(await pool.run(b"abc", [Good()])) == b"abc"
            with pytest.raises(PluginError, match="was switched off, because its load ended 2 workers") as caught:
                await pool.run(b"abc", [operation])
            assert caught.value.plugin == plugin.name
    assert any(f"plugin {plugin.name}: it was switched off" in record.getMessage() for record in caplog.records)


async def test_an_exception_in_a_load_fails_the_tasks_of_its_plugin_with_its_traceback(anyio_backend: object) -> None:
    async with Pool(1, plugins=[RaisesPlugin, GoodPlugin]) as pool:
        for _ in range(2):
            with pytest.raises(PluginError, match="SystemExit: no model") as caught:
                await pool.run(b"", [Raises()])
            assert caught.value.remote_traceback is not None
            assert "in open" in caught.value.remote_traceback
        assert bytes(await pool.run(b"abc", [Good()])) == b"abc"
        assert pool.statistics().worker_crashes == 0
