"""Sent tasks: short tasks that a worker has behind the one that it runs, so that it does not wait for a message between two.

A sent task is not begun: its time limit does not run, and its memory is not charged. It takes over the charge of the task
before it. Only the copies of its sources lie in the worker's inbox from the start, and count as the worker's memory. A worker
answers in the order of its `Run` messages, so after each answer the first sent task is the one that runs.

All sent tasks of a worker are withdrawn, and wait again as the first ones, as soon as the task before them takes longer than
expected, is told to stop, or its worker is dying. The runtime withdraws them in shared memory (see `wire.claims`), so a worker
that does not answer cannot keep them. Tasks that it has begun meanwhile stay. A withdrawn task's arguments and small sources
were visible to that worker. So a task with sources is sent only behind a task of the same tenant.
"""

from __future__ import annotations

from typing import Final

from ..memory.allocator import PAGE_NBYTES
from ..memory.budget import Budget
from ..model.commands import Command, WithdrawRuns
from ..model.task_record import TaskRecord
from ..model.task_state import TaskEvent, TaskState
from ..model.worker_slot import WorkerSlot
from ..model.worker_state import WorkerState
from ..workers.group_slots import GroupSlots
from ..workers.worker_table import WorkerTable
from .task_queue import TaskQueue

__all__ = ["OVERDUE_S", "SentTasks"]

OVERDUE_S = 0.002  # seconds after which a task that was expected to be short takes too long for those behind it
_MAX_BEHIND_S = 0.002  # expected seconds that a task may wait behind others at a worker
_MAX_SOURCE_NBYTES = 64 * 1024  # length of the sources of a sent task: copied in about 10 us, also if it is withdrawn
# members that are looked up on their class cost 0.1 us each on Python 3.11
_BUSY: Final = WorkerState.BUSY
_SENT_BEHIND: Final = TaskEvent.SENT_BEHIND


