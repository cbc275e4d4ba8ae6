"""A pool of real workers with the plugin whose operations go wrong."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator

import pytest

from offloop import Pool, Statistics
from offloop.testing.faults import FaultsPlugin


@pytest.fixture
async def pool(anyio_backend: object) -> AsyncIterator[Pool]:
    """Two workers; afterwards the books must balance and no lease may be left."""
    async with Pool(2, plugins=[FaultsPlugin], memory_limit="256MiB") as pool:
        yield pool
        gc.collect()  # a caught error's traceback may refer to a result
    assert_settled(pool.statistics())


def assert_settled(statistics: Statistics) -> None:
    """Every task had its outcome and every lease went back."""
    outcomes = (
        statistics.completed
        + statistics.failed
        + statistics.timed_out
        + statistics.cancelled
        + statistics.worker_died
        + statistics.refused
    )
    assert statistics.submitted == outcomes
    assert (statistics.waiting, statistics.running) == (0, 0)
    assert set(statistics.workers) == set[str]()
    assert sum(statistics.leases.values()) == 0
    assert statistics.memory_used_bytes == 0
    assert statistics.memory_reserved_bytes == 0
