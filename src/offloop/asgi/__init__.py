"""Parts of a web service over a pool, for Starlette, FastAPI, and other ASGI frameworks. It needs `offloop[asgi]`.

    from offloop.asgi import EXCEPTION_HANDLERS, PoolDep, ResultResponse, pool_lifespan, receive, run_until_disconnect

    app = FastAPI(lifespan=pool_lifespan(max_queue=100), exception_handlers=EXCEPTION_HANDLERS)

lifespan          a pool for the life of the application, and the pool of a request
request_channel   watches for the client that leaves, also beside a body that is not read yet
bodies            bodies and uploads into shared memory
responses         results out of shared memory
problems          one table of errors to HTTP status; problem JSON (RFC 9457)
health            a verdict for health checks

Names are imported on first use, because `PoolDep` needs FastAPI, and the others do not.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .bodies import announced_length, receive
    from .dependency import PoolDep
    from .health import health
    from .lifespan import pool_lifespan, pool_of
    from .problems import EXCEPTION_HANDLERS, Problem, problem_of, status_of
    from .request_channel import cancel_on_disconnect, run_until_disconnect
    from .responses import ResultResponse

__all__ = [
    "EXCEPTION_HANDLERS",
    "PoolDep",
    "Problem",
    "ResultResponse",
    "announced_length",
    "cancel_on_disconnect",
    "health",
    "pool_lifespan",
    "pool_of",
    "problem_of",
    "receive",
    "run_until_disconnect",
    "status_of",
]

_MODULE_OF = {
    "EXCEPTION_HANDLERS": "problems",
    "PoolDep": "dependency",
    "Problem": "problems",
    "ResultResponse": "responses",
    "announced_length": "bodies",
    "cancel_on_disconnect": "request_channel",
    "health": "health",
    "pool_lifespan": "lifespan",
    "pool_of": "lifespan",
    "problem_of": "problems",
    "receive": "bodies",
    "run_until_disconnect": "request_channel",
    "status_of": "problems",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
