"""Loads a pool's plugins and completes its settings, before the first worker starts."""

from __future__ import annotations

import inspect

import anyio
import anyio.to_thread
import msgspec

from .core.model.settings import CoreSettings
from .plugins import Registry
from .program import check_program
from .runtime.loop.thread_call import ThreadCall
from .settings import PoolSettings

__all__ = ["load"]

_IMPORT_SYSTEM = {"importlib._bootstrap", "_frozen_importlib"}


async def load(settings: PoolSettings) -> tuple[Registry, CoreSettings]:
    """Load plugins and settings in a thread, because both read files.

    They are loaded in this thread if no other one can be started, or if the pool is entered while this thread imports a
    module, because another thread would wait for that import as soon as a plugin needs the module.

    Raises:
        PoolMisused: no worker can be started in this program.
        PluginError: a plugin that was asked for cannot be used.
        ValueError: there is not enough memory for so many spares.
    """
    check_program(has_executable=settings.executable is not None)
    if _is_importing():
        return _load(settings)
    call = ThreadCall(_load, (settings,))
    try:
        await anyio.to_thread.run_sync(call, limiter=anyio.CapacityLimiter(1))
    except RuntimeError:
        call()
    return call.pop_result()


def _load(settings: PoolSettings) -> tuple[Registry, CoreSettings]:
    registry = Registry(settings.plugins)
    return registry, msgspec.structs.replace(settings.resolved(), plugins=tuple(registry.sources))


def _is_importing() -> bool:
    """Whether this thread is importing a module."""
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_globals.get("__name__") in _IMPORT_SYSTEM:
            return True
        frame = frame.f_back
    return False
