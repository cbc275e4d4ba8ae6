"""Decisions of a pool: `PoolState.handle(event, now)` returns the commands that follow from an event.

This module dispatches events, and handles those of the pool itself. The handlers for tasks and workers are in `task_events` and
`worker_events`; `components` lists the components that decide.

Invariants after every event, checked by the tests: a task has at most one worker and gets one outcome; a worker that might
still write to a block holds a lease on it; every slot in a state that can last too long has a timer; no worker is idle while a
task waits that it may run.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any

from ..errors import PoolClosed, QueueTimeout
from ..wire.messages import Grant
from .components import Components
from .delivery_events import DeliveryEventHandlers
from .invariants import check_invariants
from .model.commands import AbandonWorker, Command, KillWorker, ReleaseInbox, RestageSource, Send
from .model.events import (
    BlocksReturned,
    CloseRequested,
    DrainRequested,
    Event,
    InputCancelled,
    PagesRefused,
    PagesReserved,
    PoolStarted,
    PressureMeasured,
    ResizeRequested,
    TimePassed,
)
from .model.pool_phase import PoolPhase
from .model.settings import CoreSettings
from .model.task import StopReason
from .model.task_state import TaskEvent, TaskState
from .model.worker_slot import WorkerSlot
from .model.worker_state import WorkerEvent, WorkerState
from .scheduling.lane import Lane
from .task_events import TaskEventHandlers
from .worker_events import WorkerEventHandlers
from .workers.worker_group import WorkerGroup
from .workers.worker_table import TIMER_EVENTS

__all__ = ["PoolState"]


class PoolState(Components):
    """The whole state of a pool, except descriptors."""

    def __init__(self, settings: CoreSettings) -> None:
        super().__init__(settings)
        self.interrupted = False  # whether there were unsettled tasks when the pool was closed
        self.has_memory_waiters = False  # whether a request for memory waits, so that a returned block is used at once
        self.wake_at = inf
        """Time at which `TimePassed` must be sent at the latest; infinity if there is no timer."""
        self._deliveries = DeliveryEventHandlers(self)
        self._tasks = TaskEventHandlers(self, self._deliveries)
        self._handlers: dict[type, Callable[[Any, float], list[Command]]] = {
            PoolStarted: lambda _, now: self.groups.reconcile(now),
            DrainRequested: self._on_drain,
            CloseRequested: self._on_close,
            ResizeRequested: self._on_resize,
            TimePassed: self._on_time,
            PressureMeasured: self._on_pressure,
            InputCancelled: self._on_input_cancelled,
            BlocksReturned: self._on_blocks_returned,
            PagesReserved: self._on_pages_reserved,
            PagesRefused: self._on_pages_refused,
            **self._tasks.handlers,
            **self._deliveries.handlers,
            **WorkerEventHandlers(self, self._tasks.stop, self._deliveries).handlers,
        }

    def handle(self, event: Event, now: float) -> list[Command]:
        """Handle one event; return the commands that follow, in order. `now` is in seconds and never decreases."""
        self.event_log.now = now
        commands = self._handlers[type(event)](event, now)
        queue, broker = self.queue, self.broker
        if queue.waiting or queue.waiting_for_unused_worker:
            commands += self._schedule(now)
        if self.has_memory_waiters or broker.input_requests or broker.output_requests or broker.growths:
            commands += self._allocate_memory(now)
        if self.small_tasks.wanted_workers and self.small_tasks.scale_up(self.budget.room_bytes, now):
            commands += self.groups.small.reconciler.reconcile(now)
        if self.dispatcher.spent_groups:
            commands += self._replace_spent_workers(now)
        if self.budget.excess_bytes and self.budget.must_release_excess:
            commands += self._release_inboxes()
        self.wake_at = min(self.worker_table.next_timer, broker.wake_at)
        if queue.waiting or queue.waiting_for_unused_worker:
            self.wake_at = min(self.wake_at, queue.next_deadline, self.dispatcher.wake_at)
        return commands

    @property
    def closed(self) -> bool:
        """Whether the pool is closed: it has no process, will start none, and every task has its outcome."""
        return self.phase is PoolPhase.CLOSING and not self.worker_table and not self.task_table

    @property
    def drained(self) -> bool:
        """Whether the pool is drained: new tasks are refused, and every task has its outcome."""
        return self.phase is not PoolPhase.OPEN and not self.task_table

    def validate(self) -> None:
        """Check the invariants; raises AssertionError. For tests, because it walks all tasks."""
        check_invariants(self)

    # Events of the pool itself

    def _on_drain(self, _: DrainRequested, _now: float) -> list[Command]:
        if self.phase is PoolPhase.OPEN:
            self.phase = PoolPhase.DRAINING
        return []

    def _on_close(self, _: CloseRequested, now: float) -> list[Command]:
        self.phase = PoolPhase.CLOSING
        self.interrupted |= bool(self.task_table)
        self.groups.scale_to_zero()  # first, because a delivery that ends lets its group reconcile
        commands = self.broker.close()
        commands += self._schedule(now)  # settles all waiting tasks at once, because there may be a hundred thousand
        for task in self.task_table:
            if task.sent_to is not None:
                continue  # it is withdrawn with the task before it
            slot = None if task.slot is None else self.worker_table.slots[task.slot]
            if task.state is TaskState.DELIVERING:
                commands += self._deliveries.settle(task, PoolClosed("the pool was closed while the task waited"), now)
            elif slot is None:
                commands += self.task_table.settle(
                    task, task.pending_error or PoolClosed("the pool was closed while the task waited")
                )
            elif slot.state is WorkerState.BUSY:
                commands += self._tasks.stop(slot, task, StopReason.CLOSING, WorkerEvent.CANCEL_REQUESTED, now)
        return commands + self.groups.reconcile(now)

    def _on_resize(self, event: ResizeRequested, now: float) -> list[Command]:
        return [] if self.phase is PoolPhase.CLOSING else self.groups.resize(event.group, event.workers, now)

    def _on_time(self, _: TimePassed, now: float) -> list[Command]:
        commands: list[Command] = []
        for slot in self.worker_table.due(now):
            commands += self._on_timer(slot, now)
        commands += self.dispatcher.sent_tasks.withdraw_overdue(now)
        for lane in self.queue.lanes.values():
            self.groups.by_name[lane.name].autoscaler.scale_down_idle(now, needed=int(bool(lane)))
        self.groups.small.autoscaler.scale_down_idle(now, needed=int(self.small_tasks.all_workers_have_large_tasks))
        return commands + self.groups.reconcile(now)

    def _on_timer(self, slot: WorkerSlot, now: float) -> list[Command]:
        if slot.outbox_id is None:
            return []  # its back-off is over, and `reconcile` starts a process
        if slot.state is WorkerState.IDLE:
            self.groups.by_name[slot.group].recycling.mark_expired(slot, now)
            return []
        event = TIMER_EVENTS[slot.state]
        if event is WorkerEvent.ABANDONED:
            self.worker_table.set_timer(slot, None)  # the runtime answers in the same turn
            if slot.task is not None:
                self.broker.cancel_output_request(slot.task)  # because nothing may be sent to the worker any more
            return [AbandonWorker(slot.index)]
        if event is WorkerEvent.DEADLINE_EXPIRED:
            if slot.receiving is not None:
                return self._deliveries.stage_again(slot.receiving, now)
            assert slot.task is not None
            stop = StopReason.IDLE_RECEIVER if slot.task.awaits_credit else StopReason.DEADLINE
            return self._tasks.stop(slot, slot.task, stop, event, now)
        if event is WorkerEvent.LOAD_EXPIRED:
            limit_s = self.groups.by_name[slot.group].settings.load_timeout_s
            slot.kill_reason = f"it had not loaded its plugins within {limit_s:g} s"
        if event is WorkerEvent.START_EXPIRED:
            slot.kill_reason = f"it did not start within {self.settings.start_timeout_s:g} s"
        self.worker_table.apply(slot, event, now, now + self.settings.kill_timeout_s, cause=slot.kill_reason or "")
        return [KillWorker(slot.index)]

    def _on_pressure(self, event: PressureMeasured, now: float) -> list[Command]:
        self.groups.on_memory_pressure(event, now)
        return []

    def _on_input_cancelled(self, event: InputCancelled, _now: float) -> list[Command]:
        self.broker.input_queue.cancel(event.input_id)
        return []

    def _on_blocks_returned(self, event: BlocksReturned, now: float) -> list[Command]:
        self.broker.release_returned(event.generations, now)
        return []

    def _on_pages_reserved(self, event: PagesReserved, now: float) -> list[Command]:
        return self._resume_run_clocks(self.broker.pages_reserved(event.reservation, now), now)

    def _on_pages_refused(self, event: PagesRefused, now: float) -> list[Command]:
        self.broker.pages_refused(event.reservation, event.free_bytes, now)
        return []

    def _allocate_memory(self, now: float) -> list[Command]:
        """Allocate memory to waiting requests, and refuse the requests that could wait for ever."""
        broker, running = self.broker, self.task_table.counts.running
        if not broker.has_waiters:
            self.has_memory_waiters, broker.wake_at = False, inf
            return []
        commands = broker.allocate_waiting(running, len(self.queue), now)
        while broker.is_starved(running, now) and (released := self._release_sources()):
            commands += released + broker.allocate_waiting(running, len(self.queue), now)
        commands += broker.refuse(running, len(self.queue), now)
        while broker.refused_sources:
            commands += self.task_table.settle(*broker.refused_sources.pop())
        self._resume_run_clocks(commands, now)
        if commands and self.queue:  # a grant from the task's own charge leaves room for other tasks
            commands += self._schedule(now)
        self.has_memory_waiters = broker.has_waiters
        return commands

    def _release_sources(self) -> list[Command]:
        """Release the sources of the last waiting task that can stage them again, for results of running tasks."""
        for task in reversed(self.queue.waiting.values()):
            if task.source_blocks and task.spec.stageable_again:
                self.queue.remove(task.task_id)
                self.task_table.release_sources(task)
                task.apply(TaskEvent.SOURCE_RELEASED)
                return [RestageSource(task.task_id)]
        return []

    def _release_inboxes(self) -> list[Command]:
        """Release the pages that inboxes keep after large sources, because tasks or the arena need their memory."""
        commands: list[Command] = []
        for slot in self.worker_table:
            if slot.excess_bytes:
                self.budget.set_excess(slot, 0)
                commands.append(ReleaseInbox(slot.index))
        return commands

    def _resume_run_clocks(self, commands: list[Command], now: float) -> list[Command]:
        """Resume the `timeout` of the tasks whose memory requests are answered by these commands."""
        for command in commands:
            if type(command) is Send and type(command.message) is Grant:
                self.run_clock.resume(self.worker_table.slots[command.slot], now)
        return commands

    def _replace_spent_workers(self, now: float) -> list[Command]:
        """Start replacements for the workers that were sent their last task."""
        commands: list[Command] = []
        for name in sorted(self.dispatcher.spent_groups):
            self.groups.by_name[name].recycling.mark_spent()
            commands += self.groups.by_name[name].reconciler.reconcile(now)
        self.dispatcher.spent_groups.clear()
        return commands

    def _schedule(self, now: float) -> list[Command]:
        """Dispatch waiting tasks, and request workers for those that have none. A closing pool settles them."""
        queue, commands = self.queue, list[Command]()
        if self.phase is PoolPhase.CLOSING:
            for task in queue.pop_all():
                commands += self.task_table.settle(task, PoolClosed("the pool was closed while the task waited"))
        if queue.next_deadline <= now:  # checked at every event, because no task is dispatched after its queue timeout
            for task in queue.expired(now):
                commands += self.task_table.settle(task, QueueTimeout(task.spec.queue_timeout_s or 0.0, "a worker"))
            if queue.next_deadline <= now:
                return commands  # more tasks have expired; `wake_at` is now, so the next event follows at once
        if queue.waiting or queue.waiting_for_unused_worker:
            commands += self.dispatcher.dispatch_waiting(now)
        if queue.waiting or queue.waiting_for_unused_worker:
            for lane in queue.waiting_lanes:
                group = self.groups.by_name[lane.name]
                scales = group.autoscaler.desired_workers < group.slots.concurrency_limit
                isolates = group.slots.isolates_tenants
                if scales or lane.waiting_for_unused_worker or group.reconciler.abandoned or isolates:
                    commands += self._request_workers(group, lane, now)
        return commands

    def _request_workers(self, group: WorkerGroup, lane: Lane, now: float) -> list[Command]:
        """Scale up the group of a lane for its waiting tasks, and have an unused worker started for a task that needs one. If
        the group can have no worker because of abandoned processes, settle the tasks."""
        commands: list[Command] = []
        if group.reconciler.abandoned_error is not None:
            for task in self.queue.pop_all([lane]):
                commands += self.task_table.settle(task, group.reconciler.abandoned_error)
            return commands
        scales_up = group.autoscaler.can_scale_up and not group.slots.idle
        if scales_up and (not group.slots or self.dispatcher.any_fits(lane)):  # the first worker needs no memory for its task
            commands += group.reconciler.reconcile(now) if group.autoscaler.scale_up_for(len(lane), now) else []
        tenants = lane.policy.waiting if group.slots.isolates_tenants and lane.policy else None
        if tenants is not None and group.slots.lacks_worker_for(lane.policy.first().spec.tenant, tenants):
            group.recycling.mark_for_unused_worker(tenants)
            commands += group.reconciler.reconcile(now)
        elif lane.waiting_for_unused_worker:
            group.recycling.mark_for_unused_worker()
            commands += group.reconciler.reconcile(now)
        return commands
