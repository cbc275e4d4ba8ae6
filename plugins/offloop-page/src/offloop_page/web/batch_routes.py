"""Routes of batches: create, read, follow, cancel, delete, archive, upload to the storage."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from offloop import SourceTooLarge

from ..batches.batch import Batch
from ..batches.conversion import Conversion
from ..batches.failures import failure_of
from ..batches.file_state import FileState
from ..page_state import PageState
from .archive import archive
from .bodies import read_json
from .event_stream import event_stream
from .problems import Problem

__all__ = ["ROUTES", "batch_of", "client_of", "page_of"]

KEY = r"^[A-Za-z0-9_-]{1,64}$"


class Announcement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file that will be sent."""

    key: Annotated[str, Meta(pattern=KEY)]
    name: Annotated[str, Meta(max_length=4096)]
    nbytes: Annotated[int, Meta(ge=0)] = 0


def page_of(request: Request) -> PageState:
    """Returns what all requests share."""
    return request.app.state.page


def client_of(request: Request) -> str:
    """Returns the address of the client, which is the tenant of its tasks."""
    return "local" if request.client is None else request.client.host


def batch_of(request: Request) -> Batch:
    """Returns the batch of a request.

    Raises:
        Problem: there is none.
    """
    batch = page_of(request).store.find(request.path_params["batch_id"])
    if batch is None:
        raise Problem(404, "no_batch", "There is no such batch, or it was dropped after a time.", "Start a new one.")
    return batch


async def create(request: Request) -> Response:
    conversion = await read_json(request, Conversion)
    conversion.check()
    batch = page_of(request).store.create(client_of(request), conversion)
    return JSONResponse(batch.to_dict(), 201, {"location": f"{request.url.path}/{batch.batch_id}"})


async def read(request: Request) -> Response:
    return JSONResponse(batch_of(request).to_dict(), headers={"cache-control": "no-store"})


async def change(request: Request) -> Response:
    """Settings for the files that are sent from now on."""
    batch = batch_of(request)
    conversion = await read_json(request, Conversion)
    conversion.check()
    batch.conversion = conversion
    return JSONResponse(batch.to_dict(since=batch.revision))


async def delete(request: Request) -> Response:
    page_of(request).store.drop(batch_of(request))
    return Response(status_code=204)


async def cancel(request: Request) -> Response:
    return JSONResponse({"cancelled": batch_of(request).cancel_all()})


async def announce(request: Request) -> Response:
    """Names of files that will be sent, so that every page of the batch shows them at once."""
    batch = batch_of(request)
    files = await read_json(request, list[Announcement])
    new = [file for file in files if file.key not in batch.files]
    page_of(request).store.check_room(batch, len(new), sum(file.nbytes for file in new))
    entries = [batch.add(file.key, file.name, file.nbytes) for file in files]
    limit = page_of(request).settings.max_file_bytes
    for entry in entries:
        if entry.nbytes > limit and entry.state is FileState.EXPECTED:
            batch.refuse(entry, failure_of(SourceTooLarge(entry.nbytes, limit)))  # before its bytes travel in vain
    return JSONResponse([entry.to_dict() for entry in entries], 201)


async def events(request: Request) -> Response:
    page = page_of(request)
    return event_stream(request, batch_of(request), page.settings.event_stream_s, page.closing)


async def download(request: Request) -> Response:
    return archive(batch_of(request))


async def upload(request: Request) -> Response:
    """Begin to send all results that are not stored yet to the storage."""
    page = page_of(request)
    if page.storage is None:
        raise Problem(409, "no_storage", "This server has no storage.", "Tell the operator to set OFFLOOP_PAGE_STORAGE.")
    return JSONResponse({"uploads": page.storage.start(batch_of(request))}, 202)


_BATCH = "/api/batches/{batch_id}"

ROUTES = [
    Route("/api/batches", create, methods=["POST"]),
    Route(_BATCH, read, methods=["GET"]),
    Route(_BATCH, change, methods=["PATCH"]),
    Route(_BATCH, delete, methods=["DELETE"]),
    Route(f"{_BATCH}/cancel", cancel, methods=["POST"]),
    Route(f"{_BATCH}/files", announce, methods=["POST"]),
    Route(f"{_BATCH}/events", events, methods=["GET"]),
    Route(f"{_BATCH}/archive", download, methods=["GET"]),
    Route(f"{_BATCH}/upload", upload, methods=["POST"]),
]
