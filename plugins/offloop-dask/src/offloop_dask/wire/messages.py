"""The messages on the channel between a `ClusterPool` and one node.

A channel is one dask comm, on the port and with the TLS settings of the dask worker. Each frame is one message in MessagePack.
Sources and results travel as `Data` in pieces of at most `CHUNK_NBYTES`, and only as far as the receiver has granted, because a
dask comm has no back pressure of its own.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import msgspec

__all__ = [
    "CHUNK_NBYTES",
    "INLINE_NBYTES",
    "MAX_REQUEST_NBYTES",
    "WINDOW_NBYTES",
    "CallRequest",
    "Cancel",
    "Credit",
    "Data",
    "Done",
    "Fetched",
    "FromClient",
    "FromNode",
    "Hello",
    "NodeReport",
    "Output",
    "Ping",
    "PipelineRequest",
    "Progressed",
    "Refused",
    "ResultHead",
    "Run",
    "Sent",
    "Stage",
    "TaskRequest",
    "Welcome",
]

CHUNK_NBYTES = 1024 * 1024  # longest piece of a source or a result
INLINE_NBYTES = 64 * 1024  # longest result that travels in its `Output`, because a grant would cost a round trip
WINDOW_NBYTES = 4 * CHUNK_NBYTES  # bytes of one transfer that may be under way
MAX_REQUEST_NBYTES = 4 * 1024 * 1024  # longest request of a task: four times the longest stage

Nbytes = Annotated[int, msgspec.Meta(ge=0)]


class _Message(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=True):
    pass


class Fetched(_Message, frozen=True):
    """A source that the node fetches."""

    url: str


class Sent(_Message, frozen=True):
    """A source that the client sends in pieces."""

    nbytes: Nbytes
    shape: tuple[int, ...] | None = None  # of samples; None: it is bytes
    dtype: str | None = None  # type of a sample, as in the array interface


class Stage(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Consecutive operations of one plugin. Attachments are numbers of sources."""

    plugin: str
    operations: msgspec.Raw


class PipelineRequest(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One pipeline of a task."""

    name: str  # "": the only one
    stages: list[Stage]
    to: str | None = None  # URL of the result; None: it is sent to the client


class CallRequest(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A call of a function. Its sources are the arguments that are not in `arguments`."""

    function: str  # import path
    arguments: bytes
    memory_bytes: int | None


class TaskRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One task. Without pipelines and call, it asks for the first bytes of its source."""

    task_id: int  # unique in a session
    sources: list[Fetched | Sent]  # the first one is that of the call; then attachments
    pipelines: list[PipelineRequest] = []
    is_named: bool = False  # whether it is `run_many`
    call: CallRequest | None = None
    head_nbytes: int = 0  # number of first bytes that it asks for
    timeout_s: float | None = None
    queue_timeout_s: float | None = None
    retries: int = 0
    priority: int = 0
    tenant: str | None = None
    memory_limit_bytes: int | None = None
    labels: dict[str, str] = {}
    wants_progress: bool = False
    wants_previews: bool = False
    coalesce: bool = False


# from the client


class Hello(_Message, frozen=True):
    """The first message. It also opens the node's pool if it is closed."""

    versions: dict[str, str]  # versions by distribution, and "messages": the digest of this module's structs
    session: str  # id of the client's pool, for requests that come through the scheduler


class Run(_Message, frozen=True):
    """A task that does not come through the scheduler."""

    request: TaskRequest


class Cancel(_Message, frozen=True):
    """Stop a task. The node answers with `Done`, also if the task has not arrived yet."""

    task_id: int


class Ping(_Message, frozen=True):
    """Sent every second, so that a node notices a client that is cut off."""


# in both directions


class Data(_Message, frozen=True):
    """A piece of a source (to the node) or of a result (to the client)."""

    task_id: int
    number: int  # index of the source, or number of the output
    offset: Nbytes
    data: memoryview


class Credit(_Message, frozen=True):
    """The receiver of a source or a result has room for its bytes up to this offset."""

    task_id: int
    number: int
    upto: Nbytes


# from the node


class Welcome(_Message, frozen=True):
    """The node's pool is open."""

    node: str  # name of the dask worker
    versions: dict[str, str]
    concurrency: int  # maximum number of running tasks
    free_bytes: int  # bytes that admission has left


class Refused(_Message, frozen=True):
    """The node does not work for this client."""

    node: str
    versions: dict[str, str]
    error: bytes | None  # encoded error of the node's pool; None: the versions differ


class ResultHead(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Everything of a result but its bytes."""

    nbytes: Nbytes
    info: dict[str, Any]
    waited_s: float  # seconds between the task's submission in the node's pool and its start
    ran_s: float
    age_s: float  # seconds between the end of the task and this message
    shape: tuple[int, ...] | None = None
    dtype: str | None = None
    url: str | None = None  # where it was written; None: it is sent


class Output(_Message, frozen=True):
    """A result, a preview, or the failure of one pipeline. Its bytes follow when the client grants them."""

    task_id: int
    number: int  # from 0 in each task
    name: str = ""
    is_preview: bool = False
    head: ResultHead | None = None  # None: the pipeline has failed
    data: bytes | None = None  # the bytes, if they are few
    error: bytes | None = None  # encoded error of the pipeline


class Progressed(_Message, frozen=True):
    """Progress of a task, at most five times a second. The fields are those of `offloop.Progress`."""

    task_id: int
    fraction: float
    stage: str
    operation: str
    eta_s: float | None
    waits_for: Literal["worker", "memory"] | None = None
    cost_s: float | None = None


class Done(_Message, frozen=True):
    """The task has ended, and nothing of it is left on the node. It is the last message of each task."""

    task_id: int
    error: bytes | None = None  # encoded error; None: it has succeeded, or was cancelled
    is_cancelled: bool = False


class NodeReport(_Message, frozen=True):
    """State of the node's pool. Sent four times a second while it changes, and every second."""

    running: int
    waiting: int
    free_bytes: int  # bytes that admission has left
    concurrency: int
    statistics: bytes | None = None  # encoded `offloop.Statistics`; not in each report


FromClient: TypeAlias = Hello | Run | Cancel | Ping | Data | Credit
FromNode: TypeAlias = Welcome | Refused | Output | Data | Credit | Progressed | Done | NodeReport
