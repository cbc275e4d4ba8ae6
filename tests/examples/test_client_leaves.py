"""A client of the example server that leaves while its upload waits for memory is noticed."""

from __future__ import annotations

import runpy
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from starlette.requests import ClientDisconnect, Request

from offloop import Buffer, Pool
from offloop.testing import scripted_pool
from offloop.testing.faults import FaultsPlugin

SERVER = Path(__file__).parents[2] / "docs" / "examples" / "server.py"

pytestmark = pytest.mark.anyio


class Client:
    """Sends two chunks of a body; leaves when it is told to."""

    def __init__(self, pool: Pool) -> None:
        self.left = anyio.Event()
        self.read = anyio.Event()  # both chunks have been read
        self._chunks = [b"ab", b"cd"]
        scope = {"type": "http", "headers": [(b"content-length", b"6")], "state": {"pool": pool}}
        self.request = Request(scope, self._receive)

    async def _receive(self) -> dict[str, Any]:
        if self._chunks:
            return {"type": "http.request", "body": self._chunks.pop(0), "more_body": True}
        self.read.set()
        await self.left.wait()
        return {"type": "http.disconnect"}


@pytest.fixture
def receive() -> Callable[[Request], Awaitable[Buffer]]:
    return runpy.run_path(str(SERVER))["receive"]


async def test_a_client_that_leaves_while_its_upload_waits_for_memory_is_noticed(
    anyio_backend: object, receive: Callable[[Request], Awaitable[Buffer]]
) -> None:
    async with scripted_pool([], plugins=[FaultsPlugin], memory_limit="4MiB") as pool:
        everything = await pool.buffer(3 * 1024 * 1024).ready()
        client = Client(pool)
        errors: list[Exception] = []

        async def upload() -> None:
            try:
                await receive(client.request)
            except ClientDisconnect as error:
                errors.append(error)

        async with anyio.create_task_group() as task_group:
            task_group.start_soon(upload)
            await client.read.wait()
            assert not errors
            client.left.set()
        assert len(errors) == 1
        assert pool.statistics().leases["caller"] == 1, "what the test holds"
        del everything
