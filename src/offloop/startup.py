"""What a pool needs before its first worker: its plugins, imported and checked, and settings that the machine has completed."""

from __future__ import annotations

import anyio
import anyio.to_thread

from .core.core_settings import CoreSettings
from .host.thread_call import ThreadCall
from .plugins import Registry
from .program import check_program
from .settings import PoolSettings

__all__ = ["load"]


async def load(settings: PoolSettings) -> tuple[Registry, CoreSettings]:
    """Load plugins and settings in a thread, because both read files; in this one, if the system has no thread to give.

    Raises:
        PoolMisused: no worker can be started here.
        PluginError: a plugin that was asked for cannot be used.
        ValueError: there is not memory enough for so many spares.
    """
    check_program(has_executable=settings.executable is not None)
    call = ThreadCall(_load, (settings,))
    try:
        await anyio.to_thread.run_sync(call, limiter=anyio.CapacityLimiter(1))
    except RuntimeError:
        call()
    return call.take_result()


def _load(settings: PoolSettings) -> tuple[Registry, CoreSettings]:
    return Registry(settings.plugins), settings.resolved()
