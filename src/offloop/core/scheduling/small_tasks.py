"""Small tasks beside large ones: when a small task may run beyond the concurrency limit, and how many workers there should be.

When every worker of the default group has a large task, a small task would wait many times as long as it takes. So a worker of
the group "small" runs it; the processes of that group get more of a CPU than those with large tasks. Until such a worker is
ready, a spare of the default group takes one small task. When small tasks wait for longer than a worker takes to start, another
worker is wanted.
"""

from __future__ import annotations

from collections.abc import Sized

from ..memory.budget import DEFAULT_WORKER_NBYTES
from ..model.task_record import TaskRecord
from ..model.worker_slot import WorkerSlot
from ..workers.autoscaler import Autoscaler
from ..workers.group_slots import GroupSlots

__all__ = ["LARGE_S", "SMALL_TASK_WAIT_S", "SmallTasks"]

LARGE_S = 0.2  # cost of a large task, in seconds: about the time that a worker takes to start
SMALL_TASK_WAIT_S = 0.1  # seconds that small tasks wait before another worker is wanted
_SMALL_SHARE = 1 / 8  # largest cost of a small task, as a share of the lowest cost of the running large tasks


class SmallTasks:
    """The rule for small tasks beside the large tasks of the default group."""

    def __init__(self, workers: GroupSlots, spares: int, small_workers: GroupSlots, autoscaler: Autoscaler) -> None:
        """For two groups.

        Args:
            workers: the slots of the default group.
            spares: number of its spares.
            small_workers: the slots of the group for small tasks.
            autoscaler: the autoscaler of the group for small tasks.
        """
        self.wanted_workers = 0  # workers that the tasks dispatched since the last `scale_up` are worth
        self._workers = workers
        self._spares = spares
        self._small_workers = small_workers
        self._autoscaler = autoscaler

    @property
    def all_workers_have_large_tasks(self) -> bool:
        """Whether as many large tasks run as the concurrency limit of the default group allows."""
        return self._workers.at_limit and len(self._large_costs()) >= self._workers.concurrency_limit

    @property
    def max_cost_s(self) -> float:
        """Largest cost of a small task beside the running large ones, in seconds."""
        return min(self._large_costs()) * _SMALL_SHARE

    @property
    def has_idle_worker(self) -> bool:
        """Whether a worker for small tasks is idle."""
        return bool(self._small_workers.idle_workers)

    def find_worker(self) -> WorkerSlot | None:
        """An idle worker for a small task beyond the concurrency limit; None if there is none, or no such task may run."""
        workers, small_workers = self._workers, self._small_workers
        if not (small_workers.idle_workers or workers.idle_workers) or not workers.at_limit:
            return None
        beyond_limit = workers.busy - workers.concurrency_limit + small_workers.busy
        if beyond_limit >= max(min(self._autoscaler.desired_workers, small_workers.concurrency_limit), 1):
            return None
        slot = small_workers.find_idle()
        if slot is None and workers.idle_workers:
            slot = workers.idle_workers[-1]  # a spare
        return slot if slot is not None and self.all_workers_have_large_tasks else None

    def note_dispatch(self, task: TaskRecord, waiting: Sized) -> None:
        """A large task of the default group, or one that has waited for `SMALL_TASK_WAIT_S`, was dispatched.

        A large task is worth a worker for small tasks. A small one that has waited is worth another one, while `waiting` is not
        empty, because others still wait.
        """
        if task.stable_cost_s >= LARGE_S:
            self.wanted_workers = max(self.wanted_workers, 1)
        elif self._workers.at_limit and waiting:
            self.wanted_workers = self._autoscaler.desired_workers + 1

    def scale_up(self, room_bytes: float, now: float) -> bool:
        """Desire the wanted workers. Returns whether the number has changed.

        It does not change while more workers than the spares are idle, while a worker for small tasks is idle or starting, or
        if the budget has no room for the memory of an idle worker. There are never more workers for small tasks than the
        concurrency limit, because the large tasks must make progress.

        Args:
            room_bytes: bytes that are free in the budget.
            now: seconds.
        """
        wanted, self.wanted_workers = self.wanted_workers, 0
        if not self.all_workers_have_large_tasks or len(self._workers.idle_workers) > self._spares:
            return False
        if any(slot.assigned is None for slot in self._small_workers):
            return False
        idle_bytes = (slot.idle_bytes for slot in (*self._workers, *self._small_workers))
        if room_bytes <= max(DEFAULT_WORKER_NBYTES, *idle_bytes):  # the memory of plugins included
            return False
        return self._autoscaler.scale_up_to(wanted, now)

    def _large_costs(self) -> list[float]:
        return [task.stable_cost_s for task in self._workers.busy_tasks if task.stable_cost_s >= LARGE_S]
