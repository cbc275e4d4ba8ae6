"""Errors as problem JSON (RFC 9457): what was asked, what there was, what to do."""

from __future__ import annotations

import logging
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

import offloop
from offloop import OffloopError, asgi

from ..batches.batch_store import LimitReached
from ..batches.failures import Failure, failure_of

__all__ = ["HANDLERS", "Problem", "problem_of"]

_log = logging.getLogger("offloop.page")

_TOO_MANY, _FULL = 429, 507
_STATUS_OF_LIMIT = {
    "batches": 503,
    "batches_of_client": _TOO_MANY,
    "uploads_of_client": _TOO_MANY,
    "files": 413,
    "batch_bytes": 413,
    "results": _FULL,
}
_ADVICE_OF_LIMIT = {
    "batches": "Retry later.",
    "batches_of_client": "Delete a batch, or retry later.",
    "uploads_of_client": "Send fewer files at a time.",
    "files": "Put further files into another batch.",
    "batch_bytes": "Put further files into another batch.",
    "results": "Download results and delete their batch, or retry later.",
}

_SERVER_ERROR = 500


class Problem(asgi.Problem):
    """An error for a client."""

    def __init__(self, status: int, code: str, detail: str, advice: str = "", headers: dict[str, str] | None = None) -> None:
        self.advice = advice  # one sentence: what to do
        super().__init__(status, code, detail, headers, advice=advice)


_TOO_SLOW = Problem(408, "too_slow", "The file came too slowly.", "Retry on a faster connection.")


def problem_of(error: Exception) -> Problem:
    """Returns the problem for an error."""
    match error:
        case Problem():
            return error
        case asgi.Problem():
            too_slow = error.code == _TOO_SLOW.code
            return _TOO_SLOW if too_slow else Problem(error.status, error.code, error.detail, headers=error.headers)
        case LimitReached(limit=limit):
            status = _STATUS_OF_LIMIT[limit]
            headers = {"retry-after": "1"} if status in (_TOO_MANY, 503) else {}
            return Problem(status, f"limit_{limit}", f"The limit is {error.maximum:,}.", _ADVICE_OF_LIMIT[limit], headers)
        case OffloopError():
            return problem_of_failure(failure_of(error), _status_of(error))
        case HTTPException():
            return Problem(error.status_code, "http", error.detail or "", headers=dict(error.headers or {}))
        case _:
            return Problem(_SERVER_ERROR, "internal", "The server failed.", "Tell the operator of the server.")


def _status_of(error: OffloopError) -> int:
    """Returns the status of an error: that of `offloop.asgi`, with two exceptions."""
    if isinstance(error, offloop.MemoryLimitExceeded) and error.is_temporary:
        return _FULL  # because results are kept: others may be dropped
    return _TOO_MANY if isinstance(error, offloop.QueueFull) else asgi.status_of(error)


def problem_of_failure(failure: Failure, status: int) -> Problem:
    """Returns the problem for the failure of a file."""
    headers = {"retry-after": "1"} if status in (_TOO_MANY, 503) else {}
    return Problem(status, failure.code, failure.detail, failure.advice, headers)


async def _answer(_request: Request, error: Exception) -> Response:
    problem = problem_of(error)
    if problem.status == _SERVER_ERROR:
        _log.error("a request failed by a defect", exc_info=error)
    return problem.response()


HANDLERS: dict[Any, Any] = {
    **asgi.EXCEPTION_HANDLERS,
    asgi.Problem: _answer,
    LimitReached: _answer,
    OffloopError: _answer,
    HTTPException: _answer,
    Exception: _answer,
}
"""Exception handlers of the application."""
