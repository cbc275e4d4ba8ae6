"""The runtime of the machine for `PoolState`: carries every command out, and checks it against the model first."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from offloop.core.model.blocks import CALLER_MEMORY, Block, Reservation
from offloop.core.model.commands import (
    AbandonWorker,
    AnnounceOpening,
    Command,
    ConfirmGrowth,
    DeliverOutput,
    DeliverSources,
    DropOutbox,
    HashSource,
    KillWorker,
    OpenOutput,
    ProvideInput,
    ProvideSourceMemory,
    RefuseInput,
    ReleaseInbox,
    ReleasePages,
    ReservePages,
    RestageSource,
    Send,
    SendFile,
    SettleTask,
    StartWorker,
    StopDelivery,
    WithdrawRuns,
)
from offloop.core.model.events import (
    Event,
    PagesRefused,
    PagesReserved,
    PoolStarted,
    RunsWithdrawn,
    WorkerAbandoned,
    WorkerReported,
)
from offloop.core.model.settings import CoreSettings, GroupSettings
from offloop.core.model.task import Completed, TaskOutput
from offloop.core.model.worker_state import WorkerState
from offloop.core.pool_state import PoolState
from offloop.core.scheduling.small_tasks import LARGE_S
from offloop.wire.handles import OUTBOX, Handle, WrittenTo
from offloop.wire.messages import Cancel, Credit, FromWorker, Grant, Loading, Ready, Run, Skipped
from offloop.wire.status import STATUS_NBYTES, Status

from .pool_model import (
    GRACE_S,
    INBOX_NBYTES,
    LIMIT,
    MODELS,
    PLENTY,
    QUARANTINE_S,
    START_TIMEOUT_S,
    WEAR,
    P,
    Page,
    Process,
    pages_in,
    pages_of,
    tenant_of,
)


class PoolRuntime(RuleBasedStateMachine):
    """Sends events; every command that follows is checked and carried out."""

    @initialize(
        workers=st.integers(1, 3),
        spares=st.integers(0, 2),
        max_starts=st.sampled_from([3, 2, 1]),
        wear=st.sampled_from(WEAR),
        intensity=st.sampled_from([1000, 1000, 2, 1, 0]),
        quarantine_after=st.sampled_from([None, 3, 2, 1]),
        watched=st.booleans(),
        max_queue=st.sampled_from([None, None, None, None, 3, 0]),
        close_after=st.sampled_from([1000, 1000, 60, 40, 20]),
        opened=st.sampled_from([True, True, True, False]),
        models=st.sampled_from(MODELS),
        max_sent=st.sampled_from([0, 1, 3, 3]),
    )
    def enter(
        self,
        workers: int,
        spares: int,
        max_starts: int,
        wear: dict[str, Any],
        intensity: int,
        quarantine_after: int | None,
        watched: bool,
        max_queue: int | None,
        close_after: int,
        opened: bool,
        models: GroupSettings | None,
        max_sent: int,
    ) -> None:
        default = GroupSettings(workers=workers, spares=spares, restart_intensity=intensity, **wear)
        self.core = PoolState(
            CoreSettings(
                groups=(default,) if models is None else (default, models),
                limit_bytes=LIMIT,
                inbox_nbytes=INBOX_NBYTES,
                inbox_addresses_nbytes=4 * INBOX_NBYTES,
                max_starts=max_starts,
                quarantine_after=quarantine_after,
                quarantine_s=QUARANTINE_S,
                max_queue=max_queue,
                grace_s=GRACE_S,
                start_timeout_s=START_TIMEOUT_S,
                max_sent_tasks=max_sent,
            )
        )
        self.now: float = 0.0
        self.events_sent = 0
        self.close_after = close_after
        self.numbers = 0
        self.closed = self.draining = self.are_short_tasks_known = False
        self.core.event_log.has_subscribers = watched
        self.settings = {group.name: group for group in self.core.settings.groups}
        self.concurrency = {name: group.workers for name, group in self.settings.items()}
        self.starts = 0
        self.hashing: dict[int, tuple[Handle, ...]] = {}
        self.delivering: dict[int, DeliverSources] = {}  # deliveries whose threads have not ended, by id
        self.stopped: set[int] = set()  # ids of those that were stopped
        self.chosen: set[int] = set()  # tasks whose workers were chosen when the delivery began, before a resize perhaps
        self.runs: Counter[int] = Counter()  # number of dispatches by task
        self.killed_by: Counter[int] = Counter()  # number of workers that died of each task
        self.unbegun = 0  # number of dispatches to workers that died before they had begun the task
        self.retries: dict[int, int] = {}
        self.delivered: Counter[int] = Counter()  # number of outputs before the end, by task
        self.announced = 0
        self.processes: dict[int, Process] = {}
        self.abandoned: dict[int, Process] = {}  # workers that were killed and given up, by outbox
        self.following: list[Event] = []  # events that follow from the commands of the present event
        self.preparing: dict[int, None] = {}
        self.open_tasks: dict[int, None] = {}
        self.settled: Counter[int] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.inputs: dict[int, int] = {}  # unanswered requests of callers: length by input id
        self.requested: dict[int, int] = {}  # unanswered requests for copies of sources: length by task id
        self.staging: dict[int, tuple[Block, int]] = {}  # blocks that stagers write to, and their lengths, by task id
        self.growths: dict[int, tuple[Block, int]] = {}  # unanswered requests for growth: block and length
        self.held: list[tuple[Block, int]] = []  # blocks that callers hold, and their used lengths
        self.memory: set[Page] = set()
        self.moves: list[Reservation | DropOutbox | ReleasePages] = []
        self.capacity = PLENTY  # number of pages that the system can reserve
        self.refusals = 0
        self.handle(PoolStarted())
        if opened:
            self.all_goes_well()

    # The runtime

    def handle(self, event: Event) -> None:
        self.events_sent += 1
        note(f"{self.now:g} {event}")
        commands = self.core.handle(event, self.now)
        self.core.validate()
        for command in commands:
            note(f"    {command}")
            self.carry_out(command)
        while self.following:
            self.handle(self.following.pop(0))

    def carry_out(self, command: Command) -> None:  # noqa: C901, PLR0912, PLR0915 (a case for each command)
        match command:
            case StartWorker(slot, outbox_id, nbytes):
                assert slot not in self.processes, "a slot has one process at a time"
                assert nbytes >= LIMIT + STATUS_NBYTES
                assert not self.closed, "a pool that is closing starts no process"
                starting = self.core.worker_table.count(WorkerState.STARTING, WorkerState.RESTARTING)
                waiting = sum(s.outbox_id is None for s in self.core.worker_table)
                assert starting - waiting <= self.core.settings.max_starts
                self.starts += 1
                self.processes[slot] = Process(outbox_id, command.group)
            case Send(slot, message):
                self.deliver(self.processes[slot], message)
            case WithdrawRuns(slot, outbox_id, first, last):
                process = self.processes[slot]
                assert process.outbox_id == outbox_id
                assert first <= last == process.runs_sent
                not_reached = range(max(process.withdrawn.start, process.run_number + 1), process.withdrawn.stop)
                assert not not_reached or first <= not_reached[0], "numbers that the worker has not reached stay withdrawn"
                process.withdrawn = range(first, last + 1)
                self.following.append(RunsWithdrawn(slot, outbox_id, max(process.run_number, first - 1)))
            case KillWorker(slot):
                self.processes[slot].killed = True
            case AbandonWorker(slot):
                process = self.processes.pop(slot)
                assert process.killed
                self.abandoned[process.outbox_id] = process
                self.note_death(process)
                status = Status(process.noted_id, 0, 0.5)
                self.following.append(WorkerAbandoned(slot, status))
            case DropOutbox() | ReleasePages():
                self.moves.append(command)
            case ReservePages(reservation):
                self.moves.append(reservation)
            case HashSource(task_id, sources):
                assert task_id not in self.hashing
                self.hashing[task_id] = sources
            case DeliverSources(slot, delivery_id, task_id):
                assert self.processes[slot].task_id is None
                assert not self.processes[slot].runs
                assert task_id in self.open_tasks
                self.check_number_of_running(task_id, self.processes[slot])
                self.chosen.add(task_id)
                self.delivering[delivery_id] = command
            case StopDelivery(slot, delivery_id):
                assert delivery_id not in self.delivering or self.delivering[delivery_id].slot == slot
                self.stopped.add(delivery_id)
            case ProvideInput(input_id, block):
                nbytes = self.inputs.pop(input_id)
                assert block.nbytes >= nbytes
                assert pages_of(block) <= self.memory
                self.held.append((block, nbytes))
            case ProvideSourceMemory(task_id, block):
                nbytes = self.requested.pop(task_id)
                assert block.nbytes >= nbytes
                assert task_id in self.preparing
                self.staging[task_id] = (block, nbytes)
            case ConfirmGrowth(input_id):
                block, nbytes = self.growths.pop(input_id)
                assert block.nbytes >= nbytes
                assert pages_of(block) <= self.memory
            case RefuseInput(input_id):
                assert (self.inputs.pop(input_id, None) is None) is (self.growths.pop(input_id, None) is not None)
            case RestageSource(task_id):
                assert task_id in self.open_tasks
                assert task_id not in self.hashing
                self.preparing[task_id] = None
            case DeliverOutput(task_id, output):
                assert task_id in self.open_tasks
                self.delivered[task_id] += 1
                assert isinstance(output, TaskOutput), "no operations of this machine fail for one output"
                self.hold(output)
            case SettleTask(task_id, outcome):
                self.settle(task_id, outcome)
            case AnnounceOpening():
                self.announced += 1
            case ReleaseInbox(slot):
                assert slot in self.processes, "an inbox is released with its worker"
            case OpenOutput() | SendFile():
                pytest.fail("no task of this machine has a file")

    def deliver(self, process: Process, message: Any) -> None:
        if isinstance(message, Run):
            assert process.said_ready
            assert message.number > process.runs_sent
            process.runs_sent = message.number
            process.runs.append((process.runs_sent, message))
            waiting = [number for number, _ in process.runs if number not in process.withdrawn]
            assert len(waiting) <= self.core.settings.max_sent_tasks + (process.task_id is None)
            if message.task_id in self.chosen:
                self.chosen.remove(message.task_id)
            else:
                self.check_number_of_running(message.task_id, process)
            assert message.task_id not in self.hashing
            self.begin_runs(process)
        elif isinstance(message, Cancel) and message.task_id == process.task_id:
            process.stopping, process.waits = True, False
        elif isinstance(message, Credit) and message.task_id == process.task_id:
            process.credit = message.outputs
            process.granted += [self.checked(process, grant) for grant in message.grants]
        elif isinstance(message, Grant) and message.task_id == process.task_id:
            process.waits = False
            if message.block is not None:
                process.granted.append(self.checked(process, message.block))

    def begin_runs(self, process: Process) -> None:
        """A worker without a task skips the runs that are withdrawn, and begins the next one."""
        while process.runs and process.task_id is None:
            process.run_number, message = process.runs.pop(0)
            if message.grant is not None:
                assert process.preallocated is None
                process.preallocated = self.checked(process, message.grant)
            if process.run_number in process.withdrawn:
                process.unread.append(Skipped(message.task_id, process.run_number))
                continue
            assert message.task_id in self.open_tasks, "a task that has its outcome is not begun"
            self.runs[message.task_id] += 1
            assert self.runs[message.task_id] <= self.retries[message.task_id] + 2, (
                "its retries, and one more if it was not begun"
            )
            assert not process.tasks or not self.killed_by[message.task_id], "a retried task runs on an unused worker"
            process.tasks += 1
            of_group = self.settings[self.group_of(message.task_id)]
            assert process.tasks <= (of_group.max_tasks_per_worker or math.inf), "the limit is exact"
            process.tenants.add(tenant_of(message.task_id))
            assert of_group.isolation != "task" or process.tasks == 1
            assert of_group.isolation != "tenant" or len(process.tenants) == 1
            process.task_id = message.task_id
            process.waits = process.stopping = False
            process.credit, process.previews, process.outputs = message.credit, message.previews, 0
            is_repeatable = message.previews or not self.delivered[message.task_id]
            assert is_repeatable, "a task that has handed over an output is not run again"
            delivered = [task for task in self.delivering.values() if task.task_id == message.task_id]
            assert all(task.delivery_id in self.stopped for task in delivered), "its sources are there"
            places = [source.block for source in message.sources if source.block is not None]
            for handle in [place for place in places if place.segment != CALLER_MEMORY]:
                source = self.core.arena.get(handle.generation)
                assert source is not None
                assert pages_of(source) <= self.memory

    def group_of(self, task_id: int) -> str:
        """The group of a task: a third of the tasks are for the second group, if there is one."""
        return "models" if "models" in self.settings and task_id % 3 == 0 else "default"

    def check_number_of_running(self, task_id: int, process: Process) -> None:
        """Check that a task was sent to a worker of its group, and that no more tasks run than may."""
        group = self.group_of(task_id)
        assert process.group == group or (process.group, group) == ("small", "default")
        slots = [slot for slot in self.core.worker_table if slot.state in (WorkerState.BUSY, WorkerState.TIMED_OUT)]
        tasks = [(slot.group, slot.assigned) for slot in slots if slot.assigned is not None]
        own = [task for of_group, task in tasks if of_group == group]
        if process.group == group and len(own) <= self.concurrency[group]:
            return
        assert group == "default", "only small tasks of this group may run beyond its limit, beside large ones"
        large = [task for task in own if task.stable_cost_s >= LARGE_S]
        assert len(large) >= self.concurrency[group] or process.task_id is not None
        small = self.core.groups.small
        assert small.autoscaler.desired_workers <= self.core.groups.default.autoscaler.max_workers
        beyond = len(own) + sum(of_group == "small" for of_group, _ in tasks) - self.concurrency[group]
        assert beyond <= max(min(small.autoscaler.desired_workers, small.slots.concurrency_limit), 1)

    def checked(self, process: Process, handle: Handle) -> Handle:
        """Check that granted memory is allocated, in the worker's outbox, and has its pages."""
        block = self.core.arena.get(handle.generation)
        assert block is not None
        assert (block.segment_id, block.offset, handle.segment) == (process.outbox_id, handle.offset, OUTBOX)
        assert handle.nbytes <= block.nbytes
        assert pages_of(block) <= self.memory
        return handle

    def settle(self, task_id: int, outcome: Any) -> None:
        self.settled[task_id] += 1
        assert self.settled[task_id] == 1, "one outcome"
        del self.open_tasks[task_id]
        self.preparing.pop(task_id, None)
        self.requested.pop(task_id, None)
        if isinstance(outcome, Completed) and outcome.output is not None:
            self.hold(outcome.output)

    def hold(self, output: TaskOutput) -> None:
        """The caller gets an output."""
        if output.block is not None:
            assert not isinstance(output.output, WrittenTo)
            assert output.output.block is not None
            assert pages_of(output.block) <= self.memory
            assert output.output.block.nbytes <= output.block.nbytes
            self.held.append((output.block, output.output.block.nbytes))

    def number(self) -> int:
        self.numbers += 1
        return self.numbers

    def pick(self, items: list[Any], which: int) -> Any:
        return items[which % len(items)] if items else None

    # Workers

    def talking(self, *, with_task: bool | None = None) -> list[int]:
        """Return the slots whose worker can send messages."""
        return [
            slot
            for slot, process in sorted(self.processes.items())
            if process.channel_open and (with_task is None or (process.task_id is not None) is with_task)
        ]

    def say(self, slot: int, message: FromWorker) -> None:
        self.read(slot)
        self.processes[slot].last = message
        self.handle(WorkerReported(slot, message))

    def read(self, slot: int) -> None:
        """The pool reads what a worker has sent."""
        process = self.processes[slot]
        while process.unread and process.channel_open:
            self.handle(WorkerReported(slot, process.unread.pop(0)))

    def answer(self, slot: int, answer: FromWorker, *, is_read: bool = True) -> None:
        """A worker answers for its task, and begins the next one, possibly before the pool has read the answer."""
        process = self.processes[slot]
        process.last = answer
        process.unread.append(answer)
        self.begin_runs(process)
        if is_read:
            self.read(slot)

    def say_ready(self, slot: int) -> None:
        """A worker loads its plugins, if it has not, and becomes ready."""
        process = self.processes[slot]
        if not process.said_loading:
            process.said_loading = True
            self.say(slot, Loading(1))
        process.said_ready = True
        self.say(slot, Ready(1, queues_runs=True))

    @staticmethod
    def has_died_of_its_task(process: Process) -> bool:
        return process.begun and not process.stopping

    def note_death(self, process: Process) -> None:
        if self.has_died_of_its_task(process):
            assert process.task_id is not None
            self.killed_by[process.task_id] += 1
        elif process.task_id is not None and not process.begun:
            self.unbegun += 1

    # Pages

    @precondition(lambda self: self.moves)
    @rule()
    def move_pages(self) -> None:
        """Carry out the next move in order. It is refused if the system has too few pages."""
        move = self.moves.pop(0)
        if isinstance(move, DropOutbox | ReleasePages):
            for segment_id, start, end in move.spans:
                self.memory -= pages_in(segment_id, start, end)
            return
        for segment_id, start, end in move.to_release:
            self.memory -= pages_in(segment_id, start, end)
        wanted = {page for segment_id, start, end in move.to_reserve for page in pages_in(segment_id, start, end)}
        free = self.capacity - len(self.memory)
        if len(wanted) > free:
            self.refusals += 1
            self.handle(PagesRefused(move, max(free, 0) * P))
        else:
            self.memory |= wanted
            self.handle(PagesReserved(move))

    def move_all_pages(self) -> None:
        for _ in range(100):
            if not self.moves:
                return
            self.move_pages()
        raise AssertionError("the same pages are requested again and again")

    @rule(npages=st.sampled_from([PLENTY, PLENTY, 300, 100, 0]))
    def others_use_shared_memory(self, npages: int) -> None:
        """Limit the pages that the system can reserve. Reserved pages stay."""
        self.capacity = max(npages, len(self.memory))

    @rule()
    def all_goes_well(self) -> None:
        """All pages are reserved, and all workers become ready."""
        self.move_all_pages()
        for slot in self.talking():
            if not self.processes[slot].said_ready and not self.processes[slot].killed:
                self.say_ready(slot)
        self.move_all_pages()

    # The end

    @property
    def wanted(self) -> int:
        """Number of desired workers of all groups."""
        return sum(self.wanted_of(group.name) for group in self.core.groups)

    def wanted_of(self, group: str) -> int:
        """Number of desired workers of a group, with spares. Those beyond that are not replaced if abandoned."""
        if group != "default":
            return self.core.groups.by_name[group].reconciler.wanted
        places = self.concurrency[group] + self.settings[group].spares
        abandoned = sum(process.group == group for process in self.abandoned.values())
        return max(places - max(abandoned - places, 0), 0)
