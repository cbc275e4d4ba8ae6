"""One budget for all memory: what running tasks may take, what their workers have anyway, and what the arena holds.

    what idle workers have + the peaks of what runs + the arena  <=  memory_limit

A task is charged with its estimate from its dispatch to its end. Result memory that was estimated moves from the task's charge
to the arena when it is granted, so it is counted once. The arena may grow into whatever is left; new sources never into what
the largest of the tasks that were let in will need, so that a full inbox cannot lock out the very tasks it is full of.

Small work is kept some room free: large tasks leave as much as the small ones of late have needed.
"""

from __future__ import annotations

from math import inf

from ...errors import MemoryLimitExceeded
from ..model.lazy_heap import LazyHeap
from ..model.settings import AdmissionMode
from ..model.task import TaskRecord
from ..model.worker_slot import WorkerSlot
from .arena import Arena

__all__ = ["DEFAULT_WORKER_NBYTES", "MIN_TASKS_NBYTES", "Budget"]

DEFAULT_WORKER_NBYTES = 32 * 1024 * 1024  # what a worker has that has not said it yet: Python and a plugin such as libvips
MIN_TASKS_NBYTES = 64 * 1024 * 1024  # beside idle workers

_LARGE_SHARE = 1 / 8  # of the budget: a task that needs more is a large one
_MAX_GUESS_SHARE = 3 / 4  # of what there is
_RESERVE_DECAY = 1 / 64  # per small task: what they need is forgotten so fast
# what a task may really take before it is stopped: so many times its charge, and a part of a common slack, and its stacks
_RLIMIT_FACTOR, _SLACK_SHARE, _STACK_BYTES = 1.5, 1 / 2, 8 * 1024 * 1024


