"""Answers for the methods that a path of the API does not have."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

__all__ = ["refusing_routes"]

_METHODS = frozenset(("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"))
_NOT_ALLOWED = 405


def refusing_routes(routes: Iterable[Route]) -> list[Route]:
    """Returns a route for each path, with the methods that none of the given routes has: 405, with all methods of the path in
    `Allow`. Starlette's own answer names those of one route only, or those of the static files behind it."""
    methods: dict[str, set[str]] = {}
    for route in routes:
        methods.setdefault(route.path, set()).update(route.methods or ())
    return [Route(path, _refusal(found), methods=sorted(_METHODS - found)) for path, found in methods.items()]


def _refusal(methods: Iterable[str]) -> Callable[[Request], Awaitable[Response]]:
    allow = ", ".join(sorted(methods))

    async def refuse(request: Request) -> Response:
        raise HTTPException(_NOT_ALLOWED, f"{request.method} is not allowed here.", {"allow": allow})

    return refuse
