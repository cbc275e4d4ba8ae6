"""Dispatcher: gives waiting tasks to idle workers, within the memory budget.

The first task (by `SchedulingPolicy`) gets a worker as soon as one is idle and there is memory for the task. While there is no
memory for it, other tasks may pass it (see `Backfill`).

When every worker has a large task, a helper may run a small task beyond the concurrency limit, because that task would wait
many times as long as it takes. When small tasks wait for longer than a worker takes to start, another helper is wanted.

A large task is not started while other sources are being prepared, for a fiftieth of its own time at most, because a task that
was submitted at the same time may be small, and then goes first. A large task may use the CPUs of idle workers when no other
task can start beside it.
"""

from __future__ import annotations

from itertools import chain
from math import inf

from ...wire.handles import OUTBOX, Handle
from ...wire.messages import Done, Failed, Run
from ..memory.broker import MemoryBroker
from ..memory.budget import Budget
from ..model.commands import Command, ReleasePages, Send
from ..model.settings import FIRST_GRANT_NBYTES
from ..model.task import TaskRecord
from ..model.task_state import TaskCounts, TaskEvent
from ..model.worker_slot import WorkerSlot
from ..model.worker_state import WorkerEvent
from ..workers.worker_table import WorkerTable
from .backfill import BACKFILL_CANDIDATES, Backfill
from .cost_model import CostModel
from .task_queue import TaskQueue

__all__ = ["Dispatcher"]

_DISPATCHED = WorkerEvent.DISPATCHED  # a member that is looked up on its class costs 0.1 us on Python 3.11

_LARGE_S = 0.2  # cost of a large task, in seconds: about the time that a helper takes to start
_SMALL_TASK_WAIT_S = 0.1  # seconds that small tasks wait before another helper is wanted
_SMALL_SHARE = 1 / 8  # largest cost of a small task, as a share of the lowest cost of the running large tasks
_MAX_DELAY_SHARE, _MAX_DELAY_S = (
    0.02,
    0.1,
)  # longest delay of a large task: share of its cost, and seconds
_MIN_COST_FOR_THREADS_S = 0.5  # seconds


