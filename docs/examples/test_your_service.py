"""Tests of a service that uses a pool: its own code, the real pool, and workers that follow a script."""

import pytest

from offloop import Pool, TaskFailed, WorkerDied
from offloop.testing import Answer, Die, Refuse, scripted_pool
from offloop.testing.faults import Echo, FaultsPlugin

pytestmark = pytest.mark.anyio


async def thumbnail_or_placeholder(pool: Pool, upload: bytes) -> bytes:
    """The service: a crash is tried once more, and what cannot be read becomes a placeholder."""
    for _ in range(2):
        try:
            return bytes(await pool.run(upload, [Echo()]))  # your operations
        except TaskFailed:
            break
        except WorkerDied:
            continue
    return b"placeholder"


@pytest.mark.parametrize(
    ("script", "served"),
    [
        ([Answer(b"small")], b"small"),
        ([Die(-11), Answer(b"small")], b"small"),
        ([Die(-11), Die(-11)], b"placeholder"),
        ([Refuse("corrupt_source")], b"placeholder"),
    ],
)
async def test_whatever_the_worker_does_something_is_served(offloop_pool_factory, script, served) -> None:
    pool = await offloop_pool_factory(scripted_pool(script, plugins=[FaultsPlugin]))
    assert await thumbnail_or_placeholder(pool, b"upload") == served


async def test_it_works_with_real_workers(offloop_pool_factory) -> None:
    pool = await offloop_pool_factory(1, plugins=[FaultsPlugin])
    assert await thumbnail_or_placeholder(pool, b"upload") == b"upload"
