"""`instrument(pool)`: connects the pool's events and statistics with a tracer and a meter."""

from __future__ import annotations

from importlib.metadata import version
from types import TracebackType
from typing import Self

from opentelemetry import metrics, trace

from ..pool import Pool
from .pool_metrics import PoolMetrics
from .task_tracer import TaskTracer

__all__ = ["Instrumentation", "instrument"]

_SCOPE = "offloop"  # name of the instrumentation scope


class Instrumentation:
    """The connection of one pool with OpenTelemetry, from `instrument`. A context manager, sync and async, that ends it."""

    def __init__(self, pool: Pool, tracer: TaskTracer, pool_metrics: PoolMetrics) -> None:
        self._pool = pool
        self._tracer = tracer
        self._metrics = pool_metrics
        pool.add_observer(tracer)
        pool.add_observer(pool_metrics)

    def close(self) -> None:
        """Make no more spans, and report no more values. May be called again. Tasks that still run get no span."""
        self._pool.remove_observer(self._tracer)
        self._pool.remove_observer(self._metrics)
        self._metrics.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def instrument(
    pool: Pool,
    *,
    name: str = "",
    tracer_provider: trace.TracerProvider | None = None,
    meter_provider: metrics.MeterProvider | None = None,
    max_tenants: int = 20,
) -> Instrumentation:
    """Make a span for each task of a pool, and report its metrics.

    The span `offloop.run` has the span of the caller as its parent, and three kinds of children: `offloop.stage` (until the
    sources are in place), `offloop.wait` (for a worker) and `offloop.execute` (one for each worker that had the task). Calls
    that share the task of another call are links. It may be called before the pool is entered.

    Args:
        pool: the pool.
        name: value of the attribute `offloop.pool` of spans and metrics, for several pools of a process; empty: no attribute.
        tracer_provider, meter_provider: the providers. Default: the global ones.
        max_tenants: maximum number of tenants with values of their own; the others are added up as "(others)".

    Returns:
        The connection. `close` it, or leave it as a block, if the process outlives the pool.

    Raises:
        ValueError: `max_tenants` is negative.
    """
    if max_tenants < 0:
        raise ValueError(f"max_tenants={max_tenants!r}: must be at least 0")
    common = {"offloop.pool": name} if name else {}
    tracer = trace.get_tracer(_SCOPE, version("offloop"), tracer_provider)
    meter = metrics.get_meter(_SCOPE, version("offloop"), meter_provider)
    return Instrumentation(pool, TaskTracer(tracer, common), PoolMetrics(meter, pool, common, max_tenants))
