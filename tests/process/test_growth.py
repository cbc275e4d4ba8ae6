"""No table of the server grows with the number of finished tasks."""

from __future__ import annotations

import gc
import os
import sys

import anyio
import pytest

from offloop import Pool, TaskFailed
from offloop.testing.faults import Echo, FaultsPlugin, Noop, Raise

pytestmark = pytest.mark.anyio

TASKS = 3000
ROUNDS = 4
ONE_OF_THE_RAREST_KIND = TASKS // 20  # a block for each task of one of the kinds below
AT_A_TIME = 8


async def one_of_each_kind(pool: Pool, number: int) -> None:
    """Mostly no-ops; now and then a result, a buffer, a failure and a caller who leaves."""
    match number % 20:
        case 1:
            bytes(await pool.run(bytes(5000), [Echo()]))
        case 2:
            buffer = await pool.buffer(5000).ready()
            buffer.view[:4] = b"some"
            await pool.run(buffer, [Echo()])
        case 3:
            with pytest.raises(TaskFailed):
                await pool.run(b"abc", [Raise()])
        case 4:
            with anyio.CancelScope() as scope:
                scope.cancel()
                await pool.run(b"abc", [Echo()])
        case _:
            await pool.run(b"", [Noop()])


async def work(pool: Pool, tasks: int) -> None:
    async def some(first: int) -> None:
        for number in range(first, tasks, AT_A_TIME):
            await one_of_each_kind(pool, number)

    async with anyio.create_task_group() as task_group:
        for first in range(AT_A_TIME):
            task_group.start_soon(some, first)


async def until_settled(pool: Pool) -> None:
    """Wait until no worker is replaced, which happens after several failures in a row."""
    with anyio.fail_after(20):
        while pool.statistics().workers != {"idle": 2}:
            await anyio.sleep(0.005)


def size() -> tuple[int, int]:
    """Blocks that Python's allocator has given out, which is exact where pages of memory are coarse; and descriptors."""
    gc.collect()
    return sys.getallocatedblocks(), len(os.listdir("/proc/self/fd"))


async def test_nothing_grows_with_the_number_of_tasks(anyio_backend: object) -> None:
    growths: list[int] = []
    async with Pool(2, plugins=[FaultsPlugin], memory_limit="64MiB") as pool:
        await work(pool, TASKS)
        await until_settled(pool)
        blocks, descriptors_before = size()
        # what a task leaves behind is left by each round; what Python and its libraries keep once for themselves is not
        while not growths or (len(growths) < ROUNDS and growths[-1] >= ONE_OF_THE_RAREST_KIND):
            await work(pool, TASKS)
            await until_settled(pool)
            blocks_before, (blocks, descriptors) = blocks, size()
            growths.append(blocks - blocks_before)
            assert descriptors == descriptors_before
        leases = pool.statistics().leases
        assert growths[-1] < ONE_OF_THE_RAREST_KIND, f"a task of the rarest kind leaves something behind: {growths} blocks"
        assert {holder: number for holder, number in leases.items() if number and holder != "preallocated"} == {}
