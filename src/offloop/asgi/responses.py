"""Responses out of shared memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import quote

from starlette.background import BackgroundTask
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from ..client.results import Result

__all__ = ["ResultResponse"]

_SLICE_NBYTES = 64 * 1024  # what is copied at a time; a slow client never has more of it waiting


class ResultResponse(StreamingResponse):
    """Sends a `Result`, or a view that `pool.call` returned, in slices out of shared memory, without a copy of the whole.

    The memory is returned to the pool when the last slice is sent, or when the client has left.
    """

    def __init__(
        self,
        result: Result | memoryview | bytes,
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
        media_type: str | None = None,
        *,
        filename: str | None = None,
        background: BackgroundTask | None = None,
    ) -> None:
        """Create a response.

        Args:
            result: a result in memory, or contiguous bytes.
            status_code: HTTP status.
            headers: further headers of the response.
            media_type: None: that of the result's information, else "application/octet-stream".
            filename: name under which a browser saves the file; None: the browser shows it.
            background: a task that runs after the response, as for any response.

        Raises:
            ValueError: the result was written to a file (`to=`); send that with `FileResponse`.
        """
        if isinstance(result, Result):
            if result.path is not None:
                raise ValueError(f"this result is in the file {str(result.path)!r}; send it with FileResponse")
            media_type = media_type or result.info.get("media_type")
            data = result.data
        else:
            data = memoryview(result)
        data = data.cast("B") if data.nbytes else memoryview(b"")
        own = {"content-length": str(data.nbytes)}
        if filename is not None:
            own["content-disposition"] = f"attachment; filename*=UTF-8''{quote(filename, safe='')}"
        super().__init__(
            _slices(data), status_code, {**own, **(headers or {})}, media_type or "application/octet-stream", background
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response, and return its memory."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            body: Any = self.body_iterator
            await body.aclose()  # also of a client that has left, whose last slice was never sent


async def _slices(data: memoryview) -> AsyncIterator[memoryview]:
    for start in range(0, len(data), _SLICE_NBYTES):
        yield data[start : start + _SLICE_NBYTES]
