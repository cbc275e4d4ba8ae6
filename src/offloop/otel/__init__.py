"""OpenTelemetry: spans for tasks and metrics of pools. Needs the API package only, from the extra `offloop[otel]`.

    async with Pool() as pool, instrument(pool):
        ...

Spans are made when a task has ended, from the pool's events. Workers know nothing of OpenTelemetry.
"""

from __future__ import annotations

try:
    import opentelemetry.trace as _trace
except ImportError as missing:
    raise ImportError('offloop.otel needs opentelemetry-api: pip install "offloop[otel]"') from missing

from .instrumentation import Instrumentation, instrument

__all__ = ["Instrumentation", "instrument"]

del _trace