class SentTasks:
    """Decides which tasks are sent to busy workers, and withdraws them."""

    def __init__(self, worker_table: WorkerTable, queue: TaskQueue, budget: Budget, max_sent: int) -> None:
        self._worker_table = worker_table
        self._queue = queue
        self._budget = budget
        self._max_sent = max_sent
        self.total = 0
        """Number of sent tasks of all workers."""

    def allows(self, workers: GroupSlots) -> bool:
        """Whether tasks may be sent to the busy workers of a group. Not if these have all that they may have, or if a worker
        may run the tasks of one tenant only."""
        return workers.sent < workers.busy * self._max_sent and not workers.isolates_tenants

    def find_worker(self, workers: GroupSlots, task: TaskRecord, now: float) -> WorkerSlot | None:
        """The busy worker that gets a task behind its own: the one with the fewest; None if no worker should get it."""
        pace = task.pace
        if pace is None or not pace.is_short or not _may_be_sent(task) or not _takes_sent_tasks(workers):
            return None
        best: WorkerSlot | None = None
        fewest = min(self._max_sent, int(_MAX_BEHIND_S / pace.mean_s) if pace.mean_s > 0.0 else self._max_sent)
        for slot in workers.slots.values():
            if slot.task is not None and len(slot.sent) < fewest and self._takes_another(slot, slot.task, task, now):
                best, fewest = slot, len(slot.sent)
        return best

    def _takes_another(self, slot: WorkerSlot, running: TaskRecord, task: TaskRecord, now: float) -> bool:
        """Whether a worker's present task is short and not overdue, and the worker may get more tasks."""
        return (
            slot.state_machine.state is _BUSY
            and slot.queues_runs
            and slot.recycling is None
            and slot.tasks < slot.max_tasks
            and not slot.withdrawn_to
            and not slot.is_withdrawing
            and running.pace is not None
            and running.pace.is_short
            and now - running.dispatched_at < OVERDUE_S
            # because output of a task that comes before the answer of the one before it is logged with that one's labels
            and running.spec.labels == task.spec.labels
            and (not task.nbytes or running.spec.tenant == task.spec.tenant)
            and (not self._budget.enforced or task.peak_bytes + task.output_bytes <= running.peak_bytes + running.output_bytes)
        )

    def add(self, slot: WorkerSlot, task: TaskRecord) -> None:
        """A task is sent to a busy worker."""
        assert slot.task is not None
        if task.copy_bytes:
            nbytes = slot.task.copy_bytes + task.copy_bytes + sum([other.copy_bytes for other in slot.sent])
            self._budget.count_inbox(slot, nbytes + PAGE_NBYTES * (len(slot.sent) + 2))  # each one begins at a page
        task.apply(_SENT_BEHIND)
        task.sent_to = slot.index
        if not slot.sent:
            self._worker_table.wake_at(slot.task.dispatched_at + OVERDUE_S)
        slot.sent.append(task)
        self._count(slot, 1)

    def pop_next(self, slot: WorkerSlot) -> TaskRecord | None:
        """Remove and return the task that a worker has begun with its answer for the one before; None if it has none."""
        if not slot.sent:
            return None
        task = slot.sent.pop(0)
        task.sent_to = None
        self._count(slot, -1)
        return task

    def _count(self, slot: WorkerSlot, more: int) -> None:
        self.total += more
        self._worker_table.groups[slot.group].sent += more

    def withdraw(self, slot: WorkerSlot, first: TaskRecord | None = None) -> list[Command]:
        """Withdraw the sent tasks of a worker, from the first one on; None: all of them."""
        if not slot.sent or slot.is_withdrawing:
            return []
        assert slot.outbox_id is not None
        slot.is_withdrawing = True
        first_number = (slot.sent[0] if first is None else first).run_number
        return [WithdrawRuns(slot.index, slot.outbox_id, first_number, slot.runs)]

    def withdraw_overdue(self, now: float) -> list[Command]:
        """Withdraw the tasks behind each task that takes longer than expected."""
        commands: list[Command] = []
        if not self.total:
            return commands
        for slot in self._worker_table:
            if slot.sent and slot.task is not None and not slot.is_withdrawing and slot.state is _BUSY:
                overdue_at = slot.task.dispatched_at + OVERDUE_S
                if now >= overdue_at:
                    commands += self.withdraw(slot)
                else:
                    self._worker_table.wake_at(overdue_at)
        return commands

    def withdrawn(self, slot: WorkerSlot, kept_to: int) -> list[TaskRecord]:
        """The worker will begin no run after the one with this number. Returns their tasks, which are unwanted, or wait now and
        are in no queue."""
        slot.is_withdrawing = False
        taken = [task for task in slot.sent if task.run_number > kept_to]
        if taken:
            slot.sent = slot.sent[: -len(taken)]
            slot.withdrawn_to = slot.runs
            slot.take_back(len(taken))
            self._count(slot, -len(taken))
        for task in taken:
            _take_from_worker(task)
        return taken

    def take_all(self, slot: WorkerSlot) -> list[TaskRecord]:
        """Remove and return the sent tasks of a dead worker, which are unwanted, or wait now and are in no queue."""
        taken, slot.sent = slot.sent, []
        self._count(slot, -len(taken))
        for task in taken:
            _take_from_worker(task)
        return taken


def _take_from_worker(task: TaskRecord) -> None:
    task.sent_to = None
    if task.state is TaskState.SENT:
        task.apply(TaskEvent.WITHDRAWN)


def _may_be_sent(task: TaskRecord) -> bool:
    """Whether a task has no sources or small ones, which any worker can read, hands over one result in memory, and may wait."""
    spec = task.spec
    if task.nbytes > _MAX_SOURCE_NBYTES or spec.outbox_id is not None:
        return False
    has_more = spec.credit or spec.to_file or spec.pipelines
    return not (has_more or task.was_skipped) and spec.queue_timeout_s != 0.0


def _takes_sent_tasks(workers: GroupSlots) -> bool:
    """Whether the workers of a group get tasks without tests: no breaker is half open, and no worker is beyond the limit."""
    return workers.half_open_slot is None and workers.busy <= workers.concurrency_limit
