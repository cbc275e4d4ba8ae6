"""A route for health checks of a load balancer or an orchestrator."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from .lifespan import pool_of

__all__ = ["health"]

_UNAVAILABLE = 503


async def health(request: Request) -> Response:
    """Answer with the verdict of `Statistics.health` as JSON: 503 if the pool cannot run tasks, otherwise 200.

    Route("/health", health)                      # Starlette
    app.add_route("/health", health)              # FastAPI
    """
    verdict = pool_of(request).statistics().health
    status = _UNAVAILABLE if verdict.status == "failing" else 200
    return JSONResponse({"status": verdict.status, "reasons": verdict.reasons}, status, {"cache-control": "no-store"})
