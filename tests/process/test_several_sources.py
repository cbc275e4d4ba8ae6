"""Tasks with several sources: the one of the call, and the attachments of its operations."""

from __future__ import annotations

import gc
import mmap
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import numpy as np
import pytest
from joining_plugin import Join, JoiningPlugin, WeighingJoiningPlugin

from offloop import Attachment, InvalidTask, MemoryLimitExceeded, Pool, WorkerDied
from offloop.testing.faults import Echo, FaultsPlugin, Hang

pytestmark = pytest.mark.anyio

MIB = 1 << 20


def join(*sources: Any, dies: Path | str = "") -> list[Join]:
    return [Join(tuple(map(Attachment, sources)), str(dies))]


def is_free(pool: Pool) -> bool:
    gc.collect()
    numbers = pool.statistics()
    held = {holder: count for holder, count in numbers.leases.items() if count and holder != "preallocated"}
    return (numbers.waiting, numbers.running, held) == (0, 0, {})


def inbox_nbytes(pool: Pool) -> int:
    assert pool._supervisor is not None
    return pool._supervisor.core.settings.inbox_nbytes


class Drawing:
    """An array that copies its samples when it is asked for them, as Pillow's images do."""

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return {"shape": (2, 3), "typestr": "|u1", "data": b"ABCDEF", "version": 3}


@pytest.mark.parametrize("plugin", [JoiningPlugin, WeighingJoiningPlugin])
async def test_a_source_of_each_kind_may_be_an_attachment(anyio_backend: object, tmp_path: Path, plugin: Any) -> None:
    path = tmp_path / "source"
    path.write_bytes(b"<file>")
    mapped = mmap.mmap(-1, 8)
    mapped[:] = b"<mapped>"
    async with Pool(2, plugins=[plugin, FaultsPlugin], memory_limit="256MiB") as pool:
        buffer = pool.buffer(8)
        buffer.view[:] = b"<buffer>"
        result = await pool.run(b"<result>", [Echo()])
        in_file = await pool.run(b"<result in a file>", [Echo()], to=tmp_path / "result")
        array = np.arange(48, 72, dtype=np.uint8).reshape(2, 12)[:, ::2]
        sources = [path, b"", buffer, result, array, Drawing(), mapped, in_file, bytes(700_000), result]
        joined = await pool.run(b"first", join(*sources))
        expected = b"first<file><buffer><result>02468:<>@BDFABCDEF<mapped><result in a file>" + bytes(700_000) + b"<result>"
        assert bytes(joined) == expected
        assert joined.info.kinds == ["", "", "", "", "", "(2, 6) |u1", "(2, 3) |u1", "", "", ""]
        with pytest.raises(InvalidTask, match="moved"):
            _ = buffer.view
        del result, joined, in_file, sources
        assert is_free(pool)


async def test_results_of_one_worker_are_joined_in_place(anyio_backend: object) -> None:
    async with Pool(1, plugins=[JoiningPlugin, FaultsPlugin]) as pool:
        first, second = [await pool.run(data, [Echo()]) for data in (b"first", b"second")]
        used = pool.statistics().memory_used_bytes
        joined = await pool.run(first, join(second, b""))
        assert bytes(joined) == b"firstsecond"
        assert pool.statistics().memory_used_bytes <= used + 65536, "nothing but the result is new"


async def test_a_task_is_retried_with_all_its_sources(anyio_backend: object, tmp_path: Path) -> None:
    path, dies = tmp_path / "source", tmp_path / "dies"
    path.write_bytes(b"file")
    async with Pool(1, plugins=[JoiningPlugin], sandbox="off") as pool:  # its worker removes a file
        for retries in (1, 0):
            dies.touch()
            buffer = pool.buffer(100_000)
            buffer.view[:] = bytes(100_000)
            call = pool.run(path, join(buffer, dies=dies), retries=retries)
            if retries:
                assert bytes(await call) == b"file" + bytes(100_000)
            else:
                with pytest.raises(WorkerDied):
                    await call
            assert is_free(pool)


@pytest.mark.every_loop
async def test_a_task_that_is_cancelled_while_it_is_staged_returns_all_its_memory(anyio_backend: object) -> None:
    async with Pool(1, plugins=[JoiningPlugin], memory_limit="192MiB") as pool:
        large = await pool.buffer(inbox_nbytes(pool) - MIB).ready()
        small = pool.buffer(4096)
        small.view[:5] = b"small"
        with anyio.move_on_after(0.05) as scope:
            await pool.run(bytes(2 * MIB), join(small, bytes(MIB)))
        assert scope.cancelled_caught
        assert pool.statistics().waiting == 0
        del large, small
        await anyio.lowlevel.checkpoint()  # the loop lets go of the last that it ran
        assert is_free(pool)


async def test_sources_that_together_can_never_fit_are_refused_with_the_sum(anyio_backend: object) -> None:
    async with Pool(1, plugins=[JoiningPlugin], memory_limit="192MiB") as pool:
        half = bytes(inbox_nbytes(pool) // 2 + 64)
        small = pool.buffer(4096)
        with pytest.raises(MemoryLimitExceeded) as caught:
            await pool.run(half, join(half[:-64], small, half[64:]))
        assert str(3 * len(half) - 128) in str(caught.value).replace(",", "")
        assert is_free(pool)


async def test_an_attachment_that_cannot_be_read_fails_the_task_and_frees_the_others(
    anyio_backend: object, tmp_path: Path
) -> None:
    async with Pool(1, plugins=[JoiningPlugin]) as pool:
        buffer = pool.buffer(4096)
        with pytest.raises(InvalidTask, match="cannot be read"):
            await pool.run(b"first", join(buffer, tmp_path / "nothing"))
        with pytest.raises(InvalidTask, match="a str is no source"):
            await pool.run(b"first", join("logo.png"))
        assert is_free(pool)


async def test_each_call_takes_attachments(anyio_backend: object) -> None:
    async with Pool(1, plugins=[JoiningPlugin, FaultsPlugin]) as pool:
        outcomes = await pool.run_many(b"x", {"a": join(b"1"), "b": join(b"2", b"3"), "c": [Echo()]})
        assert [bytes(outcome.unwrap()) for outcome in outcomes.values()] == [b"x1", b"x23", b"x"]
        async with pool.stream(b"x", join(b"4")) as frames:
            assert [bytes(frame.data) async for frame in frames] == [b"x4"]
        async with pool.map([b"x", b"y"], join(b"5"), ordered=True) as batch:
            assert [bytes(outcome.unwrap()) async for outcome in batch] == [b"x5", b"y5"]


async def test_a_task_that_is_cancelled_while_it_waits_for_a_worker_returns_all_its_memory(anyio_backend: object) -> None:
    async with Pool(1, plugins=[JoiningPlugin, FaultsPlugin], grace=0.05) as pool:
        async with anyio.create_task_group() as task_group:
            task_group.start_soon(pool.run, b"", [Hang()])
            task_group.start_soon(pool.run, b"first", join(bytes(1000), bytes(2000)))
            while pool.statistics().waiting + pool.statistics().running < 2:
                await anyio.sleep(0)
            task_group.cancel_scope.cancel()
        assert is_free(pool)
