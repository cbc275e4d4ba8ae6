"""A program whose event loop ends before its pool is closed exits at once, leaves no worker, and shows its own error.

Each test runs a program of its own, because only the end of a process shows whether it comes.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from offloop.testing import Surroundings

LIMIT_S = 20.0  # a hang would be for ever; the machine may be busy
FORGOTTEN = "a pool was never left"

PROGRAM = """
import asyncio, os, sys, threading
import anyio
from contextlib import AsyncExitStack
from offloop import Pool, PoolClosed
from offloop.testing import Surroundings
from offloop.testing.faults import *

own_error = ValueError("the program's own error")

async def new_pool():
    pool = Pool(1, plugins=[FaultsPlugin])
    await pool.__aenter__()
    print((await pool.run(b"", [Inspect()])).info.pid, flush=True)
    return pool

async def serve(opened, operation=None):
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        print((await pool.run(b"", [Inspect()])).info.pid, flush=True)
        opened.set()
        if operation is not None:
            await pool.run(b"", [operation], timeout=None)
        await anyio.sleep_forever()

async def fail(opened):
    await opened.wait()
    raise own_error

BODY

def run(loop):
    if loop == "trio":
        import trio
        trio.run(main)
    elif loop == "anyio":
        anyio.run(main)
    elif loop == "uvloop":
        import uvloop
        uvloop.run(main())
    elif loop == "closed":  # as programs of old do: nothing is cancelled
        loop = asyncio.new_event_loop()
        try:
            loop.run_until_complete(main())
        finally:
            loop.close()
    elif loop == "stopped":
        asyncio.new_event_loop().run_until_complete(main())
    else:
        asyncio.run(main())

run(sys.argv[1])
print("after the loop", flush=True)
"""


class End(msgspec.Struct, frozen=True):
    """How a program ended."""

    code: int
    output: list[str]  # lines
    errors: str

    @property
    def pid(self) -> int:
        """The worker's."""
        return int(self.output[0])


def end_of(body: str, loop: str) -> End:
    """Run a program to its end, which must leave nothing behind."""
    before = Surroundings.now()
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM.replace("BODY", body), loop], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as program:
        try:
            output, errors = program.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            program.kill()
            pytest.fail(f"the program did not end; it said: {program.communicate()}")
    end = End(program.returncode, output.splitlines(), errors)
    assert not is_alive(end.pid)
    before.assert_nothing_new()
    return end


def is_alive(pid: int) -> bool:
    """Whether there is such a process that is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


FORGETS = {
    "raises": "await new_pool(); raise own_error",
    "returns": "await new_pool()",
    "exits": "await new_pool(); sys.exit(3)",
    "keeps it": "global kept; kept = await new_pool()",
    "holds a task": "pool = await new_pool(); asyncio.create_task(pool.run(b'', [Wait(60)])); await anyio.sleep(0.2)",
    "forgets a stack": (
        "global kept; kept = AsyncExitStack(); await kept.enter_async_context(Pool(1, plugins=[FaultsPlugin])); print(0)"
    ),
}


@pytest.mark.parametrize("loop", ["asyncio", "uvloop", "trio", "anyio", "closed", "stopped"])
@pytest.mark.parametrize("how", ["raises", "returns"])
def test_a_program_that_forgets_its_pool_ends_and_is_told_so(loop: str, how: str) -> None:
    end = end_of(f"async def main():\n    {FORGETS[how]}", loop)
    assert end.errors.count(FORGOTTEN) == 1
    if how == "raises":
        assert end.errors.rstrip().endswith("ValueError: the program's own error") or loop in {"closed", "stopped"}
        assert "ValueError: the program's own error" in end.errors
        assert end.code == 1
    else:
        assert (end.code, end.output[1:]) == (0, ["after the loop"])


@pytest.mark.parametrize("how", ["exits", "keeps it", "holds a task", "forgets a stack"])
def test_a_pool_is_forgotten_in_other_ways(how: str) -> None:
    end = end_of(f"async def main():\n    {FORGETS[how]}", "asyncio")
    assert end.errors.count(FORGOTTEN) == 1
    assert end.code == (3 if how == "exits" else 0)


BLOCKS = {
    "a sibling in gather fails": "await asyncio.gather(serve(opened), fail(opened))",
    "a sibling in gather fails while a task runs": "await asyncio.gather(serve(opened, Wait(100)), fail(opened))",
    "a sibling in gather fails while a task hangs": "await asyncio.gather(serve(opened, Hang('hold_gil')), fail(opened))",
    "a task is left": "kept = asyncio.create_task(serve(opened)); await opened.wait(); raise own_error",
    "the first of two tasks fails": (
        "tasks = [asyncio.create_task(serve(opened)), asyncio.create_task(fail(opened))];"
        " [failed], _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED); await failed"
    ),
    "a sibling in a group fails": (
        "async with asyncio.TaskGroup() as group: group.create_task(serve(opened)); group.create_task(fail(opened))"
    ),
    "a task was cancelled a moment ago": (
        "task = asyncio.create_task(serve(opened)); await opened.wait(); task.cancel(); raise own_error"
    ),
    "all tasks are cancelled": (
        "kept = asyncio.create_task(serve(opened)); await opened.wait()\n"
        "    others = asyncio.all_tasks() - {asyncio.current_task()}\n"
        "    for task in others: task.cancel()\n"
        "    await asyncio.gather(*others, return_exceptions=True)\n"
        "    raise own_error"
    ),
}


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("how", BLOCKS)
def test_a_loop_that_ends_inside_of_a_pools_block_ends_the_pool_without_a_warning(loop: str, how: str) -> None:
    end = end_of(f"async def main():\n    opened = asyncio.Event()\n    {BLOCKS[how]}", loop)
    assert "ValueError: the program's own error" in end.errors
    assert FORGOTTEN not in end.errors
    assert end.code == 1


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_callers_that_wait_when_the_pools_tasks_are_cancelled_get_their_one_outcome(loop: str) -> None:
    end = end_of(
        """
