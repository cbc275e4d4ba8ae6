"""Memory budget: bounds the memory of idle workers, running tasks and the arena together.

    memory of idle workers + charges of running tasks + blocks of the arena  <=  memory_limit

A task is charged with its estimate, and with the copy of its sources in its worker's own inbox, from its dispatch to its end.
Estimated result memory moves from the task's charge to the arena when it is granted, so it is counted once. The arena may use
all memory that is left. But new sources must leave the memory that the largest admitted task needs, so that a full inbox cannot
block the tasks whose sources fill it; and up to two thirds of the memory for as many such tasks as there are workers, so that
sources of later tasks do not keep workers idle.

Pages that a worker's inbox keeps after a large source count as free pages of the arena do: they are released as soon as the sum
would be above the limit.

There is a reserve for small tasks: large tasks leave as much memory as recent small tasks have needed.
"""

from __future__ import annotations

from math import inf

from ...errors import MemoryLimitExceeded
from ..model.lazy_heap import LazyHeap
from ..model.settings import KEPT_INBOX_NBYTES, AdmissionMode
from ..model.task_record import TaskRecord
from ..model.worker_slot import WorkerSlot
from .arena import Arena

__all__ = ["DEFAULT_WORKER_NBYTES", "MIN_TASKS_NBYTES", "Budget"]

DEFAULT_WORKER_NBYTES = 32 * 1024 * 1024  # memory of a worker before its first report: Python, a plugin such as libvips
MIN_TASKS_NBYTES = 64 * 1024 * 1024  # memory that is always left for tasks and the arena beside idle workers

_LARGE_SHARE = 1 / 8  # a task that needs a larger share of the budget is a large task
_MAX_GUESS_SHARE = 3 / 4  # largest share of the task capacity that a guess may need
_RESERVE_DECAY = 1 / 64  # share by which the reserve approaches the charge of each small task
_RLIMIT_FACTOR = 1.5  # memory limit of a task, as a multiple of its estimate
_SLACK_SHARE = 1 / 2  # slack that all tasks together have beyond that, as a share of the budget
_STACK_BYTES = 8 * 1024 * 1024  # addresses of one thread's stack
_HEADROOM_SHARE = 2 / 3  # largest share of the task capacity that sources leave for more than one admitted task
_LIBRARY_THREADS = 5  # threads that a library starts beside those that compute; libvips keeps five from its first task on


