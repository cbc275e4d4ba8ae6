"""Which plugins workers could load: failures that workers report, and plugins whose load ends workers.

A worker loads all plugins before it is ready, so no task pays for a load. An exception in a plugin's load fails the tasks of
that plugin, and nothing else. When a load ends the process (a crash, an exit, the time limit of loading), the status page says
which plugin was being loaded. After the second such death the plugin is switched off: workers start without it, and its tasks
are refused.
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

_MAX_DEATHS = 2  # workers that may die while they load one plugin


class PluginLoads:
    """The plugins that workers are started with, and the errors of those that were switched off."""

    def __init__(self, plugins: tuple[str, ...], event_log: EventLog) -> None:
        self.enabled = plugins
        """Names of the plugins that a worker loads, in this order."""
        self.switched_off: dict[str, str] = {}
        """Reasons by name of the plugins that workers are started without."""
        self._deaths: Counter[str] = Counter()
        self._reported: set[str] = set()  # names of plugins whose failure was reported
        self._event_log = event_log

    def on_worker_ready(self, failed: Mapping[str, str]) -> None:
        """A worker is ready, but for these plugins: report each once per pool, with its reason."""
        for plugin, reason in failed.items():
            if plugin not in self._reported:
                self._report(plugin, reason, switched_off=False)

    def find_loading(self, slot: WorkerSlot, status: Status | None) -> str | None:
        """The plugin that a dead worker was loading, as its status page says; None: it was not loading."""
        if status is None or status.task_id != LOADING_ID or status.stage >= len(slot.plugins):
            return None
        return slot.plugins[status.stage]

    def on_death(self, plugin: str, cause: str) -> bool:
        """A worker died while it loaded a plugin. Returns whether the plugin is switched off."""
        if plugin in self.switched_off:
            return True
        self._deaths[plugin] += 1
        if self._deaths[plugin] < _MAX_DEATHS:
            return False
        self.switched_off[plugin] = f"it was switched off, because its load ended {_MAX_DEATHS} workers; the last one {cause}"
        self.enabled = tuple(name for name in self.enabled if name != plugin)
        self._report(plugin, self.switched_off[plugin], switched_off=True)
        return True

    def refusal(self, spec: TaskSpec) -> PluginError | None:
        """The error for a task that needs a plugin that was switched off."""
        for stage in spec.stages if self.switched_off else ():
            if stage.plugin in self.switched_off:
                return PluginError(stage.plugin, self.switched_off[stage.plugin])
        return None

    def _report(self, plugin: str, reason: str, *, switched_off: bool) -> None:
        self._reported.add(plugin)
        event = PluginUnavailable(at=self._event_log.now, plugin=plugin, reason=reason, switched_off=switched_off)
        self._event_log.append(event)
