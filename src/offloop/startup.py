"""Loads a pool's plugins and completes its settings, before the first worker starts."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Sequence
from typing import NamedTuple

import anyio
import anyio.to_thread

from .core.model.settings import CoreSettings
from .errors import PoolMisused
from .functions.plugin import FunctionsPlugin
from .inline.inline_worker import launch_inline
from .operation import DEFAULT_GROUP, SMALL_TASKS_GROUP, Plugin
from .plugins import Planner, Registry, group_plugins
from .program import check_program
from .runtime.loop.thread_call import ThreadCall
from .runtime.workers.config import GroupConfig, WorkerConfig
from .runtime.workers.launcher import Launcher
from .runtime.workers.process import ProcessLauncher
from .sandbox import Needs
from .settings import PoolSettings
from .system import memory_pressure, missing_kernel_layers

__all__ = ["Loaded", "load"]

_log = logging.getLogger("offloop.pool")

_INBOX_FACTOR = 2  # addresses of a worker's own inbox / limit of all sources, so that there is a place for any task's
_IMPORT_SYSTEM = {"importlib._bootstrap", "_frozen_importlib"}


class Loaded(NamedTuple):
    """What a pool is made of."""

    registry: Registry
    planner: Planner
    core_settings: CoreSettings
    worker_config: WorkerConfig


async def load(settings: PoolSettings, launcher: Launcher | None) -> Loaded:
    """Load plugins and settings in a thread, because both read files. `launcher`: starts all workers; None: as processes.

    They are loaded in this thread if no other one can be started, or if the pool is entered while this thread imports a
    module, because another thread would wait for that import as soon as a plugin needs the module.

    Raises:
        PoolMisused: no worker can be started in this program, or a group is strict and the kernel lacks a layer.
        PluginError: a plugin that was asked for cannot be used, or a group needs a plugin that the pool does not have.
        ValueError: there is not enough memory for so many spares.
    """
    if settings.inline:
        _log.warning("Pool(inline=True): tasks run in this process, without isolation, time limits and limits of memory")
        launcher = launcher or launch_inline
    else:
        check_program(has_executable=settings.executable is not None)
        _check_kernel(settings)
    if _is_importing():
        return _load(settings, launcher)
    call = ThreadCall(_load, (settings, launcher))
    try:
        await anyio.to_thread.run_sync(call, limiter=anyio.CapacityLimiter(1))
    except RuntimeError:
        call()
    return call.pop_result()


def _load(settings: PoolSettings, launcher: Launcher | None) -> Loaded:
    registry = _registry_of(settings)
    plugins = [registered.plugin for registered in registry.plugins.values()]
    groups = group_plugins(plugins, {group.name: group.plugins for group in settings.groups})
    more_s = {group: sum(plugin.load_timeout for plugin in plugins if plugin.name in names) for group, names in groups.items()}
    core_settings = settings.resolved(groups, more_s)
    groups_and_small = {**groups, SMALL_TASKS_GROUP: groups[DEFAULT_GROUP]}
    config = WorkerConfig(
        plugins=registry.sources,
        groups={
            group: _configure(
                group, settings, launcher, [registry.plugins[name].plugin for name in names], core_settings.inbox_nbytes
            )
            for group, names in groups_and_small.items()
        },
        max_private_bytes=core_settings.hard_limit_bytes,
        memory_pressure=memory_pressure,
    )
    return Loaded(registry, Planner(registry, groups), core_settings, config)


def _check_kernel(settings: PoolSettings) -> None:
    """Refuse a strict sandbox on a kernel that lacks a layer, before anything is started. Workers check the other layers.

    Raises:
        PoolMisused: the kernel lacks a layer.
    """
    if any(settings.sandbox_of(name) == "strict" for name in (DEFAULT_GROUP, *(group.name for group in settings.groups))):
        missing = missing_kernel_layers()
        if missing:
            raise PoolMisused("sandbox", "", "; ".join(f"{layer} ({reason})" for layer, reason in missing.items()))


def _registry_of(settings: PoolSettings) -> Registry:
    """Load the plugins; that of functions with its modules."""
    requested, name = settings.plugins, FunctionsPlugin.name
    if requested is not None and settings.functions and name not in requested:
        requested = [*requested, name]
    return Registry(requested, {name: FunctionsPlugin(settings.functions)})


def _configure(
    group: str, settings: PoolSettings, launcher: Launcher | None, plugins: Sequence[Plugin], inbox_nbytes: int
) -> GroupConfig:
    needs = Needs(threads=False)
    for plugin in plugins:
        needs = needs.union(plugin.needs)
    return GroupConfig(
        nice=settings.nice_of(group),
        launch=launcher or ProcessLauncher(settings.worker_program(group)),
        sandbox=settings.sandbox_of(group),
        needs=needs,
        inbox_nbytes=_INBOX_FACTOR * inbox_nbytes if settings.has_private_sources(group) else None,
    )


def _is_importing() -> bool:
    """Whether this thread is importing a module."""
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_globals.get("__name__") in _IMPORT_SYSTEM:
            return True
        frame = frame.f_back
    return False
