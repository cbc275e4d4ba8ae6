"""Worker groups: a group on demand starts with its first task, leaves when idle, and concerns no other group."""

from __future__ import annotations

import os
from collections.abc import Callable

import anyio
import pytest
from load_plugins import Exits, Good, GoodPlugin
from model_plugin import Classify, Crash, ExitsInGroupPlugin, ModelPlugin
from second_plugin import Greet, GreetingPlugin

from offloop import GroupStatistics, InvalidTask, PluginError, Pool, WorkerDied, WorkerGroup

pytestmark = pytest.mark.anyio


async def until(pool: Pool, group: str, what: Callable[[GroupStatistics], bool]) -> None:
    """Return when the statistics of a group are as wanted. They change only with an event."""
    reader = pool.events()
    with anyio.fail_after(20):
        while not what(pool.statistics().groups[group]):
            await anext(reader)
    reader.close()


async def test_a_group_on_demand_starts_with_its_first_task_and_leaves_when_it_was_idle(anyio_backend: object) -> None:
    async with Pool(1, plugins=[GoodPlugin, ModelPlugin], idle_timeout=0.2) as pool:
        assert pool.statistics().groups["models"].workers == {}
        assert bytes(await pool.run(b"abc", [Classify()])) == b"abc"
        assert pool.statistics().groups["models"].workers == {"idle": 1}
        await until(pool, "models", lambda group: group.workers == {})
        assert pool.statistics().workers == {"idle": 1}, "the default group has a fixed number of workers"


async def test_a_crash_in_a_group_leaves_the_others_untouched(anyio_backend: object) -> None:
    async with Pool(1, plugins=[GoodPlugin, ModelPlugin]) as pool:
        # a pipeline of two plugins runs in one worker, which has both of them
        assert bytes(await pool.run(b"abc", [Good(), Classify(), Good()])) == b"abc"
        with pytest.raises(WorkerDied) as died:
            await pool.run(b"", [Crash()])
        assert died.value.exit_code == 5
        assert bytes(await pool.run(b"abc", [Good()])) == b"abc"
        groups = pool.statistics().groups
        assert (groups["models"].crashes, groups["default"].crashes, groups["default"].starts) == (1, 0, 1)


async def test_the_settings_of_a_group_have_their_effect_in_its_workers(anyio_backend: object) -> None:
    group = WorkerGroup("models", workers=1, nice=3, max_tasks=1, environment={"MARK": "of the group"})
    own = os.getpriority(os.PRIO_PROCESS, 0)
    async with Pool(1, plugins=[GoodPlugin, ModelPlugin], nice=1, environment={"MARK": "of the pool"}, groups=[group]) as pool:
        first, second = [(await pool.run(b"", [Classify()])).info for _ in range(2)]
        assert first.pid != second.pid, "a worker of this group has one task"
        assert (first.nice, first.mark) == (min(own + 3, 19), "of the group")
        await pool.resize(2, group="models")
        assert pool.statistics().groups["models"].desired == 2
        with pytest.raises(ValueError, match="the pool's groups are 'default', 'models'"):
            await pool.resize(2, group="small")


async def test_a_group_whose_workers_cannot_start_fails_its_own_tasks_with_the_reason(anyio_backend: object) -> None:
    broken = WorkerGroup("models", max_workers=1, environment={"PYTHONHOME": "/nowhere"})
    async with Pool(1, plugins=[GoodPlugin, ModelPlugin], groups=[broken]) as pool:
        with pytest.raises(WorkerDied) as died:
            await pool.run(b"", [Classify()])
        assert "encodings" in "".join(died.value.__notes__), "what the interpreter has written"
        assert bytes(await pool.run(b"abc", [Good()])) == b"abc"
        groups = pool.statistics().groups
        assert (groups["models"].start_failures >= 3, groups["default"].start_failures) == (True, 0)


async def test_a_plugin_that_is_switched_off_is_switched_off_in_its_group(anyio_backend: object) -> None:
    async with Pool(1, plugins=[GoodPlugin, ModelPlugin, ExitsInGroupPlugin]) as pool:
        with pytest.raises(PluginError, match="its load ended 2 workers"):
            await pool.run(b"", [Exits()])
        assert bytes(await pool.run(b"abc", [Classify()])) == b"abc", "the other plugin of the group goes on"
        groups = pool.statistics().groups
        assert (set(groups["models"].switched_off), groups["default"].switched_off) == ({"exits"}, {})


async def test_a_pipeline_that_no_group_can_run_is_refused_with_the_plugins_of_each_group(anyio_backend: object) -> None:
    plugins = [GoodPlugin, GreetingPlugin, ModelPlugin]
    async with Pool(1, plugins=plugins, groups=[WorkerGroup("both", plugins=["good", "greeting"], workers=1)]) as pool:
        with pytest.raises(InvalidTask, match=r"'default' has good, \w+; 'both' has good, \w+; 'models' has good, model"):
            await pool.run(b"", [Greet(), Classify()])
        assert pool.statistics().submitted == 0


async def test_a_group_that_needs_an_unknown_plugin_is_refused_when_the_pool_is_entered(anyio_backend: object) -> None:
    pool = Pool(1, plugins=[GoodPlugin], groups=[WorkerGroup("models", plugins=["model"])])
    with pytest.raises(PluginError, match="the worker group 'models' needs it, and the pool has: good"):
        await pool.__aenter__()
