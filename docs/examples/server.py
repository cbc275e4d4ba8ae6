"""Thumbnails over HTTP: the picture goes from the socket into shared memory, and the thumbnail back from there.

uvicorn server:app
curl --data-binary @photo.jpg 'http://127.0.0.1:8000/thumbnail?width=320&format=webp' > thumbnail.webp
"""

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar, cast

import anyio
import msgspec
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

import offloop
from offloop import Buffer, InvalidTask, OffloopError, Operation, Pool, Result, SourceTooLarge, TaskFailed
from offloop_vips import Avif, Jpeg, Png, Resize, Webp

Outcome = TypeVar("Outcome")

log = logging.getLogger("server")

MAX_SOURCE_BYTES = 50_000_000
READ_AHEAD = 16  # chunks of a body, up to 64 KiB each, in the server's own memory while there is no shared memory for them
SLICE_NBYTES = 64 * 1024  # what is copied at a time on the way out; a slow client never has more of it waiting
ENCODERS = {"webp": Webp, "jpeg": Jpeg, "png": Png, "avif": Avif}
STATUS_OF_ERROR: dict[type, int] = {
    offloop.MemoryLimitExceeded: 413,  # SourceTooLarge too
    offloop.InvalidTask: 422,
    offloop.TaskFailed: 422,
    offloop.QueueFull: 429,
    offloop.PoolClosed: 503,
    offloop.WorkerDied: 503,
    offloop.TaskQuarantined: 422,
    offloop.QueueTimeout: 503,
    offloop.TaskTimeout: 504,
    ClientDisconnect: 499,  # the client does not read it
}
STATUS_OF_CODE = {"too_many_pixels": 413, "too_many_pages": 413, "unsupported_format": 415}


class Wish(msgspec.Struct):
    """What the query asks for."""

    width: int | None = None
    height: int | None = None
    format: str = "webp"

    def pipeline(self) -> list[Operation]:
        if self.format not in ENCODERS:
            raise InvalidTask(f"format={self.format!r}: one of {', '.join(ENCODERS)}")
        return [Resize(self.width, self.height, fit="inside"), ENCODERS[self.format]()]


async def thumbnail(request: Request) -> Response:
    try:
        pipeline = msgspec.convert(dict(request.query_params), Wish, strict=False).pipeline()
    except msgspec.ValidationError as error:
        raise InvalidTask(str(error)) from None
    result = await run_while_connected(request, await receive(request), pipeline)
    return StreamingResponse(slices(result), 200, {"content-length": str(len(result))}, result.info.media_type)


async def health(request: Request) -> Response:
    return Response(msgspec.json.encode(request.state.pool.statistics()), media_type="application/json")


async def receive(request: Request) -> Buffer:
    """The body, written into shared memory as it comes.

    `Pool.receive` reads nothing while it waits for memory, and a client that leaves is noticed by reading only. So another task
    reads ahead: up to `READ_AHEAD` chunks, then until the client leaves.
    """
    announced = int(request.headers.get("content-length", 0))
    if announced > MAX_SOURCE_BYTES:
        raise SourceTooLarge(announced, MAX_SOURCE_BYTES)
    pool: Pool = request.state.pool
    writer, chunks = anyio.create_memory_object_stream[bytes](READ_AHEAD)

    async def read_to_the_end() -> None:
        with suppress(ClientDisconnect):
            async for chunk in request.stream():
                await writer.send(chunk)
            writer.close()  # only after a whole body, because its end is the end of the source
            await disconnected(request)

    async with writer, chunks:
        return await unless_ended(
            read_to_the_end, lambda: pool.receive(chunks, max_bytes=MAX_SOURCE_BYTES, expected_bytes=announced)
        )


async def run_while_connected(request: Request, source: Buffer, pipeline: list[Operation]) -> Result:
    """The task's result; the task is cancelled if the client leaves."""
    return await unless_ended(lambda: disconnected(request), lambda: request.state.pool.run(source, pipeline))


async def disconnected(request: Request) -> None:
    """Return when the client has left. The body has been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def unless_ended(watch: Callable[[], Awaitable[None]], work: Callable[[], Awaitable[Outcome]]) -> Outcome:
    """What the work returns. It is cancelled when `watch` ends first.

    Raises:
        ClientDisconnect: `watch` ended first.
    """
    outcome: list[Outcome] = []
    failure: Exception = ClientDisconnect()

    async def cancel_when_ended() -> None:
        await watch()
        either.cancel_scope.cancel()

    async with anyio.create_task_group() as either:
        either.start_soon(cancel_when_ended)
        try:
            outcome.append(await work())
        except OffloopError as error:  # kept out of the group, which would wrap it
            failure = error
        either.cancel_scope.cancel()
    if outcome:
        return outcome[0]
    raise failure


async def slices(result: Result) -> AsyncIterator[memoryview]:
    """The result's memory, in place; it goes back to the pool when the last slice is sent."""
    for start in range(0, len(result), SLICE_NBYTES):
        yield result.data[start : start + SLICE_NBYTES]


async def refuse(_request: Request, error: Exception) -> Response:
    """The client gets a sentence that is made for clients; the log gets all that is known."""
    status = next((STATUS_OF_ERROR[kind] for kind in type(error).__mro__ if kind in STATUS_OF_ERROR), 500)
    if isinstance(error, TaskFailed):
        status = STATUS_OF_CODE.get(error.code, status)
    headers = {"retry-after": "1"} if status == 429 else {}
    if status >= 500:
        log.error("%s", error, exc_info=error)
    detail = error.public_message if isinstance(error, OffloopError) else ""
    return JSONResponse({"error": type(error).__name__, "detail": detail}, status, headers)


def make_app(**settings: Any) -> Starlette:
    """The application, whose pool has these settings."""

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncGenerator[dict[str, Pool]]:
        async with Pool(**settings) as pool:
            yield {"pool": pool}

    routes = [Route("/thumbnail", thumbnail, methods=["POST"]), Route("/health", health)]
    handlers = cast("Any", {OffloopError: refuse, ClientDisconnect: refuse})
    return Starlette(routes=routes, lifespan=lifespan, exception_handlers=handlers)


app = make_app(timeout=10, max_queue=100)
