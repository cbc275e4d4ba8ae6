"""Which plugins the workers of each group load, and in which group a pipeline runs.

The default group loads every plugin that has no group of its own. A plugin with a group is loaded there, with its companions:
the plugins that its pipelines need beside it. `Pool(groups=...)` adds groups, and may name the plugins of one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ..errors import InvalidTask, PluginError
from ..operation import DEFAULT_GROUP, Plugin

__all__ = ["PluginGroups", "find_group", "group_plugins"]

PluginGroups = Mapping[str, tuple[str, ...]]
"""Names of the plugins of each group, in the order in which groups are tried."""


def group_plugins(plugins: Sequence[Plugin], asked: Mapping[str, Sequence[str] | None]) -> PluginGroups:
    """Return the plugins of each group: the default group, then the asked ones in their order, then the plugins' own.

    Args:
        plugins: the pool's plugins, in the order in which workers load them.
        asked: names of the plugins of each group of `Pool(groups=...)`; None: not given.

    Raises:
        PluginError: a group needs a plugin that the pool does not have.
    """
    names = [plugin.name for plugin in plugins]
    owned: dict[str, set[str]] = {}
    for plugin in plugins:
        if plugin.group is not None:
            owned.setdefault(plugin.group, set()).update((plugin.name, *plugin.companions))
    default = tuple(plugin.name for plugin in plugins if plugin.group is None)
    groups = {DEFAULT_GROUP: default}
    for group, given in asked.items():
        for missing in set(given or ()).difference(names):
            raise PluginError(missing, f"the worker group {group!r} needs it, and the pool has: {', '.join(names) or 'none'}")
        chosen = owned.get(group, set(default)) if given is None else set(given)
        groups[group] = tuple(name for name in names if name in chosen)
    for group, chosen in owned.items():
        groups.setdefault(group, tuple(name for name in names if name in chosen))
    return groups


def find_group(groups: PluginGroups, needed: Iterable[str]) -> str:
    """Return the name of the first group that has all needed plugins.

    Raises:
        InvalidTask: there is none.
    """
    needed = dict.fromkeys(needed)
    for group, plugins in groups.items():
        if needed.keys() <= set(plugins):
            return group
    listed = "; ".join(f"{group!r} has {', '.join(plugins) or 'none'}" for group, plugins in groups.items())
    raise InvalidTask(
        f"the pipeline needs the plugins {', '.join(needed)} in one worker, and no worker group has them all ({listed}); "
        "add one with Pool(groups=[WorkerGroup(...)])"
    )
