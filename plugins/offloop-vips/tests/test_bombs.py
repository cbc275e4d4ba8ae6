"""Bombs: small files that would take much memory or time are refused with little of both, in the server and in the worker."""

from __future__ import annotations

import time
from typing import Any

import pytest

from offloop import Pool, TaskFailed
from offloop_vips import Decode, Raw, Resize, VipsPlugin, Webp

from .bombs import BOMBS

STEPS = [Decode(pages=-1), Resize(64, 64, fit="fill"), Webp()]
MAX_CPU_S = 0.4  # on a machine that is four times slower than one with a CPU of 2024


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
async def test_a_worker_refuses_all_bombs_within_100_megabytes_and_lives() -> None:
    async with Pool(1, plugins=["vips"]) as pool:
        for name, (data, code, _) in BOMBS.items():
            assert await code_of(pool, data) == code, name
        assert (await pool.run(bytes(BOMBS["GIF of 1,000 frames"][0]), [Decode(), Raw()])).info.width == 2000
        assert pool.statistics().worker_crashes == 0
