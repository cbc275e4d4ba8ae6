"""Bodies of requests: JSON with a limit of length."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from starlette.requests import Request

from .problems import Problem

__all__ = ["read_json"]

_MAX_JSON_BYTES = 1_000_000  # a list of the names of 2,000 files

Value = TypeVar("Value")


async def read_json(request: Request, kind: type[Value] | Any) -> Value:
    """Returns the body as a value of that type.

    Raises:
        Problem: it is too long, or no such value.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_JSON_BYTES:
            raise Problem(
                413, "too_large", f"The request has more than {_MAX_JSON_BYTES:,} bytes.", "Send fewer names at a time."
            )
    try:
        return msgspec.json.decode(bytes(body or b"{}"), type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Problem(422, "invalid", f"The request is not understood: {error}.", "See openapi.json of this server.") from None
