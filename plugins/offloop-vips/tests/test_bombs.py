"""Bombs: small files that would take much memory or time are refused with little of both, in the server and in the worker."""

from __future__ import annotations

import logging
import time
from typing import Any

import pytest

from offloop import Pool, TaskFailed
from offloop_vips import Decode, Raw, Resize, VipsPlugin, Webp

from .bombs import BOMBS

STEPS = [Decode(pages=-1), Resize(64, 64, fit="fill"), Webp()]
MAX_CPU_S = 0.4  # on a machine that is four times slower than one with a CPU of 2024
MAX_LOOP_S = 0.02  # CPU time of the loop's thread for a bomb, from the call to its error


def test_the_bombs_are_small() -> None:
    assert len(BOMBS["PNG of 20,000 x 20,000"][0]) < 50_000
    assert max(len(data) for data, _, _ in BOMBS.values()) < 10_000_000


@pytest.mark.parametrize("name", BOMBS)
def test_the_server_reads_a_bomb_in_no_time_and_refuses_it_if_it_can(name: str) -> None:
    data, code, by_header = BOMBS[name]
    plugin, started = VipsPlugin(), time.process_time()
    header = plugin.probe(memoryview(data)[: plugin.probe_nbytes])
    try:
        assert header is None or plugin.refuse(header, STEPS, len(data)) is None
        refused = None
    except TaskFailed as failure:
        refused = failure.code
    assert time.process_time() - started < MAX_CPU_S / 10
    assert refused == (code if by_header else None)


@pytest.mark.parametrize("name", BOMBS)
def test_the_worker_refuses_a_bomb_in_no_time(bench: Any, name: str) -> None:
    data, code, _ = BOMBS[name]
    started = time.process_time()
    with pytest.raises(TaskFailed) as failure:
        bench.run(data, *STEPS)
    assert failure.value.code == code
    assert time.process_time() - started < MAX_CPU_S


async def code_of(pool: Pool, data: bytes) -> str | None:
    try:
        await pool.run(data, STEPS, memory_limit=100_000_000)
    except TaskFailed as failure:
        return failure.code
    return None


@pytest.mark.anyio
async def test_a_bomb_that_its_header_gives_away_reaches_neither_shared_memory_nor_a_worker_nor_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with Pool(1, plugins=["vips"]) as pool:
        with caplog.at_level(logging.INFO, "offloop"):
            for name, (data, code, by_header) in BOMBS.items():
                if by_header:
                    assert await code_of(pool, data) == code, name
        statistics = pool.statistics()
    assert (statistics.run.count, statistics.memory_used_bytes) == (0, 0)
    # a worker that becomes ready meanwhile logs its sandbox
    assert [line for line in caplog.messages if not line.startswith("sandbox of the worker group")] == []


@pytest.mark.anyio
async def test_no_bomb_occupies_the_loop() -> None:
    async with Pool(1, plugins=["vips"]) as pool:
        await code_of(pool, BOMBS["PNG with 50 texts of 8 MB"][0])  # the first task imports and learns
        for name, (data, code, _) in BOMBS.items():
            started = time.thread_time()
            assert await code_of(pool, data) == code
            assert time.thread_time() - started < MAX_LOOP_S, name


@pytest.mark.anyio
async def test_a_worker_refuses_all_bombs_within_100_megabytes_and_lives() -> None:
    async with Pool(1, plugins=["vips"]) as pool:
        for name, (data, code, _) in BOMBS.items():
            assert await code_of(pool, data) == code, name
        assert (await pool.run(bytes(BOMBS["GIF of 1,000 frames"][0]), [Decode(), Raw()])).info.width == 2000
        assert pool.statistics().worker_crashes == 0
