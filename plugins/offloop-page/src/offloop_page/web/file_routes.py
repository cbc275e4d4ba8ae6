"""Routes of the files of a batch: send one, cancel it, its results and its preview."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from urllib.parse import quote

import anyio
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from offloop import Buffer, OffloopError, SourceTooLarge
from offloop.asgi import ResultResponse, announced_length, cancel_on_disconnect

from ..batches.batch import Attempt
from ..batches.failures import Failure, failure_of
from ..batches.file_entry import FileEntry, KeptResult
from ..batches.file_state import FileEvent, FileState
from ..page_state import PageState
from .batch_routes import KEY, batch_of, client_of, page_of
from .problems import Problem, problem_of

__all__ = ["ROUTES"]

_INTERRUPTED = Failure("interrupted", "The upload was interrupted.", "Retry, or choose the file again.", can_retry=True)
_WAIT = re.compile(r"(?:^|[,;\s])wait(?:=(\d{1,4}))?(?:$|[,;\s])")
_MAX_WAIT_S = 300.0


async def send(request: Request) -> Response:
    """Receive a file and convert it. The body is the file itself, so it is in memory once."""
    page, batch, key = page_of(request), batch_of(request), request.path_params["key"]
    if not re.match(KEY, key):
        raise Problem(422, "invalid", "The key of a file has 1 to 64 letters, digits, '-' or '_'.", "Send its name as ?name=.")
    length = announced_length(request)
    with page.store.upload_of(client_of(request)):
        if key not in batch.files:
            page.store.check_room(batch, 1, length)
        entry = batch.add(key, request.query_params.get("name", key), length)
        attempt = batch.begin(entry, length)
        if attempt is None:
            raise Problem(409, "in_progress", "This file is being sent or converted.", "Cancel it first.")
        source = await _receive(request, page, attempt, length)
    task = page.converter.start(attempt, source)
    del source
    if wait_s := _preferred_wait(request):
        await asyncio.wait({task}, timeout=wait_s)
    return JSONResponse(entry.to_dict(), 200 if entry.state.has_ended else 202)


async def _receive(request: Request, page: PageState, attempt: Attempt, length: int) -> Buffer:
    """Returns the file in shared memory. If that fails, the file has failed, too."""
    settings = page.settings
    try:
        if length > settings.max_file_bytes:
            raise SourceTooLarge(length, settings.max_file_bytes)  # noqa: TRY301 (a refusal that the file shows, too)
        page.store.make_room_for_results(attempt.batch)
        async with cancel_on_disconnect(request, idle_timeout=settings.upload_idle_s, total_timeout=settings.upload_s):
            source: Buffer | None = None
            with anyio.CancelScope() as scope:
                attempt.entry.stop = scope.cancel
                source = await page.converter.receive(_counted(request, attempt), settings.max_file_bytes, length)
            if source is None:
                raise _cancelled()  # noqa: TRY301 (as above)
    except ClientDisconnect:
        attempt.fail(_INTERRUPTED)
        raise
    except OffloopError as error:
        attempt.fail(failure_of(error))
        raise
    except Exception as error:
        problem = problem_of(error)
        attempt.fail(Failure(problem.code, problem.detail, problem.advice, can_retry=True))
        raise
    if not attempt.tell(FileEvent.RECEIVED):
        raise _cancelled()
    attempt.entry.nbytes = source.nbytes
    return source


async def _counted(request: Request, attempt: Attempt) -> AsyncIterator[bytes]:
    """The chunks of a body. The first one is asked for when the pool has memory for the file."""
    attempt.tell(FileEvent.MEMORY_GRANTED)
    async for chunk in request.stream():
        attempt.entry.received += len(chunk)
        attempt.batch.changed(attempt.entry)
        yield chunk


def _cancelled() -> Problem:
    return Problem(409, "cancelled", "The file was cancelled.", "Send it again.")


def _preferred_wait(request: Request) -> float:
    """Returns the seconds that the client wants to wait for the results (RFC 7240); 0: it does not."""
    found = _WAIT.search(request.headers.get("prefer", ""))
    return 0.0 if found is None else min(float(found[1] or _MAX_WAIT_S), _MAX_WAIT_S)


def _entry_of(request: Request) -> FileEntry:
    entry = batch_of(request).files.get(request.path_params["key"])
    if entry is None:
        raise Problem(404, "no_file", "The batch has no file with this key.", "Send it first.")
    return entry


async def read(request: Request) -> Response:
    return JSONResponse(_entry_of(request).to_dict(), headers={"cache-control": "no-store"})


async def cancel(request: Request) -> Response:
    entry = _entry_of(request)
    if not batch_of(request).cancel(entry) and entry.state is not FileState.CANCELLED:
        raise Problem(409, "ended", "The file has ended already.", "Its results are dropped with its batch.")
    return JSONResponse(entry.to_dict())


async def preview(request: Request) -> Response:
    entry = _entry_of(request)
    if entry.preview is None:
        raise Problem(404, "no_preview", "This file has no preview.", "Wait until it is converted.")
    return Response(entry.preview, media_type="image/webp", headers={"cache-control": "private, no-cache"})


async def result(request: Request) -> Response:
    key = request.path_params["result_key"]
    kept = next((kept for kept in _entry_of(request).results if kept.key == key), None)
    if kept is None:
        raise Problem(404, "no_result", "This file has no such result.", "Wait until it is done.")
    headers = {
        "cache-control": "private, no-cache",
        "content-disposition": _attachment(kept),
        "etag": f'"{kept.sha256}"',
    }
    if request.headers.get("if-none-match") == headers["etag"]:
        return Response(status_code=304, headers=headers)
    return ResultResponse(kept.result, headers=headers)


def _attachment(kept: KeptResult) -> str:
    """Returns the Content-Disposition with the file's own name, in UTF-8 (RFC 6266)."""
    return f"attachment; filename*=UTF-8''{quote(kept.file_name.rpartition('/')[2], safe='')}"


_FILE = "/api/batches/{batch_id}/files/{key}"

ROUTES = [
    Route(_FILE, send, methods=["PUT"]),
    Route(_FILE, read, methods=["GET"]),
    Route(_FILE, cancel, methods=["DELETE"]),
    Route(f"{_FILE}/preview", preview, methods=["GET"]),
    Route(f"{_FILE}/results/{{result_key}}", result, methods=["GET"]),
]
