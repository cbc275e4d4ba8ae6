"""Task record of the core: specification, state and outcome of one submission."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, Protocol

import msgspec

from ...errors import MemoryLimitExceeded, OffloopError
from ...operation import DEFAULT_GROUP, Estimate
from ...wire.handles import EncodedAt, RasterAt, WrittenTo
from ...wire.messages import Stage
from .blocks import Block
from .task_state import TASK_TABLE, IllegalTaskEvent, TaskCounts, TaskEvent, TaskState

__all__ = [
    "Completed",
    "CostFactor",
    "FailedOutput",
    "Pace",
    "StopReason",
    "StreamLimits",
    "TaskOutput",
    "TaskRecord",
    "TaskSpec",
]


class StreamLimits(msgspec.Struct, frozen=True):
    """Time limits of a task whose outputs are received while it runs."""

    output_timeout_s: float | None  # seconds for each output, without waits for memory or credit; None: no limit
    idle_timeout_s: float | None  # seconds for which the receiver may leave the task without credit; None: no limit


class TaskSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Specification of a task: its sources, pipeline, limits and estimate."""

    sources: tuple[EncodedAt | RasterAt, ...]  # at least one; the first one is the payload of the first stage
    stages: list[Stage]
    group: str = DEFAULT_GROUP  # name of the worker group that runs it
    timeout_s: float | None  # seconds from dispatch, without waits for memory; None: no limit
    queue_timeout_s: float | None = None  # seconds from submission to dispatch; None: no limit
    to_file: bool = False  # whether the result goes into a file, which the runtime opens when the worker requests it
    credit: int = 0  # number of outputs that it may hand over before its end without `CreditGranted`; 0: none is received
    previews: int = 0  # number of previews among them
    pipelines: Mapping[str, int] = {}  # numbers of stages of named pipelines, in the order of `stages`; empty: one pipeline
    stream: StreamLimits | None = None  # time limits of a stream, whose receiver grants more credit; None: it is no stream
    in_files: bool = False  # whether sources are in open files, which are read when a worker is to have the task
    outbox_id: int | None = None  # outbox that contains all sources: only its worker can run the task
    retries: int = 0  # number of runs after the first, if the task kills its workers
    priority: int = 0  # priority class; higher classes run first
    tenant: str | None = None  # tenant whose share of the workers' time the task uses
    labels: Mapping[str, str] = {}  # labels of its caller, for events, errors and log lines
    estimate: Estimate | None = None  # estimate of its plugins; None: unknown
    stageable_again: bool = False  # whether the caller still has all sources and can stage them again
    kind: tuple[tuple[str, str], ...] | None = None  # plugins and what costs depend on; None: the stages
    memory_limit_bytes: int | None = None  # limit of its private memory that its caller gave, in bytes; None: it gave none
    media_type: str = ""  # media type of the first source, if known: the cost model learns for each media type

    @property
    def limit_s(self) -> float | None:
        """Seconds that a worker may take for the task, or for each of its outputs; None: no limit."""
        return self.timeout_s if self.stream is None else self.stream.output_timeout_s

    @property
    def source_nbytes(self) -> int:
        """Length of all sources in bytes."""
        first = self.sources[0].block
        if len(self.sources) == 1:  # the usual case
            return 0 if first is None else first.nbytes
        return sum([0 if source.block is None else source.block.nbytes for source in self.sources])


class Pace(Protocol):
    """Durations of the last tasks of one kind."""

    mean_s: float

    @property
    def is_short(self) -> bool:
        """Whether the next task is expected to be short."""
        ...

    def observe(self, seconds: float) -> None:
        """Note how long a task took in its worker."""
        ...


class CostFactor(Protocol):
    """Ratio of the measured to the estimated time of tasks of one kind."""

    now: float


class StopReason(Enum):
    """Why a running task was told to stop."""

    DEADLINE = "deadline"
    IDLE_RECEIVER = "idle receiver"
    CALLER = "caller"
    CLOSING = "closing"


