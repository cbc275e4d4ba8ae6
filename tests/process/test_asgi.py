"""`offloop.asgi`: the pool of an application, bodies, clients that leave, responses, problems."""

from __future__ import annotations

import gc
import pickle
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import jobs
import pytest
from fastapi import FastAPI, UploadFile
from fastapi.responses import Response as FastAPIResponse
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import offloop
from offloop import Buffer, InvalidTask, OffloopError, Pool, SourceTooLarge, TaskFailed, errors
from offloop.asgi import (
    EXCEPTION_HANDLERS,
    PoolDep,
    Problem,
    ResultResponse,
    announced_length,
    cancel_on_disconnect,
    health,
    pool_lifespan,
    pool_of,
    problem_of,
    receive,
    run_until_disconnect,
    status_of,
)
from offloop.testing import scripted_pool
from offloop.testing.faults import Echo, FaultsPlugin

pytestmark = pytest.mark.anyio


class Client:
    """Sends a body in chunks; then says nothing until it leaves."""

    def __init__(self, *chunks: bytes, is_whole: bool = True, headers: dict[str, str] | None = None) -> None:
        self.has_left = anyio.Event()
        self.waits = anyio.Event()  # set when all chunks were taken, and the server waits for more
        self._messages: list[dict[str, Any]] = [
            {"type": "http.request", "body": chunk, "more_body": not (is_whole and index == len(chunks))}
            for index, chunk in enumerate(chunks, 1)
        ]
        raw = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
        self.request = Request({"type": "http", "headers": raw}, self._receive)

    async def _receive(self) -> dict[str, Any]:
        if self._messages:
            return self._messages.pop(0)
        self.waits.set()
        await self.has_left.wait()
        return {"type": "http.disconnect"}


class Work:
    """Work that waits; it notes whether it was cancelled."""

    def __init__(self) -> None:
        self.begun = anyio.Event()
        self.go_on = anyio.Event()
        self.is_cancelled = False

    async def run(self) -> str:
        self.begun.set()
        try:
            await self.go_on.wait()
        except anyio.get_cancelled_exc_class():
            self.is_cancelled = True
            raise
        return "done"


@asynccontextmanager
async def client_of(app: Any, lifespan: Callable[[Any], AbstractAsyncContextManager[Any]]) -> AsyncGenerator[httpx.AsyncClient]:
    """A client of an application whose lifespan has begun."""
    async with lifespan(app) as state:

        async def app_with_state(scope: Any, receive: Any, send: Any) -> None:
            await app({**scope, "state": dict(state)}, receive, send)

        transport = httpx.ASGITransport(app_with_state)
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            yield client


@pytest.mark.every_loop
async def test_work_is_cancelled_when_the_client_leaves(anyio_backend: object) -> None:
    client, work = Client(b""), Work()

    async def leave() -> None:
        await work.begun.wait()
        client.has_left.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(leave)
        with pytest.raises(ClientDisconnect):
            await run_until_disconnect(client.request, work.run())
    assert work.is_cancelled


@pytest.mark.every_loop
async def test_work_that_ends_gives_its_value_or_its_own_error(anyio_backend: object) -> None:
    client, work = Client(b""), Work()
    work.go_on.set()
    assert await run_until_disconnect(client.request, work.run()) == "done"

    async def fail() -> None:
        raise InvalidTask("text")

    with pytest.raises(InvalidTask, match="text"):
        await run_until_disconnect(client.request, fail())


async def test_a_body_is_whole_for_a_reader_inside_the_block_and_for_one_after_it(anyio_backend: object) -> None:
    inside, after = Client(b"one", b"two"), Client(*[bytes([number]) for number in range(40)])
    assert await run_until_disconnect(inside.request, inside.request.body()) == b"onetwo"
    async with cancel_on_disconnect(after.request):
        await anyio.wait_all_tasks_blocked()
    assert await after.request.body() == bytes(range(40))


