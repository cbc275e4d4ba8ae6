"""`PoolState` in random situations: workers that obey, forge messages, stall and die; callers that submit and cancel.

The machine plays the runtime. It carries out every command at once, except moves of pages, which it keeps in order, and the
hashing of sources; both happen in rules of their own. Each command is checked against the machine's model first.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from offloop.core.memory.arena import INBOX_ID
from offloop.core.model.blocks import Block, Holder, Reservation
from offloop.core.model.commands import (
    AbandonWorker,
    AnnounceOpening,
    Command,
    ConfirmGrowth,
    DeliverOutput,
    DropOutbox,
    HashSource,
    KillWorker,
    OpenOutput,
    ProvideInput,
    RefuseInput,
    ReleasePages,
    ReservePages,
    RestageSource,
    Send,
    SendFile,
    SettleTask,
    StartWorker,
)
from offloop.core.model.events import (
    AbandonedWorkerExited,
    BlocksReturned,
    CloseRequested,
    CreditGranted,
    DrainRequested,
    Event,
    GrowthRequested,
    InputCancelled,
    InputCompleted,
    InputRequested,
    PagesRefused,
    PagesReserved,
    PoolStarted,
    ResizeRequested,
    SourceHashed,
    StagingFailed,
    TaskCancelled,
    TaskStaged,
    TaskSubmitted,
    TimePassed,
    WorkerAbandoned,
    WorkerDisconnected,
    WorkerExited,
    WorkerReported,
    WorkerSpawned,
    WorkerViolatedProtocol,
)
from offloop.core.model.settings import FIRST_GRANT_NBYTES, CoreSettings, GroupSettings
from offloop.core.model.task import Completed, StreamLimits, TaskOutput, TaskSpec
from offloop.core.model.worker_state import WorkerState
from offloop.core.pool_state import PoolState
from offloop.core.workers.restart_policy import CircuitBreaker
from offloop.errors import InvalidTask
from offloop.pool_events import TaskRetried, WorkerMoved
from offloop.statistics import snapshot
from offloop.wire.handles import INBOX, OUTBOX, EncodedAt, Handle, WrittenTo
from offloop.wire.messages import Cancel, Credit, Done, Failed, FromWorker, Grant, Loading, Need, Output, Ready, Run, Stage
from offloop.wire.status import STATUS_NBYTES, Status

P, KIB, MIB = 4096, 1024, 1024 * 1024
LIMIT, INBOX_NBYTES = 2 * MIB, 1536 * KIB
GRACE_S, START_TIMEOUT_S = 1.0, 10.0
QUARANTINE_S = 20.0
MAX_BYTES = 1000
WEAR: list[dict[str, Any]] = [
    {},
    {},
    {"max_tasks_per_worker": 1},
    {"max_tasks_per_worker": 3},
    {"max_worker_bytes": MAX_BYTES},
    {"max_worker_age_s": 4.0},
    {"max_tasks_per_worker": 3, "max_worker_age_s": 4.0, "max_worker_bytes": MAX_BYTES},
]
MODELS = [
    None,
    None,
    GroupSettings(name="models", workers=2, min_workers=0, spares=1, idle_timeout_s=5.0),
    GroupSettings(name="models", workers=1, min_workers=0, max_tasks_per_worker=3, restart_intensity=1),
    GroupSettings(name="models", workers=2),
]
"""A second group: none, two on demand, and one of a fixed number of workers."""

STAGES = [Stage("faults", msgspec.Raw(b"\x91\x91\xa4Noop"))]
SPEC = TaskSpec(source=EncodedAt(None), stages=STAGES, timeout_s=None)
SIZES = [1, 4096, 100 * KIB, FIRST_GRANT_NBYTES, 700 * KIB, 1400 * KIB, INBOX_NBYTES, LIMIT, LIMIT + 1]
PLENTY = 1 << 40
IN_USE = (WorkerState.IDLE, WorkerState.BUSY, WorkerState.TIMED_OUT)
HAS_STARTED = (WorkerState.STARTING, WorkerState.LOADING, WorkerState.RESTARTING, WorkerState.FAILED)

Page = tuple[int, int]


def pages_of(block: Block) -> set[Page]:
    return pages_in(block.segment_id, block.offset, block.offset + block.nbytes)


def pages_in(segment_id: int, start: int, end: int) -> set[Page]:
    return {(segment_id, index) for index in range(start // P, end // P)}


class Process:
    """A worker from its own side. It follows the protocol unless a rule forges a message."""

    def __init__(self, outbox_id: int, group: str) -> None:
        self.outbox_id = outbox_id
        self.group = group  # name of its worker group
        self.said_loading = False
        self.said_ready = False
        self.spawned = False  # whether its pid is known
        self.tasks = 0  # number of tasks that were sent to it
        self.killed = False
        self.channel_open = True
        self.task_id: int | None = None  # its task
        self.begun = False  # whether its status page has the task
        self.waits = False  # whether it waits for a grant
        self.stopping = False  # whether it was told to stop its task
        self.credit = 0  # number of outputs that it may hand over before the end of its task
        self.outputs = 0  # number of outputs that it has handed over
        self.preallocated: Handle | None = None
        self.granted: list[Handle] = []
        self.last: FromWorker | None = None

    @property
    def memory(self) -> list[Handle]:
        """Return the blocks that it may write to."""
        return [*self.granted, *([self.preallocated] if self.preallocated else [])]


class PoolMachine(RuleBasedStateMachine):
    """Rules send events; every command that follows is checked and carried out."""

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
            )
        )
        self.now = 0.0
        self.events_sent = 0
        self.close_after = close_after
        self.numbers = 0
        self.closed = self.draining = False
        self.core.event_log.has_subscribers = watched
        self.settings = {group.name: group for group in self.core.settings.groups}
        self.concurrency = {name: group.workers for name, group in self.settings.items()}
        self.starts = 0
        self.hashing: dict[int, Handle] = {}
        self.runs: Counter[int] = Counter()  # number of dispatches by task
        self.killed_by: Counter[int] = Counter()  # number of workers that died of each task
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
        self.inputs: dict[int, int] = {}  # unanswered requests: length by input id
        self.growths: dict[int, tuple[Block, int]] = {}  # unanswered requests for growth: block and length
        self.held: list[tuple[Block, int]] = []  # blocks that callers hold, and their used lengths
        self.memory: set[Page] = set()
        self.moves: list[Reservation | DropOutbox | ReleasePages] = []
        self.capacity = PLENTY  # number of pages that the system can reserve
        self.refusals = 0
        self.tell(PoolStarted())
        if opened:
            self.all_goes_well()

    # The runtime

    def tell(self, event: Event) -> None:
        self.events_sent += 1
        note(f"{self.now:g} {event}")
        commands = self.core.handle(event, self.now)
        self.core.validate()
        for command in commands:
            note(f"    {command}")
            self.carry_out(command)
        while self.following:
            self.tell(self.following.pop(0))

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
            case KillWorker(slot):
                self.processes[slot].killed = True
            case AbandonWorker(slot):
                process = self.processes.pop(slot)
                assert process.killed
                self.abandoned[process.outbox_id] = process
                self.note_death(process)
                status = Status(process.task_id if process.begun and process.task_id else 0, 0, 0.5)
                self.following.append(WorkerAbandoned(slot, status))
            case DropOutbox() | ReleasePages():
                self.moves.append(command)
            case ReservePages(reservation):
                self.moves.append(reservation)
            case HashSource(task_id, source):
                assert task_id not in self.hashing
                self.hashing[task_id] = source
            case ProvideInput(input_id, block):
                nbytes = self.inputs.pop(input_id)
                assert block.nbytes >= nbytes
                assert pages_of(block) <= self.memory
                self.held.append((block, nbytes))
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
                self.hold(output)
            case SettleTask(task_id, outcome):
                self.settle(task_id, outcome)
            case AnnounceOpening():
                self.announced += 1
            case OpenOutput() | SendFile():
                pytest.fail("no task of this machine has a file")

    def deliver(self, process: Process, message: Any) -> None:
        if isinstance(message, Run):
            assert process.task_id is None, "one task at a time"
            assert process.said_ready
            self.check_number_of_running(message.task_id, process)
            assert message.task_id not in self.hashing
            self.runs[message.task_id] += 1
            assert self.runs[message.task_id] <= self.retries[message.task_id] + 2, (
                "its retries, and one more if it was not begun"
            )
            assert not process.tasks or not self.killed_by[message.task_id], "a retried task runs on an unused worker"
            process.tasks += 1
            of_group = self.settings[self.group_of(message.task_id)]
            assert process.tasks <= (of_group.max_tasks_per_worker or math.inf), "the limit is exact"
            process.task_id = message.task_id
            process.begun = process.waits = process.stopping = False
            process.credit, process.outputs = message.credit, 0
            assert not self.delivered[message.task_id], "a task that has handed over an output is not run again"
            if message.grant is not None:
                assert process.preallocated is None
                process.preallocated = self.checked(process, message.grant)
            if message.source.block is not None:
                source = self.core.arena.get(message.source.block.generation)
                assert source is not None
                assert pages_of(source) <= self.memory
        elif isinstance(message, Cancel) and message.task_id == process.task_id:
            process.stopping, process.waits = True, False
        elif isinstance(message, Credit) and message.task_id == process.task_id:
            process.credit = message.outputs
        elif isinstance(message, Grant) and message.task_id == process.task_id:
            process.waits = False
            if message.block is not None:
                process.granted.append(self.checked(process, message.block))

    def group_of(self, task_id: int) -> str:
        """The group of a task: a third of the tasks are for the second group, if there is one."""
        return "models" if "models" in self.settings and task_id % 3 == 0 else "default"

    def check_number_of_running(self, task_id: int, process: Process) -> None:
        """Check that a task was sent to a worker of its group, and that no more tasks run than may."""
        group = self.group_of(task_id)
        assert process.group == group or (process.group, group) == ("small", "default")
        busy = (WorkerState.BUSY, WorkerState.TIMED_OUT)
        slots = [slot for slot in self.core.worker_table if slot.task is not None and slot.state in busy]
        running = [slot.task for slot in slots if slot.task is not None and self.group_of(slot.task.task_id) == group]
        beyond = 0
        if group == "default" and sum(task.cost_s >= 0.2 for task in running) >= self.concurrency[group]:
            small = self.core.groups.small  # small tasks may run beside large ones
            assert small.autoscaler.desired_workers <= self.core.groups.default.autoscaler.max_workers
            beyond = max(min(small.autoscaler.desired_workers, small.slots.concurrency_limit), 1)
        assert len(running) <= self.concurrency[group] + beyond

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

    # Callers

    @rule()
    def submit(self) -> None:
        task_id = self.number()
        self.open_tasks[task_id] = None
        self.preparing[task_id] = None
        spec = msgspec.structs.replace(SPEC, group=self.group_of(task_id))
        self.tell(TaskSubmitted(task_id, spec, staged=False))

    @precondition(lambda self: self.preparing)
    @rule(
        which=st.integers(0, 9),
        source=st.integers(0, 9),
        timeout_s=st.sampled_from([None, 0.5, 5.0]),
        queue_timeout_s=st.sampled_from([None, None, 2.0]),
        keep=st.booleans(),
        retries=st.integers(0, 2),
    )
    def prepare(
        self, which: int, source: int, timeout_s: float | None, queue_timeout_s: float | None, keep: bool, retries: int = 0
    ) -> None:
        task_id = self.pick(list(self.preparing), which)
        del self.preparing[task_id]
        self.retries[task_id] = retries
        self.tell_with_source(TaskStaged, task_id, source, timeout_s, queue_timeout_s, keep, retries)

    @rule(
        source=st.integers(0, 9),
        timeout_s=st.sampled_from([None, 0.5, 5.0]),
        queue_timeout_s=st.sampled_from([None, None, 2.0]),
        keep=st.booleans(),
        retries=st.integers(0, 2),
    )
    def submit_prepared(
        self, source: int, timeout_s: float | None, queue_timeout_s: float | None, keep: bool, retries: int
    ) -> None:
        task_id = self.number()
        self.open_tasks[task_id] = None
        self.retries[task_id] = retries
        self.tell_with_source(TaskSubmitted, task_id, source, timeout_s, queue_timeout_s, keep, retries)

    def tell_with_source(
        self,
        event: Callable[[int, TaskSpec], Event],
        task_id: int,
        source: int,
        timeout_s: float | None,
        queue_timeout_s: float | None,
        keep: bool,
        retries: int,
    ) -> None:
        held = self.held[source] if 0 <= source < len(self.held) else None
        if held is not None and any(held[0] is block for block, _ in self.growths.values()):
            held = None  # a stream that has not ended is no source yet
        in_outbox = held is not None and held[0].segment_id != INBOX_ID
        place = EncodedAt(None)
        if held is not None:
            place = EncodedAt(Handle(OUTBOX if in_outbox else INBOX, held[0].offset, held[1], held[0].generation))
        spec = TaskSpec(
            source=place,
            stages=STAGES,
            group=self.group_of(task_id),
            timeout_s=timeout_s,
            queue_timeout_s=queue_timeout_s,
            outbox_id=held[0].segment_id if in_outbox and held is not None else None,
            stageable_again=held is not None and not in_outbox and not keep,
            retries=retries,
            credit=(0, 0, 1, 3)[self.numbers % 4],
            stream=StreamLimits(2.0, (None, 4.0)[self.numbers % 8 == 3]) if self.numbers % 4 == 3 else None,
        )
        self.tell(event(task_id, spec))
        if held is not None and not keep:
            self.held.remove(held)
            self.tell(BlocksReturned((held[0].generation,)))

    @rule(
        source=st.integers(0, 9),
        timeout_s=st.sampled_from([None, 0.5, 5.0]),
        queue_timeout_s=st.sampled_from([None, None, 2.0]),
        keep=st.booleans(),
        retries=st.integers(0, 2),
    )
    def submit_and_prepare(
        self, source: int, timeout_s: float | None, queue_timeout_s: float | None, keep: bool, retries: int = 0
    ) -> None:
        self.submit()
        if self.numbers in self.preparing:
            self.prepare(len(self.preparing) - 1, source, timeout_s, queue_timeout_s, keep, retries)

    @precondition(lambda self: self.preparing)
    @rule(which=st.integers(0, 9))
    def refuse(self, which: int) -> None:
        task_id = self.pick(list(self.preparing), which)
        self.tell(StagingFailed(task_id, InvalidTask("no such file")))

    @precondition(lambda self: self.open_tasks)
    @rule(which=st.integers(0, 9))
    def cancel(self, which: int) -> None:
        self.tell(TaskCancelled(self.pick(list(self.open_tasks), which)))

    @precondition(lambda self: self.hashing)
    @rule(which=st.integers(0, 9), digest=st.sampled_from([b"a", b"a", b"b", None]))
    def end_hashing(self, which: int, digest: bytes | None) -> None:
        task_id = self.pick(list(self.hashing), which)
        del self.hashing[task_id]
        self.tell(SourceHashed(task_id, digest))

    @rule(workers=st.integers(1, 4), which=st.integers(0, 1))
    def resize(self, workers: int, which: int) -> None:
        group = self.pick(list(self.settings), which)
        if not self.closed:
            self.concurrency[group] = workers
        self.tell(ResizeRequested(workers, group))

    @precondition(lambda self: self.events_sent >= self.close_after)
    @rule()
    def drain(self) -> None:
        self.draining = True
        self.tell(DrainRequested())

    @rule(nbytes=st.sampled_from(SIZES))
    def request_input(self, nbytes: int) -> None:
        input_id = self.number()
        self.inputs[input_id] = nbytes
        self.tell(InputRequested(input_id, nbytes))

    @rule(nbytes=st.sampled_from(SIZES[:-2]))
    def request_a_stream(self, nbytes: int) -> None:
        input_id = self.number()
        self.inputs[input_id] = nbytes
        self.tell(InputRequested(input_id, nbytes, None, INBOX_NBYTES))

    @precondition(lambda self: self.may_grow)
    @rule(which=st.integers(0, 9), nbytes=st.sampled_from(SIZES), wanted=st.sampled_from(SIZES))
    def grow(self, which: int, nbytes: int, wanted: int) -> None:
        block = self.pick(self.may_grow, which)
        if nbytes > block.nbytes:
            input_id = self.number()
            self.growths[input_id] = (block, nbytes)
            self.tell(GrowthRequested(input_id, block.generation, nbytes, wanted))

    @precondition(lambda self: self.may_grow)
    @rule(which=st.integers(0, 9), nbytes=st.sampled_from(SIZES))
    def a_stream_ends(self, which: int, nbytes: int) -> None:
        block = self.pick(self.may_grow, which)
        index = next(n for n, (held, _) in enumerate(self.held) if held is block)
        self.tell(InputCompleted(block.generation, nbytes))
        assert block.nbytes == block.addresses_nbytes
        self.held[index] = (block, min(nbytes, block.nbytes))

    @property
    def may_grow(self) -> list[Block]:
        """Return the blocks of streams without a request for growth."""
        waiting = [block for block, _ in self.growths.values()]
        blocks = [block for block, _ in self.held if block.addresses_nbytes > block.nbytes and block not in waiting]
        return [block for block in blocks if len(block.leases) == 1]

    @precondition(lambda self: self.growths)
    @rule(which=st.integers(0, 9))
    def abandon_growth(self, which: int) -> None:
        input_id = self.pick(list(self.growths), which)
        block, _ = self.growths.pop(input_id)
        self.tell(InputCancelled(input_id))
        self.held = [(held, nbytes) for held, nbytes in self.held if held is not block]
        self.tell(BlocksReturned((block.generation,)))

    @precondition(lambda self: self.inputs)
    @rule(which=st.integers(0, 9))
    def abandon_input(self, which: int) -> None:
        input_id = self.pick(list(self.inputs), which)
        del self.inputs[input_id]
        self.tell(InputCancelled(input_id))

    @precondition(lambda self: self.held)
    @rule(which=st.integers(0, 9))
    def give_back(self, which: int) -> None:
        block, _ = held = self.pick(self.held, which)
        for input_id, (growing, _) in tuple(self.growths.items()):
            if growing is block:
                del self.growths[input_id]
                self.tell(InputCancelled(input_id))
        self.held.remove(held)
        self.tell(BlocksReturned((block.generation,)))

    # Time

    @rule(obeys=st.booleans(), output=st.integers(0, 3), nbytes=st.sampled_from(SIZES))
    def a_task_runs_too_long(self, obeys: bool, output: int, nbytes: int) -> None:
        self.submit_and_prepare(1 << 30, 0.5, None, keep=True)
        slots = self.talking(with_task=True)
        if slots:
            self.need_and_get(0, nbytes)
            self.let_time_pass(0.5)
            if obeys and self.processes[slots[0]].task_id is not None:
                self.done(0, output, 0)

    @rule(seconds=st.sampled_from([0.05, 0.5, 1.0, 5.0, 10.0]))
    def let_time_pass(self, seconds: float) -> None:
        self.now += seconds
        if self.now >= self.core.wake_at:
            self.tell(TimePassed())
            if self.core.wake_at <= self.now:
                self.tell(TimePassed())  # the timer of a back-off of no length, before an abandoned worker is replaced
            assert self.core.wake_at > self.now, "the core would be woken again and again at the same time"

    # Workers

    def talking(self, *, with_task: bool | None = None) -> list[int]:
        """Return the slots whose worker can send messages."""
        return [
            slot
            for slot, process in sorted(self.processes.items())
            if process.channel_open and (with_task is None or (process.task_id is not None) is with_task)
        ]

    def say(self, slot: int, message: FromWorker) -> None:
        self.processes[slot].last = message
        self.tell(WorkerReported(slot, message))

    def say_ready(self, slot: int) -> None:
        """A worker loads its plugins, if it has not, and becomes ready."""
        process = self.processes[slot]
        if not process.said_loading:
            process.said_loading = True
            self.say(slot, Loading(1))
        process.said_ready = True
        self.say(slot, Ready(1))

    @precondition(lambda self: any(not process.said_loading for process in self.processes.values()))
    @rule(which=st.integers(0, 9))
    def load(self, which: int) -> None:
        slot = self.pick([slot for slot in self.talking() if not self.processes[slot].said_loading], which)
        if slot is not None:
            self.processes[slot].said_loading = True
            self.say(slot, Loading(1))

    @precondition(lambda self: any(not process.said_ready for process in self.processes.values()))
    @rule(which=st.integers(0, 9))
    def ready(self, which: int) -> None:
        slot = self.pick([slot for slot in self.talking() if not self.processes[slot].said_ready], which)
        if slot is not None:
            self.say_ready(slot)

    def finish(self, process: Process) -> int:
        """End the worker's task. It loses its blocks except the preallocated one."""
        assert process.task_id is not None
        task_id, process.task_id = process.task_id, None
        process.granted = []
        process.begun = process.waits = False
        return task_id

    def output_of(self, process: Process, which: int, odd: int) -> EncodedAt:
        """Return one of its blocks as an output. A preallocated block is used up."""
        handle = self.pick([None, *process.memory], which)
        if handle is None:
            return EncodedAt(None)
        if handle is process.preallocated:
            process.preallocated = None
        return EncodedAt(Handle(OUTBOX, handle.offset, max(handle.nbytes - odd, 1), handle.generation))

    @precondition(lambda self: self.talking(with_task=True))
    @rule(
        which=st.integers(0, 9),
        output=st.integers(0, 3),
        odd=st.sampled_from([0, 1, 5000, 1 << 30]),
        private_bytes=st.sampled_from([0, 0, MAX_BYTES + 1]),
    )
    def done(self, which: int, output: int, odd: int, private_bytes: int = 0) -> None:
        slot = self.pick(self.talking(with_task=True), which)
        process = self.processes[slot]
        if not process.waits:
            place = None if process.outputs and odd == 1 else self.output_of(process, output, odd)
            self.say(slot, Done(self.finish(process), place, {}, 1, 2, private_bytes))

    @precondition(lambda self: self.talking(with_task=True))
    @rule(which=st.integers(0, 9), output=st.integers(0, 3), odd=st.sampled_from([0, 1, 5000]))
    def hand_over(self, which: int, output: int, odd: int) -> None:
        """A worker hands over an output before the end of its task, within its credit."""
        slot = self.pick(self.talking(with_task=True), which)
        process = self.processes[slot]
        if not process.waits and process.outputs < process.credit:
            self.say(slot, self.next_output(process, output, odd))

    def next_output(self, process: Process, output: int, odd: int) -> Output:
        assert process.task_id is not None
        place = self.output_of(process, output, odd)
        process.granted = [
            block for block in process.granted if place.block is None or block.generation != place.block.generation
        ]
        process.begun = True
        process.outputs += 1
        return Output(process.task_id, "frame", place, {}, 1, 2)

    @precondition(lambda self: self.open_tasks)
    @rule(which=st.integers(0, 9), outputs=st.integers(0, 9))
    def grant_credit(self, which: int, outputs: int) -> None:
        self.tell(CreditGranted(self.pick(list(self.open_tasks), which), outputs))

    @precondition(lambda self: self.talking(with_task=True))
    @rule(which=st.integers(0, 9), code=st.sampled_from(["refused", "memory_limit", "invalid_task"]))
    def failed(self, which: int, code: str) -> None:
        slot = self.pick(self.talking(with_task=True), which)
        self.say(slot, Failed(self.finish(self.processes[slot]), code, "text", None, 1, 2))

    @precondition(lambda self: any(not process.spawned for process in self.processes.values()))
    @rule()
    def pids_are_known(self) -> None:
        for slot, process in sorted(self.processes.items()):
            if not process.spawned:
                process.spawned = True
                self.tell(WorkerSpawned(slot, 100 + slot))

    @precondition(lambda self: self.talking(with_task=True))
    @rule(times=st.integers(1, 4), which=st.integers(0, 9), opened=st.booleans())
    def tasks_kill_their_workers(self, times: int, which: int, opened: bool) -> None:
        for _ in range(times):
            slots = self.talking(with_task=True)
            if slots:
                slot = self.pick(slots, which)
                self.processes[slot].begun = True
                self.die(slot, -11)
            if opened:
                self.all_goes_well()

    @rule(times=st.integers(1, 4))
    def starts_fail(self, times: int) -> None:
        for _ in range(times):
            slots = [slot for slot, process in sorted(self.processes.items()) if not process.said_ready]
            if slots:
                self.die(slots[0], 1)
            else:
                self.let_time_pass(5.0)

    @precondition(lambda self: self.talking(with_task=True))
    @rule(which=st.integers(0, 9), nbytes=st.sampled_from(SIZES))
    def need(self, which: int, nbytes: int) -> None:
        slot = self.pick(self.talking(with_task=True), which)
        process = self.processes[slot]
        if not process.waits:
            assert process.task_id is not None
            process.begun, process.waits = True, not process.stopping
            self.say(slot, Need(process.task_id, nbytes))

    @precondition(lambda self: self.processes)
    @rule(which=st.integers(0, 9))
    def begin(self, which: int) -> None:
        process = self.pick(list(self.processes.values()), which)
        process.begun = process.task_id is not None

    @precondition(lambda self: self.talking())
    @rule(
        which=st.integers(0, 9),
        kind=st.sampled_from(
            ["again", "ready", "foreign task", "generation", "offset", "length", "segment", "file", "need", "output"]
        ),
        foreign=st.integers(0, 9),
    )
    def forge(self, which: int, kind: str, foreign: int) -> None:
        slot = self.pick(self.talking(), which)
        process = self.processes[slot]
        task_id = process.task_id or 0
        known = self.pick([*process.memory, *(handle for p in self.processes.values() for handle in p.memory)], foreign)
        handle = known or Handle(OUTBOX, P, 1, foreign)
        forged: dict[str, FromWorker | None] = {
            "again": process.last,
            "ready": Ready(1) if process.said_ready else Need(task_id, 0),
            "foreign task": Failed(task_id + 1 + foreign, "a", "b", None, 1, 2),
            "generation": done_with(task_id, Handle(OUTBOX, handle.offset, 1, handle.generation + 1000)),
            "offset": done_with(task_id, Handle(OUTBOX, handle.offset + P, 1, handle.generation)),
            "length": done_with(task_id, Handle(OUTBOX, handle.offset, LIMIT * 2, handle.generation)),
            "segment": done_with(task_id, Handle(INBOX, handle.offset, 1, handle.generation)),
            "file": Done(task_id, WrittenTo(5), {}, 1, 2),
            "need": Need(task_id, 0),
            "output": None if process.outputs < process.credit else Output(task_id, "", EncodedAt(None), {}, 1, 2),
        }
        message = forged[kind]
        answers_own = isinstance(message, Failed | Done) and message.task_id == process.task_id and kind == "again"
        if message is not None and not answers_own and not (kind == "again" and isinstance(message, Need | Output)):
            self.tell(WorkerReported(slot, message))

    @precondition(lambda self: self.talking(with_task=True))
    @rule(which=st.integers(0, 9), foreign=st.integers(0, 9))
    def guess_a_handle(self, which: int, foreign: int) -> None:
        """Name a block that was not granted to the worker: another worker's, a caller's, or one that is being reserved."""
        slot = self.pick(self.talking(with_task=True), which)
        process = self.processes[slot]
        assert process.task_id is not None
        if process.stopping:
            return  # its answer is dropped in any case
        block = self.pick(list(self.core.arena._blocks.values()), foreign)
        if block is not None and block.generation not in {handle.generation for handle in process.memory}:
            self.tell(WorkerReported(slot, done_with(process.task_id, Handle(OUTBOX, block.offset, 1, block.generation))))
            assert process.killed, "the handle of the block was not sent to it"

    @precondition(lambda self: self.processes)
    @rule(
        which=st.integers(0, 9),
        how=st.sampled_from(["dies", "dies", "dies", "misbehaves", "closes its channel", "never started"]),
        exit_code=st.sampled_from([0, 1, -9, -11, -40]),
        words=st.integers(0, 3),
        odd=st.sampled_from([0, 5000]),
    )
    def a_worker_fails(self, which: int, how: str, exit_code: int, words: int, odd: int) -> None:
        slot = self.pick(sorted(self.processes), which)
        process = self.processes[slot]
        if how == "never started" and not process.said_ready:
            del self.processes[slot]
            self.tell(WorkerExited(slot, None, reason="it could not be started"))
        elif how == "misbehaves" and process.channel_open:
            process.channel_open = False
            self.tell(WorkerViolatedProtocol(slot, "nonsense"))
        elif how == "closes its channel" and process.channel_open:
            process.channel_open = False
            self.tell(WorkerDisconnected(slot))
        else:
            self.die(slot, exit_code, words, odd)

    @precondition(lambda self: any(process.killed for process in self.processes.values()))
    @rule(words=st.integers(0, 3))
    def killed_workers_exit(self, words: int) -> None:
        for slot, process in sorted(self.processes.items()):
            if process.killed:
                self.die(slot, -9, words, 0)

    def die(self, slot: int, exit_code: int = -9, words: int = 0, odd: int = 0) -> None:
        """The worker exits, possibly with an unread answer."""
        process = self.processes.pop(slot)
        last_words: tuple[FromWorker, ...] = ()
        speaks = words and process.task_id is not None and not process.waits and process.channel_open
        if speaks and process.outputs < process.credit:
            last_words = (self.next_output(process, words, odd),)
        self.note_death(process)
        status = Status(process.task_id if process.begun and process.task_id else 0, 0, 0.5)
        if speaks and process.task_id is not None and words < 3:
            self.killed_by[process.task_id] = 0
            last_words += (Done(process.task_id, self.output_of(process, words - 1, odd), {}, 1, 2),)
        self.tell(WorkerExited(slot, exit_code, status=status, last_words=last_words))

    @staticmethod
    def has_died_of_its_task(process: Process) -> bool:
        return bool(process.begun and process.task_id and not process.stopping)

    def note_death(self, process: Process) -> None:
        if self.has_died_of_its_task(process):
            assert process.task_id is not None
            self.killed_by[process.task_id] += 1

    @precondition(lambda self: self.abandoned)
    @rule(which=st.integers(0, 9))
    def an_abandoned_worker_exits(self, which: int) -> None:
        outbox_id = self.pick(sorted(self.abandoned), which)
        del self.abandoned[outbox_id]
        self.tell(AbandonedWorkerExited(outbox_id))

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
            self.tell(PagesRefused(move, max(free, 0) * P))
        else:
            self.memory |= wanted
            self.tell(PagesReserved(move))

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

    @precondition(lambda self: self.talking(with_task=True))
    @rule(which=st.integers(0, 9), nbytes=st.sampled_from(SIZES))
    def need_and_get(self, which: int, nbytes: int) -> None:
        self.need(which, nbytes)
        self.move_all_pages()

    @rule(which=st.integers(0, 9), nbytes=st.sampled_from(SIZES))
    def run_with_a_new_source(self, which: int, nbytes: int) -> None:
        self.request_input(nbytes)
        self.move_all_pages()
        self.submit_and_prepare(len(self.held) - 1, None, None, keep=bool(which % 2))

    @precondition(lambda self: self.events_sent >= self.close_after)
    @rule()
    def close(self) -> None:
        self.closed = True
        self.tell(CloseRequested())

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
        assert s.retried >= sum(self.runs.values()) - len(self.runs)

    @invariant()
    def a_worker_has_one_task_and_a_task_one_worker(self) -> None:
        held = [slot.task.task_id for slot in self.core.worker_table if slot.task is not None]
        assert len(held) == len(set(held))
        assert set(held) <= set(self.open_tasks)
        for slot in self.core.worker_table:
            if slot.task is not None:
                assert slot.index in self.processes

    @invariant()
    def no_worker_is_idle_while_a_task_waits_that_it_may_run(self) -> None:
        for group, concurrency in self.concurrency.items() if not self.closed else ():
            slots, lane = self.core.groups.by_name[group].slots, self.core.queue.lanes[group]
            if slots.busy >= concurrency:
                continue
            idle = [self.processes[slot.index] for slot in slots if slot.state is WorkerState.IDLE]
            early = self.core.dispatcher.wake_at <= self.now + 0.1  # a large task waits a moment for tasks that arrive with it
            assert not idle or not lane.policy or early
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
                    assert slot.task is not None
                    task, runs = slot.task, slot.task.paused_since is None
                    idle_limit = task.spec.stream and task.awaits_credit and task.spec.stream.idle_timeout_s is not None
                    assert (slot.timer is not None) is bool(idle_limit or (task.spec.limit_s is not None and runs))
                    assert runs is (slot.task.requested_bytes is None and not slot.task.awaits_credit)
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
    def a_source_that_is_being_hashed_stays(self) -> None:
        for source in self.hashing.values():
            block = self.core.arena.get(source.generation)
            assert block is not None
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

    # The end

    def settle_down(self) -> None:
        """Answer every request, until no task waits and the pool has all its workers."""
        begun = self.now
        for _ in range(600):
            if self.do_a_step():
                continue
            if self.at_rest:
                break
            missing = (self.inputs, self.growths, self.wanted, snapshot(self.core).workers)
            assert self.core.wake_at < math.inf, f"the pool waits without a timer: {missing}"
            self.let_time_pass(max(self.core.wake_at - self.now, 0.001))
            assert self.now - begun < 300.0
        else:
            raise AssertionError("the pool was not at rest after 600 steps")
        assert (self.inputs, self.growths) == ({}, {}), "every source got memory or an error"
        s = snapshot(self.core)
        assert (s.waiting, s.running) == (0, 0)
        assert self.open_tasks == {}
        assert self.announced == 1

    @property
    def at_rest(self) -> bool:
        """Whether no source waits for memory, all desired workers are idle, and the circuit breaker is closed."""
        if self.inputs or self.growths:
            return False
        wanted = self.wanted
        s = snapshot(self.core)
        if s.workers == ({"idle": wanted} if wanted else {}) and not any(slot.recycling for slot in self.core.worker_table):
            assert all(group.reconciler.converged for group in self.core.groups)
            return s.breaker == "closed"
        return False

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

    def do_a_step(self) -> bool:  # noqa: PLR0911 (one return for each kind of step)
        """Do one step that is due. Returns whether there was one."""
        if self.moves:
            self.move_pages()
            return True
        if self.abandoned:
            self.an_abandoned_worker_exits(0)
            return True
        for slot, process in sorted(self.processes.items()):
            if process.killed or not process.channel_open or self.core.worker_table[slot].state is WorkerState.RETIRING:
                self.die(slot)
                return True
            if not process.said_ready:
                self.say_ready(slot)
                return True
            if process.task_id is not None and not process.waits:
                self.say(slot, Failed(self.finish(process), "refused", "no", None, 1, 2))
                return True
        if self.hashing:
            self.end_hashing(0, b"a")
            return True
        if self.preparing:
            self.prepare(0, 1 << 30, None, None, keep=True)
            return True
        if self.held:
            self.give_back(0)
            return True
        return False

    def run_until_closed(self) -> None:
        """Close the pool. Workers that do not exit are killed, and killed workers exit."""
        if not self.closed:
            self.closed = True
            self.tell(CloseRequested())
        while self.hashing:
            self.end_hashing(0, None)
        for _ in range(50):
            if self.core.closed:
                break
            for slot, process in sorted(self.processes.items()):
                if process.killed:
                    self.die(slot)
            while self.hashing:
                self.end_hashing(0, None)
            self.let_time_pass(1.0)
        assert self.core.closed
        assert self.processes == {}
        assert (len(self.core.worker_table), len(self.core.task_table)) == (0, 0)
        assert self.open_tasks == {}, "every task has its outcome"
        assert (self.inputs, self.growths) == ({}, {}), "every request for memory has an answer"

    def teardown(self) -> None:
        if not hasattr(self, "core"):
            return
        if not self.closed:
            self.settle_down()
        self.run_until_closed()
        while self.abandoned:
            self.an_abandoned_worker_exits(0)
        self.move_all_pages()
        leases = snapshot(self.core).leases
        assert leases == {**dict.fromkeys(leases, 0), "caller": len(self.held)}
        while self.held:
            self.give_back(0)
        assert snapshot(self.core).memory_used_bytes == 0
        assert self.core.arena._blocks == {}


def done_with(task_id: int, handle: Handle) -> Done:
    return Done(task_id, EncodedAt(handle), {}, 1, 2)


TestPool = pytest.mark.timeout(300)(PoolMachine.TestCase)
TestPool.settings = settings(
    max_examples=300,
    stateful_step_count=50,
    deadline=None,
    print_blob=True,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
