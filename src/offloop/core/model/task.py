"""Specification and outcome of a task, and what else is known about it beside its record."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, Protocol

import msgspec

from ...errors import OffloopError
from ...operation import DEFAULT_GROUP, Estimate
from ...wire.handles import EncodedAt, RasterAt, WrittenTo
from ...wire.messages import Stage
from .blocks import Block

__all__ = [
    "Completed",
    "CostFactor",
    "FailedOutput",
    "Pace",
    "StopReason",
    "StreamLimits",
    "TaskOutput",
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
    pipelines: dict[str, int] = {}  # numbers of stages of named pipelines, in the order of `stages`; empty: one pipeline
    stream: StreamLimits | None = None  # time limits of a stream, whose receiver grants more credit; None: it is no stream
    in_files: bool = False  # whether sources are in open files, which are read when a worker is to have the task
    outbox_id: int | None = None  # outbox that contains all sources: only its worker can run the task
    retries: int = 0  # number of runs after the first, if the task kills its workers
    priority: int = 0  # priority class; higher classes run first
    tenant: str | None = None  # tenant whose share of the workers' time the task uses
    labels: dict[str, str] = {}  # labels of its caller, for events, errors and log lines
    estimate: Estimate | None = None  # estimate of its plugins; None: unknown
    stageable_again: bool = False  # whether the caller still has all sources and can stage them again
    kind: tuple[tuple[str, str], ...] | None = None  # plugins and what costs depend on; None: the stages
    memory_limit_bytes: int | None = None  # limit of its private memory that its caller gave, in bytes; None: it gave none
    media_type: str = ""  # media type of the first source, if known: the cost model learns for each media type


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