class TaskRecord(msgspec.Struct, eq=False):
    """One task that has no outcome yet."""

    task_id: int
    submitted_at: float
    spec: TaskSpec
    counts: TaskCounts = msgspec.field(default_factory=TaskCounts)  # counts of the table that the task is in
    state: TaskState = TaskState.ESTIMATING
    slot: int | None = None  # index of the slot whose worker runs the task, or is to have it
    sent_to: int | None = None  # index of the slot whose worker has the task behind another one
    delivery_id: int = 0  # the delivery of its sources to that worker, which does not have it yet; 0: none
    run_number: int = 0  # number of its last `Run` among those to that worker
    was_sent_behind: bool = False  # whether its last `Run` was sent to a busy worker
    was_skipped: bool = False  # whether a worker has skipped it: only an idle worker gets it
    kind: tuple[int | str | tuple[str, bytes | str], ...] | None = None  # its kind in the cost model; None: not predicted yet
    pace: Pace | None = None  # how long the last tasks of its kind took; None: not known
    source_blocks: tuple[Block, ...] = ()  # blocks of its sources, with the task's lease
    granted: list[Block] = []  # blocks for its outputs, with the worker's lease
    credit: int = 0  # number of outputs that it may hand over before its end
    outputs: int = 0  # number of outputs that it has handed over before its end
    finished: tuple[str, ...] = ()  # names of its pipelines that have a result or have failed
    stop: StopReason | None = None
    nbytes: int = 0  # length of its sources together; 0: not known yet
    queued_bytes: int = 0  # length of its sources that counts towards the queue limit; 0 while a worker has the task
    ready_at: float = 0.0  # time at which its sources were in place
    cost_s: float = 0.0  # predicted seconds of a worker's time
    estimated_s: float = 0.0  # predicted seconds of a worker's time, without learned corrections
    cost_factor: CostFactor | None = None  # learned correction for tasks of its kind; None: none was observed
    arrived_s: float = 0.0  # time of its submission on the work clock
    place_s: float = 0.0  # its place on the work clock among tasks of its priority: work that arrives earlier goes first
    peak_bytes: int = 0  # predicted peak of private memory
    output_bytes: int = 0  # predicted result memory
    copy_bytes: int = 0  # bytes of its sources that are copied into its worker's own inbox while it runs
    charged_s: float | None = None  # seconds charged to its tenant's share while it runs; None: no other tenant competed
    charged_bytes: int = 0  # memory charged to the budget while it runs
    unused_output_bytes: int = 0  # part of `charged_bytes`: result memory that it was not granted yet
    blocked_since: float | None = None  # time at which it was next, but had no memory to run in
    rank: float = 0.0  # its place among the waiting tasks of its tenant and priority
    dispatches: int = 0  # number of times that it was sent to a worker
    dispatched_at: float = 0.0  # time from which its last worker had no earlier task
    crashes: int = 0  # number of workers that died of it; if more than 0, only an unused worker gets it
    digest: bytes | None = None  # digest of its sources; None: not hashed
    pending_error: OffloopError | None = None  # its error after its sources are hashed, unless it is retried
    request_count: int = 0  # number of memory requests in the present run
    last_request_bytes: int = 0  # size of its last memory request; 0: it has made none
    requested_bytes: int | None = None  # size of the grant that it waits for; None: it waits for none
    paused_since: float | None = None  # start of a wait for memory or credit, during which its time limit is paused
    paused_s: float = 0.0  # seconds of the present run in which it waited for memory or credit
    remaining_limit_s: float | None = None  # remaining seconds of its time limit at the start of the wait; None: no limit
    grant_error: MemoryLimitExceeded | None = None  # reason why its last memory request was refused
    file_dispatch: int = 0  # number of the dispatch in which the worker last requested the output file; 0: none
    file_error: OffloopError | None = None  # reason why the output file could not be opened

    def apply(self, event: TaskEvent) -> None:
        """Follow the table of task states.

        Raises:
            IllegalTaskEvent: the table has no entry for the event; nothing has changed.
        """
        before = self.state
        after = TASK_TABLE[before].get(event)
        if after is None:
            raise IllegalTaskEvent(self.task_id, before, event)
        self.state = after
        counts = self.counts.by_state
        counts[before] -= 1
        counts[after] += 1

    @property
    def awaits_credit(self) -> bool:
        """Whether a stream can hand over no further output until its receiver grants more credit."""
        return self.outputs >= self.credit and self.spec.stream is not None

    @property
    def has_handed_over(self) -> bool:
        """Whether it has handed over an output that a second run would repeat. A preview may come twice."""
        return bool(self.finished if self.spec.previews else self.outputs)

    @property
    def stable_cost_s(self) -> float:
        """Predicted seconds of a worker's time, from the present correction: the same for all equal tasks."""
        return self.estimated_s if self.cost_factor is None else self.estimated_s * self.cost_factor.now


class TaskOutput(msgspec.Struct, frozen=True):
    """One output of a task. Its block has a CALLER lease, with the block's generation as owner."""

    output: EncodedAt | RasterAt | WrittenTo
    block: Block | None
    info: Mapping[str, Any]
    started_ns: int  # start of the task on the system's monotonic clock, in nanoseconds
    finished_ns: int  # time at which the output was complete, on the same clock
    name: str = ""  # name that the task gave it; the name of its pipeline, if pipelines have names
    last: bool = False  # whether it is the result of a named pipeline


class FailedOutput(msgspec.Struct, frozen=True):
    """Failure of one named pipeline of a task that goes on."""

    name: str
    error: OffloopError


class Completed(msgspec.Struct, frozen=True):
    """Outcome of a successful task."""

    output: TaskOutput | None  # its last output; None: it has handed over all outputs before its end