async def say(what, call):
    try:
        await call
    except PoolClosed:
        print(what, flush=True)

async def main():
    opened = asyncio.Event()
    async with Pool(1, plugins=[FaultsPlugin], memory_limit="4MiB") as pool:
        print((await pool.run(b"", [Inspect()])).info.pid, flush=True)
        foreign = asyncio.all_tasks() - {asyncio.current_task()}
        held = await pool.buffer(2 * 1024 * 1024).ready()
        calls = {
            "running": pool.run(b"", [Wait(60)], timeout=None),
            "waiting": pool.run(b"abc", [Wait(60)], timeout=None),  # or running, if one of the twelve is soon enough
            "for memory": pool.buffer(2 * 1024 * 1024).ready(),
            "for workers": pool.resize(12),  # their starts take several times as long as the pause below
        }
        tasks = [asyncio.create_task(say(what, call)) for what, call in calls.items()]
        await asyncio.sleep(0.1)
        for task in foreign:
            task.cancel()
        await asyncio.wait_for(asyncio.gather(*tasks), 10)
        try:
            await pool.run(b"", [Echo()])
        except PoolClosed:
            print("later")
        now = pool.statistics()
        print(now.submitted == now.completed + now.failed + now.cancelled + now.refused + now.worker_died, now.workers)
""",
        loop,
    )
    assert sorted(end.output[1:5]) == ["for memory", "for workers", "running", "waiting"]
    assert end.output[5:] == ["later", "True {}", "after the loop"]
    assert (end.code, FORGOTTEN in end.errors) == (0, False)


def test_one_cancelled_task_of_the_pool_is_enough_to_end_it() -> None:
    end = end_of(
        """
async def main():
    number = 0
    while True:
        async with Pool(1, plugins=[FaultsPlugin]) as pool:
            pid = (await pool.run(b"", [Inspect()])).info.pid
            foreign = sorted(asyncio.all_tasks() - {asyncio.current_task()}, key=lambda task: task.get_name())
            if number == len(foreign):
                break
            foreign[number].cancel()
            try:
                await asyncio.wait_for(pool.run(b"", [Wait(60)]), 10)
            except PoolClosed:
                number += 1
        assert not os.path.exists(f"/proc/{pid}")
    print(pid)
    print(number)
""",
        "asyncio",
    )
    assert end.code == 0, end.errors
    assert int(end.output[1]) >= 7, "its timer, its readers, its worker's tasks: each was cancelled in one of the pools"


GENERATOR = """
async def pools():
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        yield pool

async def main():
    global kept
    kept = pools()
    pool = await anext(kept)
    print((await pool.run(b"", [Inspect()])).info.pid, flush=True)
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop", "trio"])
def test_an_async_generator_that_is_never_finished_does_not_hold_up_the_end(loop: str) -> None:
    end = end_of(GENERATOR, loop)
    assert (end.code, end.output[1:]) == (0, ["after the loop"])
    assert end.errors.count(FORGOTTEN) == 1


def test_pools_in_several_loops_one_after_the_other_are_each_ended() -> None:
    end = end_of(
        """
async def main():
    await new_pool()

for _ in range(3):
    asyncio.run(main())
""",
        "asyncio",
    )
    assert end.errors.count(FORGOTTEN) == 4
    assert not any(is_alive(int(pid)) for pid in end.output[:4])


def test_a_pool_whose_loop_was_closed_is_ended_when_the_next_pool_is_entered() -> None:
    end = end_of(
        """
async def forget():
    await new_pool()

loop = asyncio.new_event_loop()
loop.run_until_complete(forget())
loop.close()

async def main():
    async with Pool(1, plugins=[FaultsPlugin]):
        print(len(Surroundings.now().children))
""",
        "asyncio",
    )
    assert end.output[1:] == ["1", "after the loop"]
    assert end.errors.count(FORGOTTEN) == 1


def test_an_interrupt_ends_a_program_whose_pool_another_task_has_entered() -> None:
    program = PROGRAM.replace(
        "BODY",
        """
async def main():
    opened = anyio.Event()
    server = asyncio.create_task(serve(opened, Wait(60)))
    await opened.wait()
    print("ready", flush=True)
    await anyio.sleep_forever()
""",
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, "asyncio"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        pid = int(server.stdout.readline())
        assert server.stdout.readline() == "ready\n"
        started = time.monotonic()
        server.send_signal(signal.SIGINT)
        try:
            _, errors = server.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            server.kill()
            pytest.fail("the server did not end")
        assert "KeyboardInterrupt" in errors
        assert time.monotonic() - started < LIMIT_S
    assert not is_alive(pid)
