"""Invariants of a pool, which hold after every rule."""

from __future__ import annotations

from collections import Counter
from itertools import chain

from hypothesis.stateful import invariant

from offloop.core.model.blocks import CALLER_MEMORY, Holder
from offloop.core.model.worker_slot import WorkerSlot
from offloop.core.model.worker_state import WorkerState
from offloop.core.workers.restart_policy import CircuitBreaker
from offloop.pool_events import TaskRetried, WorkerMoved
from offloop.statistics import snapshot

from .pool_model import (
    HAS_STARTED,
    IN_USE,
    LIMIT,
    pages_of,
)
from .pool_worker_rules import WorkerRules


class PoolInvariants(WorkerRules):
    """The invariants."""

    # Invariants

    @invariant()
    def the_submitted_tasks_wait_run_or_have_ended(self) -> None:
        s = snapshot(self.core)
        ended = s.completed + s.failed + s.timed_out + s.cancelled + s.worker_died + s.refused
        assert s.submitted == s.waiting + s.running + ended
        assert s.waiting + s.running == len(self.open_tasks)
        assert ended == len(self.settled)
        assert min(s.waiting, s.running) >= 0
        assert sum(s.workers.values()) == len(self.core.worker_table)
        assert s.worker_starts == self.starts
        assert s.concurrency == (0 if self.closed else sum(self.concurrency.values()))
        assert s.worker_starts == sum(group.starts for group in s.groups.values())
        again = {task: runs for task, runs in self.runs.items() if runs > 1}
        assert s.retried >= sum(again.values()) - len(again) - self.unbegun, again

    @invariant()
    def a_worker_has_one_task_and_a_task_one_worker(self) -> None:
        held = [task.task_id for slot in self.core.worker_table if (task := slot.assigned) is not None]
        assert len(held) == len(set(held))
        assert set(held) <= set(self.open_tasks)
        for slot in self.core.worker_table:
            if slot.assigned is not None:
                assert slot.index in self.processes

    @invariant()
    def no_worker_is_idle_while_a_task_waits_that_it_may_run(self) -> None:
        for group, concurrency in self.concurrency.items() if not self.closed else ():
            slots, lane = self.core.groups.by_name[group].slots, self.core.queue.lanes[group]
            if slots.busy >= concurrency:
                continue
            idle = [self.processes[slot.index] for slot in slots if slot.state is WorkerState.IDLE]
            early = self.core.dispatcher.wake_at <= self.now + 0.1  # a large task waits a moment for tasks that arrive with it
            isolates = self.settings[group].isolation == "tenant" and lane.policy
            able = [process for process in idle if process.tenants <= {lane.policy.first().spec.tenant}] if isolates else idle
            assert not able or not lane.policy or early
            assert not any(not process.tasks for process in idle) or not lane.waiting_for_unused_worker
        if self.closed:
            assert not self.core.queue

    @invariant()
    def a_task_that_needs_an_unused_worker_gets_one(self) -> None:
        for lane in self.core.queue.lanes.values():
            if lane.waiting_for_unused_worker:
                held = {slot.index for slot in lane.workers if slot.state in IN_USE}
                unused = any(not self.processes[index].tasks for index in held)
                assert unused or len(held) < len(lane.workers) or lane.workers.count(WorkerState.IDLE) == 0

    @invariant()
    def every_state_that_can_last_too_long_has_a_timer(self) -> None:
        for slot in self.core.worker_table:
            process = self.processes.get(slot.index)
            match slot.state:
                case WorkerState.STARTING | WorkerState.RESTARTING:
                    assert slot.timer is not None or (process is None and self.may_not_start_yet(slot.group))
                case WorkerState.TIMED_OUT | WorkerState.LOADING:
                    assert slot.timer is not None
                case WorkerState.BUSY:
                    self.check_busy(slot)
                case WorkerState.RETIRING:
                    assert process is not None
                    assert slot.timer is not None
                case WorkerState.FAILED | WorkerState.TERMINATING:
                    assert process is not None
                    assert process.killed
                    assert slot.timer is not None
                case WorkerState.IDLE:
                    assert process is not None
                    assert not process.killed
                    of_group = self.core.groups.by_name[slot.group].settings
                    assert (slot.timer is not None) is (slot.recycling is None and of_group.max_worker_age_s is not None)
                case WorkerState.GONE:
                    raise AssertionError("a slot that is gone is not in the table")
            if slot.timer is not None:
                assert self.core.wake_at <= slot.timer

    def check_busy(self, slot: WorkerSlot) -> None:
        """Check the timer of a worker that has a task, or gets one."""
        if slot.receiving is not None:
            assert (slot.timer is not None) is slot.receiving.spec.in_files
            return
        assert slot.task is not None
        task, runs = slot.task, slot.task.paused_since is None
        idle_limit = task.spec.stream and task.awaits_credit and task.spec.stream.idle_timeout_s is not None
        assert (slot.timer is not None) is bool(idle_limit or (task.limit_s is not None and runs))
        assert runs is (task.requested_bytes is None and not task.awaits_credit)

    def may_not_start_yet(self, group: str) -> bool:
        """Whether another start, or the half-open period, has to end first."""
        starting = [slot for slot in self.core.worker_table if slot.state in HAS_STARTED and slot.outbox_id is not None]
        if len(starting) >= self.core.settings.max_starts:
            return True
        policy = self.core.groups.by_name[group].reconciler.restart_policy
        return policy.breaker is CircuitBreaker.HALF_OPEN and policy.half_open_slot in self.processes

    @invariant()
    def the_table_has_the_desired_slots_and_retiring_ones(self) -> None:
        leaving = (WorkerState.RETIRING, WorkerState.TERMINATING)
        for group in self.core.groups:
            sound = [slot for slot in group.slots if slot.recycling is None and slot.state not in leaving]
            wanted = 0 if self.closed else self.wanted_of(group.name)
            assert len(sound) >= wanted
            if len(sound) > wanted:
                states = {slot.state for slot in sound}
                assert WorkerState.IDLE not in states or WorkerState.FAILED in states
                assert states.isdisjoint((WorkerState.STARTING, WorkerState.RESTARTING))

    @invariant()
    def sources_that_are_being_hashed_stay(self) -> None:
        for source in chain.from_iterable(self.hashing.values()):
            if source.segment == CALLER_MEMORY:
                continue
            block = self.core.arena.get(source.generation)
            assert block is not None
            assert pages_of(block) <= self.memory

    @invariant()
    def sources_that_are_being_copied_for_a_worker_stay(self) -> None:
        places = [source.block for task in self.delivering.values() for source in task.sources]
        for source in places:
            if source is not None and source.segment != CALLER_MEMORY:
                block = self.core.arena.get(source.generation)
                assert block is not None
                assert pages_of(block) <= self.memory

    @invariant()
    def the_block_that_a_stager_writes_to_stays(self) -> None:
        for block, _ in self.staging.values():
            assert self.core.arena.get(block.generation) is block
            assert pages_of(block) <= self.memory

    @invariant()
    def the_core_wakes_for_the_breaker(self) -> None:
        for group in self.core.groups:
            policy = group.reconciler.restart_policy
            if policy.breaker is not CircuitBreaker.CLOSED and policy.half_open_slot is None:
                assert self.core.wake_at <= self.now + 36.0

    @invariant()
    def without_subscribers_no_transitions_are_logged(self) -> None:
        if not self.core.event_log.has_subscribers:
            assert not any(isinstance(entry, WorkerMoved | TaskRetried) for entry in self.core.event_log.drain())

    @invariant()
    def the_blocks_of_a_living_worker_are_its_own(self) -> None:
        for process in [*self.processes.values(), *self.abandoned.values()]:
            for handle in process.memory:
                block = self.core.arena.get(handle.generation)
                assert block is not None, "the worker may still write to the block"
                assert (block.segment_id, block.offset) == (process.outbox_id, handle.offset)
                assert handle.nbytes <= block.nbytes

    @invariant()
    def no_two_blocks_share_a_page(self) -> None:
        counted = Counter(page for block in self.core.arena._blocks.values() for page in pages_of(block))
        assert max(counted.values(), default=1) == 1

    @invariant()
    def every_block_that_may_be_touched_has_all_its_pages(self) -> None:
        for block in self.core.arena._blocks.values():
            if all(lease.holder is not Holder.RESERVATION for lease in block.leases):
                assert pages_of(block) <= self.memory

    @invariant()
    def blocks_that_callers_hold_stay(self) -> None:
        for block, _ in self.held:
            assert self.core.arena.get(block.generation) is block

    @invariant()
    def the_budget_is_never_exceeded(self) -> None:
        s = snapshot(self.core)
        assert s.memory_used_bytes <= s.memory_reserved_bytes <= LIMIT

    @invariant()
    def the_opening_is_announced_at_most_once(self) -> None:
        assert self.announced <= 1
