"""Bodies of requests, and uploaded files, into shared memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from starlette.datastructures import UploadFile
from starlette.requests import Request

from ..client.buffers import Buffer
from ..errors import SourceTooLarge
from ..pool import Pool
from .problems import Problem
from .request_channel import cancel_on_disconnect

__all__ = ["announced_length", "receive"]

_FORM_OVERHEAD_NBYTES = 64 * 1024  # boundaries, headers and other fields of a form beside its file
_CHUNK_NBYTES = 256 * 1024  # what is read at once from an uploaded file


async def receive(
    pool: Pool,
    body: Request | UploadFile,
    *,
    max_bytes: int,
    field: str = "file",
    idle_timeout: float | None = 30.0,
    total_timeout: float | None = None,
) -> Buffer:
    """Write the body of a request, or an uploaded file, into shared memory, and return it as a source for `pool.run`.

        source = await receive(pool, request, max_bytes=50_000_000)

    A raw body goes from the socket into shared memory, chunk by chunk. Of a form (multipart/form-data) it is the file in one
    field. Starlette, with python-multipart, keeps that in a temporary file first; so does FastAPI with a parameter
    `UploadFile`. For several tasks, call `share()` of the buffer.

    Args:
        pool: the pool.
        body: a request whose body was not read, or an upload of Starlette or FastAPI.
        max_bytes: maximum length of the file in bytes. A longer body is refused by its Content-Length, before it is read.
        field: name of the field of a form.
        idle_timeout: seconds without a byte after which the request is refused; None: no limit. Of no effect for an upload.
        total_timeout: seconds in which the whole body must have come; None: no limit. Of no effect for an upload.

    Raises:
        SourceTooLarge: the file has more than `max_bytes`.
        ClientDisconnect: the client has left. The memory is returned.
        Problem: 400, 408, 422: the Content-Length is no number, the body comes too slowly, the form has no such file.
        OffloopError: every error of `Pool.receive`.
    """
    if isinstance(body, UploadFile):
        return await _receive_upload(pool, body, max_bytes)
    length = announced_length(body)
    is_form = body.headers.get("content-type", "").lower().startswith("multipart/form-data")
    limit = max_bytes + _FORM_OVERHEAD_NBYTES * is_form
    if length > limit:
        raise SourceTooLarge(length, max_bytes)
    async with cancel_on_disconnect(body, idle_timeout=idle_timeout, total_timeout=total_timeout):
        if not is_form:
            return await pool.receive(body.stream(), max_bytes=max_bytes, expected_bytes=length)
        return await _receive_form(pool, _bounded(body, limit, max_bytes), max_bytes, field)


def announced_length(request: Request) -> int:
    """Return the Content-Length of a request in bytes; 0 if it has none.

    Raises:
        Problem: 400: it is no number.
    """
    text = request.headers.get("content-length", "0")
    if not (text.isascii() and text.isdecimal()):
        raise Problem(400, "content_length", "the Content-Length is no number")
    return int(text)


async def _receive_form(pool: Pool, request: Request, max_bytes: int, field: str) -> Buffer:
    async with request.form(max_files=1) as form:
        upload = form.get(field)
        if not isinstance(upload, UploadFile):
            raise Problem(422, "no_file", f"the form has no file in the field {field!r}")
        return await _receive_upload(pool, upload, max_bytes)


async def _receive_upload(pool: Pool, upload: UploadFile, max_bytes: int) -> Buffer:
    if (upload.size or 0) > max_bytes:
        raise SourceTooLarge(upload.size or 0, max_bytes)
    return await pool.receive(_chunks(upload), max_bytes=max_bytes, expected_bytes=upload.size)


async def _chunks(upload: UploadFile) -> AsyncIterator[bytes]:
    await upload.seek(0)
    while chunk := await upload.read(_CHUNK_NBYTES):
        yield chunk


def _bounded(request: Request, limit: int, max_bytes: int) -> Request:
    """Return the request with a body of at most `limit` bytes, because a form is written to a disk before it is measured."""
    received = 0

    async def receive_bounded() -> Any:
        nonlocal received
        message = await request.receive()
        received += len(message.get("body", b""))
        if received > limit:
            raise SourceTooLarge(received, max_bytes)
        return message

    return Request(request.scope, receive_bounded)
