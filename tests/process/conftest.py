"""A pool of real workers with the plugin whose operations go wrong."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from offloop import Pool
from offloop.testing.faults import FaultsPlugin


@pytest.fixture
async def pool_of_one(offloop_pool_factory: Callable[..., Awaitable[Pool]]) -> Pool:
    """As `pool`, for what concerns one task at a time: starting the second worker would cost more than such a test."""
    return await offloop_pool_factory(1, plugins=[FaultsPlugin], memory_limit="256MiB")


@pytest.fixture
async def pool(offloop_pool_factory: Callable[..., Awaitable[Pool]]) -> Pool:
    """Two workers; afterwards the books must balance and nothing may be left."""
    return await offloop_pool_factory(2, plugins=[FaultsPlugin], memory_limit="256MiB")
