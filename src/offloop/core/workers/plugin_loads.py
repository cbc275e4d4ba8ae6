"""Which plugins workers could load: failures that workers report, and plugins whose load ends workers.

A worker loads all plugins before it is ready, so no task pays for a load. An exception in a plugin's load fails the tasks of
that plugin, and nothing else. When a load ends the process (a crash, an exit, the time limit of loading), the status page says
which plugin was being loaded. After the second such death in a row the plugin is switched off: workers start without it, and
its tasks are refused. For a plugin that a worker of the pool has loaded before, more deaths are needed, because they may have
another cause, such as the system's lack of memory, and a plugin that is switched off stays so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from ...errors import PluginError
from ...pool_events import PluginUnavailable
from ...wire.status import LOADING_ID, Status
from ..model.task import TaskSpec
from ..model.worker_slot import WorkerSlot
from ..telemetry.event_log import EventLog

__all__ = ["PluginLoads"]

_MAX_DEATHS = 2  # deaths in a row during the load of a plugin that no worker has loaded yet
_MAX_DEATHS_IF_PROVEN = 6  # the same of a plugin that a worker has loaded


class PluginLoads:
    """The plugins that the workers of a group are started with, and the errors of those that were switched off."""

    def __init__(self, group: str, plugins: tuple[str, ...], event_log: EventLog) -> None:
        self.enabled = plugins
        """Names of the plugins that a worker loads, in this order."""
        self.switched_off: dict[str, str] = {}
        """Reasons by name of the plugins that workers are started without."""
        self._deaths: Counter[str] = Counter()  # deaths during the load of a plugin, since a worker last loaded it
        self._proven: set[str] = set()  # names of plugins that a worker has loaded
        self._reported: set[str] = set()  # names of plugins whose failure was reported
        self._group = group
        self._event_log = event_log

    def on_worker_ready(self, slot: WorkerSlot, failed: Mapping[str, str], now: float) -> None:
        """A worker has loaded its plugins, except failed ones: report each failed one once per group, with its reason."""
        for plugin in slot.plugins:
            if plugin not in failed:
                self._proven.add(plugin)
                del self._deaths[plugin]
        for plugin, reason in failed.items():
            if plugin not in self._reported:
                self._report(plugin, reason, now, switched_off=False)

    def find_loading(self, slot: WorkerSlot, status: Status | None) -> str | None:
        """The plugin that a dead worker was loading, as its status page says; None: it was not loading."""
        if status is None or status.task_id != LOADING_ID or status.stage >= len(slot.plugins):
            return None
        return slot.plugins[status.stage]

    def on_death(self, plugin: str, cause: str, now: float) -> bool:
        """A worker died while it loaded a plugin. Returns whether the plugin is switched off."""
        if plugin in self.switched_off:
            return True
        self._deaths[plugin] += 1
        deaths = self._deaths[plugin]
        if deaths < (_MAX_DEATHS_IF_PROVEN if plugin in self._proven else _MAX_DEATHS):
            return False
        self.switched_off[plugin] = f"it was switched off, because its load ended {deaths} workers; the last one {cause}"
        self.enabled = tuple(name for name in self.enabled if name != plugin)
        self._report(plugin, self.switched_off[plugin], now, switched_off=True)
        return True

    def refusal(self, spec: TaskSpec) -> PluginError | None:
        """The error for a task that needs a plugin that was switched off."""
        for stage in spec.stages if self.switched_off else ():
            if stage.plugin in self.switched_off:
                return PluginError(stage.plugin, self.switched_off[stage.plugin])
        return None

    def _report(self, plugin: str, reason: str, now: float, *, switched_off: bool) -> None:
        self._reported.add(plugin)
        group = self._group
        self._event_log.append(PluginUnavailable(at=now, group=group, plugin=plugin, reason=reason, switched_off=switched_off))
