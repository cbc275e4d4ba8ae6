"""What the machine for `PoolState` knows of a pool: constants, and a worker from its own side."""

from __future__ import annotations

from typing import Any

import msgspec

from offloop.core.model.blocks import Block
from offloop.core.model.settings import FIRST_GRANT_NBYTES, GroupSettings
from offloop.core.model.task import TaskSpec
from offloop.core.model.worker_state import WorkerState
from offloop.wire.handles import EncodedAt, Handle
from offloop.wire.messages import Done, FromWorker, Run, Stage

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
    {"private_sources": True},
    {"isolation": "task"},
    {"isolation": "tenant"},
    {"isolation": "tenant", "max_tasks_per_worker": 3, "max_worker_age_s": 4.0},
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
SPEC = TaskSpec(sources=(EncodedAt(None),), stages=STAGES, timeout_s=None)
SIZES = [1, 4096, 100 * KIB, FIRST_GRANT_NBYTES, 700 * KIB, 1400 * KIB, INBOX_NBYTES, LIMIT, LIMIT + 1]
PLENTY = 1 << 40
IN_USE = (WorkerState.IDLE, WorkerState.BUSY, WorkerState.TIMED_OUT)
HAS_STARTED = (WorkerState.STARTING, WorkerState.LOADING, WorkerState.RESTARTING, WorkerState.FAILED)

Page = tuple[int, int]


def pages_of(block: Block) -> set[Page]:
    return pages_in(block.segment_id, block.offset, block.offset + block.nbytes)


def pages_in(segment_id: int, start: int, end: int) -> set[Page]:
    return {(segment_id, index) for index in range(start // P, end // P)}


def tenant_of(task_id: int) -> str | None:
    return (None, "a", "b")[task_id % 3]


class Process:
    """A worker from its own side. It follows the protocol unless a rule forges a message."""

    def __init__(self, outbox_id: int, group: str) -> None:
        self.outbox_id = outbox_id
        self.group = group  # name of its worker group
        self.said_loading = False
        self.said_ready = False
        self.spawned = False  # whether its pid is known
        self.tasks = 0  # number of tasks that were sent to it
        self.tenants: set[str | None] = set()  # tenants of these tasks
        self.killed = False
        self.channel_open = True
        self.task_id: int | None = None  # the task that it runs
        self.run_number = 0  # number of the last `Run` that it has begun or skipped
        self.runs_sent = 0  # number of the last `Run` that was sent to it
        self.runs: list[tuple[int, Run]] = []  # number and message of those that it has not begun
        self.withdrawn = range(0)  # numbers that it must not begin
        self.unread: list[FromWorker] = []  # answers that it has sent, and the pool has not read
        self.noted_id = 0  # id of the last task that it has begun, which its status page has
        self.waits = False  # whether it waits for a grant
        self.stopping = False  # whether it was told to stop its task
        self.credit = 0  # number of outputs that it may hand over before the end of its task
        self.previews = 0  # number of previews among them
        self.outputs = 0  # number of outputs that it has handed over
        self.preallocated: Handle | None = None
        self.granted: list[Handle] = []
        self.last: FromWorker | None = None

    @property
    def begun(self) -> bool:
        """Return whether its status page has its task."""
        return self.task_id is not None and self.noted_id == self.task_id

    def note(self) -> None:
        """Write its task, if it has one, to its status page."""
        self.noted_id = self.task_id or self.noted_id

    @property
    def memory(self) -> list[Handle]:
        """Return the blocks that it may write to."""
        return [*self.granted, *([self.preallocated] if self.preallocated else [])]


def done_with(task_id: int, handle: Handle) -> Done:
    return Done(task_id, EncodedAt(handle), {}, 1, 2)
