"""Looking at the machine's memory now and then, while there is work."""

from __future__ import annotations

from collections.abc import Callable

import anyio

from ...core.model.events import PressureMeasured
from ...core.pool_state import PoolState

__all__ = ["watch_memory"]

_EVERY_S = 1.0


async def watch_memory(
    core: PoolState, apply: Callable[[PressureMeasured], None], measure: Callable[[], tuple[float, float]]
) -> None:
    """Tell the core every second, which takes the loop a tenth of a millisecond; not while nothing runs and all may run."""
    while True:
        await anyio.sleep(_EVERY_S)
        if core.worker_table.busy or core.autoscaler.limiter.limit is not None:
            apply(PressureMeasured(*measure()))
