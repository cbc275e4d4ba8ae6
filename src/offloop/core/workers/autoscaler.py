"""Autoscaler: how many workers and helpers there should be, by the waiting tasks, by idle workers and by memory pressure.

The number of workers grows with the waiting tasks, up to the concurrency limit. It shrinks by the number of workers that were
idle at every moment of one idle timeout. Helpers (for small tasks beside large ones) are added in the same way when all workers
have large tasks, and leave in the same way.

The autoscaler only sets numbers. `WorkerReconciler` starts and retires the workers.
"""

from __future__ import annotations

from math import inf

from ..model.events import PressureMeasured
from ..model.settings import CoreSettings
from .concurrency_limiter import AimdLimiter
from .worker_table import READY_STATES, WorkerTable

__all__ = ["Autoscaler"]

_MIN_PAUSE_S = 0.1  # seconds between two scale-down checks, because each check wakes the loop


class Autoscaler:
    """The desired number of workers, and the concurrency limit."""

    def __init__(self, worker_table: WorkerTable, settings: CoreSettings) -> None:
        self.spares = settings.spares  # ready workers beyond the desired ones
        self.max_workers = settings.workers  # configured number of tasks at once
        self.min_workers = settings.workers if settings.min_workers is None else settings.min_workers
        self.desired_workers = self.min_workers  # without spares and helpers
        self.limiter = AimdLimiter()
        self.next_scale_down_at = inf  # time of the next scale-down check
        self._worker_table = worker_table
        self._settings = settings

    @property
    def can_scale_up(self) -> bool:
        """Whether more workers may be desired for waiting tasks."""
        return self.desired_workers < self._worker_table.concurrency_limit

    def resize(self, workers: int) -> None:
        """Set the number of tasks that may run at once."""
        configured_min, configured_max = self._settings.min_workers, self._settings.workers
        elastic = configured_min is not None and configured_min < configured_max
        self.max_workers = workers
        self.min_workers = min(configured_min, workers) if elastic and configured_min is not None else workers
        self.desired_workers = min(max(self.desired_workers, self.min_workers), workers)
        self._worker_table.helpers = min(self._worker_table.helpers, workers)
        self._set_concurrency_limit()

    def scale_to_zero(self) -> None:
        """The pool closes: no worker is desired any more."""
        self.max_workers = self.min_workers = self.desired_workers = self.spares = 0
        self._worker_table.concurrency_limit = self._worker_table.helpers = 0
        self.next_scale_down_at = inf

    def on_memory_pressure(self, event: PressureMeasured, now: float) -> None:
        """The machine's memory was measured: adjust the concurrency limit. No worker leaves because of it."""
        self.limiter.observe(event.available_share, event.stalled_share, self.max_workers, now)
        self._set_concurrency_limit()

    def scale_up_for(self, waiting: int, now: float) -> bool:
        """Desire more workers for so many waiting tasks, up to the concurrency limit. Returns whether the number has
        changed."""
        workers = max(self.desired_workers, min(self._worker_table.busy + waiting, self._worker_table.concurrency_limit))
        if workers == self.desired_workers:
            return False
        self.desired_workers = workers
        self._schedule_scale_down(now)
        return True

    def scale_up_helpers(self, helpers: int, now: float) -> bool:
        """Desire so many helpers, because all workers have large tasks. Returns whether the number has changed.

        It does not change while more workers than the spares are idle, or while a helper is idle or starting. There are never
        more helpers than the concurrency limit, because the large tasks must make progress.
        """
        helpers = min(helpers, self._worker_table.concurrency_limit)
        if helpers <= self._worker_table.helpers or self._worker_table.idle_processes > self.spares:
            return False
        if any(slot.helper and slot.task is None for slot in self._worker_table):
            return False
        self._worker_table.helpers = helpers
        self._schedule_scale_down(now)
        return True

    def scale_down_idle(self, now: float, *, large_everywhere: bool = False) -> None:
        """Once in an idle timeout, subtract the workers that were idle all the time since the last check; helpers first.

        Helpers that replace missing workers stay. One helper stays while all workers have large tasks (`large_everywhere`),
        because it would be started again at once.
        """
        if now < self.next_scale_down_at:
            return
        unneeded = max(self._worker_table.min_idle - self.spares, 0)
        helpers = self._worker_table.helpers
        present = sum(slot.state in READY_STATES for slot in self._worker_table if not slot.helper)
        needed = max(self.desired_workers + self.spares - present, int(large_everywhere))
        self._worker_table.helpers = max(helpers - unneeded, min(helpers, needed))
        self.desired_workers = max(self.desired_workers - max(unneeded - helpers, 0), self.min_workers)
        self._schedule_scale_down(now)

    def _set_concurrency_limit(self) -> None:
        if self.max_workers:
            self._worker_table.concurrency_limit = min(self.max_workers, self.limiter.limit or self.max_workers)

    def _schedule_scale_down(self, now: float) -> None:
        self._worker_table.reset_min_idle()
        pause_s = max(self._settings.idle_timeout_s, _MIN_PAUSE_S)
        can_shrink = self._worker_table.helpers or self.desired_workers > self.min_workers
        self.next_scale_down_at = now + pause_s if can_shrink else inf