class Budget:
    """The sums of charged memory, and the decisions that depend on them."""

    def __init__(self, arena: Arena, limit_bytes: int | None, mode: AdmissionMode, *, workers: int = 1) -> None:
        self._workers = workers  # large tasks that may run at once
        self.limit_bytes = limit_bytes if mode is not AdmissionMode.OFF else None
        self.mode = mode
        self.running_bytes = 0  # charges of running tasks
        self.workers_bytes = 0  # memory of idle workers
        self.excess_bytes = 0  # pages that inboxes keep after large sources
        self.would_have_waited = 0  # number of tasks, in shadow mode
        self.would_have_been_refused = 0  # number of tasks, in shadow mode
        self.running = 0  # number of running tasks
        self.enforced = self.limit_bytes is not None and mode is AdmissionMode.ENFORCE  # whether tasks wait, or are refused
        self._task_capacity_bytes = self.limit_bytes or 0  # memory for tasks and the arena, beside idle workers
        self._large_bytes = inf if self.limit_bytes is None else self.limit_bytes * _LARGE_SHARE
        self._max_guess_bytes = min(self._large_bytes, self._task_capacity_bytes * _MAX_GUESS_SHARE)
        self._arena = arena
        if self.enforced:
            arena.effective_capacity_bytes = self._task_capacity_bytes
        self._reserve_bytes = 0  # reserve for small tasks
        self._admitted_large: LazyHeap[int] = LazyHeap()  # ids of admitted large tasks, by minus the bytes that they need

    @property
    def room_bytes(self) -> float:
        """Bytes that another task could be charged with now."""
        if self.limit_bytes is None:
            return inf
        return self._task_capacity_bytes - self.running_bytes - self._arena.used_bytes

    # Admission

    def refusal(self, task: TaskRecord) -> MemoryLimitExceeded | None:
        """The error for a task that could not even run alone, by its plugin's estimate; None if it could."""
        estimate = task.spec.estimate
        if self.limit_bytes is None or estimate is None:
            return None
        needed_bytes = min(estimate.peak_bytes, task.peak_bytes) + task.output_bytes + task.nbytes
        capacity_bytes = self._task_capacity_bytes
        if needed_bytes <= capacity_bytes:
            return None
        if self.mode is AdmissionMode.SHADOW:
            self.would_have_been_refused += 1
            return None
        return MemoryLimitExceeded(
            needed_bytes, capacity_bytes, limited_by="what memory_limit leaves beside idle workers", what="memory (estimated)"
        )

    def admit(self, task: TaskRecord) -> None:
        """Count a task as admitted until `remove`: sources leave memory for it. Reduce its peak to the capacity, so that it can
        run.

        A guess or a correction is reduced further, so that it leaves memory for others. Only its plugin's estimate can make a
        task run alone.
        """
        if self.limit_bytes is None:
            return
        if task.peak_bytes + task.output_bytes + task.nbytes + task.copy_bytes <= self._max_guess_bytes:
            return  # because it is small, as nearly all tasks are
        estimated_bytes = 0 if task.spec.estimate is None else task.spec.estimate.peak_bytes
        max_bytes = self._task_capacity_bytes - task.nbytes - task.copy_bytes - task.output_bytes
        task.peak_bytes = max(min(task.peak_bytes, max(int(max_bytes * _MAX_GUESS_SHARE), estimated_bytes), max_bytes), 0)
        needed_bytes = task.peak_bytes + task.output_bytes + task.copy_bytes
        if needed_bytes > self._large_bytes:
            self._admitted_large.set(task.task_id, -needed_bytes)

    def headroom_for_admitted(self, beside_bytes: int, staged: int = 0) -> int:
        """Bytes that a new source must leave free, for the largest admitted tasks, and for its own task.

        Args:
            beside_bytes: memory that the source's own task needs beside it.
            staged: number of tasks that have memory for their sources. Some of them are not admitted yet, and are
                taken to need as much as this one.
        """
        if not self.enforced:
            return 0
        largest = -int(self._admitted_large.lowest) if self._admitted_large else 0
        for_admitted = largest * min(self._workers, len(self._admitted_large))
        for_staged = beside_bytes * min(self._workers, staged + 1)
        for_workers = min(max(for_admitted, for_staged), int(self._task_capacity_bytes * _HEADROOM_SHARE))
        return max(max(largest, beside_bytes, for_workers) - self.running_bytes, 0)

    def remove(self, task: TaskRecord) -> None:
        """The task has its outcome: it is not admitted any more."""
        if task.task_id in self._admitted_large.entry_numbers:
            self._admitted_large.discard(task.task_id)

    # Running

    def fits(self, task: TaskRecord) -> bool:
        """Whether there is memory for the task now. There always is if no task runs, because nothing would be freed later."""
        if not self.enforced or not self.running:
            return True
        return self.needed_bytes(task) <= self.room_bytes

    def needed_bytes(self, task: TaskRecord) -> int:
        """Free bytes that a task needs to start; for a large task beside others, with the reserve for small tasks."""
        charge = task.peak_bytes + task.output_bytes + task.copy_bytes
        return charge + self._reserve_bytes if charge > self._large_bytes and self.running_bytes else charge

    def charge(self, task: TaskRecord) -> None:
        """The task starts: charge it."""
        self.running += 1
        if self.limit_bytes is None:
            return
        if not self.enforced and self.running > 1 and self.needed_bytes(task) > self.room_bytes:
            self.would_have_waited += 1
        task.charged_bytes = charge = task.peak_bytes + task.output_bytes + task.copy_bytes
        task.unused_output_bytes = task.output_bytes
        if charge != self._reserve_bytes and charge <= self._large_bytes:
            self._reserve_bytes = max(charge, self._reserve_bytes - int((self._reserve_bytes - charge) * _RESERVE_DECAY))
        self.running_bytes += charge
        if self.enforced:
            self._arena.effective_capacity_bytes -= charge

    def discharge(self, task: TaskRecord) -> None:
        """The task does not run any more: remove its charge."""
        self.running -= 1
        if task.charged_bytes:
            self.running_bytes -= task.charged_bytes
            if self.enforced:
                self._arena.effective_capacity_bytes += task.charged_bytes
            task.charged_bytes = 0

    def unused_output_bytes(self, task: TaskRecord) -> int:
        """Bytes of a task's charge that are result memory which was not granted yet; without an estimate, the whole charge.

        After the first output of a task without an estimate, the rest of the charge counts as its private memory.
        """
        if not task.charged_bytes:
            return 0
        if task.spec.estimate is None:
            return 0 if task.outputs else max(task.charged_bytes - task.copy_bytes, 0)
        return min(max(task.unused_output_bytes, 0), task.charged_bytes)

    def transfer_to_arena(self, task: TaskRecord, nbytes: int) -> None:
        """Move bytes of a task's charge to the arena; a negative number moves them back, because there were no pages."""
        if nbytes:
            task.unused_output_bytes -= nbytes
            task.charged_bytes -= nbytes
            self.running_bytes -= nbytes
            if self.enforced:
                self._arena.effective_capacity_bytes += nbytes

    def task_rlimit_bytes(self, task: TaskRecord, threads: int, concurrency: int, *, is_guess: bool = False) -> int | None:
        """Bytes of private memory after which the system refuses more to a task; None: there is no limit.

        It is the caller's limit, or what follows from the budget if that is less.

        It is one and a half times the task's estimate or guess, and the task's part of a slack of half the limit. So all
        running tasks and idle workers together have at most twice `memory_limit`, even if each task uses all that it may. Each
        thread's stack has 8 MiB more, which are addresses rather than memory.

        Args:
            task: the task.
            threads: its threads.
            concurrency: tasks that may run at once.
            is_guess: nothing is known about such tasks; then only the caller's limit holds, and that of the process. Libraries
                reserve addresses when they are first used (polars 1 GiB), and some hang if a part of that is refused.
        """
        limit_bytes = task.spec.memory_limit_bytes
        if self.enforced and not is_guess:
            budgeted = self._budgeted_rlimit_bytes(task, threads, concurrency)
            limit_bytes = budgeted if limit_bytes is None else min(limit_bytes, budgeted)
        return limit_bytes

    def _budgeted_rlimit_bytes(self, task: TaskRecord, threads: int, concurrency: int) -> int:
        assert self.limit_bytes is not None
        slack = int(self.limit_bytes * _SLACK_SHARE) // max(concurrency, 1)
        return min(
            int(task.peak_bytes * _RLIMIT_FACTOR) + slack + _STACK_BYTES * (threads + _LIBRARY_THREADS), self.limit_bytes
        )

    # Workers

    def set_worker_memory(self, slot: WorkerSlot, idle_bytes: int) -> None:
        """Set the private memory that a worker has when it is idle; 0 if it is dead.

        It is bounded, because the worker reports it. A worker that has grown is replaced, and small tasks run meanwhile: 64 MiB
        are left for them, even if workers report more.
        """
        if self.limit_bytes is None or idle_bytes == slot.idle_bytes:
            return
        idle_bytes = min(max(idle_bytes, 0), self.limit_bytes)
        more_bytes, slot.idle_bytes = idle_bytes - slot.idle_bytes, idle_bytes
        self._count_workers(more_bytes)

    def count_inbox(self, slot: WorkerSlot, nbytes: int) -> None:
        """Count so many bytes of a worker's own inbox as its memory: pages that are filled, and stay."""
        more_bytes = min(nbytes, KEPT_INBOX_NBYTES) - slot.inbox_bytes
        if more_bytes > 0:
            slot.inbox_bytes += more_bytes
            self.set_worker_memory(slot, slot.idle_bytes + more_bytes)

    def set_excess(self, slot: WorkerSlot, nbytes: int) -> None:
        """Set how many bytes a worker's own inbox keeps beyond those that stay."""
        self.excess_bytes += nbytes - slot.excess_bytes
        slot.excess_bytes = nbytes

    @property
    def must_release_excess(self) -> bool:
        """Whether pages that inboxes keep have to be released, because tasks or the arena need their memory."""
        if not self.excess_bytes or not self.enforced:
            return False
        return self.running_bytes + self._arena.reserved_bytes + self.excess_bytes > self._task_capacity_bytes

    def count_abandoned(self, more_bytes: int) -> None:
        """Add the private memory of an abandoned process; negative when the process has exited."""
        if self.limit_bytes is not None:
            self._count_workers(more_bytes)

    def _count_workers(self, more_bytes: int) -> None:
        assert self.limit_bytes is not None
        self.workers_bytes += more_bytes
        workers_bytes = min(self.workers_bytes, max(self.limit_bytes - MIN_TASKS_NBYTES, 0))
        self._task_capacity_bytes = self.limit_bytes - workers_bytes
        self._max_guess_bytes = min(self._large_bytes, self._task_capacity_bytes * _MAX_GUESS_SHARE)
        if self.enforced:
            self._arena.effective_capacity_bytes = self._task_capacity_bytes - self.running_bytes
