"""`PoolScript`: a `PoolState` without loop, process or clock. A test sends events and checks the returned commands."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from offloop.core.model.blocks import Block, Reservation
from offloop.core.model.commands import (
    Command,
    DeliverSources,
    ProvideInput,
    ProvideSourceMemory,
    ReservePages,
    Send,
    SettleTask,
    StartWorker,
)
from offloop.core.model.events import (
    BlocksReturned,
    CloseRequested,
    DrainRequested,
    Event,
    GrowthRequested,
    InputRequested,
    PagesRefused,
    PagesReserved,
    PoolStarted,
    PressureMeasured,
    ResizeRequested,
    SourceHashed,
    SourceMemoryRequested,
    SourcesDelivered,
    TaskCancelled,
    TaskEstimated,
    TaskStaged,
    TaskSubmitted,
    TimePassed,
    WorkerExited,
    WorkerReported,
    WorkerSpawned,
)
from offloop.core.model.settings import CoreSettings, GroupSettings
from offloop.core.model.task import TaskSpec
from offloop.core.model.worker_state import WorkerState
from offloop.core.pool_state import PoolState
from offloop.errors import OffloopError
from offloop.operation import DEFAULT_GROUP, Estimate
from offloop.statistics import Statistics, snapshot
from offloop.testing import FakeClock
from offloop.wire.handles import INBOX, OUTBOX, EncodedAt, Handle, RasterAt, WrittenTo
from offloop.wire.messages import Done, Failed, FromWorker, Loading, Need, Ready, Run, Stage
from offloop.wire.status import Status

__all__ = [
    "GRACE_S",
    "KIB",
    "MIB",
    "PAGE",
    "PLENTY",
    "STAGES",
    "START_TIMEOUT_S",
    "PoolScript",
    "done",
    "estimate",
    "in_outbox",
    "of_type",
    "only",
    "outcome_of",
    "reservations",
    "runs",
    "sent_run",
    "started",
]

KIB, MIB, PAGE = 1024, 1024 * 1024, 4096
PLENTY = 1 << 40  # free bytes that limit nothing
GRACE_S, START_TIMEOUT_S = 1.0, 10.0
STAGES = [Stage("faults", msgspec.Raw(msgspec.msgpack.encode([["Noop"]])))]

SPEC = TaskSpec(sources=(EncodedAt(None),), stages=STAGES, timeout_s=None)


class PoolScript:
    """A `PoolState` and a clock. Each method sends events and returns the commands."""

    def __init__(
        self,
        workers: int = 1,
        *,
        limit_bytes: int = 4 * MIB,
        inbox_nbytes: int = 3 * MIB,
        max_queue: int | None = None,
        groups: Sequence[GroupSettings] = (),
        **more: Any,
    ) -> None:
        of_group = {name: more.pop(name) for name in GroupSettings.__struct_fields__ if name in more}
        settings = CoreSettings(
            groups=(GroupSettings(workers=workers, **of_group), *groups),
            limit_bytes=limit_bytes,
            inbox_nbytes=inbox_nbytes,
            max_queue=max_queue,
            grace_s=GRACE_S,
            start_timeout_s=START_TIMEOUT_S,
            **more,
        )
        self.core = PoolState(settings)
        self.clock = FakeClock()

    def handle(self, *events: Event) -> list[Command]:
        """Send these events at the present time."""
        commands: list[Command] = []
        for event in events:
            commands += self.core.handle(event, self.clock())
            self.core.validate()
        return commands

    def at(self, now: float) -> list[Command]:
        """Advance the clock to this time, and send `TimePassed`."""
        self.clock.advance_to(now)
        return self.handle(TimePassed())

    # Workers

    def start(self) -> list[Command]:
        """Enter the pool."""
        return self.handle(PoolStarted())

    def ready(self, slot: int = 0, *, pages: bool = False) -> list[Command]:
        """The slot's worker becomes ready. The pages of its first grant are reserved, or (by default) refused."""
        commands = self.report_ready(slot)
        for reservation in reservations(commands):
            commands += self.handle(PagesReserved(reservation) if pages else PagesRefused(reservation, PLENTY))
        return commands

    def opened(self, *, pages: bool = False) -> PoolScript:
        """Start the pool, with every worker ready. By default, tasks are sent without a first grant."""
        self.start()
        for slot in self.core.worker_table:
            self.ready(slot.index, pages=pages)
        return self

    def spawned(self) -> PoolScript:
        """Report the processes' pids, so that their memory is counted."""
        for slot in self.core.worker_table:
            if slot.outbox_id is not None and slot.pid is None:
                self.handle(WorkerSpawned(slot.index, 1000 + slot.index))
        return self

    def report(self, slot: int, message: FromWorker) -> list[Command]:
        return self.handle(WorkerReported(slot, message))

    def report_ready(self, slot: int = 0) -> list[Command]:
        """The slot's worker becomes ready. The reservation of its first grant stays open."""
        return self.handle(WorkerReported(slot, Loading(pid=1000 + slot)), WorkerReported(slot, Ready(pid=1000 + slot)))

    def done(
        self,
        task_id: int,
        slot: int = 0,
        *,
        output: EncodedAt | RasterAt | WrittenTo | None = None,
        private_bytes: int = 0,
    ) -> list[Command]:
        """The worker answers with success, by default without an output."""
        return self.report(slot, msgspec.structs.replace(done(task_id, output), private_bytes=private_bytes))

    def failed(self, task_id: int, slot: int = 0, *, code: str = "refused", message: str = "no") -> list[Command]:
        return self.report(slot, Failed(task_id, code, message, None, 1, 2))

    def need(self, task_id: int, nbytes: int, slot: int = 0) -> list[Command]:
        return self.report(slot, Need(task_id, nbytes))

    def exited(self, slot: int = 0, exit_code: int | None = -9, **more: Any) -> list[Command]:
        """The slot's worker exits. By default, its status page says that it had begun its task."""
        task = self.core.worker_table[slot].task
        more.setdefault("status", Status(task.task_id if task else 0, 0, 0.0))
        return self.handle(WorkerExited(slot, exit_code, **more))

    def state(self, slot: int = 0) -> WorkerState:
        return self.core.worker_table[slot].state

    # Tasks

    def submit(self, task_id: int) -> list[Command]:
        return self.handle(TaskSubmitted(task_id, self._spec(None), staged=False))

    def prepare(self, task_id: int, block: Block | None = None, **more: Any) -> list[Command]:
        """The task's source is staged: empty, or in a block of the inbox."""
        return self.handle(TaskStaged(task_id, self._spec(block, **more)))

    def run(self, task_id: int, block: Block | None = None, **more: Any) -> list[Command]:
        """Submit a task whose source is staged."""
        return self.handle(TaskSubmitted(task_id, self._spec(block, **more)))

    def estimate(self, task_id: int, nbytes: int, **more: Any) -> list[Command]:
        """The task is estimated. Its source, of `nbytes`, is not staged yet."""
        return self.handle(TaskEstimated(task_id, self._spec(None, **more), nbytes))

    def _spec(
        self,
        block: Block | None,
        *,
        others: Sequence[Block] = (),
        nbytes: int | None = None,
        segment: int = INBOX,
        timeout_s: float | None = None,
        stages: list[Stage] = STAGES,
        **more: Any,
    ) -> TaskSpec:
        handle = None if block is None else Handle(segment, block.offset, nbytes or block.nbytes, block.generation)
        rest = [EncodedAt(Handle(segment, other.offset, other.nbytes, other.generation)) for other in others]
        return TaskSpec(
            sources=(EncodedAt(handle), *rest),
            stages=stages,
            timeout_s=timeout_s,
            **more,
        )

    def cancel(self, task_id: int) -> list[Command]:
        return self.handle(TaskCancelled(task_id))

    def hashed(self, task_id: int, digest: bytes | None = b"bad") -> list[Command]:
        return self.handle(SourceHashed(task_id, digest))

    def slot_of(self, task_id: int) -> int:
        """Return the index of the slot that runs the task, or is to run it."""
        slots = [slot for slot in self.core.worker_table if slot.assigned is not None and slot.assigned.task_id == task_id]
        return only(slots).index

    def delivered(self, commands: Iterable[Command], error: OffloopError | None = None) -> list[Command]:
        """The only delivery of these commands ends."""
        return self.handle(SourcesDelivered(only(of_type(commands, DeliverSources)).delivery_id, error))

    # The pool

    def resize(self, workers: int, group: str = DEFAULT_GROUP) -> list[Command]:
        return self.handle(ResizeRequested(workers, group))

    def press(self, available_share: float, stalled_share: float = 0.0) -> list[Command]:
        """The memory pressure is measured."""
        return self.handle(PressureMeasured(available_share, stalled_share))

    def drain(self) -> list[Command]:
        return self.handle(DrainRequested())

    def close(self) -> list[Command]:
        return self.handle(CloseRequested())

    # Memory

    def request_source(self, task_id: int, nbytes: int) -> list[Command]:
        """The stager of a task requests a block for copies of its sources."""
        return self.handle(SourceMemoryRequested(task_id, nbytes))

    def source(self, task_id: int, nbytes: int) -> Block:
        """Request a block for copies of a task's sources, and reserve its pages."""
        commands = self.request_source(task_id, nbytes)
        for reservation in reservations(commands):
            commands += self.handle(PagesReserved(reservation))
        return only(of_type(commands, ProvideSourceMemory)).block

    def request(self, input_id: int, nbytes: int) -> list[Command]:
        return self.handle(InputRequested(input_id, nbytes))

    def input(self, input_id: int, nbytes: int) -> Block:
        """Request a block of the inbox for a caller, and reserve its pages."""
        commands = self.request(input_id, nbytes)
        for reservation in reservations(commands):
            commands += self.handle(PagesReserved(reservation))
        return only(of_type(commands, ProvideInput)).block

    def stream(self, input_id: int, nbytes: int, max_bytes: int) -> Block:
        """Request a block of the inbox that may grow to `max_bytes`, and reserve its pages."""
        commands = self.handle(InputRequested(input_id, nbytes, max_bytes))
        for reservation in reservations(commands):
            commands += self.handle(PagesReserved(reservation))
        return only(of_type(commands, ProvideInput)).block

    def grow(self, input_id: int, block: Block, nbytes: int) -> list[Command]:
        """A stream requests that its block grows to `nbytes`."""
        return self.handle(GrowthRequested(input_id, block.generation, nbytes, nbytes))

    def grown(self, input_id: int, block: Block, nbytes: int) -> list[Command]:
        """A stream requests that its block grows to `nbytes`, and the pages are reserved."""
        commands = self.grow(input_id, block, nbytes)
        for reservation in reservations(commands):
            commands += self.handle(PagesReserved(reservation))
        return commands

    def granted(self, task_id: int, nbytes: int, slot: int = 0) -> Block:
        """The worker requests memory and gets the returned block."""
        commands = self.need(task_id, nbytes, slot)
        for reservation in reservations(commands):
            commands += self.handle(PagesReserved(reservation))
        grant: Any = only(of_type(commands, Send)).message
        block = self.core.arena.get(grant.block.generation)
        assert block is not None
        return block

    def reserved(self, reservation: Reservation) -> list[Command]:
        return self.handle(PagesReserved(reservation))

    def refused(self, reservation: Reservation, free_bytes: int = 0) -> list[Command]:
        return self.handle(PagesRefused(reservation, free_bytes))

    def give_back(self, *blocks: Block) -> list[Command]:
        """The caller returns these blocks."""
        return self.handle(BlocksReturned(tuple(block.generation for block in blocks)))

    @property
    def statistics(self) -> Statistics:
        return snapshot(self.core)


