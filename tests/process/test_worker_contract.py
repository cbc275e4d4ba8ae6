"""Contract of `LaunchedWorker`: a process, a process behind a socket that splits all frames, a scripted thread."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from offloop import MemoryLimitExceeded, Operation, Pool, TaskFailed, TaskTimeout, WorkerDied
from offloop.testing import Answer, Die, Refuse, ScriptedTask, Stall, Traffic, Transport, pool_with, scripted_pool
from offloop.testing.faults import Allocate, Echo, Exit, FaultsPlugin, Hang, Kill, Raise, Wait, WriteStderr
from offloop.testing.scripted import ScriptLauncher
from offloop.testing.steps import Step

pytestmark = pytest.mark.anyio


STEPS: dict[type[Operation], Callable[[Any, ScriptedTask], Step]] = {
    Echo: lambda _, task: Answer(task.source, {"media_type": "application/octet-stream"}),
    Allocate: lambda operation, _: Answer(b"\x01" * operation.nbytes),
    Raise: lambda _, __: Refuse("refused", "as ordered"),
    Exit: lambda operation, task: Die(operation.code, stderr="e" * sum(getattr(o, "nbytes", 0) for o in task.operations)),
    Kill: lambda operation, _: Die(-operation.signal),
    Wait: lambda _, __: Stall(),
    Hang: lambda _, __: Stall(obey=False),
}


def act(task: ScriptedTask) -> Step:
    """Returns the step that does what the faults' processor does."""
    return STEPS[type(task.operations[-1])](task.operations[-1], task)


LOOPS: dict[str, tuple[str, dict[str, Any]]] = {
    "asyncio": ("asyncio", {"use_uvloop": False}),
    "uvloop": ("asyncio", {"use_uvloop": True}),
    "trio": ("trio", {}),
}
WORKERS = [
    *(pytest.param((kind, loop), id=f"{kind}-{name}") for kind in ("process", "scripted") for name, loop in LOOPS.items()),
    pytest.param(("split", LOOPS["uvloop"]), id="split-uvloop"),
    pytest.param(("scripted and split", LOOPS["trio"]), id="scripted and split-trio"),
]


@pytest.fixture(params=WORKERS)
def kind_and_loop(request: pytest.FixtureRequest) -> tuple[str, object]:
    return request.param


@pytest.fixture
def anyio_backend(kind_and_loop: tuple[str, object]) -> object:
    return kind_and_loop[1]


@pytest.fixture
async def pool(kind_and_loop: tuple[str, object], offloop_pool_factory: Callable[..., Awaitable[Pool]]) -> Pool:
    # because a worker that stops when told to needs a millisecond, and a hundred on a busy machine
    settings: dict[str, Any] = {"plugins": [FaultsPlugin], "memory_limit": "16MiB", "grace": 0.5}
    few_bytes = Traffic(split_nbytes=7)
    match kind_and_loop[0]:
        case "process":
            return await offloop_pool_factory(2, **settings)
        case "split":
            return await offloop_pool_factory(pool_with(Transport(to_worker=few_bytes, from_worker=few_bytes), 2, **settings))
        case "scripted":
            return await offloop_pool_factory(scripted_pool(act, workers=2, **settings))
        case _:
            transport = Transport(to_worker=few_bytes, from_worker=few_bytes, launcher=ScriptLauncher(act))
            return await offloop_pool_factory(pool_with(transport, 2, **settings))


async def test_a_source_comes_back_unchanged(pool: Pool) -> None:
    data = bytes(range(256)) * 12_000
    for nbytes in [0] * 3 + [1] * 3 + [300_000] * 3 + [3_000_000] * 3:
        result = await pool.run(data[:nbytes], [Echo()])
        assert bytes(result) == data[:nbytes]
        assert result.info.media_type == "application/octet-stream"
        assert result.timings.queued <= result.timings.started <= result.timings.finished


async def test_a_result_can_be_a_source(pool: Pool) -> None:
    first = await pool.run(b"abc" * 1000, [Echo()])
    assert bytes(await pool.run(first, [Echo()])) == b"abc" * 1000


async def test_a_result_can_go_to_a_file(pool: Pool, tmp_path: Path) -> None:
    result = await pool.run(b"abc", [Echo()], to=tmp_path / "out")
    assert (result.nbytes, [path.name for path in tmp_path.iterdir()]) == (3, ["out"])
    assert (tmp_path / "out").read_bytes() == b"abc"


async def test_many_tasks_share_two_workers(pool: Pool) -> None:
    async def echo(number: int) -> None:
        assert bytes(await pool.run(b"%d" % number * 50, [Echo()])) == b"%d" % number * 50

    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(echo, number)
    assert pool.statistics().completed == 20


async def test_a_failed_task_has_its_code(pool: Pool) -> None:
    with pytest.raises(TaskFailed) as failed:
        await pool.run(b"", [Raise("task_failed")])
    assert (failed.value.code, failed.value.message) == ("refused", "as ordered")
    assert pool.statistics().worker_starts == 2


async def test_a_crash_has_its_exit_code_and_its_output(pool: Pool) -> None:
    with pytest.raises(WorkerDied) as died:
        await pool.run(b"", [WriteStderr(10), Exit(3)])
    assert (died.value.exit_code, died.value.signal, died.value.running) == (3, None, "faults (WriteStderr, Exit)")
    assert died.value.stderr_tail == "e" * 10
    with pytest.raises(WorkerDied) as died:
        await pool.run(b"", [Kill(signal.SIGKILL)])
    assert died.value.signal is signal.SIGKILL
    assert bytes(await pool.run(b"abc", [Echo()])) == b"abc"


async def test_a_worker_that_stops_when_told_to_is_kept(pool: Pool) -> None:
    with pytest.raises(TaskTimeout) as timeout:
        await pool.run(b"", [Wait(60)], timeout=0.05)
    assert (timeout.value.obeyed, pool.statistics().worker_starts) == (True, 2)
    assert bytes(await pool.run(b"abc", [Echo()])) == b"abc"


async def test_a_worker_that_does_not_stop_is_killed(pool: Pool) -> None:
    with pytest.raises(TaskTimeout) as timeout:
        await pool.run(b"", [Hang()], timeout=0.05)
    assert (timeout.value.obeyed, pool.statistics().worker_starts) == (False, 3)
    assert bytes(await pool.run(b"abc", [Echo()])) == b"abc"


async def test_a_cancelled_call_stops_its_task(pool: Pool) -> None:
    with anyio.move_on_after(0.05):
        await pool.run(b"", [Wait(60)])
    assert pool.statistics().cancelled == 1
    assert bytes(await pool.run(b"abc", [Echo()])) == b"abc"


async def test_a_result_above_the_memory_limit_is_refused(pool: Pool) -> None:
    with pytest.raises(MemoryLimitExceeded) as refused:
        await pool.run(b"", [Allocate(20_000_000)])
    assert refused.value.asked_bytes == 20_000_000
    assert bytes(await pool.run(b"abc", [Echo()])) == b"abc"