@pytest.mark.every_loop
async def test_a_client_that_leaves_in_the_middle_of_a_body_is_noticed_by_every_reader(anyio_backend: object) -> None:
    client = Client(b"one", is_whole=False)
    client.has_left.set()
    with pytest.raises(ClientDisconnect):
        await run_until_disconnect(client.request, anyio.sleep_forever())
    with pytest.raises(ClientDisconnect):
        await client.request.body()


async def test_blocks_may_be_nested_and_follow_each_other(anyio_backend: object) -> None:
    client = Client(b"body")
    async with cancel_on_disconnect(client.request):
        assert await run_until_disconnect(client.request, client.request.body()) == b"body"
    with pytest.raises(ClientDisconnect):
        async with cancel_on_disconnect(client.request), cancel_on_disconnect(client.request):
            client.has_left.set()
            await anyio.sleep_forever()


@pytest.mark.every_loop
async def test_a_cancellation_from_outside_stays_one(anyio_backend: object) -> None:
    client, work = Client(b""), Work()
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run_until_disconnect, client.request, work.run())
            await work.begun.wait()
            scope.cancel()
    assert (scope.cancelled_caught, work.is_cancelled) == (True, True)


@pytest.mark.every_loop
@pytest.mark.parametrize("limits", [{"idle_timeout": 0.01}, {"idle_timeout": None, "total_timeout": 0.01}], ids=str)
async def test_a_body_that_comes_too_slowly_is_refused(anyio_backend: object, limits: dict[str, Any]) -> None:
    client = Client(b"one", is_whole=False)
    async with scripted_pool([], plugins=[FaultsPlugin]) as pool:
        with pytest.raises(Problem) as caught:
            await receive(pool, client.request, max_bytes=100, **limits)
        gc.collect()
        assert (caught.value.status, pool.statistics().leases["caller"]) == (408, 0)


@pytest.mark.every_loop
async def test_a_client_that_leaves_while_its_upload_waits_for_memory_is_noticed(anyio_backend: object) -> None:
    async with scripted_pool([], plugins=[FaultsPlugin], memory_limit="4MiB") as pool:
        everything = await pool.buffer(3 * 1024 * 1024).ready()
        client = Client(b"ab", b"cd", is_whole=False, headers={"content-length": "6"})

        async def leave() -> None:
            await client.waits.wait()
            client.has_left.set()

        async with anyio.create_task_group() as task_group:
            task_group.start_soon(leave)
            with pytest.raises(ClientDisconnect):
                await receive(pool, client.request, max_bytes=100)
        assert pool.statistics().leases["caller"] == 1, "what the test holds"
        del everything


async def test_a_length_is_checked_before_the_body_is_read(anyio_backend: object) -> None:
    large, wrong = Client(headers={"content-length": "101"}), Client(headers={"content-length": "many"})
    async with scripted_pool([], plugins=[FaultsPlugin]) as pool:
        with pytest.raises(SourceTooLarge):
            await receive(pool, large.request, max_bytes=100)
        with pytest.raises(Problem, match="no number"):
            announced_length(wrong.request)
        with pytest.raises(SourceTooLarge):
            await receive(pool, Client(b"1" * 60, b"2" * 60).request, max_bytes=100)


async def test_a_form_that_is_too_long_is_refused_before_it_is_written_to_a_disk(anyio_backend: object) -> None:
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
    client = Client(
        head, bytes(50_000), bytes(50_000), is_whole=False, headers={"content-type": "multipart/form-data; boundary=b"}
    )
    async with scripted_pool([], plugins=[FaultsPlugin]) as pool:
        with pytest.raises(SourceTooLarge):
            await receive(pool, client.request, max_bytes=1000)


