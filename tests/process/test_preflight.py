"""Preflight of every kind of source."""

from __future__ import annotations

import asyncio
import gc
import mmap
import os
import threading
import tracemalloc
from collections.abc import Sequence
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from own_background import background
from weighing_plugin import HesitantPlugin, Take, WeighingPlugin

from offloop import Pool
from offloop.client.sources import Bytes, File, Samples, classify
from offloop.client.staging.preflight import Preflight, run_preflight
from offloop.errors import InvalidTask
from offloop.operation import Estimate, Header, Operation, Plugin
from offloop.plugins.estimator import Estimator
from offloop.testing.faults import Echo, FaultsPlugin

pytestmark = pytest.mark.anyio

SAID = Estimate(peak_bytes=7, work_s=1.0, output_bytes=3)


class Reader(Plugin):
    """Says the first bytes that it saw as the media type."""

    name = "reader"
    operations = ()
    processor = "nowhere:Nothing"
    probe_nbytes = 4

    def probe(self, data: memoryview) -> Header:
        assert data.readonly
        return Header(media_type=bytes(data).decode(), width=1, height=1)

    def estimate(self, header: Header | None, operations: Sequence[Operation], nbytes: int) -> Estimate:
        return SAID


FORECASTER = Estimator([(Reader(), ())])


async def found(source: Any) -> Preflight:
    with anyio.fail_after(10):
        return await run_preflight(FORECASTER, [source], background())


async def test_bytes_are_read_at_their_beginning(anyio_backend: object) -> None:
    assert await found(Bytes(memoryview(b"abcdefgh"), private=True)) == Preflight([8], SAID, "abcd")


async def test_a_file_is_read_at_its_beginning(anyio_backend: object, tmp_path: Path) -> None:
    path = tmp_path / "picture"
    path.write_bytes(b"abcdefgh")
    assert await found(File(str(path))) == Preflight([8], SAID, "abcd")


async def test_a_file_that_cannot_be_read_is_refused(anyio_backend: object, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "nothing", tmp_path, tmp_path / "fifo", Path("a\0b")):
        with pytest.raises(InvalidTask, match="the source"):
            await found(File(str(path)))


async def test_memory_that_may_be_a_mapped_file_is_copied_before_it_is_read(anyio_backend: object) -> None:
    mapped = mmap.mmap(-1, 8)
    mapped[:] = b"abcdefgh"
    assert await found(classify(mapped)) == Preflight([8], SAID, "abcd")
    assert await found(classify(memoryview(b"a-b-c-d-e-f-g-h-")[::2])) == Preflight([8], SAID, "abcd")


async def test_of_samples_the_shape_says_it_all(anyio_backend: object) -> None:
    samples = Samples(memoryview(bytes(6)), (2, 3, 1), "|u1", private=True)
    assert await found(samples) == Preflight([6], SAID, "")


async def test_a_result_is_read_where_it_lies_until_it_is_released(anyio_backend: object, tmp_path: Path) -> None:
    async with Pool(workers=1, plugins=[FaultsPlugin]) as pool:
        result = await pool.run(b"abcdefgh", [Echo()])
        assert await found(result) == Preflight([8], SAID, "abcd")
        result.data.release()
        assert await found(result) == Preflight()
        to_file = await pool.run(b"abcdefgh", [Echo()], to=tmp_path / "result")
        assert await found(to_file) == Preflight([8], SAID, "abcd")


async def test_bytes_that_were_released_have_no_estimate(anyio_backend: object) -> None:
    view = memoryview(b"abcdefgh")
    view.release()
    assert await found(Bytes(view, private=True)) == Preflight()


class Locator(Reader):
    """Says which thread asked it."""

    def probe(self, data: memoryview) -> Header:
        return Header(media_type=str(threading.get_ident()), width=1, height=1)


class QuickLocator(Locator):
    quick = True


@pytest.mark.parametrize(
    ("plugin", "operations", "on_the_loop"), [(QuickLocator(), 1, True), (QuickLocator(), 33, False), (Locator(), 1, False)]
)
async def test_only_a_quick_plugin_is_asked_on_the_loop_and_only_about_few_operations(
    anyio_backend: object, plugin: Plugin, operations: int, on_the_loop: bool
) -> None:
    estimator = Estimator([(plugin, (Echo(),) * operations)])
    preflight = await run_preflight(estimator, [Bytes(memoryview(b"abc"), private=True)], background())
    assert (preflight.media_type == str(threading.get_ident())) is on_the_loop


@pytest.mark.parametrize("private", [True, False])
async def test_files_that_wait_are_not_kept_in_the_servers_own_memory(
    anyio_backend: object, tmp_path: Path, private: bool
) -> None:
    path, crowd, taken_bytes = tmp_path / "source", 60, inf
    path.write_bytes(b"text" + bytes(200_000))
    async with Pool(1, plugins=[WeighingPlugin], memory_limit="64MiB", private_sources=private) as pool:
        assert pool._supervisor is not None
        core = pool._supervisor.core
        in_the_way = await pool.buffer(48 << 20).ready()
        async with anyio.create_task_group() as task_group:
            task_group.start_soon(pool.run, b"", [Take(hold=str(tmp_path / "end"))])
            with anyio.fail_after(20):
                while not pool.statistics().running:
                    await anyio.sleep(0.005)
            tracemalloc.start()
            try:
                for _ in range(crowd):
                    task_group.start_soon(pool.run, path, [Take()])
                with anyio.fail_after(20):
                    while len(core.broker.input_requests) + len(core.queue) < crowd:
                        await anyio.sleep(0.005)
                taken_bytes = tracemalloc.get_traced_memory()[0]
            finally:
                tracemalloc.stop()
            task_group.cancel_scope.cancel()
        del in_the_way
    assert taken_bytes < crowd * 200_000 / 2


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_buffer_whose_task_is_cancelled_while_its_header_is_read_needs_no_collector(anyio_backend: object) -> None:
    async with Pool(1, plugins=[HesitantPlugin]) as pool:
        buffer = await pool.buffer(100_000).ready()
        buffer.view[:4] = b"text"
        HesitantPlugin.asked.clear()
        HesitantPlugin.allowed.clear()
        gc.disable()
        try:
            task = asyncio.create_task(pool.run(buffer, [Take()]))
            await anyio.to_thread.run_sync(HesitantPlugin.asked.wait, 20)
            task.cancel()
            HesitantPlugin.allowed.set()
            with suppress(asyncio.CancelledError):
                await task
            del task
            await asyncio.sleep(0)  # the loop lets go of the last that it ran
            assert pool.statistics().leases["caller"] == 0
        finally:
            gc.enable()
