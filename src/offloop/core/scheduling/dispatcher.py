"""Bringing waiting tasks and idle workers together, within the memory that there is.

The task that is next gets a worker as soon as one is free and there is memory for it. While there is none, others may be let
past it (backfilling, as batch schedulers do; Lifka 1995): those that will have ended before there is, and those for which there
is memory beside it. That goes on for `HELD_S` at most; then estimates have been wrong for long enough, and only those may
pass that cannot hold it up.

When every worker has a large task, one more task may run beyond the limit, on a helper: a small one, that would have to wait
many times as long as it takes. When such tasks wait for longer than a worker takes to start, another helper is wanted.

A large task is not begun while other sources are on their way in, for a fiftieth of its own time at most: what came together
with it may be small, and then goes before it. When no other can be begun beside it, it may use the CPUs of idle workers.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from math import inf

from ...wire.handles import OUTBOX, Handle
from ...wire.messages import Done, Failed, Run
from ..memory.broker import MemoryBroker
from ..memory.budget import Budget
from ..model.commands import Command, ReleasePages, Send
from ..model.settings import FIRST_GRANT_NBYTES
from ..model.task import TaskRecord
from ..model.worker_slot import WorkerSlot
from ..model.worker_state import WorkerEvent
from ..workers.worker_table import WorkerTable
from .cost_model import CostModel
from .task_queue import TaskQueue

__all__ = ["RESERVATION_S", "Dispatcher"]

RESERVATION_S = (
    10.0  # how long the task that is next is passed by others that may hold it up, if they take longer than estimated
)

_DISPATCHED = WorkerEvent.DISPATCHED  # looked up once, as in `crew`

_LARGE_S = 0.2  # a worker that is busy for so long is worth a helper: it takes about as long to start one
_SMALL_TASK_WAIT_S = 0.1  # how long small tasks wait before one more helps
_SMALL_SHARE = 1 / 8  # of what the shortest of the large tasks takes
_MOMENT_SHARE, _MOMENT_S = 0.02, 0.1  # of its own time, and at most: how long a large task waits for what comes with it
_WORTH_THREADS_S = 0.5
_BACKFILL_CANDIDATES = 16  # tasks of each tenant that may be let past the one that is next


class Dispatcher:
    """Gives tasks to workers."""

    def __init__(self, worker_table: WorkerTable, queue: TaskQueue, broker: MemoryBroker, budget: Budget) -> None:
        self.cost_model = CostModel()
        self.wanted_helpers = 0  # by what was sent since somebody last looked
        self.spent_a_worker = False  # a worker was sent the last task that it may have, since `Hiring` last looked
        self.preparing: Callable[[], int] = lambda: 0  # how many tasks are on their way in
        self.wake_at = inf  # when a task that is held back for them may begin
        self.worker_table = worker_table
        self.queue = queue
        self.budget = budget
        self._broker = broker

    def dispatch_waiting(self, now: float) -> list[Command]:
        """Give every worker that may work a task, as long as there are both, and memory."""
        commands: list[Command] = []
        self.wake_at = inf
        if not self.worker_table.idle_processes:
            return commands
        while self.queue.waiting_for_unused_worker and (slot := self.worker_table.find_idle(unused=True)) is not None:
            if not self.budget.fits(self.queue.first_for_unused_worker):
                break
            commands += self.dispatch(slot, self.queue.pop_for_unused_worker(), now)
        held = self._find_blocked()
        while self.queue.waiting and (slot := self._find_worker()) is not None:
            if held is not None and slot.unused and self.worker_table.idle_unused == 1:
                slot = self.worker_table.find_idle(unused=False)
                if slot is None:
                    break
            task = self._find_next(now, held)
            if task is None:
                break
            self.queue.start(task)
            commands += self.dispatch(slot, task, now)
        return commands

    def submit(self, task: TaskRecord, now: float) -> list[Command]:
        """A task may be run: now where a worker is free and there is memory, else in turn."""
        assert task.spec is not None
        self.budget.admit(task)
        slot = self.worker_table.find_idle(task.spec.outbox_id)
        if task.spec.outbox_id is not None:
            assert slot is not None, "the host asked can_run_in before"
            return self.dispatch(slot, task, now)
        task.ready_at = now
        if (
            slot is not None
            and not (self.queue.waiting or self.queue.waiting_for_unused_worker)
            and (task.stable_cost_s < _LARGE_S or self.preparing() <= 1)  # a large one waits a moment for what comes with it
            and (not self.budget.running or self.budget.fits(task))
        ):
            return self.dispatch(slot, task, now)
        timeout = task.spec.queue_timeout_s
        kept = timeout is None or task.dispatches  # a task that a worker once had in time has no queue deadline any more
        self.queue.push(task, None if kept or timeout is None else task.submitted_at + timeout)
        return []

    def can_run_in_place(self, outbox_id: int, task: TaskRecord) -> bool:
        """Whether the task could go to that worker this moment."""
        if self.worker_table.find_idle(outbox_id) is None or self.queue:
            return False
        if task.spec is None:
            self.cost_model.predict_by_length(task)
        return self.budget.fits(task)

    def task_ended(self, task: TaskRecord, answer: Done | Failed | None, now: float, *, first: bool = False) -> None:
        """A worker is through with a task, perhaps its first, or dead (no answer)."""
        self.budget.discharge(task)
        if task.charged_s is not None:
            self.queue.policy.record_duration(task, now - task.dispatched_at)
        if answer is not None and task.stop is None:
            seconds = now - task.dispatched_at - task.memory_wait_s
            self.cost_model.observe(task, answer, seconds, first=first, clock_s=self.queue.policy.work_clock_s)

    @property
    def all_workers_have_large_tasks(self) -> bool:
        """Whether as many have a large task as may be at work."""
        return self.worker_table.at_limit and len(self._large_costs()) >= self.worker_table.concurrency_limit

    def dispatch(self, slot: WorkerSlot, task: TaskRecord, now: float) -> list[Command]:
        """Give a task to an idle worker."""
        spec = task.spec
        assert spec is not None
        assert slot.outbox_id is not None
        slot.task = task
        slot.tasks += 1
        if slot.tasks >= slot.max_tasks:
            self.spent_a_worker = True
        task.dispatches += 1
        task.dispatched_at = now
        task.memory_wait_s, task.memory_wait_since = 0.0, None  # its last worker may have died while it waited
        if task.stable_cost_s >= _LARGE_S:
            self.wanted_helpers = max(self.wanted_helpers, 1)
        elif now - task.ready_at > _SMALL_TASK_WAIT_S and self.worker_table.at_limit and self.queue:
            self.wanted_helpers = self.worker_table.helpers + 1
        if task.queued_bytes:
            self.queue.count_source(task, 0)
        self.worker_table.apply(slot, _DISPATCHED, None if spec.timeout_s is None else now + spec.timeout_s)
        self.budget.charge(task)
        grant: Handle | None = None  # what it was granted before and has not used is still the worker's
        fetch: list[Command] = []
        if slot.preallocated_block is None:
            slot.preallocated_block = self._broker.try_preallocate(slot.outbox_id, FIRST_GRANT_NBYTES)
            if slot.preallocated_block is not None:
                grant = Handle(OUTBOX, slot.preallocated_block.offset, FIRST_GRANT_NBYTES, slot.preallocated_block.generation)
            else:
                fetch = self._broker.prefetch(slot.outbox_id, FIRST_GRANT_NBYTES)  # for the next task
        threads = 1 if task.stable_cost_s < _WORTH_THREADS_S else self._threads_for_large()
        run = Run(
            task.task_id,
            spec.source,
            spec.stages,
            grant,
            spec.to_file,
            threads,
            self.budget.task_rlimit_bytes(task, threads, self.worker_table.concurrency_limit + self.worker_table.helpers),
        )
        spans = self._broker.trim()
        send = Send(slot.index, run)
        return [ReleasePages(spans), send, *fetch] if spans else [send, *fetch]

    def _find_worker(self) -> WorkerSlot | None:
        """Somebody for a waiting task: within the limit, or beyond it when all within have large ones."""
        slot = self.worker_table.find_idle()
        if slot is None and self.worker_table.at_limit:
            slot = self.worker_table.find_overcommit_worker()
            if slot is not None and not self.all_workers_have_large_tasks:
                return None
        return slot

    def _find_blocked(self) -> TaskRecord | None:
        """A task that has a fresh worker, and no memory yet. It goes before all others, so they may only pass it as they pass
        whoever is next, and one fresh worker is kept for it."""
        has_worker = self.queue.waiting_for_unused_worker and self.worker_table.find_idle(unused=True) is not None
        return self.queue.first_for_unused_worker if has_worker else None

    def _find_next(self, now: float, held: TaskRecord | None) -> TaskRecord | None:
        """The task that is next, or one that may be let past it."""
        order, budget = self.queue.policy, self.budget
        most_s = min(self._large_costs()) * _SMALL_SHARE if self.worker_table.at_limit else None
        first = order.first()
        held = first if held is None and not budget.fits(first) and not self._fits_now(first) else held
        if self._should_delay_large(first, now):
            most_s = min(_LARGE_S, inf if most_s is None else most_s)
        elif held is None and (most_s is None or first.stable_cost_s <= most_s):
            return first
        until, beside_bytes = (None, 0.0) if held is None else self._shadow_time(held, now)
        others = order.after_first(_BACKFILL_CANDIDATES)
        for task in others if held is None or held is first else chain((first,), others):
            if (most_s is not None and task.stable_cost_s > most_s) or not budget.fits(task):
                continue
            if until is None or (self._may_pass(task, now, until, beside_bytes) and self._fits_now(task)):
                return task
        return None

    def _may_pass(self, task: TaskRecord, now: float, until: float, beside_bytes: float) -> bool:
        """Whether a task would end by then, or leaves the memory that the held task needs."""
        return now + task.cost_s <= until or self.budget.needed_bytes(task) <= beside_bytes

    def _fits_now(self, task: TaskRecord) -> bool:
        """Whether there is memory for a task by what was learned while it waited.

        Tasks that are equal may have come with unequal estimates, and would pass each other for that.
        """
        if self.cost_model.fill_in_memory(task):
            self.budget.admit(task)
        return self.budget.fits(task)

    def _should_delay_large(self, task: TaskRecord, now: float) -> bool:
        """Whether a large task should wait a moment for those that came with it."""
        if task.stable_cost_s < _LARGE_S or not self.preparing():
            return False
        may_begin_at = task.ready_at + min(task.stable_cost_s * _MOMENT_SHARE, _MOMENT_S)
        if now >= may_begin_at:
            return False
        self.wake_at = may_begin_at
        return True

    def _shadow_time(self, task: TaskRecord, now: float) -> tuple[float, float]:
        """When there will be memory for a task, by the estimates of those that run; and how much there will be beside it."""
        task.blocked_since = now if task.blocked_since is None else task.blocked_since
        room, until, needed = self.budget.room_bytes, now, self.budget.needed_bytes(task)
        running = [slot.task for slot in self.worker_table if slot.task is not None]
        ends = sorted((_expected_end(other, now), other.charged_bytes) for other in running)
        for end, charged_bytes in ends:
            if room >= needed:
                break
            room += charged_bytes
            until = end
        return (until if now - task.blocked_since < RESERVATION_S else now), room - needed

    def _large_costs(self) -> list[float]:
        """What the large tasks that run take, in seconds."""
        return [task.stable_cost_s for task in self.worker_table.busy_tasks if task.stable_cost_s >= _LARGE_S]

    def _threads_for_large(self) -> int:
        """A large task gets its share of all CPUs, if nobody who waits could use them."""
        if self.queue and self.any_waiting_fits:
            return 1
        return max(self.worker_table.concurrency_limit // self.worker_table.busy, 1)

    @property
    def any_waiting_fits(self) -> bool:
        """Whether there is memory for any of those who are next."""
        if not self.queue.waiting:
            return True
        order = self.queue.policy
        return any(self.budget.fits(task) for task in chain([order.first()], order.after_first(_BACKFILL_CANDIDATES)))


def _expected_end(task: TaskRecord, now: float) -> float:
    """When a running task ends; one that has overrun its estimate is taken to be half-way."""
    elapsed_s = now - task.dispatched_at
    return task.dispatched_at + (task.cost_s if elapsed_s < task.cost_s else 2 * elapsed_s)
