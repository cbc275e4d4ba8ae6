"""Dispatcher: gives waiting tasks to idle workers, within the memory budget.

Each worker group has a lane. The first task of a lane (by `SchedulingPolicy`) gets a worker of the group as soon as one is idle
and there is memory for the task. While there is no memory for it, other tasks may pass it (see `Backfill`). The task that was
blocked first holds the reservation of memory against the tasks of all groups, so that no group starves another.

A large task is not started while other tasks are being prepared, for a fiftieth of its own time at most, because a task that
was submitted at the same time may be small, and then goes first. A large task may use the CPUs of idle workers when no other
task can start beside it.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from math import inf
from typing import Final

from ...wire.handles import OUTBOX, Handle
from ...wire.messages import Done, Failed, Run
from ..memory.broker import MemoryBroker
from ..memory.budget import Budget
from ..model.commands import Command, ReleasePages, Send
from ..model.settings import FIRST_GRANT_NBYTES
from ..model.task import StopReason
from ..model.task_record import TaskRecord
from ..model.task_state import TaskCounts, TaskEvent, TaskState
from ..model.worker_slot import WorkerSlot
from ..model.worker_state import WorkerEvent
from ..telemetry.histogram_recorder import Recorder
from ..workers.worker_table import WorkerTable
from .backfill import BACKFILL_CANDIDATES, Backfill
from .cost_model import CostModel
from .deliveries import MAX_READ_S, Deliveries, needs_delivery
from .lane import Lane
from .sent_tasks import SentTasks
from .small_tasks import LARGE_S, SMALL_TASK_WAIT_S
from .task_queue import TaskQueue

__all__ = ["Dispatcher"]

# members that are looked up on their class cost 0.1 us each on Python 3.11
_WORKER_DISPATCHED: Final = WorkerEvent.DISPATCHED
_ADMITTED: Final = TaskEvent.ADMITTED
_DISPATCHED: Final = TaskEvent.DISPATCHED
_BEGUN: Final = TaskEvent.BEGUN
_STOPPING: Final = TaskState.STOPPING

_MAX_DELAY_SHARE = 0.02  # longest delay of a large task, as a share of its cost
_MAX_DELAY_S = 0.1  # longest delay of a large task, in seconds
_MIN_COST_FOR_THREADS_S = 0.5  # seconds


class Dispatcher:
    """Decides which waiting task starts now, and on which worker."""

    def __init__(
        self,
        worker_table: WorkerTable,
        queue: TaskQueue,
        broker: MemoryBroker,
        budget: Budget,
        counts: TaskCounts,
        deliveries: Deliveries,
        max_sent: int = 0,
    ) -> None:
        self.cost_model = CostModel()
        self.waits = Recorder()  # seconds from submission to first dispatch, of each dispatched task
        self.runs = Recorder()  # seconds from dispatch to end, of each run of a task
        self.spent_groups: set[str] = set()
        """Groups in which a worker was sent its last task since the last reset; `PoolState` resets it."""
        self.wake_at = inf  # when a delayed large task may start
        self.queue = queue
        self.budget = budget
        self._worker_table = worker_table
        self._broker = broker
        self._counts = counts
        self._blocked: TaskRecord | None = None  # the task that holds the reservation; it may have left the queue since
        self._backfill = Backfill(worker_table, budget, self.cost_model)
        self.sent_tasks = SentTasks(worker_table, queue, budget, max_sent)
        self.deliveries = deliveries

    def dispatch_waiting(self, now: float) -> list[Command]:
        """Dispatch waiting tasks as long as there are tasks, idle workers and memory."""
        commands: list[Command] = []
        self.wake_at, self._blocked = inf, None
        lanes = self.queue.waiting_lanes
        for lane in lanes if len(lanes) == 1 else sorted(lanes, key=_blocked_since):
            if lane.workers.idle_workers or (lane.small_tasks is not None and lane.small_tasks.has_idle_worker):
                commands += self._dispatch_lane(lane, now)
            if not self._is_memory_reserved() and self.sent_tasks.allows(lane.workers):
                commands += self._send_to_busy_workers(lane, now)
        return commands

    def _is_memory_reserved(self) -> bool:
        """Whether a blocked task holds the reservation. A method, because mypyc takes the attribute for None after `= None`."""
        return self._blocked is not None

    def _send_to_busy_workers(self, lane: Lane, now: float) -> list[Command]:
        """Send the first tasks of a lane to busy workers, as long as they are short and there is memory for them."""
        commands: list[Command] = []
        while lane.policy.ranked:
            task = lane.policy.first()
            slot = self.sent_tasks.find_worker(lane.workers, task, now) if self.budget.fits(task) else None
            if slot is None:
                break
            self.queue.start(task)
            commands += self._send_behind(slot, task)
        return commands

    def _dispatch_lane(self, lane: Lane, now: float) -> list[Command]:
        commands: list[Command] = []
        while lane.waiting_for_unused_worker and (slot := lane.workers.find_idle(unused=True)) is not None:
            first = lane.first_for_unused_worker
            if not self._may_start(first, now):
                break
            self.queue.start_on_unused_worker(first)
            commands += self.dispatch(slot, first, now)
        # a blocked task that has an unused worker goes before all others, which may pass it only by backfilling
        reserved = self._blocked
        keeps_unused = reserved is not None and reserved.task_id in lane.waiting_for_unused_worker
        while lane.policy.ranked:
            slot, max_cost_s = lane.workers.find_idle(), None
            if slot is None and lane.small_tasks is not None and (slot := lane.small_tasks.find_worker()) is not None:
                max_cost_s = lane.small_tasks.max_cost_s
            if slot is not None and keeps_unused and slot.unused and slot.group == lane.name and lane.workers.idle_unused == 1:
                slot = lane.workers.find_idle(unused=False)
            task = None if slot is None else self._find_next(lane, reserved, max_cost_s, now)
            if slot is None or task is None:
                break
            if lane.workers.isolates_tenants:
                found = self._find_for_tenants(lane, task)
                if found is None:
                    break
                slot, task = found
            self.queue.start(task)
            commands += self.dispatch(slot, task, now)
        return commands

    def submit(self, task: TaskRecord, now: float) -> list[Command]:
        """A task is admitted: give it to a worker at once if no other task waits and there is memory; else queue it."""
        task.apply(_ADMITTED)
        self.budget.admit(task)
        task.ready_at = now
        queue = self.queue
        if task.crashes:  # its files were staged again before its second run
            queue.push_for_unused_worker(task)
            return []
        if not (queue.waiting or queue.waiting_for_unused_worker) and (commands := self._start_at_once(task, now)):
            return commands
        timeout = task.spec.queue_timeout_s
        kept = timeout is None or task.dispatches  # a task that a worker once had in time has no queue deadline any more
        self.queue.push(task, None if kept or timeout is None else task.submitted_at + timeout)
        return []

    def _start_at_once(self, task: TaskRecord, now: float) -> list[Command]:
        """Give a task, before which none waits, to an idle worker, or to a busy one if it is short. Returns nothing if there is
        no worker or no memory for it now."""
        workers = self.queue.lanes[task.spec.group].workers
        if self.budget.running and not self.budget.fits(task):
            return []
        slot = workers.find_idle_for(task.spec.tenant) if workers.isolates_tenants else workers.find_idle()
        if slot is not None:
            if task.stable_cost_s >= LARGE_S and self._counts.preparing:
                return []  # see `_should_delay_large`
            return self.dispatch(slot, task, now)
        slot = self.sent_tasks.find_worker(workers, task, now) if self.sent_tasks.allows(workers) else None
        return [] if slot is None else self._send_behind(slot, task)

    def submit_in_place(self, task: TaskRecord, now: float) -> list[Command]:
        """Run a task on the worker in whose outbox its sources lie. Returns nothing if that is not possible now."""
        lane = self.queue.lane_of(task)
        is_reserved = self._blocked is not None and self._blocked.state is TaskState.WAITING
        slot = None if lane or is_reserved else lane.workers.find_idle(task.spec.outbox_id)
        if slot is None or not self.budget.fits(task):
            return []
        if lane.workers.isolates_tenants and slot.tenant != (task.spec.tenant or ""):
            return []
        task.apply(_ADMITTED)
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
        if task.dispatches == 1:
            self.waits.record(task.dispatched_at - task.submitted_at)
        self.runs.record(now - task.dispatched_at)
        if task.charged_s is not None:
            self.queue.record_duration(task, now - task.dispatched_at)
        if answer is not None and task.stop is None:
            seconds = now - task.dispatched_at - task.paused_s
            self.cost_model.observe(
                task, answer, seconds, first=first, clock_s=self.queue.lanes[task.spec.group].policy.work_clock_s
            )

    def dispatch(self, slot: WorkerSlot, task: TaskRecord, now: float) -> list[Command]:
        """Give a task to an idle worker, or have its sources delivered to the worker first."""
        if needs_delivery(task):
            return self._deliver(slot, task, now)
        task.apply(_DISPATCHED)
        self._assign(slot, task)
        slot.sent_when_idle = slot.runs
        self._begin(slot, task, now)
        limit_s = task.limit_s
        self._worker_table.apply(slot, _WORKER_DISPATCHED, now, None if limit_s is None else now + limit_s)
        return self._send_run(slot, task)

    def _deliver(self, slot: WorkerSlot, task: TaskRecord, now: float) -> list[Command]:
        """Have the sources of a task delivered to an idle worker, which gets the task after that."""
        task.apply(TaskEvent.DELIVERY_BEGUN)
        self._assign(slot, task)
        slot.sent_when_idle = slot.runs
        self._begin(slot, task, now)
        slot.task, slot.receiving = None, task
        self._worker_table.apply(slot, _WORKER_DISPATCHED, now, now + MAX_READ_S if task.spec.in_files else None)
        spans, deliver = self._broker.trim(), self.deliveries.begin(slot, task)
        return [ReleasePages(spans), deliver] if spans else [deliver]

    def begin_delivered(self, slot: WorkerSlot, task: TaskRecord, now: float) -> list[Command]:
        """Send a worker the task whose sources were delivered. Its time limit begins."""
        task.apply(TaskEvent.DELIVERED)
        task.delivery_id = 0
        task.dispatched_at = now
        slot.task, slot.receiving = task, None
        limit_s = task.limit_s
        self._worker_table.set_timer(slot, None if limit_s is None else now + limit_s)
        return self._send_run(slot, task)

    def _send_behind(self, slot: WorkerSlot, task: TaskRecord) -> list[Command]:
        """Send a task to a busy worker, which begins it after those that it has."""
        self._assign(slot, task)
        self.sent_tasks.add(slot, task)
        return self._send_run(slot, task)

    def begin_next(self, slot: WorkerSlot, now: float) -> TaskRecord | None:
        """A worker has answered for its task: it has begun the next one that was sent to it. Returns that one; None: it has
        none."""
        task = self.sent_tasks.pop_next(slot)
        if task is not None:
            task.apply(_BEGUN)
            if task.state is _STOPPING:
                task.stop = StopReason.CALLER  # it was unwanted
            self._begin(slot, task, now)
        return task

    def _assign(self, slot: WorkerSlot, task: TaskRecord) -> None:
        """A worker gets a task, now or after others."""
        slot.tasks += 1
        slot.runs += 1
        task.run_number = slot.runs
        slot.tenant = task.spec.tenant or ""
        if slot.tasks >= slot.max_tasks:
            self.spent_groups.add(slot.group)
        if task.queued_bytes:
            self.queue.count_source(task, 0)

    def _begin(self, slot: WorkerSlot, task: TaskRecord, now: float) -> None:
        """A task begins to run in its worker."""
        slot.task, task.slot = task, slot.index
        task.dispatches += 1
        task.dispatched_at = now
        task.paused_s, task.paused_since = 0.0, None  # because its last worker may have died in a wait
        small_tasks = self.queue.lanes[task.spec.group].small_tasks
        if small_tasks is not None and (task.stable_cost_s >= LARGE_S or now - task.ready_at > SMALL_TASK_WAIT_S):
            small_tasks.note_dispatch(task, self.queue)
        self.budget.charge(task)

    def _send_run(self, slot: WorkerSlot, task: TaskRecord) -> list[Command]:
        """Send a worker the task that was assigned to it."""
        spec = task.spec
        assert slot.outbox_id is not None
        grant: Handle | None = None  # None if the worker still has the block that was preallocated with an earlier task
        fetch: list[Command] = []
        if slot.preallocated_block is None:
            slot.preallocated_block = self._broker.try_preallocate(slot.outbox_id, FIRST_GRANT_NBYTES)
            if slot.preallocated_block is not None:
                grant = Handle(OUTBOX, slot.preallocated_block.offset, FIRST_GRANT_NBYTES, slot.preallocated_block.generation)
            else:
                fetch = self._broker.prefetch(slot.outbox_id, FIRST_GRANT_NBYTES)  # for the next task
        is_large = task.stable_cost_s >= _MIN_COST_FOR_THREADS_S
        threads = self._threads_for_large(self.queue.lanes[spec.group]) if is_large else 1
        run = Run(
            task.task_id,
            spec.sources,
            spec.stages,
            grant,
            spec.to_file,
            threads,
            self._private_bytes(task, threads),
            task.credit,
            spec.pipelines,
            spec.previews,
            spec.labels,
            task.run_number if slot.queues_runs else 0,
        )
        spans = self._broker.trim()
        send = Send(slot.index, run)
        return [ReleasePages(spans), send, *fetch] if spans else [send, *fetch]

    def _private_bytes(self, task: TaskRecord, threads: int) -> int | None:
        """Limit of a task's private memory. The first calls of a function have none of their own, because nothing
        but the length of their source is known."""
        spec = task.spec
        is_guess = spec.kind is not None and spec.estimate is None and not self.cost_model.has_observed(task)
        return self.budget.task_rlimit_bytes(task, threads, self._worker_table.planned_workers, is_guess=is_guess)

    def _may_start(self, task: TaskRecord, now: float) -> bool:
        """Whether there is memory for a task, also beside the reservation of a task of another group. If there is none and no
        task holds the reservation, this task does."""
        may_start = self.budget.fits(task) if self._blocked is None else self._backfill.may_pass(task, self._blocked, now)
        if not may_start:
            self._mark_as_blocked(task, now)
            self._blocked = self._blocked or task
        return may_start

    @staticmethod
    def _mark_as_blocked(task: TaskRecord, now: float) -> None:
        task.blocked_since = now if task.blocked_since is None else task.blocked_since

    def _find_next(self, lane: Lane, reserved: TaskRecord | None, max_cost_s: float | None, now: float) -> TaskRecord | None:
        """The first task, or a task that may pass it.

        Args:
            lane: the lane.
            reserved: a task that goes before all tasks of the lane and holds the reservation; None: the first one does if it
                is blocked.
            max_cost_s: only tasks that cost at most so many seconds of a worker's time; None for any.
            now: seconds.
        """
        first = lane.policy.first()
        self._blocked = reserved
        if not self.budget.fits(first) and not self._backfill.fits_as_learned(first):
            self._mark_as_blocked(first, now)
            self._blocked = reserved or first
        if self._should_delay_large(first, now):
            max_cost_s = min(LARGE_S, inf if max_cost_s is None else max_cost_s)
        elif self._blocked is None and (max_cost_s is None or first.stable_cost_s <= max_cost_s):
            return first
        return self._backfill.find(lane.policy, self._blocked, max_cost_s, now)

    def _find_for_tenants(self, lane: Lane, task: TaskRecord) -> tuple[WorkerSlot, TaskRecord] | None:
        """The first task of a lane for whose tenant a worker is idle. A task passes those of tenants whose workers are busy."""
        others: Iterable[TaskRecord] = () if self._blocked is not None else lane.policy.after_first(BACKFILL_CANDIDATES)
        for candidate in chain([task], others):
            slot = lane.workers.find_idle_for(candidate.spec.tenant)
            if slot is not None and (candidate is task or self.budget.fits(candidate)):
                return slot, candidate
        return None

    def _should_delay_large(self, task: TaskRecord, now: float) -> bool:
        """Whether a large task should wait for tasks that were submitted at the same time and are being prepared."""
        if task.stable_cost_s < LARGE_S or not self._counts.preparing:
            return False
        may_start_at = task.ready_at + min(task.stable_cost_s * _MAX_DELAY_SHARE, _MAX_DELAY_S)
        if now >= may_start_at:
            return False
        self.wake_at = min(self.wake_at, may_start_at)
        return True

    def _threads_for_large(self, lane: Lane) -> int:
        """Number of threads for a large task: its share of all CPUs, or 1 if a waiting task could use the other CPUs."""
        if self.queue and any(self.any_fits(other) for other in self.queue.waiting_lanes):
            return 1
        return max(lane.workers.concurrency_limit // self._worker_table.busy, 1)

    def any_fits(self, lane: Lane) -> bool:
        """Whether there is memory for any of the tasks that are first in a lane."""
        if not lane.policy:
            return True
        policy = lane.policy
        return any(self.budget.fits(task) for task in chain([policy.first()], policy.after_first(BACKFILL_CANDIDATES)))


def _blocked_since(lane: Lane) -> float:
    """When the first task of a lane was first blocked, in seconds; infinity if it is not."""
    firsts = [lane.first_for_unused_worker] if lane.waiting_for_unused_worker else []
    firsts += [lane.policy.first()] if lane.policy else []
    return min((task.blocked_since for task in firsts if task.blocked_since is not None), default=inf)
