"""The ASGI application: routes, security, and the lifespan of its pool."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from offloop import Pool

from .batches.conversion import FORMATS, can_remove_background
from .live import routes as live_routes
from .page_state import PageState
from .settings import PageSettings, settings_from
from .web import batch_routes, file_routes
from .web.other_methods import refusing_routes
from .web.problems import HANDLERS
from .web.security import Security, open_session

__all__ = ["make_app"]

_STATIC = Path(__file__).parent / "static"
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SHOWN_LIMITS = ("max_file_bytes", "max_files", "max_batch_bytes", "max_track_bytes", "batch_age_s")


def make_app(
    pool: Pool | None = None, settings: PageSettings | None = None, *, pool_options: Mapping[str, Any] | None = None
) -> Starlette:
    """Returns the page as an ASGI application, to run or to mount.

        async with Pool() as pool:
            app = Starlette(routes=[Mount("/pictures", make_app(pool))])

    Args:
        pool: an entered pool, or one that is entered before the first request; it needs the plugin of offloop-vips. None: the
            application has a pool of its own, which its lifespan enters and leaves. Only the outermost application of a server
            has a lifespan, so a mounted one needs a pool.
        settings: None: those of the environment.
        pool_options: arguments of the application's own pool.

    Raises:
        ValueError, TypeError: a setting or an option of the pool is wrong, or the storage cannot be used.
    """
    settings = settings_from() if settings is None else settings
    has_own_pool = pool is None
    page = PageState(Pool(**(pool_options or {})) if pool is None else pool, settings)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncGenerator[None]:
        async with AsyncExitStack() as stack:
            if has_own_pool:
                await stack.enter_async_context(page.pool)
            stack.push_async_callback(page.close)
            stack.enter_context(_told_of_signals(page.closing.set))
            yield

    routes = [
        *batch_routes.ROUTES,
        *file_routes.ROUTES,
        *live_routes.ROUTES,
        Route("/api/session", open_session, methods=["POST"]),
        Route("/api/capabilities", capabilities, methods=["GET"]),
    ]
    app = Starlette(
        routes=[
            *routes,
            *refusing_routes(route for route in routes if isinstance(route, Route)),
            Mount("/", StaticFiles(directory=_STATIC, html=True)),
        ],
        middleware=[Middleware(Security, token=settings.token, allowed_hosts=settings.allowed_hosts)],
        exception_handlers=HANDLERS,
        lifespan=lifespan,
    )
    app.state.page = page
    return app


async def capabilities(request: Request) -> Response:
    """What this server can do, so that a page shows no control that would fail."""
    page: PageState = request.app.state.page
    limits: dict[str, Any] = {name: getattr(page.settings, name) for name in _SHOWN_LIMITS}
    return JSONResponse(
        {
            "formats": FORMATS,
            "remove_background": can_remove_background(),
            "storage": None if page.storage is None else page.storage.address,
            "live": live_routes.can_show(),
            "limits": msgspec.to_builtins(limits),
        },
        headers={"cache-control": "no-store"},
    )


@contextmanager
def _told_of_signals(tell: Callable[[], None]) -> Generator[None]:
    """Call `tell` when a signal stops the server, then the server's own handler.

    A server such as uvicorn waits for open responses before it tells the application that it stops. Without this an open event
    stream would delay each reload.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    found = {number: signal.getsignal(number) for number in _SIGNALS}

    def handle(number: int, frame: Any) -> None:
        loop.call_soon_threadsafe(tell)
        previous = found[signal.Signals(number)]
        if callable(previous):
            previous(number, frame)
        elif previous == signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    for number in _SIGNALS:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, previous in found.items():
            if signal.getsignal(number) is handle:
                signal.signal(number, previous)