def estimate(peak_bytes: int = 0, work_s: float = 0.01, output_bytes: int = 0) -> Estimate:
    """An estimate of a plugin."""
    return Estimate(peak_bytes=peak_bytes, work_s=work_s, output_bytes=output_bytes)


def done(task_id: int, output: EncodedAt | RasterAt | WrittenTo | None = None) -> Done:
    """The answer of a worker whose task succeeded."""
    return Done(task_id, EncodedAt(None) if output is None else output, {}, 1, 2)


def in_outbox(block: Block, nbytes: int) -> EncodedAt:
    """An output at the start of a block."""
    return EncodedAt(Handle(OUTBOX, block.offset, nbytes, block.generation))


def sent_run(task_id: int, slot: int = 0, *, grant: Handle | None = None) -> Send:
    """The command that dispatches a task without a source."""
    return Send(slot, Run(task_id, (EncodedAt(None),), STAGES, grant))


def reservations(commands: Iterable[Command]) -> list[Reservation]:
    return [command.reservation for command in of_type(commands, ReservePages)]


def runs(commands: Iterable[Command]) -> list[Any]:
    """Return the `Send` commands that dispatch tasks."""
    return [send for send in of_type(commands, Send) if isinstance(send.message, Run)]


def of_type(commands: Iterable[Command], kind: type[Any]) -> list[Any]:
    return [command for command in commands if isinstance(command, kind)]


def only(items: list[Any]) -> Any:
    """Return the only item of a list."""
    assert len(items) == 1, items
    return items[0]


def outcome_of(commands: Iterable[Command], task_id: int) -> Any:
    """Return the outcome of a task that is settled exactly once by these commands."""
    return only([command for command in of_type(commands, SettleTask) if command.task_id == task_id]).outcome


def started(slot: int, outbox_id: int) -> StartWorker:
    """The command that starts a slot's process, in the pool of a default `PoolScript`."""
    return StartWorker(slot, outbox_id, 4 * MIB + PAGE)
