"""The pool of an application: entered when it starts, left when it stops, and found by its requests."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

from starlette.requests import HTTPConnection

from ..pool import Pool

__all__ = ["pool_lifespan", "pool_of"]

_KEY = "pool"  # name of the pool in the state of the lifespan, so `request.state.pool` is the pool, too


def pool_lifespan(
    lifespan: Callable[[Any], AbstractAsyncContextManager[Mapping[str, Any] | None]] | None = None,
    *,
    env_prefix: str | None = "OFFLOOP_",
    **settings: Any,
) -> Callable[[Any], AbstractAsyncContextManager[dict[str, Any]]]:
    """Return a lifespan with a pool, for `Starlette(lifespan=...)` and `FastAPI(lifespan=...)`.

        app = FastAPI(lifespan=pool_lifespan(max_queue=100, timeout=10))

    Each start of the application enters a new pool, and its end leaves it. The settings are checked at once.

    Args:
        lifespan: a lifespan of the application, which is entered after the pool and left before it. Its state is kept.
        env_prefix: prefix of the environment variables that go before `settings`, as for `Pool.from_env`. None: none are read.
        settings: arguments of `Pool`.

    Raises:
        ValueError, TypeError: a setting is out of its range, or of the wrong type.
    """

    def make_pool() -> Pool:
        return Pool(**settings) if env_prefix is None else Pool.from_env(env_prefix, **settings)

    make_pool()  # because a wrong setting should be an error of the line that has it

    @asynccontextmanager
    async def lifespan_with_pool(app: Any) -> AsyncGenerator[dict[str, Any]]:
        async with AsyncExitStack() as stack:
            pool = await stack.enter_async_context(make_pool())
            own = None if lifespan is None else await stack.enter_async_context(lifespan(app))
            yield {**(own or {}), _KEY: pool}

    return lifespan_with_pool


def pool_of(connection: HTTPConnection) -> Pool:
    """Return the pool of a request or web socket, of an application with `pool_lifespan`.

    Raises:
        LookupError: the application has none.
    """
    pool = connection.scope.get("state", {}).get(_KEY)
    if not isinstance(pool, Pool):
        raise LookupError(  # noqa: TRY004 (because nothing is of a wrong type: it is missing)
            "this request has no pool: give the outermost application lifespan=pool_lifespan(...); a test client has to run "
            "the lifespan, such as `with TestClient(app)`"
        )
    return pool