class Budget:
    """The sums, and what follows from them."""

    def __init__(self, arena: Arena, limit_bytes: int | None, mode: AdmissionMode) -> None:
        self.limit_bytes = limit_bytes if mode is not AdmissionMode.OFF else None
        self.mode = mode
        self.running_bytes = 0  # charged to running tasks
        self.workers_bytes = 0  # what workers have when idle
        self.would_have_waited = 0  # tasks, in shadow mode
        self.would_have_been_refused = 0
        self.running = 0  # tasks
        self.enforced = self.limit_bytes is not None and mode is AdmissionMode.ENFORCE  # tasks wait, or are refused
        self._task_capacity_bytes = self.limit_bytes or 0  # for tasks and the arena, beside idle workers
        self._large_bytes = inf if self.limit_bytes is None else self.limit_bytes * _LARGE_SHARE
        self._max_guess_bytes = min(self._large_bytes, self._task_capacity_bytes * _MAX_GUESS_SHARE)
        self._arena = arena
        if self.enforced:
            arena.effective_capacity_bytes = self._task_capacity_bytes
        self._reserve_bytes = 0  # for small tasks
        self._admitted_large: LazyHeap[int] = LazyHeap()  # ids of admitted large tasks, by minus the bytes that they need

    @property
    def room_bytes(self) -> float:
        """What another task could be charged with now."""
        if self.limit_bytes is None:
            return inf
        return self._task_capacity_bytes - self.running_bytes - self._arena.used_bytes

    # Letting in

    def refusal(self, task: TaskRecord) -> MemoryLimitExceeded | None:
        """The error for a task that could not even run alone, by its plugin's own estimate."""
        estimate = task.spec.estimate
        if self.limit_bytes is None or estimate is None:
            return None
        need = min(estimate.peak_bytes, task.peak_bytes) + task.output_bytes + task.nbytes
        there_is = self._task_capacity_bytes
        if need <= there_is:
            return None
        if self.mode is AdmissionMode.SHADOW:
            self.would_have_been_refused += 1
            return None
        return MemoryLimitExceeded(
            need, there_is, limited_by="what memory_limit leaves beside idle workers", what="memory (estimated)"
        )

    def admit(self, task: TaskRecord) -> None:
        """From now on there is to be room for this task, one day. A guess, or a correction, is never more than that, and leaves
        some to others: only its plugin's own word can make a task be alone."""
        if self.limit_bytes is None:
            return
        if task.peak_bytes + task.output_bytes + task.nbytes <= self._max_guess_bytes:
            return  # as nearly all
        said = 0 if task.spec.estimate is None else task.spec.estimate.peak_bytes
        most = self._task_capacity_bytes - task.nbytes - task.output_bytes
        task.peak_bytes = max(min(task.peak_bytes, max(int(most * _MAX_GUESS_SHARE), said), most), 0)
        need = task.peak_bytes + task.output_bytes
        if need > self._large_bytes:
            self._admitted_large.set(task.task_id, -need)

    def headroom_for_admitted(self, beside_bytes: int) -> int:
        """How much of the arena a source must leave: to the largest of the tasks that were let in, and to its own."""
        if not self.enforced:
            return 0
        largest = -int(self._admitted_large.lowest) if self._admitted_large else 0
        return max(largest - self.running_bytes, beside_bytes - self.running_bytes, 0)

    def remove(self, task: TaskRecord) -> None:
        """The task has its outcome."""
        self._admitted_large.discard(task.task_id)

    # Running

    def fits(self, task: TaskRecord) -> bool:
        """Whether the task could start now. One alone always can: nobody else will give back what it lacks."""
        if not self.enforced or not self.running:
            return True
        return self.needed_bytes(task) <= self.room_bytes

    def needed_bytes(self, task: TaskRecord) -> int:
        """The room that there must be for a task; for a large one that is not alone, with the reserve for small ones."""
        charge = task.peak_bytes + task.output_bytes
        return charge + self._reserve_bytes if charge > self._large_bytes and self.running_bytes else charge

    def charge(self, task: TaskRecord) -> None:
        """The task starts."""
        self.running += 1
        if self.limit_bytes is None:
            return
        if not self.enforced and self.running > 1 and self.needed_bytes(task) > self.room_bytes:
            self.would_have_waited += 1
        task.charged_bytes = charge = task.peak_bytes + task.output_bytes
        task.unused_output_bytes = task.output_bytes
        if charge != self._reserve_bytes and charge <= self._large_bytes:
            self._reserve_bytes = max(charge, self._reserve_bytes - int((self._reserve_bytes - charge) * _RESERVE_DECAY))
        self.running_bytes += charge
        if self.enforced:
            self._arena.effective_capacity_bytes -= charge

    def discharge(self, task: TaskRecord) -> None:
        """It does not run any more."""
        self.running -= 1
        if task.charged_bytes:
            self.running_bytes -= task.charged_bytes
            if self.enforced:
                self._arena.effective_capacity_bytes += task.charged_bytes
            task.charged_bytes = 0

    def unused_output_bytes(self, task: TaskRecord) -> int:
        """How much of a task's charge is result memory that it may still be granted. A guess does not tell, so all of it."""
        if not task.charged_bytes:
            return 0
        return task.charged_bytes if task.spec.estimate is None else min(max(task.unused_output_bytes, 0), task.charged_bytes)

    def transfer_to_arena(self, task: TaskRecord, nbytes: int) -> None:
        """So much of a task's charge is the arena's now; below zero: the task's again, there were no pages."""
        if nbytes:
            task.unused_output_bytes -= nbytes
            task.charged_bytes -= nbytes
            self.running_bytes -= nbytes
            if self.enforced:
                self._arena.effective_capacity_bytes += nbytes

    def task_rlimit_bytes(self, task: TaskRecord, threads: int, concurrency: int) -> int | None:
        """How much private memory a task may take before the system refuses it more.

        It follows from the task's charge, also where that is a guess: one and a half times the charge, and the task's part of a
        slack of half the limit. So all tasks that run together, and idle workers, have at most twice `memory_limit`, also if
        each task takes all that it is allowed; beside 8 MiB for each thread's stack, which are addresses rather than memory.
        """
        if not self.enforced:
            return None
        assert self.limit_bytes is not None
        slack = int(self.limit_bytes * _SLACK_SHARE) // max(concurrency, 1)
        return min(int(task.peak_bytes * _RLIMIT_FACTOR) + slack + _STACK_BYTES * (threads + 1), self.limit_bytes)

    # Workers

    def set_worker_memory(self, slot: WorkerSlot, idle_bytes: int) -> None:
        """What a worker has when it is idle; zero: it is dead. It says so itself, so that is believed within limits.

        Those that grew are being replaced, and little tasks go on meanwhile: so much is left for them, whatever workers say.
        """
        if self.limit_bytes is None or idle_bytes == slot.idle_bytes:
            return
        idle_bytes = min(max(idle_bytes, 0), self.limit_bytes)
        more_bytes, slot.idle_bytes = idle_bytes - slot.idle_bytes, idle_bytes
        self._count_workers(more_bytes)

    def count_abandoned(self, more_bytes: int) -> None:
        """A process that could not be killed still has so much; below zero: it is dead at last."""
        if self.limit_bytes is not None:
            self._count_workers(more_bytes)

    def _count_workers(self, more_bytes: int) -> None:
        assert self.limit_bytes is not None
        self.workers_bytes += more_bytes
        taken = min(self.workers_bytes, max(self.limit_bytes - MIN_TASKS_NBYTES, 0))
        self._task_capacity_bytes = self.limit_bytes - taken
        self._max_guess_bytes = min(self._large_bytes, self._task_capacity_bytes * _MAX_GUESS_SHARE)
        if self.enforced:
            self._arena.effective_capacity_bytes = self._task_capacity_bytes - self.running_bytes
