"""`OutputLog` under a flood of output, on a pipe without a worker: kept and dropped lines, and the time of the loop."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from time import monotonic

import anyio
import anyio.to_thread
import pytest

from offloop.runtime.loop.event_loop import find_asyncio_loop
from offloop.runtime.workers import output_log
from offloop.runtime.workers.output_log import OutputLog

pytestmark = [pytest.mark.anyio, pytest.mark.every_loop]


class Output:
    """A log and the pipe that a worker would write to."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)
        self.log = OutputLog(3, self.reader, find_asyncio_loop())

    async def flood(self, chunk: bytes, times: int) -> float:
        """Drain what a thread writes as fast as it can; the seconds that it took."""
        started = monotonic()
        async with anyio.create_task_group() as task_group:
            task_group.start_soon(anyio.to_thread.run_sync, self._write, chunk, times)
            await self.log.drain()
        return monotonic() - started

    def _write(self, chunk: bytes, times: int) -> None:
        for _ in range(times):
            rest = memoryview(chunk)
            while rest:
                rest = rest[os.write(self.writer, rest) :]
        os.close(self.writer)


@pytest.fixture
def output() -> Iterator[Output]:
    output = Output()
    yield output
    os.close(output.reader)


@pytest.mark.parametrize("chunk", [b"x" * 65_536, b"\n" * 65_536], ids=["bytes", "line ends"])
async def test_after_each_burst_there_is_a_pause(output: Output, anyio_backend: object, chunk: bytes) -> None:
    bursts = 160 * len(chunk) // output_log._BURST_NBYTES
    with anyio.fail_after(30):
        took = await output.flood(chunk, 160)
    assert took >= (bursts - 1) * output_log._PAUSE_S
    assert took < 15, "ten megabytes of an honest worker are no problem"


async def test_many_short_writes_use_the_burst_up_too(output: Output, anyio_backend: object) -> None:
    for _ in range(200):
        os.write(output.writer, b"x")
        assert output.log.drain_nowait()
    assert -output.log._burst_left >= 200 * output_log._MIN_CHARGE_NBYTES


async def test_a_flood_of_lines_is_logged_up_to_the_limit_and_its_tail_is_kept(
    output: Output, anyio_backend: object, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "offloop.worker")
    lines = b"".join(b"line %d\n" % number for number in range(300_000))
    with anyio.fail_after(30):
        took = await output.flood(lines + b"the end", 1)
    logged = [record.getMessage() for record in caplog.records if record.levelno == logging.INFO]
    assert logged[:50] == [f"worker 3: line {number}" for number in range(50)]
    assert len(logged) <= 50 * (took + 2)
    assert output.log.tail.endswith("line 299999\nthe end")


async def test_no_line_is_lost_or_counted_twice(
    output: Output, anyio_backend: object, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "offloop.worker")
    now = 100.0
    monkeypatch.setattr(output_log, "monotonic", lambda: now)
    written = b"".join(b"%d\n" % number for number in range(120)) + b"half of 120"
    for start in range(0, len(written), 7):
        os.write(output.writer, written[start : start + 7])
        output.log.drain_nowait()
    now += 1
    os.write(output.writer, b", the other half\n")
    output.log.drain_nowait()
    logged = [record.getMessage() for record in caplog.records]
    assert logged == [
        *(f"worker 3: {number}" for number in range(50)),
        "worker 3: 70 lines were dropped",
        "worker 3: half of 120, the other half",
    ]


async def test_the_tail_is_safe_to_print(output: Output, anyio_backend: object, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "offloop.worker")
    os.write(output.writer, b"\x1b[31mred\xff \xe2\x82\xac\nnext")
    output.log.drain_nowait()
    assert output.log.tail == "\\x1b[31mred\\\\xff \u20ac\nnext"
    assert [record.getMessage() for record in caplog.records] == ["worker 3: \\x1b[31mred\\\\xff \\u20ac"]


async def test_output_before_a_task_is_not_in_its_tail(
    output: Output, anyio_backend: object, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "offloop.worker")
    os.write(output.writer, b"of the first\nand half a li")
    output.log.begin_task(1)  # before anything was read
    os.write(output.writer, b"of the second")
    output.log.drain_nowait()
    assert output.log.tail == "of the second"
    output.log.begin_task(2)  # when all was read
    assert output.log.tail == ""
    os.write(output.writer, b"of the third\n")
    output.log.drain_nowait()
    assert output.log.tail == "of the third"
    assert [record.getMessage() for record in caplog.records] == [
        "worker 3: of the first",
        "worker 3: and half a li",
        "worker 3, task 1: of the second",
        "worker 3, task 2: of the third",
    ]


async def test_of_several_tasks_that_began_before_anything_was_read_each_has_its_own_output(
    output: Output, anyio_backend: object, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "offloop.worker")
    for number in range(5):
        output.log.begin_task(number + 10)  # a task that writes nothing
        output.log.begin_task(number)
        os.write(output.writer, b"task %d" % number)
    assert len(output.log._task_starts) == 4
    output.log.drain_nowait()
    assert output.log.tail == "task 4"
    output.log.begin_task(5)
    assert output.log.tail == ""
    assert [record.getMessage() for record in caplog.records] == [
        f"worker 3, task {number}: task {number}" for number in range(5)
    ]


async def test_a_task_that_begins_where_a_read_ends_has_its_own_output(
    output: Output, anyio_backend: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output_log, "_READ_NBYTES", 4)
    os.write(output.writer, b"aaaabb")
    output.log.begin_task(1)
    os.write(output.writer, b"ccdd")
    tails: list[str] = []
    for _ in range(3):
        output.log.drain_nowait()
        tails.append(output.log.tail)
    assert tails == ["aaaa", "cc", "ccdd"]
