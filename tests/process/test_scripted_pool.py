"""A pool with scripted workers instead of processes: tasks, starts, protocol violations and time."""

from __future__ import annotations

import signal
from typing import Any

import anyio
import numpy as np
import pytest

from offloop import InvalidTask, PluginError, Pool, PoolClosed, TaskFailed, TaskTimeout, WorkerDied
from offloop.testing import Answer, Die, Refuse, ScriptedTask, Send, Stall, assert_nothing_left, scripted_pool
from offloop.testing.faults import Echo, FaultsPlugin, Noop
from offloop.testing.steps import Step
from offloop.wire.handles import OUTBOX, EncodedAt, Handle
from offloop.wire.messages import Done, Ready

pytestmark = pytest.mark.anyio

SETTINGS: dict[str, Any] = {"plugins": [FaultsPlugin], "memory_limit": "8MiB", "grace": 0.05}


async def test_a_script_has_one_step_for_each_task(anyio_backend: object) -> None:
    script = [Answer(b"a picture", {"width": 40}), Refuse("corrupt_source", "no end"), Refuse("invalid_task", "no"), Die(-9)]
    async with scripted_pool(script, **SETTINGS) as pool:
        result = await pool.run(b"anything", [Noop()])
        assert (bytes(result), result.info.width) == (b"a picture", 40)
        with pytest.raises(TaskFailed, match="no end"):
            await pool.run(b"", [Noop()])
        with pytest.raises(InvalidTask):
            await pool.run(b"", [Noop()])
        with pytest.raises(WorkerDied) as died:
            await pool.run(b"", [Noop()])
        assert died.value.signal is signal.SIGKILL
        with pytest.raises(TaskFailed, match=r"script_over.*no step for task"):
            await pool.run(b"", [Noop()])
        del result
    assert_nothing_left(pool)


async def test_samples_make_an_array(anyio_backend: object) -> None:
    async with scripted_pool([Answer(bytes(range(24)), shape=(2, 4, 3))], **SETTINGS) as pool:
        array = (await pool.run(b"", [Noop()])).array()
        assert array.shape == (2, 4, 3)
        assert np.array_equal(array.ravel(), np.arange(24))


async def test_an_answer_that_no_processor_may_return_is_the_plugins_error(anyio_backend: object) -> None:
    async with scripted_pool([Answer(b"abc", shape=(2, 2)), Answer(b"", {"a": object()})], **SETTINGS) as pool:
        with pytest.raises(PluginError, match="does not fill"):
            await pool.run(b"", [Noop()])
        with pytest.raises(PluginError, match="cannot be sent"):
            await pool.run(b"", [Noop()])
        assert pool.statistics().worker_starts == 1


async def test_a_function_sees_source_operations_and_slot(anyio_backend: object) -> None:
    seen: list[ScriptedTask] = []

    def script(task: ScriptedTask) -> Step:
        seen.append(task)
        return Answer(task.source[::-1])

    async with scripted_pool(script, workers=2, **SETTINGS) as pool:
        assert bytes(await pool.run(b"abc", [Echo(), Noop()])) == b"cba"
    (task,) = seen
    assert (task.source, task.operations) == (b"abc", [Echo(), Noop()])
    assert task.slot in (0, 1)


async def test_a_script_that_raises_is_a_worker_that_died_of_it(anyio_backend: object) -> None:
    def script(task: ScriptedTask) -> Step:
        raise ValueError("as scripted")

    async with scripted_pool(script, **SETTINGS) as pool:
        with pytest.raises(WorkerDied, match="ValueError: as scripted"):
            await pool.run(b"", [Noop()])


async def test_a_task_that_had_not_begun_is_given_to_another_worker_once(anyio_backend: object) -> None:
    script = [Die(-9, begun=False), Answer(b"second"), Die(-9, begun=False), Die(-9, begun=False)]
    async with scripted_pool(script, **SETTINGS) as pool:
        assert bytes(await pool.run(b"", [Noop()])) == b"second"
        with pytest.raises(WorkerDied):
            await pool.run(b"", [Noop()])


async def test_starts_can_go_wrong(anyio_backend: object) -> None:
    async with scripted_pool([Answer(b"at last")], starts=[Die(3, stderr="no such library"), Die(-11)], **SETTINGS) as pool:
        assert bytes(await pool.run(b"", [Noop()])) == b"at last"
        assert pool.statistics().worker_starts == 3
    with pytest.raises(WorkerDied, match=r"code 3 during its start\n.*\nno such library"):
        async with scripted_pool([], starts=[Die(3, stderr="no such library")] * 3, **SETTINGS):
            pytest.fail("the pool was opened")


async def test_a_start_that_takes_too_long_is_killed(anyio_backend: object) -> None:
    async with scripted_pool([Answer(b"at last")], starts=[Stall(obey=False)], start_timeout=0.1, **SETTINGS) as pool:
        assert bytes(await pool.run(b"", [Noop()])) == b"at last"


@pytest.mark.parametrize(
    ("lie", "reason"),
    [
        (Done(99, EncodedAt(None), {}, 1, 2), "answered for task 99"),
        (Done(1, EncodedAt(Handle(OUTBOX, 4096, 10, 77)), {}, 1, 2), "a block that it does not hold"),
        (Ready(1), "Ready before Loading, or twice"),
        (b"\xff\xff\xff\xff", "was announced"),
        (b"\x01\x00\x00\x00\xc1", "undecodable"),
    ],
)
async def test_a_worker_that_lies_is_killed(anyio_backend: object, lie: Any, reason: str) -> None:
    async with scripted_pool([Send((lie,)), Answer(b"the truth")], **SETTINGS) as pool:
        with pytest.raises(WorkerDied, match=reason):
            await pool.run(b"", [Noop()])
        assert bytes(await pool.run(b"", [Noop()])) == b"the truth"


async def test_a_pool_closes_while_its_scripts_stall(anyio_backend: object) -> None:
    async def run(pool: Pool) -> None:
        with pytest.raises(PoolClosed):
            await pool.run(b"", [Noop()])

    pool = scripted_pool([Stall(), Stall(obey=False)], workers=2, **SETTINGS)
    async with anyio.create_task_group() as tasks:
        async with pool:
            for _ in range(2):
                tasks.start_soon(run, pool)
            await anyio.wait_all_tasks_blocked()
    assert_nothing_left(pool)


def test_on_trio_a_pool_lives_by_a_mock_clock() -> None:
    import trio
    import trio.testing

    clock = trio.testing.MockClock()

    async def main() -> None:
        async with scripted_pool([Stall()], timeout=3600.0, **SETTINGS) as pool, trio.open_nursery() as nursery:

            async def run() -> None:
                with pytest.raises(TaskTimeout) as timeout:
                    await pool.run(b"", [Noop()])
                assert timeout.value.obeyed

            nursery.start_soon(run)
            await trio.testing.wait_all_tasks_blocked()
            assert pool.statistics().running == 1
            clock.jump(3601)

    trio.run(main, clock=clock)
