"""Autoscaler of one worker group: how many workers there should be, by waiting tasks, idle workers and memory pressure.

The number of workers grows with the waiting tasks, up to the concurrency limit. It shrinks by the number of workers that were
idle at every moment of one idle timeout.

The autoscaler only sets numbers. `WorkerReconciler` starts and retires the workers.
"""

from __future__ import annotations

from math import inf

from ..model.settings import GroupSettings
from .concurrency_limiter import AimdLimiter
from .group_slots import READY_STATES, GroupSlots

__all__ = ["Autoscaler"]

_MIN_PAUSE_S = 0.1  # seconds between two scale-down checks, because each check wakes the loop


class Autoscaler:
    """The desired number of a group's workers, and its concurrency limit."""

    def __init__(self, group_slots: GroupSlots, settings: GroupSettings, limiter: AimdLimiter) -> None:
        self.max_workers = settings.workers  # configured number of tasks at once
        self.min_workers = settings.workers if settings.min_workers is None else settings.min_workers
        self.desired_workers = self.min_workers  # without spares
        self.next_scale_down_at = inf  # time of the next scale-down check
        self._spares = settings.spares
        self._group_slots = group_slots
        self._settings = settings
        self._limiter = limiter

    @property
    def spares(self) -> int:
        """Number of ready workers beyond the desired ones: none while no worker is desired."""
        return self._spares if self.desired_workers else 0

    @property
    def wanted_workers(self) -> int:
        """Number of desired workers, with spares."""
        return self.desired_workers + self.spares

    @property
    def planned_workers(self) -> int:
        """Number of workers that the group may have: as configured; for a group on demand, as desired now."""
        return self.wanted_workers if self._settings.is_on_demand else self.max_workers + self.spares

    @property
    def can_scale_up(self) -> bool:
        """Whether more workers may be desired for waiting tasks."""
        return self.desired_workers < self._group_slots.concurrency_limit

    def resize(self, workers: int) -> None:
        """Set the number of tasks that may run at once."""
        configured_min, configured_max = self._settings.min_workers, self._settings.workers
        elastic = configured_min is not None and configured_min < configured_max
        self.max_workers = workers
        self.min_workers = min(configured_min, workers) if elastic and configured_min is not None else workers
        self.desired_workers = min(max(self.desired_workers, self.min_workers), workers)
        self.limit_concurrency()

    def scale_to_zero(self) -> None:
        """The pool closes: no worker is desired any more."""
        self.max_workers = self.min_workers = self.desired_workers = 0
        self._group_slots.concurrency_limit = 0
        self.next_scale_down_at = inf

    def limit_concurrency(self) -> None:
        """Set the concurrency limit: as configured, and fewer under memory pressure. No worker leaves because of it."""
        if self.max_workers:
            self._group_slots.concurrency_limit = min(self.max_workers, self._limiter.limit or self.max_workers)

    def scale_up_for(self, waiting: int, now: float) -> bool:
        """Desire more workers for so many waiting tasks, up to the concurrency limit. Returns whether the number has
        changed."""
        return self.scale_up_to(self._group_slots.busy + waiting, now)

    def scale_up_to(self, workers: int, now: float) -> bool:
        """Desire at least so many workers, up to the concurrency limit. Returns whether the number has changed."""
        workers = max(self.desired_workers, min(workers, self._group_slots.concurrency_limit))
        if workers == self.desired_workers:
            return False
        self.desired_workers = workers
        self._schedule_scale_down(now)
        return True

    def scale_down_idle(self, now: float, *, needed: int = 0) -> None:
        """Once in an idle timeout, subtract the workers that were idle all the time since the last check.

        Args:
            now: seconds.
            needed: number of workers that stay even if they are idle, because they would be started again at once. If it is 0
                and no worker is ready, the starts are given up: no task waits for them.
        """
        if now < self.next_scale_down_at:
            return
        gives_up = not needed and not self._group_slots.count(*READY_STATES)
        unneeded = self.desired_workers if gives_up else max(self._group_slots.min_idle - self.spares, 0)
        self.desired_workers = max(self.desired_workers - unneeded, self.min_workers, min(self.desired_workers, needed))
        self._schedule_scale_down(now)

    def _schedule_scale_down(self, now: float) -> None:
        self._group_slots.reset_min_idle()
        pause_s = max(self._settings.idle_timeout_s, _MIN_PAUSE_S)
        self.next_scale_down_at = now + pause_s if self.desired_workers > self.min_workers else inf
