"""Task record of the core: state and bookkeeping of one submission until its outcome."""

from __future__ import annotations

from ...errors import MemoryLimitExceeded, OffloopError
from .blocks import Block
from .task import CostFactor, Pace, StopReason, TaskSpec
from .task_state import TASK_TABLE, IllegalTaskEvent, TaskCounts, TaskEvent, TaskState

__all__ = ["TaskRecord"]


class TaskRecord:
    """One task that has no outcome yet."""

    # a dictionary of so many attributes costs each task more than a microsecond
    __slots__ = (
        "arrived_s", "blocked_since", "charged_bytes", "charged_s", "copy_bytes", "cost_factor", "cost_s", "counts",
        "crashes", "credit", "delivery_id", "digest", "dispatched_at", "dispatches", "estimated_s", "file_dispatch",
        "file_error", "finished", "grant_error", "granted", "kind", "last_request_bytes", "nbytes", "output_bytes", "outputs",
        "pace", "paused_s", "paused_since", "peak_bytes", "pending_error", "place_s", "queued_bytes", "rank", "ready_at",
        "remaining_limit_s", "request_count", "requested_bytes", "run_number", "sent_to", "slot", "source_blocks", "spec",
        "state", "stop", "submitted_at", "task_id", "unused_output_bytes", "was_skipped",
    )  # fmt: skip

    def __init__(self, task_id: int, submitted_at: float, spec: TaskSpec, counts: TaskCounts | None = None) -> None:
        """A new task. `counts`: those of the table that it is in; None: its own."""
        self.task_id = task_id
        self.submitted_at = submitted_at
        self.spec = spec
        self.counts = TaskCounts() if counts is None else counts  # counts of the table that the task is in
        self.state = TaskState.ESTIMATING
        self.slot: int | None = None  # index of the slot whose worker runs the task, or is to have it
        self.sent_to: int | None = None  # index of the slot whose worker has the task behind another one
        self.delivery_id = 0  # the delivery of its sources to that worker, which does not have it yet; 0: none
        self.run_number = 0  # number of its last `Run` among those to that worker
        self.was_skipped = False  # whether a worker has skipped it: only an idle worker gets it
        # its kind in the cost model; None: not predicted yet
        self.kind: tuple[int | str, tuple[tuple[str, bytes | str], ...]] | None = None
        self.pace: Pace | None = None  # how long the last tasks of its kind took; None: not known
        self.source_blocks: tuple[Block, ...] = ()  # blocks of its sources, with the task's lease
        self.granted: list[Block] = []  # blocks for its outputs, with the worker's lease
        self.credit = 0  # number of outputs that it may hand over before its end
        self.outputs = 0  # number of outputs that it has handed over before its end
        self.finished: tuple[str, ...] = ()  # names of its pipelines that have a result or have failed
        self.stop: StopReason | None = None
        self.nbytes = 0  # length of its sources together; 0: not known yet
        self.queued_bytes = 0  # length of its sources that counts towards the queue limit; 0 while a worker has the task
        self.ready_at = 0.0  # time at which its sources were in place
        self.cost_s = 0.0  # predicted seconds of a worker's time
        self.estimated_s = 0.0  # predicted seconds of a worker's time, without learned corrections
        self.cost_factor: CostFactor | None = None  # learned correction for tasks of its kind; None: none was observed
        self.arrived_s = 0.0  # time of its submission on the work clock
        self.place_s = 0.0  # its place on the work clock among tasks of its priority: work that arrives earlier goes first
        self.peak_bytes = 0  # predicted peak of private memory
        self.output_bytes = 0  # predicted result memory
        self.copy_bytes = 0  # bytes of its sources that are copied into its worker's own inbox while it runs
        self.charged_s: float | None = None  # seconds charged to its tenant's share while it runs; None: no other one competed
        self.charged_bytes = 0  # memory charged to the budget while it runs
        self.unused_output_bytes = 0  # part of `charged_bytes`: result memory that it was not granted yet
        self.blocked_since: float | None = None  # time at which it was next, but had no memory to run in
        self.rank = 0.0  # its place among the waiting tasks of its tenant and priority
        self.dispatches = 0  # number of times that it was sent to a worker
        self.dispatched_at = 0.0  # time from which its last worker had no earlier task
        self.crashes = 0  # number of workers that died of it; if more than 0, only an unused worker gets it
        self.digest: bytes | None = None  # digest of its sources; None: not hashed
        self.pending_error: OffloopError | None = None  # its error after its sources are hashed, unless it is retried
        self.request_count = 0  # number of memory requests in the present run
        self.last_request_bytes = 0  # size of its last memory request; 0: it has made none
        self.requested_bytes: int | None = None  # size of the grant that it waits for; None: it waits for none
        self.paused_since: float | None = None  # start of a wait for memory or credit, during which its time limit is paused
        self.paused_s = 0.0  # seconds of the present run in which it waited for memory or credit
        self.remaining_limit_s: float | None = None  # seconds of its time limit that were left before the wait; None: no limit
        self.grant_error: MemoryLimitExceeded | None = None  # reason why its last memory request was refused
        self.file_dispatch = 0  # number of the dispatch in which the worker last requested the output file; 0: none
        self.file_error: OffloopError | None = None  # reason why the output file could not be opened

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
    def limit_s(self) -> float | None:
        """Seconds that a worker may take for the task, or for each of its outputs; None: no limit."""
        spec = self.spec
        return spec.timeout_s if spec.stream is None else spec.stream.output_timeout_s

    @property
    def source_nbytes(self) -> int:
        """Length of all sources in bytes."""
        sources = self.spec.sources
        first = sources[0].block
        if len(sources) == 1:  # the usual case
            return 0 if first is None else first.nbytes
        return sum([0 if source.block is None else source.block.nbytes for source in sources])

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
