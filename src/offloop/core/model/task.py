"""One submission, from the core's side: what was asked, where it stands, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, Protocol

import msgspec

from ...errors import MemoryLimitExceeded, OffloopError
from ...operation import Estimate
from ...wire.handles import EncodedAt, RasterAt, WrittenTo
from ...wire.messages import Stage
from .blocks import Block
from .task_state import TaskCounts, TaskEvent, TaskState, next_state

__all__ = ["Completed", "CostFactor", "StopReason", "TaskRecord", "TaskSpec"]


class TaskSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a task asks for."""

    source: EncodedAt | RasterAt
    stages: list[Stage]
    timeout_s: float | None  # from its dispatch on
    queue_timeout_s: float | None = None  # from its submission to its dispatch
    to_file: bool = False  # the result goes into a file, which the host opens when the worker asks for it
    outbox_id: int | None = None  # the source lies in this outbox: only its worker can run the task
    retries: int = 0  # how often it is run again after its worker died of it
    priority: int = 0  # its class: a higher one goes first
    tenant: str | None = None  # on whose account it is
    estimate: Estimate | None = None  # what its plugins say that it will take; None: nobody knows
    stageable_again: bool = False  # its caller still has the source and can bring it in a second time
    media_type: str = ""  # of the source, where that is known: corrections of the estimate are learned by it


class CostFactor(Protocol):
    """Ratio of the time that tasks of one kind take to the time that was said beforehand."""

    now: float


class StopReason(Enum):
    """Why a running task was told to stop."""

    DEADLINE = "deadline"
    CALLER = "caller"
    CLOSING = "closing"


class TaskRecord(msgspec.Struct, eq=False):
    """One task that has no outcome yet."""

    task_id: int
    submitted_at: float
    spec: TaskSpec
    counts: TaskCounts = msgspec.field(default_factory=TaskCounts)  # of the table that the task is in
    state: TaskState = TaskState.ESTIMATING
    slot: int | None = None  # index of the slot whose worker has the task
    source_block: Block | None = None  # held with the task's lease
    granted: list[Block] = []  # held with the worker's lease
    stop: StopReason | None = None
    nbytes: int = 0  # of its source, once that is known
    queued_bytes: int = 0  # of it, as long as no worker has the task
    ready_at: float = 0.0  # when its source was in place
    cost_s: float = 0.0  # of a worker's time, as far as can be told
    estimated_s: float = 0.0  # of a worker's time, without what was learned
    cost_factor: CostFactor | None = None  # of its kind, if anything was learned of that before
    arrived_s: float = 0.0  # time of its submission on the work clock
    place_s: float = 0.0  # its place there among tasks of its priority: it waits behind work that comes until then
    peak_bytes: int = 0  # of private memory, as far as can be told
    output_bytes: int = 0  # of result memory, as far as can be told
    charged_s: float | None = None  # of its tenant's share, while it runs; None: nobody competed for it
    charged_bytes: int = 0  # of the budget, while it runs...
    unused_output_bytes: int = 0  # ...and of that, result memory beyond what it was granted
    blocked_since: float | None = None  # when it was next, and there was no memory for it
    rank: float = 0.0  # its place among those of its tenant that wait, with its priority
    dispatches: int = 0  # how often it was sent to a worker
    dispatched_at: float = 0.0  # when it was last
    timed_dispatches: int = 0  # how many of those dispatches have ended, and are counted in the histograms
    crashes: int = 0  # workers that have died of it; more than none, and only a fresh worker gets it
    digest: bytes | None = None  # of its source, once there was a reason to ask
    pending_error: OffloopError | None = None  # how it ends, once its source is identified, unless it is run again
    request_count: int = 0  # how often it asked for memory
    requested_bytes: int | None = None  # it waits for a grant of so many bytes
    memory_wait_since: float | None = None  # when that wait began; its `timeout` does not run meanwhile
    memory_wait_s: float = 0.0  # seconds of its present run in which it waited for grants
    left_s: float | None = None  # seconds of its `timeout` that were left when that wait began; None: it has none
    grant_error: MemoryLimitExceeded | None = None  # the memory that it was refused
    file_dispatch: int = 0  # the dispatch in which the worker last asked for the output file; 0: none
    file_error: OffloopError | None = None  # why the output file could not be opened

    def apply(self, event: TaskEvent) -> None:
        """Follow the table of task states.

        Raises:
            IllegalTaskEvent: the table has no entry for the event; nothing has changed.
        """
        before = self.state
        self.state = next_state(self.task_id, before, event)
        self.counts.move(before, self.state)

    @property
    def stable_cost_s(self) -> float:
        """Seconds of a worker's time that equal tasks take, the same for all of them, however long the last ones took."""
        return self.estimated_s if self.cost_factor is None else self.estimated_s * self.cost_factor.now


class Completed(msgspec.Struct, frozen=True):
    """A task's success. A block in the output is held for the caller, under the block's own generation."""

    output: EncodedAt | RasterAt | WrittenTo
    block: Block | None
    info: Mapping[str, Any]
    started_ns: int
    finished_ns: int