async def test_a_shared_buffer_is_the_source_of_several_tasks(anyio_backend: object) -> None:
    async with Pool(2, plugins=[FaultsPlugin, "functions"], memory_limit="256MiB") as pool:
        data = bytes(range(256)) * 2000
        upload = (await receive(pool, Client(data).request, max_bytes=1_000_000)).share()
        assert upload.share() is upload
        assert upload.view.readonly
        echoed: list[bytes] = []

        async def echo(source: Buffer) -> None:
            echoed.append(bytes(await pool.run(source, [Echo()])))

        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(echo, upload)
        assert echoed == [data] * 4
        assert await pool.call(jobs.echo_bytes, upload) == data
        assert pool.statistics().leases["caller"] == 1
        del upload
        gc.collect()
        assert pool.statistics().leases["caller"] == 0


async def test_a_buffer_that_is_written_to_or_moved_cannot_be_shared(anyio_backend: object) -> None:
    async with scripted_pool([], plugins=[FaultsPlugin]) as pool:
        buffer = await pool.buffer(100).ready()
        writer = pickle.PickleBuffer(buffer.view)
        with pytest.raises(InvalidTask, match="still in use"):
            buffer.share()
        writer.release()
        buffer.move()
        with pytest.raises(InvalidTask, match="was moved"):
            buffer.share()


async def test_a_view_of_a_call_is_sent_in_slices_and_a_file_is_refused(anyio_backend: object, tmp_path: Path) -> None:
    async def filled(request: Request) -> Response:
        array = await run_until_disconnect(request, pool_of(request).call(jobs.filled, 300_000))
        return ResultResponse(array.data, filename="ä b.bin")

    async def into_a_file(request: Request) -> Response:
        result = await pool_of(request).run(b"bytes", [Echo()], to=tmp_path / "result")
        with pytest.raises(ValueError, match="FileResponse"):
            ResultResponse(result)
        return ResultResponse(b"")

    routes = [Route("/filled", filled), Route("/file", into_a_file), Route("/health", health)]
    lifespan = pool_lifespan(workers=1, plugins=[FaultsPlugin, "functions"], memory_limit="256MiB")
    app = Starlette(routes=routes, exception_handlers=EXCEPTION_HANDLERS)
    async with client_of(app, lifespan) as client:
        answer = await client.get("/filled")
        assert answer.content == bytes([7]) * 300_000
        assert answer.headers["content-length"] == str(len(answer.content))
        assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''%C3%A4%20b.bin"
        assert (await client.get("/file")).content == b""
        assert (await client.get("/health")).json() == {"status": "ok", "reasons": []}


async def test_a_service_of_fastapi_gets_its_pool_and_uploads(anyio_backend: object) -> None:
    app = FastAPI(exception_handlers=EXCEPTION_HANDLERS)

    @app.post("/twice")
    async def twice(file: UploadFile, pool: PoolDep, request: Request) -> FastAPIResponse:  # pyright: ignore[reportUnusedFunction]
        upload = (await receive(pool, file, max_bytes=1000)).share()
        first = await run_until_disconnect(request, pool.call(jobs.echo_bytes, upload))
        return ResultResponse(first + await pool.call(jobs.echo_bytes, upload))

    @app.get("/fail/{text}")
    async def fail(text: str, pool: PoolDep) -> FastAPIResponse:  # pyright: ignore[reportUnusedFunction]
        return JSONResponse(await pool.call(jobs.fail, text))

    async with client_of(app, pool_lifespan(workers=1, plugins=["functions"], memory_limit="256MiB")) as client:
        assert (await client.post("/twice", files={"file": b"ab"})).content == b"abab"
        refused = await client.post("/twice", files={"file": bytes(1001)})
        assert (refused.status_code, refused.json()["code"]) == (413, "source_too_large")
        failed = await client.get("/fail/secret")
        assert (failed.status_code, failed.json()["code"]) == (500, "exception")
        assert "secret" not in failed.text


