"""Worker groups: the components that decide about the workers of one kind, and the decisions that concern several groups.

Slots, restarts, circuit breaker, recycling, autoscaling, plugin loads and failure streaks are a group's. The limit on starts at
the same time and the concurrency limiter are the pool's. The group for small tasks has the default group's plugins, and its
`PluginLoads`, because a plugin that ends workers of one of them ends workers of the other, too.
"""

from __future__ import annotations

from collections.abc import Iterator

from ...errors import CrashReport
from ...operation import DEFAULT_GROUP, SMALL_TASKS_GROUP
from ..memory.arena import Arena
from ..model.commands import AnnounceOpening, Command
from ..model.events import PressureMeasured
from ..model.settings import CoreSettings, GroupSettings
from ..model.worker_slot import WorkerSlot
from ..model.worker_state import WorkerEvent, WorkerState
from .autoscaler import Autoscaler
from .concurrency_limiter import AimdLimiter
from .group_slots import READY_STATES, GroupSlots
from .jitter import Jitter
from .plugin_loads import PluginLoads
from .reconciler import WorkerReconciler
from .recycling import Recycling
from .sandbox_reports import SandboxReports
from .worker_table import WorkerTable

__all__ = ["WorkerGroup", "WorkerGroups", "slots_of_groups"]


class WorkerGroup:
    """The components of one worker group."""

    def __init__(
        self,
        worker_table: WorkerTable,
        arena: Arena,
        limiter: AimdLimiter,
        jitter: Jitter,
        settings: CoreSettings,
        group_settings: GroupSettings,
        plugin_loads: PluginLoads,
    ) -> None:
        self.settings = group_settings
        self.slots = worker_table.groups[group_settings.name]
        self.plugin_loads = plugin_loads
        self.sandbox_reports = SandboxReports(group_settings.name, group_settings.sandbox, worker_table.event_log)
        self.autoscaler = Autoscaler(self.slots, group_settings, limiter)
        self.recycling = Recycling(worker_table, self.slots, jitter, settings, group_settings)
        self.reconciler = WorkerReconciler(
            worker_table, self.slots, self.autoscaler, plugin_loads, jitter, arena, settings, group_settings
        )

    @property
    def name(self) -> str:
        return self.settings.name


class WorkerGroups:
    """The worker groups of a pool, by name. The last one is the group for small tasks."""

    def __init__(self, worker_table: WorkerTable, arena: Arena, settings: CoreSettings) -> None:
        self.limiter = AimdLimiter()
        self._is_announced = False  # whether the opening of the pool was announced
        jitter = Jitter(settings.seed)
        self.by_name: dict[str, WorkerGroup] = {}
        for group in settings.groups:
            plugin_loads = PluginLoads(group.name, group.plugins, worker_table.event_log)
            self.by_name[group.name] = WorkerGroup(worker_table, arena, self.limiter, jitter, settings, group, plugin_loads)
        self.default = self.by_name[DEFAULT_GROUP]
        small, plugin_loads = self.default.settings.for_small_tasks(), self.default.plugin_loads
        self.small = WorkerGroup(worker_table, arena, self.limiter, jitter, settings, small, plugin_loads)
        self.by_name[SMALL_TASKS_GROUP] = self.small

    def __iter__(self) -> Iterator[WorkerGroup]:
        return iter(self.by_name.values())

    def reconcile(self, now: float) -> list[Command]:
        """Start and retire workers of every group."""
        return self._reconcile(list(self), now)

    def on_worker_ready(self, slot: WorkerSlot, now: float) -> list[Command]:
        """A worker has become ready."""
        commands = self.by_name[slot.group].reconciler.on_worker_ready(slot, now)
        return self._announce_opening() + commands + self._continue_starts(now)

    def replace(
        self, slot: WorkerSlot, now: float, report: CrashReport, how: WorkerEvent, *, crashed: bool, accepted: bool
    ) -> list[Command]:
        """A slot's process is dead, or abandoned: see `WorkerReconciler.replace`."""
        commands = self.by_name[slot.group].reconciler.replace(slot, now, report, how, crashed=crashed, accepted=accepted)
        return self._announce_opening() + commands + self._continue_starts(now)

    def resize(self, name: str, workers: int, now: float) -> list[Command]:
        """Set the number of tasks of a group that may run at once. There are as many workers for small tasks at most."""
        resized = [self.by_name[name]] if name != DEFAULT_GROUP else [self.default, self.small]
        for group in resized:
            group.autoscaler.resize(workers)
            group.reconciler.expect_ready_workers()
        return self._reconcile(resized, now)

    def scale_to_zero(self) -> None:
        """The pool closes: no worker is desired any more. `reconcile` retires them."""
        for group in self:
            group.autoscaler.scale_to_zero()

    def on_memory_pressure(self, event: PressureMeasured, now: float) -> None:
        """The machine's memory was measured: adjust the concurrency limit of each group. No worker leaves because of it."""
        max_workers = max(group.autoscaler.max_workers for group in self)
        self.limiter.observe(event.available_share, event.stalled_share, max_workers, now)
        for group in self:
            group.autoscaler.limit_concurrency()

    def _reconcile(self, groups: list[WorkerGroup], now: float) -> list[Command]:
        commands = [command for group in groups for command in group.reconciler.reconcile(now)]
        return commands + self._continue_starts(now)  # because workers that were starting may have been retired

    def _continue_starts(self, now: float) -> list[Command]:
        """A start may have ended: begin starts of groups that waited for it."""
        waiting = [group.reconciler for group in self if group.reconciler.waits_for_other_start]
        return [command for reconciler in waiting for command in reconciler.reconcile(now)]

    def _announce_opening(self) -> list[Command]:
        """Announce once that the pool is open, after the first start of each worker of the default group; with an error if all
        of them failed."""
        if self._is_announced:
            return []
        slots, error = self.default.slots, self.default.reconciler.unavailable_error
        if error is None and (slots.count(WorkerState.STARTING, WorkerState.LOADING) or not slots.count(*READY_STATES)):
            return []
        self._is_announced = True
        return [AnnounceOpening(error)]


def slots_of_groups(settings: CoreSettings) -> list[GroupSlots]:
    """The slots of each group of a pool, and of the group for small tasks."""
    groups = [*settings.groups, settings.groups[0].for_small_tasks()]
    return [GroupSlots(group.workers, group.name, isolates_tenants=group.isolation == "tenant") for group in groups]
