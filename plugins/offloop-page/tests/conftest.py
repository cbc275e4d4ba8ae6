"""One server with one pool for the tests of a module: several applications with different limits are mounted in it."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
import pyvips
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount

from offloop import Pool
from offloop_page import PageSettings, make_app
from offloop_page.page_state import PageState

PHOTOS = Path(__file__).parents[3] / "docs" / "photos"
HOST = "127.0.0.1"

Value = TypeVar("Value")

APPLICATIONS = {
    "/tight": PageSettings(
        max_file_bytes=100_000,
        max_files=4,
        max_batch_bytes=150_000,
        max_batches_per_client=2,
        max_uploads_per_client=1,
        upload_idle_s=0.3,
        event_stream_s=0.3,
        batch_age_s=0.5,
        max_track_bytes=40_000,
        max_tracks=1,
    ),
    "/small": PageSettings(max_result_bytes=1),
    "/guarded": PageSettings(token="secret token", allowed_hosts=(HOST,)),
    "/stored": PageSettings(storage="memory:///"),
    "/open": PageSettings(),
}


class Server:
    """A server in a thread of its own."""

    def __init__(self) -> None:
        self.pool = Pool(1, memory_limit="256MiB", timeout=20)
        self.pages: dict[str, PageState] = {}
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._socket = socket.create_server((HOST, 0))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        assert self._ready.wait(30)

    def client(self, path: str = "/open", **options: Any) -> httpx.Client:
        """A client of one of the applications."""
        return httpx.Client(base_url=f"http://{HOST}:{self.port}{path}", timeout=20, verify=False, **options)

    def run(self, work: Callable[[], Awaitable[Value]]) -> Value:
        """Run a function in the loop of the server."""

        async def call() -> Value:
            return await work()

        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(call(), self._loop).result(20)

    def used_bytes(self) -> int:
        """Bytes of the pool's memory that are in use. A request makes the pool collect what was returned."""

        async def ask() -> int:
            gc.collect()  # because a response of an earlier test may still hold its result
            await self.pool.buffer(1).ready()
            return self.pool.statistics().memory_used_bytes

        return self.run(ask)

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join(20)
        assert not self._thread.is_alive()

    def _serve(self) -> None:
        applications = {path: make_app(self.pool, settings) for path, settings in APPLICATIONS.items()}
        self.pages = {path: application.state.page for path, application in applications.items()}

        @asynccontextmanager
        async def lifespan(_app: Starlette) -> AsyncGenerator[None]:
            self._loop = asyncio.get_running_loop()
            async with self.pool:
                self._ready.set()
                yield

        app = Starlette(routes=[Mount(path, application) for path, application in applications.items()], lifespan=lifespan)
        self._server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2))
        self._server.run(sockets=[self._socket])


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as opened:
        yield opened


@pytest.fixture(scope="module")
def photo() -> bytes:
    return (PHOTOS / "astronaut.jpg").read_bytes()


@pytest.fixture(scope="module")
def noise() -> bytes:
    """A JPEG whose conversion to AVIF takes some seconds."""
    picture: Any = pyvips.Image.gaussnoise(1500, 1000, mean=128, sigma=60).cast("uchar")
    return picture.jpegsave_buffer(Q=90)