async def test_each_start_of_an_application_has_a_pool_of_its_own(anyio_backend: object) -> None:
    @asynccontextmanager
    async def own(_app: object) -> AsyncGenerator[dict[str, Any]]:
        yield {"name": "value"}

    lifespan = pool_lifespan(own, workers=1, plugins=[FaultsPlugin], memory_limit="256MiB", env_prefix=None)
    pools: list[Pool] = []
    for _ in range(2):
        async with lifespan(None) as state:
            assert state["name"] == "value"
            pools.append(pool_of(Request({"type": "http", "state": state})))
        assert pools[-1].statistics().health.status == "failing"
    assert pools[0] is not pools[1]


def test_a_wrong_setting_is_an_error_of_the_line_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="workers=0"):
        pool_lifespan(workers=0)
    monkeypatch.setenv("SERVICE_WORKERS", "0")
    with pytest.raises(ValueError, match="workers=0"):
        pool_lifespan(env_prefix="SERVICE_", workers=1)


def test_a_request_without_a_pool_says_what_to_do() -> None:
    with pytest.raises(LookupError, match="pool_lifespan"):
        pool_of(Request({"type": "http"}))


ERRORS: list[tuple[Exception, int, str]] = [
    (InvalidTask("text"), 422, "invalid_task"),
    (TaskFailed("corrupt_source", "text"), 422, "corrupt_source"),
    (TaskFailed("unsupported_format", "text"), 415, "unsupported_format"),
    (TaskFailed("too_many_pixels", "text"), 413, "too_many_pixels"),
    (TaskFailed("exception", "text"), 500, "exception"),
    (offloop.TaskQuarantined(3, 10), 422, "task_quarantined"),
    (SourceTooLarge(2, 1), 413, "source_too_large"),
    (offloop.MemoryLimitExceeded(2, 1), 413, "memory_limit_exceeded"),
    (offloop.MemoryLimitExceeded(2, 1, is_temporary=True), 503, "memory_limit_exceeded"),
    (offloop.QueueFull(1, 1), 503, "queue_full"),
    (offloop.QueueTimeout(1, "memory"), 503, "queue_timeout"),
    (offloop.TaskTimeout(1), 504, "task_timeout"),
    (offloop.WorkerDied(-9), 503, "worker_died"),
    (offloop.PoolClosed(), 503, "pool_closed"),
    (offloop.PluginError("name", "text"), 500, "plugin_error"),
    (offloop.InternalError("text"), 500, "internal_error"),
    (KeyError("text"), 500, "internal"),
]


@pytest.mark.parametrize(("error", "status", "code"), ERRORS, ids=repr)
def test_every_error_has_a_status_and_a_code(error: Exception, status: int, code: str) -> None:
    problem = problem_of(error)
    assert (problem.status, problem.code, status_of(error)) == (status, code, status)
    response = problem.response()
    assert (response.status_code, response.media_type) == (status, "application/problem+json")
    assert response.headers.get("retry-after") == ("1" if status == 503 else None)
    assert isinstance(error, OffloopError) or "text" not in problem.detail


def test_every_error_of_offloop_is_in_the_table_or_one_of_the_server() -> None:
    of_the_server = {"OffloopError", "PluginError", "PoolMisused", "InternalError", "StreamAbandoned"}
    tested = {type(error).__name__ for error, _, _ in ERRORS} | of_the_server
    assert {name for name in offloop.__all__ if name in errors.__all__ and name != "CrashReport"} - tested == set()


async def test_the_log_has_the_cause_of_an_error_of_the_server(anyio_backend: object, caplog: pytest.LogCaptureFixture) -> None:
    request = Request({"type": "http", "method": "GET", "path": "/path", "headers": [], "server": ("server", 80)})
    response = await EXCEPTION_HANDLERS[OffloopError](request, offloop.PluginError("name", "the cause"))
    assert b"the cause" not in response.body
    assert "GET /path: PluginError: plugin 'name': the cause" in caplog.text
    assert (await EXCEPTION_HANDLERS[ClientDisconnect](request, ClientDisconnect())).status_code == 499
