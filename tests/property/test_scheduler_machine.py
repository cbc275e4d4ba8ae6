"""The scheduler in random situations: right and wrong estimates, callers that keep results, workers that die, scarce memory.

Only the machine knows what each task does; the core has the estimate.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from offloop.core.memory.allocator import pages
from offloop.core.memory.budget import MIN_TASKS_NBYTES
from offloop.core.model.blocks import Holder
from offloop.core.model.commands import (
    Command,
    KillWorker,
    ProvideInput,
    ProvideSourceMemory,
    RefuseInput,
    ReservePages,
    Send,
    SettleTask,
    StartWorker,
)
from offloop.core.model.events import (
    BlocksReturned,
    CloseRequested,
    Event,
    InputRequested,
    PagesReserved,
    PoolStarted,
    PressureMeasured,
    ResizeRequested,
    SourceMemoryRequested,
    TaskCancelled,
    TaskEstimated,
    TaskStaged,
    TaskSubmitted,
    TimePassed,
    WorkerExited,
    WorkerReported,
    WorkerSpawned,
)
from offloop.core.model.settings import AdmissionMode, CoreSettings, GroupSettings
from offloop.core.model.task import Completed, TaskSpec
from offloop.core.model.task_record import TaskRecord
from offloop.core.model.worker_state import WorkerState
from offloop.core.pool_state import PoolState
from offloop.core.scheduling.backfill import RESERVATION_S
from offloop.errors import MemoryLimitExceeded, OffloopError
from offloop.operation import Estimate
from offloop.wire.handles import INBOX, EncodedAt, Handle
from offloop.wire.messages import Cancel, Done, Failed, Grant, Loading, Need, Ready, Retire, Run, Stage
from offloop.wire.status import Status

MIB = 1 << 20
MAX_OVERTAKING = 16  # number of tasks of each tenant that may overtake
STAGES = [Stage("faults", msgspec.Raw(b"\x91\x91\xa4Noop"))]
SIZES = [0, 5000, MIB, 20 * MIB, 70 * MIB, 150 * MIB]


class TaskPlan(msgspec.Struct):
    """Real time and memory of a task."""

    spec: TaskSpec
    nbytes: int
    result_nbytes: int
    peak_bytes: int
    seconds: float
    awaits_memory: bool = False  # whether its stager waits for memory


class Process(msgspec.Struct):
    """A worker that follows the protocol."""

    outbox_id: int
    ready: bool = False
    task_id: int | None = None
    until: float = 0.0  # end time of its task
    waits: bool = False  # whether it waits for result memory
    block: Handle | None = None  # granted block
    at_limit: bool = False
    dead: bool = False


class SchedulerMachine(RuleBasedStateMachine):
    """Rules are events of callers, workers and time; invariants are the promises of the design."""

    @initialize(
        workers=st.integers(1, 4),
        min_workers=st.sampled_from([None, 1]),
        spares=st.sampled_from([0, 0, 1]),
        limit=st.sampled_from([160 * MIB, 256 * MIB, 600 * MIB]),
        mode=st.sampled_from([AdmissionMode.ENFORCE] * 4 + [AdmissionMode.SHADOW, AdmissionMode.OFF]),
        max_queue_bytes=st.sampled_from([None, None, 200 * MIB]),
    )
    def enter(
        self, workers: int, min_workers: int | None, spares: int, limit: int, mode: AdmissionMode, max_queue_bytes: int | None
    ) -> None:
        self.limit, self.mode = limit, mode
        self.core = PoolState(
            CoreSettings(
                groups=(GroupSettings(workers=workers, min_workers=min_workers, spares=spares),),
                limit_bytes=limit,
                inbox_nbytes=pages(limit * 3 // 4),
                budget_bytes=limit,
                admission=mode,
                max_queue=None,
                max_queue_bytes=max_queue_bytes,
                grace_s=1.0,
                start_timeout_s=10.0,
            )
        )
        self.now = 0.0
        self.handled_at = 0.0  # time of the last event
        self.numbers = 0
        self.plans: dict[int, TaskPlan] = {}  # by id of unsettled task
        self.processes: dict[int, Process] = {}
        self.inputs: set[int] = set()  # unanswered requests of callers
        self.todo: list[Event] = []  # next events of the runtime
        self.held: list[int] = []  # generations of blocks that callers hold
        self.ran: set[int] = set()
        self.handle(PoolStarted())
        self.runtime_works()
        for slot in list(self.processes):
            self.begin_work(slot)

    # The runtime

    def handle(self, event: Event) -> None:
        note(f"{self.now:g} {event}")
        before = self.excess, self.workers_bytes
        alone = not self.core.budget.running
        self.handled_at = self.now
        commands = self.core.handle(event, self.now)
        self.core.validate()
        for command in commands:
            note(f"    {command}")
        self.check_the_sum(commands, *before, alone=alone)
        for command in commands:
            self.carry_out(command)

    @property
    def workers_bytes(self) -> int:
        """Memory of idle workers, limited so that small tasks always fit."""
        return min(self.core.budget.workers_bytes, self.limit - MIN_TASKS_NBYTES)

    @property
    def excess(self) -> int:
        budget = self.core.budget
        return self.workers_bytes + budget.running_bytes + self.core.arena.reserved_bytes - self.limit

    def check_the_sum(self, commands: list[Command], excess: int, workers_bytes: int, *, alone: bool) -> None:
        """Only measured memory of idle workers and a task that runs alone may exceed the limit."""
        if self.mode is not AdmissionMode.ENFORCE or self.excess <= 0:
            return
        runs = [c.message for c in commands if isinstance(c, Send) and isinstance(c.message, Run)]
        alone = alone or self.core.budget.running == len(runs)
        max_excess = max(excess, 0) + max(self.workers_bytes - workers_bytes, 0)
        if alone and runs:
            max_excess += max(slot.task.charged_bytes for slot in self.core.worker_table if slot.task is not None)
        assert self.excess <= max_excess, "the sum of all memory"

    def carry_out(self, command: Command) -> None:
        match command:
            case StartWorker(slot, outbox_id):
                self.processes[slot] = Process(outbox_id)
                self.todo.append(WorkerSpawned(slot, 100 + slot))
            case Send(slot, message):
                self.deliver(self.processes[slot], message)
            case KillWorker(slot):
                self.processes[slot].dead = True
            case ReservePages(reservation):
                self.todo.append(PagesReserved(reservation))
            case ProvideInput(input_id, block):
                self.inputs.remove(input_id)
                self.held.append(block.generation)
            case ProvideSourceMemory(task_id, block):
                plan = self.plans[task_id]
                assert plan.awaits_memory
                plan.awaits_memory = False
                source = EncodedAt(Handle(INBOX, block.offset, plan.nbytes, block.generation))
                self.todo.append(TaskStaged(task_id, msgspec.structs.replace(plan.spec, sources=(source,))))
            case RefuseInput(input_id):
                self.inputs.remove(input_id)
            case SettleTask(task_id, outcome):
                self.settle(task_id, outcome)
            case _:
                pass

    def deliver(self, process: Process, message: Any) -> None:
        match message:
            case Run(task_id):
                assert process.ready
                assert process.task_id is None
                self.ran.add(task_id)
                process.task_id, process.until = task_id, self.now + self.plans[task_id].seconds
                process.block, process.waits, process.at_limit = None, False, False
            case Grant(_, block):
                process.waits, process.block, process.at_limit = False, block, block is None
                if block is None:
                    self.check_refused_grant(process)
            case Cancel(task_id) if task_id == process.task_id:
                process.waits, process.at_limit, process.until = False, True, self.now
            case Retire():
                process.dead = True
            case _:
                pass

    def settle(self, task_id: int, outcome: Any) -> None:
        plan = self.plans.pop(task_id)
        if isinstance(outcome, Completed) and outcome.output is not None and outcome.output.block is not None:
            self.held.append(outcome.output.block.generation)
        if isinstance(outcome, MemoryLimitExceeded) and task_id not in self.ran and not was_given_up(outcome):
            assert (plan.awaits_memory and self.is_too_large_for_the_inbox(plan)) or self.is_too_large(plan)

    # Refusals

    def is_too_large(self, plan: TaskPlan) -> bool:
        """Whether a task does not fit alone. A task without an estimate is not refused for that."""
        estimate = plan.spec.estimate
        if estimate is None or self.mode is not AdmissionMode.ENFORCE:
            return False
        return estimate.peak_bytes + estimate.output_bytes + plan.nbytes > self.limit - self.workers_bytes

    def is_too_large_for_the_inbox(self, plan: TaskPlan) -> bool:
        """Whether the sources of a task cannot be staged, even if no other task had any."""
        available = self.limit - (self.workers_bytes if self.mode is AdmissionMode.ENFORCE else 0)
        preallocated = self.core.arena.leases[Holder.PREALLOCATED] * 256 * 1024
        return pages(plan.nbytes) > min(self.core.arena.segment_nbytes(0), available - preallocated)

    def check_refused_grant(self, process: Process) -> None:
        assert process.task_id is not None
        slot = next(slot for slot in self.core.worker_table if slot.task is not None and slot.task.task_id == process.task_id)
        assert slot.task is not None
        if was_given_up(slot.task.grant_error):
            return
        budget, arena = self.core.budget, self.core.arena
        need = pages(self.plans[process.task_id].result_nbytes)
        taken = arena.used_bytes
        if self.mode is AdmissionMode.ENFORCE:
            taken += self.workers_bytes + budget.running_bytes - slot.task.charged_bytes
        assert taken + need > self.limit, "the memory could not be granted"

    # Callers

    @rule(
        nbytes=st.sampled_from(SIZES),
        peak=st.sampled_from([None, None, MIB, 10 * MIB, 60 * MIB, 110 * MIB, 200 * MIB]),
        output=st.sampled_from([0, 0, 5000, 10 * MIB]),
        work_s=st.sampled_from([0.01, 0.1, 1.0, 8.0]),
        wrong=st.sampled_from([1.0, 1.0, 1.0, 0.1, 5.0]),
        result=st.sampled_from([0, 0, 4096, 5000, MIB, 10 * MIB, 40 * MIB]),
        tenant=st.sampled_from([None, "a", "b"]),
        priority=st.sampled_from([0, 0, 1, -1]),
        timeout_s=st.sampled_from([None, None, None, 2.0]),
        queue_timeout_s=st.sampled_from([None, None, None, 5.0]),
        retries=st.sampled_from([0, 0, 2]),
    )
    def submit(
        self,
        nbytes: int,
        peak: int | None,
        output: int,
        work_s: float,
        wrong: float,
        result: int,
        tenant: str | None,
        priority: int,
        timeout_s: float | None,
        queue_timeout_s: float | None,
        retries: int,
    ) -> None:
        self.numbers += 1
        task_id = self.numbers
        estimate = None if peak is None else Estimate(peak_bytes=peak, work_s=work_s, output_bytes=output)
        spec = TaskSpec(
            sources=(EncodedAt(None),),
            stages=STAGES,
            timeout_s=timeout_s,
            queue_timeout_s=queue_timeout_s,
            priority=priority,
            tenant=tenant,
            retries=retries,
            estimate=estimate,
        )
        self.plans[task_id] = TaskPlan(spec, nbytes, result, int((peak or 30 * MIB) * wrong), work_s * wrong)
        self.handle(TaskSubmitted(task_id, spec, nbytes, staged=False))
        if task_id not in self.plans:
            return
        copy_nbytes = nbytes if task_id % 2 else 0  # otherwise an event of its own requests the memory
        self.plans[task_id].awaits_memory = bool(copy_nbytes)
        self.handle(TaskEstimated(task_id, spec, nbytes, copy_nbytes))
        if task_id not in self.plans or copy_nbytes:
            return
        if not nbytes:
            self.handle(TaskStaged(task_id, spec))
            return
        self.plans[task_id].awaits_memory = True
        self.handle(SourceMemoryRequested(task_id, nbytes))

    @rule(nbytes=st.sampled_from([MIB, 70 * MIB]))
    def make_a_buffer(self, nbytes: int) -> None:
        self.numbers += 1
        self.inputs.add(self.numbers)
        self.handle(InputRequested(self.numbers, nbytes))

    @precondition(lambda self: self.plans)
    @rule(which=st.integers(0, 9))
    def cancel(self, which: int) -> None:
        self.handle(TaskCancelled(list(self.plans)[which % len(self.plans)]))

    @precondition(lambda self: self.held)
    @rule(which=st.integers(0, 9))
    def release_block(self, which: int) -> None:
        self.handle(BlocksReturned((self.held.pop(which % len(self.held)),)))

    # The runtime and time

    @precondition(lambda self: self.todo)
    @rule()
    def runtime_works(self) -> None:
        while self.todo:
            self.handle(self.todo.pop(0))

    @rule(seconds=st.sampled_from([0.01, 0.5, 3.0, 12.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        if self.now >= self.core.wake_at:
            self.handle(TimePassed())
            assert self.core.wake_at > self.now

    @rule(share=st.sampled_from([0.01, 0.5, 0.5]))
    def pressure_is_measured(self, share: float) -> None:
        self.handle(PressureMeasured(share, 0.0))

    @rule(workers=st.integers(1, 5))
    def resize(self, workers: int) -> None:
        if workers * 32 * MIB <= self.limit - 96 * MIB:  # a larger number is refused by the pool
            self.handle(ResizeRequested(workers))

    # Workers

    def begin_work(self, slot: int) -> None:
        if not self.processes[slot].ready and not self.processes[slot].dead:
            self.processes[slot].ready = True
            self.runtime_works()
            self.handle(WorkerReported(slot, Loading(100 + slot)))
            self.handle(WorkerReported(slot, Ready(100 + slot)))

    @precondition(lambda self: any(not process.ready for process in self.processes.values()))
    @rule()
    def workers_are_ready(self) -> None:
        for slot in list(self.processes):
            self.begin_work(slot)

    def busy(self) -> list[int]:
        return [slot for slot, p in sorted(self.processes.items()) if p.task_id is not None and not p.waits and not p.dead]

    @precondition(lambda self: self.busy())
    @rule(which=st.integers(0, 9), idle=st.sampled_from([20 * MIB, 32 * MIB, 32 * MIB, 45 * MIB]))
    def work(self, which: int, idle: int) -> None:
        """A worker runs its task to the end, or until it needs memory for its result."""
        slot = self.busy()[which % len(self.busy())]
        process = self.processes[slot]
        task_id = process.task_id
        assert task_id is not None
        plan = self.plans[task_id]
        self.time_passes(max(process.until - self.now, 0.0))
        if slot not in self.busy():
            return
        if plan.result_nbytes and process.block is None and not process.at_limit:
            process.waits = True
            self.handle(WorkerReported(slot, Need(task_id, plan.result_nbytes)))
            return
        process.task_id = None
        if process.at_limit:
            self.handle(WorkerReported(slot, Failed(task_id, "memory_limit", "", None, 1, 2, idle)))
        else:
            output = EncodedAt(process.block and msgspec.structs.replace(process.block, nbytes=plan.result_nbytes))
            self.handle(WorkerReported(slot, Done(task_id, output, {}, 1, 2, idle, plan.peak_bytes)))

    @precondition(lambda self: self.processes)
    @rule(which=st.integers(0, 9), begun=st.booleans())
    def die(self, which: int, begun: bool) -> None:
        self.exit_worker(list(self.processes)[which % len(self.processes)], begun=begun)

    @precondition(lambda self: any(process.dead for process in self.processes.values()))
    @rule()
    def dead_workers_exit(self) -> None:
        for slot in [slot for slot, process in self.processes.items() if process.dead]:
            self.exit_worker(slot, begun=True)

    def exit_worker(self, slot: int, *, begun: bool) -> None:
        process = self.processes.pop(slot)
        self.todo = [each for each in self.todo if not (isinstance(each, WorkerSpawned) and each.slot == slot)]
        self.handle(WorkerExited(slot, -9, status=Status(process.task_id or 0 if begun else 0, 0, 0.0)))

    # Invariants

    @invariant()
    def no_worker_is_idle_while_a_task_fits(self) -> None:
        """Neither the next task, nor one that may overtake it, waits while it could run.

        At the last event: the expected end of a task that takes too long moves with the time, and the runtime measures the
        memory every second, which is an event.
        """
        core = self.core
        order = core.queue.lanes["default"].policy
        if not core.groups.default.slots.idle or not order or core.queue.waiting_for_unused_worker:
            return
        first = order.first()
        if core.dispatcher.wake_at < math.inf:
            return  # a large task waits a moment for tasks that arrive with it
        assert not core.budget.fits(first), "the next task does not fit"
        until, beside = self.shadow_time_of(first)
        for tenant in {task.spec.tenant for task in core.queue.waiting.values()}:
            ranked = [core.queue.waiting.get(task_id) for task_id in order.ranked[tenant]]
            for task in ranked[:MAX_OVERTAKING]:
                assert task is not None
                if core.budget.fits(task):
                    assert self.handled_at + task.cost_s > until, "the task would not end before the next one starts"
                    assert core.budget.needed_bytes(task) > beside, "the task does not fit beside the next one"

    def shadow_time_of(self, first: TaskRecord) -> tuple[float, float]:
        core = self.core
        needed, room, until = core.budget.needed_bytes(first), core.budget.room_bytes, self.handled_at
        running = [slot.task for slot in core.worker_table if slot.task is not None]
        for end, charged_bytes in sorted((self.end_of(task), task.charged_bytes) for task in running):
            if room < needed:
                room += charged_bytes
                until = end
        assert first.blocked_since is not None
        is_reserved = self.handled_at - first.blocked_since < RESERVATION_S
        return (until if is_reserved else self.handled_at), room - needed

    def end_of(self, task: TaskRecord) -> float:
        """Expected end, by the estimate. A task that has exceeded it is expected to be half-way."""
        elapsed_s = self.handled_at - task.dispatched_at
        return task.dispatched_at + (task.cost_s if elapsed_s < task.cost_s else 2 * elapsed_s)

    @invariant()
    def each_waiting_task_can_go_on(self) -> None:
        """If no task runs, waiting tasks have a starting worker, and waiting sources have callers that hold memory."""
        core = self.core
        if core.worker_table.running or self.todo:
            return
        if core.queue:
            idle = core.groups.default.slots.idle
            assert not idle or core.queue.waiting_for_unused_worker or core.dispatcher.wake_at < math.inf
            starting = core.worker_table.count(*set(WorkerState) - {WorkerState.IDLE, WorkerState.BUSY})
            assert starting or core.wake_at < math.inf
        elif self.inputs or any(plan.awaits_memory for plan in self.plans.values()):
            assert self.held, "a source waits although no caller holds memory"

    @invariant()
    def the_sums_agree(self) -> None:
        core = self.core
        running = [slot.task for slot in core.worker_table if slot.task is not None]
        assert core.budget.running == len(running)
        assert core.budget.running_bytes == sum(task.charged_bytes for task in running)
        assert all(task.charged_bytes >= 0 for task in running)
        assert core.budget.workers_bytes == sum(slot.idle_bytes for slot in core.worker_table)
        assert core.queue.nbytes == sum(task.queued_bytes for task in core.task_table)
        if self.mode is AdmissionMode.ENFORCE:
            ceiling = self.limit - self.workers_bytes - core.budget.running_bytes
            assert core.arena.effective_capacity_bytes == min(ceiling, core.arena.capacity_bytes)

    @invariant()
    def the_number_of_workers_is_within_its_limits(self) -> None:
        for group in self.core.groups:
            scaler = group.autoscaler
            assert len(group.slots) >= scaler.desired_workers
            assert scaler.min_workers <= scaler.desired_workers <= scaler.max_workers

    # The end

    def settle_down(self) -> None:
        """Run all tasks. Callers release memory only if nothing else can go on. Every task gets its outcome."""
        self.handle(PressureMeasured(0.5, 0.0))
        for _ in range(2000):
            if self.todo:
                self.runtime_works()
            elif any(process.dead for process in self.processes.values()):
                self.dead_workers_exit()
            elif any(not process.ready for process in self.processes.values()):
                self.workers_are_ready()
            elif self.busy():
                self.work(0, 32 * MIB)
            elif not self.plans and not self.inputs:
                return
            elif self.held:
                self.release_block(0)
            else:
                assert self.core.wake_at < math.inf, "a request waits for ever"
                self.time_passes(max(self.core.wake_at - self.now, 0.001))
        raise AssertionError("the pool was not at rest after 2000 steps")

    def teardown(self) -> None:
        if not hasattr(self, "core"):
            return
        self.settle_down()
        core = self.core
        assert (core.budget.running, core.budget.running_bytes, core.queue.nbytes) == (0, 0, 0)
        assert not core.budget._admitted_large
        broker = core.broker
        assert (broker.input_requests, broker.growths, broker.output_requests, broker._reserving_outputs) == ({}, {}, {}, {})
        assert broker.input_queue._reserving == broker.input_queue._staging == {}
        self.handle(CloseRequested())
        for _ in range(20):
            self.runtime_works()
            for process in self.processes.values():
                process.dead = True
            self.dead_workers_exit()
        assert core.closed
        assert core.budget.workers_bytes == 0
        while self.held:
            self.release_block(0)
        assert (core.arena.used_bytes, core.arena.reserved_bytes - core.arena._segments[0].reserved.total) == (0, 0)


def was_given_up(error: OffloopError | None) -> bool:
    """Whether a wait for memory ended because callers returned none for too long."""
    return error is not None and "callers released no memory for 30 s" in str(error)


TestScheduler = pytest.mark.timeout(300)(SchedulerMachine.TestCase)
TestScheduler.settings = settings(
    max_examples=300,
    stateful_step_count=40,
    deadline=None,
    print_blob=True,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
