"""Errors as HTTP responses: one table of errors to status, and problem JSON (RFC 9457).

A client gets `error.public_message`, which is made for clients. The log gets all that is known about an error of the server.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from ..errors import (
    InvalidTask,
    MemoryLimitExceeded,
    OffloopError,
    PoolClosed,
    QueueFull,
    QueueTimeout,
    SourceTooLarge,
    TaskFailed,
    TaskQuarantined,
    TaskTimeout,
    WorkerDied,
)

__all__ = ["EXCEPTION_HANDLERS", "STATUS_OF_CODE", "STATUS_OF_ERROR", "Problem", "problem_of", "status_of"]

_log = logging.getLogger("offloop.asgi")

_INTERNAL, _UNAVAILABLE, _TIMEOUT, _CLIENT_LEFT = 500, 503, 504, 499

STATUS_OF_ERROR: dict[type[Exception], int] = {
    InvalidTask: 422,
    TaskFailed: 422,
    TaskQuarantined: 422,
    SourceTooLarge: 413,
    MemoryLimitExceeded: 413,
    QueueFull: _UNAVAILABLE,
    QueueTimeout: _UNAVAILABLE,
    PoolClosed: _UNAVAILABLE,
    WorkerDied: _UNAVAILABLE,
    TaskTimeout: _TIMEOUT,
}
"""HTTP status by type of error. Other errors, such as `PluginError`, are errors of the server: 500."""

STATUS_OF_CODE: dict[str, int] = {
    "too_many_pixels": 413,
    "too_many_pages": 413,
    "memory_limit": 413,
    "unsupported_format": 415,
    "exception": _INTERNAL,  # an exception that the function or processor did not expect
    "invalid_result": _INTERNAL,
    "cannot_write": _INTERNAL,
}
"""HTTP status of `TaskFailed` by its code, where it is not 422."""


class Problem(Exception):
    """An error for a client: a response in problem JSON. Raise it, or return its `response()`."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        headers: Mapping[str, str] | None = None,
        **members: Any,
    ) -> None:
        """Create a problem.

        Args:
            status: HTTP status.
            code: stable identifier, for programs.
            detail: one sentence: what happened, or what to do.
            headers: further headers of the response.
            members: further members of the JSON object.
        """
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = dict(headers or {})
        self.members = members
        super().__init__(detail)

    def response(self) -> Response:
        """Return the problem as a response, which is not to be cached. 503 comes with `Retry-After`."""
        body = {
            "type": f"urn:offloop:{self.code}",
            "title": self.code.replace("_", " "),
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
            **self.members,
        }
        headers = {"cache-control": "no-store", **({"retry-after": "1"} if self.status == _UNAVAILABLE else {}), **self.headers}
        return JSONResponse(body, self.status, headers, "application/problem+json")


def status_of(error: BaseException) -> int:
    """Return the HTTP status of an error, by `STATUS_OF_ERROR` and `STATUS_OF_CODE`. 503 for memory that others hold now."""
    if isinstance(error, Problem):
        return error.status
    if isinstance(error, TaskFailed) and error.code in STATUS_OF_CODE:
        return STATUS_OF_CODE[error.code]
    if isinstance(error, MemoryLimitExceeded) and error.is_temporary:
        return _UNAVAILABLE
    return next((STATUS_OF_ERROR[kind] for kind in type(error).__mro__ if kind in STATUS_OF_ERROR), _INTERNAL)


def problem_of(error: Exception) -> Problem:
    """Return the problem for an error. Of an error that is not of offloop, it has no text."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, OffloopError):
        return Problem(status_of(error), _code_of(error), error.public_message)
    return Problem(_INTERNAL, "internal", "an internal error of the service")


async def _answer(request: Request, error: Exception) -> Response:
    problem = problem_of(error)
    if problem.status in (_INTERNAL, _UNAVAILABLE, _TIMEOUT) and isinstance(error, OffloopError):
        level = logging.ERROR if problem.status == _INTERNAL or isinstance(error, WorkerDied) else logging.WARNING
        exc_info = error if level == logging.ERROR else None
        _log.log(level, "%s %s: %s: %s", request.method, request.url.path, type(error).__name__, error, exc_info=exc_info)
    return problem.response()


async def _answer_to_no_client(_request: Request, _error: Exception) -> Response:
    return Response(status_code=_CLIENT_LEFT)  # the client does not read it; servers' logs show it


EXCEPTION_HANDLERS: dict[Any, Any] = {OffloopError: _answer, Problem: _answer, ClientDisconnect: _answer_to_no_client}
"""Exception handlers for `Starlette(exception_handlers=...)` and `FastAPI(exception_handlers=...)`."""


def _code_of(error: OffloopError) -> str:
    if isinstance(error, TaskFailed):
        return error.code
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(error).__name__).lower()
