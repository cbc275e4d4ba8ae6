"""Security of all requests: headers of responses, accepted hosts, origins of writes, the token."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .bodies import read_json
from .problems import Problem

__all__ = ["COOKIE", "Security", "open_session"]

COOKIE = "offloop_page_token"

_SOURCES = {
    "default-src": "'self'",
    "img-src": "'self' blob:",  # originals of the comparison, which stay in the browser
    "media-src": "'self' blob:",  # the music of the live page
    "object-src": "'none'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}
_HEADERS = {
    "content-security-policy": "; ".join(f"{name} {value}" for name, value in _SOURCES.items()),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
_SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
_OPEN_API_PATHS = {"/api/session"}  # the only path of the API that needs no token, because it takes it
_POLICY_VIOLATION = 1008  # code of a closed WebSocket


class Security:
    """Middleware: refuses requests that a browser made for another site, and those without the token."""

    def __init__(self, app: ASGIApp, token: str, allowed_hosts: Iterable[str]) -> None:
        self._app = app
        self._token = token
        self._hosts = {host.lower() for host in allowed_hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with a problem."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        problem = self._refusal(HTTPConnection(scope))
        if problem is None:
            await self._app(scope, receive, send if scope["type"] == "websocket" else _with_headers(send))
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": problem.detail})
        else:
            await problem.response()(scope, receive, _with_headers(send))

    def _refusal(self, connection: HTTPConnection) -> Problem | None:
        headers = connection.headers
        if self._hosts and _host_name(headers.get("host", "")) not in self._hosts:
            return Problem(
                421, "host", "This server does not answer for this host name.", "Use the address that it was started with."
            )
        is_write = connection.scope["type"] == "websocket" or connection.scope["method"] not in _SAFE_METHODS
        if is_write and not _is_same_origin(headers):
            return Problem(403, "origin", "A page of another site made this request.", "Open the page of this server.")
        path = _path_below_mount(connection.scope)
        if self._token and path.startswith("/api/") and path not in _OPEN_API_PATHS and not self._has_token(connection):
            return Problem(
                401,
                "token",
                "This server requires a token.",
                "Send it as 'Authorization: Bearer ...', or open the address with '#token=' that the server has printed.",
                {"www-authenticate": "Bearer"},
            )
        return None

    def _has_token(self, connection: HTTPConnection) -> bool:
        kind, _, given = connection.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer":
            given = connection.cookies.get(COOKIE, "")
        return is_token(given.strip(), self._token)


async def open_session(request: Request) -> Response:
    """Take the token once, and set it as a cookie that no script reads.

    Raises:
        Problem: it is wrong.
    """
    token: str = request.app.state.page.settings.token
    body = await read_json(request, dict[str, str])
    if token and not is_token(body.get("token", ""), token):
        raise Problem(401, "token", "This is not the token of this server.", "Open the address that the server has printed.")
    response = Response(status_code=204)
    if token:
        path = request.scope.get("root_path", "") + "/"
        is_https = request.url.scheme == "https"
        response.set_cookie(COOKIE, token, path=path, httponly=True, samesite="strict", secure=is_https)
    return response


def is_token(given: str, token: str) -> bool:
    """Returns whether a client has given the token. The time does not depend on where the two differ."""
    return hmac.compare_digest(given.encode(), token.encode())


def _is_same_origin(headers: Headers) -> bool:
    """Returns whether a request comes from a page of this server, or from no page, such as one of curl."""
    site = headers.get("sec-fetch-site")
    if site is not None and site not in ("same-origin", "none"):
        return False
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc.lower() == headers.get("host", "").lower()


def _host_name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _path_below_mount(scope: Scope) -> str:
    return scope["path"].removeprefix(scope.get("root_path", ""))


def _with_headers(send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers: Any = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return send_with_headers
