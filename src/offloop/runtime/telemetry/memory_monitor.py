"""Periodic measurement of memory pressure, for the concurrency limit."""

from __future__ import annotations

from collections.abc import Callable

import anyio

from ...core.model.events import PressureMeasured
from ...core.pool_state import PoolState

__all__ = ["watch_memory"]

_INTERVAL_S = 1.0


async def watch_memory(
    core: PoolState, apply: Callable[[PressureMeasured], None], measure: Callable[[], tuple[float, float]]
) -> None:
    """Measure memory pressure every second and report it to the core. One measurement takes the loop 0.1 ms.

    Skipped while no worker is busy and no concurrency limit is in force.
    """
    while True:
        await anyio.sleep(_INTERVAL_S)
        if core.worker_table.busy or core.groups.limiter.limit is not None:
            apply(PressureMeasured(*measure()))