class Dispatcher:
    """Decides which waiting task starts now, and on which worker."""

    def __init__(
        self, worker_table: WorkerTable, queue: TaskQueue, broker: MemoryBroker, budget: Budget, counts: TaskCounts
    ) -> None:
        self.cost_model = CostModel()
        self.wanted_helpers = 0  # helpers that the tasks dispatched since the last reset are worth; `PoolState` resets it
        self.spent_a_worker = False  # whether a worker was sent its last task since the last reset; `PoolState` resets it
        self.wake_at = inf  # when a delayed large task may start
        self.worker_table = worker_table
        self.queue = queue
        self.budget = budget
        self._broker = broker
        self._counts = counts
        self._backfill = Backfill(worker_table, queue.policy, budget, self.cost_model)

    def dispatch_waiting(self, now: float) -> list[Command]:
        """Dispatch waiting tasks as long as there are tasks, idle workers and memory."""
        commands: list[Command] = []
        self.wake_at = inf
        if not self.worker_table.idle_processes:
            return commands
        while self.queue.waiting_for_unused_worker and (slot := self.worker_table.find_idle(unused=True)) is not None:
            if not self.budget.fits(self.queue.first_for_unused_worker):
                break
            commands += self.dispatch(slot, self.queue.pop_for_unused_worker(), now)
        blocked = self._find_blocked()
        while self.queue.waiting and (slot := self._find_worker()) is not None:
            if blocked is not None and slot.unused and self.worker_table.idle_unused == 1:
                slot = self.worker_table.find_idle(unused=False)
                if slot is None:
                    break
            task = self._find_next(now, blocked)
            if task is None:
                break
            self.queue.start(task)
            commands += self.dispatch(slot, task, now)
        return commands

    def submit(self, task: TaskRecord, now: float) -> list[Command]:
        """A task is admitted: dispatch it if a worker is idle, no other task waits and there is memory; else queue it."""
        task.apply(TaskEvent.ADMITTED)
        self.budget.admit(task)
        slot = self.worker_table.find_idle()
        task.ready_at = now
        if (
            slot is not None
            and not (self.queue.waiting or self.queue.waiting_for_unused_worker)
            and (task.stable_cost_s < _LARGE_S or not self._counts.preparing)  # see `_should_delay_large`
            and (not self.budget.running or self.budget.fits(task))
        ):
            return self.dispatch(slot, task, now)
        timeout = task.spec.queue_timeout_s
        kept = timeout is None or task.dispatches  # a task that a worker once had in time has no queue deadline any more
        self.queue.push(task, None if kept or timeout is None else task.submitted_at + timeout)
        return []

    def submit_in_place(self, task: TaskRecord, now: float) -> list[Command]:
        """Run a task on the worker in whose outbox its source lies. Returns nothing if that is not possible now."""
        slot = None if self.queue else self.worker_table.find_idle(task.spec.outbox_id)
        if slot is None or not self.budget.fits(task):
            return []
        task.apply(TaskEvent.ADMITTED)
        self.budget.admit(task)
        return self.dispatch(slot, task, now)

    def task_ended(self, task: TaskRecord, answer: Done | Failed | None, now: float, *, first: bool = False) -> None:
        """A task has ended: its worker has answered, or is dead.

        Args:
            task: the task.
            answer: the worker's answer; None if the worker is dead.
            now: seconds.
            first: whether it was the worker's first task.
        """
        self.budget.discharge(task)
        if task.charged_s is not None:
            self.queue.policy.record_duration(task, now - task.dispatched_at)
        if answer is not None and task.stop is None:
            seconds = now - task.dispatched_at - task.paused_s
            self.cost_model.observe(task, answer, seconds, first=first, clock_s=self.queue.policy.work_clock_s)

    @property
    def all_workers_have_large_tasks(self) -> bool:
        """Whether as many large tasks run as the concurrency limit allows."""
        return self.worker_table.at_limit and len(self._large_costs()) >= self.worker_table.concurrency_limit

    def dispatch(self, slot: WorkerSlot, task: TaskRecord, now: float) -> list[Command]:
        """Give a task to an idle worker."""
        spec = task.spec
        assert slot.outbox_id is not None
        task.apply(TaskEvent.DISPATCHED)
        slot.task, task.slot = task, slot.index
        slot.tasks += 1
        if slot.tasks >= slot.max_tasks:
            self.spent_a_worker = True
        task.dispatches += 1
        task.dispatched_at = now
        task.paused_s, task.paused_since = 0.0, None  # because its last worker may have died in a wait
        if task.stable_cost_s >= _LARGE_S:
            self.wanted_helpers = max(self.wanted_helpers, 1)
        elif now - task.ready_at > _SMALL_TASK_WAIT_S and self.worker_table.at_limit and self.queue:
            self.wanted_helpers = self.worker_table.helpers + 1
        if task.queued_bytes:
            self.queue.count_source(task, 0)
        self.worker_table.apply(slot, _DISPATCHED, None if spec.limit_s is None else now + spec.limit_s)
        self.budget.charge(task)
        grant: Handle | None = None  # None if the worker still has the block that was preallocated with an earlier task
        fetch: list[Command] = []
        if slot.preallocated_block is None:
            slot.preallocated_block = self._broker.try_preallocate(slot.outbox_id, FIRST_GRANT_NBYTES)
            if slot.preallocated_block is not None:
                grant = Handle(OUTBOX, slot.preallocated_block.offset, FIRST_GRANT_NBYTES, slot.preallocated_block.generation)
            else:
                fetch = self._broker.prefetch(slot.outbox_id, FIRST_GRANT_NBYTES)  # for the next task
        threads = 1 if task.stable_cost_s < _MIN_COST_FOR_THREADS_S else self._threads_for_large()
        run = Run(
            task.task_id,
            spec.source,
            spec.stages,
            grant,
            spec.to_file,
            threads,
            self.budget.task_rlimit_bytes(task, threads, self.worker_table.concurrency_limit + self.worker_table.helpers),
            task.credit,
        )
        spans = self._broker.trim()
        send = Send(slot.index, run)
        return [ReleasePages(spans), send, *fetch] if spans else [send, *fetch]

    def _find_worker(self) -> WorkerSlot | None:
        """A worker for a waiting task: within the concurrency limit, or a helper when all within it have large tasks."""
        slot = self.worker_table.find_idle()
        if slot is None and self.worker_table.at_limit:
            slot = self.worker_table.find_overcommit_worker()
            if slot is not None and not self.all_workers_have_large_tasks:
                return None
        return slot

    def _find_blocked(self) -> TaskRecord | None:
        """A task that has an unused worker and no memory yet. It goes before all other tasks: they may pass it only by
        backfilling, and one unused worker is kept for it."""
        has_worker = self.queue.waiting_for_unused_worker and self.worker_table.find_idle(unused=True) is not None
        return self.queue.first_for_unused_worker if has_worker else None

    def _find_next(self, now: float, blocked: TaskRecord | None) -> TaskRecord | None:
        """The first task, or a task that may pass it."""
        max_cost_s = min(self._large_costs()) * _SMALL_SHARE if self.worker_table.at_limit else None
        first = self.queue.policy.first()
        if blocked is None and not self.budget.fits(first) and not self._backfill.fits_as_learned(first):
            blocked = first
        if self._should_delay_large(first, now):
            max_cost_s = min(_LARGE_S, inf if max_cost_s is None else max_cost_s)
        elif blocked is None and (max_cost_s is None or first.stable_cost_s <= max_cost_s):
            return first
        return self._backfill.find(blocked, max_cost_s, now)

    def _should_delay_large(self, task: TaskRecord, now: float) -> bool:
        """Whether a large task should wait for tasks that were submitted at the same time and are being prepared."""
        if task.stable_cost_s < _LARGE_S or not self._counts.preparing:
            return False
        may_start_at = task.ready_at + min(task.stable_cost_s * _MAX_DELAY_SHARE, _MAX_DELAY_S)
        if now >= may_start_at:
            return False
        self.wake_at = may_start_at
        return True

    def _large_costs(self) -> list[float]:
        """Costs of the running large tasks, in seconds."""
        return [task.stable_cost_s for task in self.worker_table.busy_tasks if task.stable_cost_s >= _LARGE_S]

    def _threads_for_large(self) -> int:
        """Number of threads for a large task: its share of all CPUs, or 1 if a waiting task could use the other CPUs."""
        if self.queue and self.any_waiting_fits:
            return 1
        return max(self.worker_table.concurrency_limit // self.worker_table.busy, 1)

    @property
    def any_waiting_fits(self) -> bool:
        """Whether there is memory for any of the tasks that are first."""
        if not self.queue.waiting:
            return True
        policy = self.queue.policy
        return any(self.budget.fits(task) for task in chain([policy.first()], policy.after_first(BACKFILL_CANDIDATES)))
