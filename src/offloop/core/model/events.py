"""Events for the core: facts in the past tense, reported by the runtime."""

from __future__ import annotations

import msgspec

from ...errors import OffloopError
from ...operation import DEFAULT_GROUP
from ...wire.messages import Done, Failed, FromWorker
from ...wire.status import Status
from .blocks import Reservation
from .task import TaskSpec

__all__ = [
    "AbandonedWorkerExited",
    "BlocksReturned",
    "CloseRequested",
    "CreditGranted",
    "DrainRequested",
    "Event",
    "GrowthRequested",
    "InputCancelled",
    "InputCompleted",
    "InputRequested",
    "OutputOpened",
    "PagesRefused",
    "PagesReserved",
    "PoolStarted",
    "PressureMeasured",
    "ResizeRequested",
    "RunsWithdrawn",
    "SourceHashed",
    "SourceMemoryRequested",
    "SourcesDelivered",
    "StagingFailed",
    "TaskCancelled",
    "TaskEstimated",
    "TaskStaged",
    "TaskSubmitted",
    "TimePassed",
    "WorkerAbandoned",
    "WorkerDisconnected",
    "WorkerExited",
    "WorkerReported",
    "WorkerSpawned",
    "WorkerViolatedProtocol",
]


class _Event(msgspec.Struct, frozen=True):
    pass


class PoolStarted(_Event, frozen=True):
    """The pool was entered."""


class CloseRequested(_Event, frozen=True):
    """The pool is to close: new tasks are refused, and unsettled tasks end."""


class DrainRequested(_Event, frozen=True):
    """The pool is to drain: new tasks are refused, and unsettled tasks go on."""


class ResizeRequested(_Event, frozen=True):
    """The number of tasks that may run at once in a worker group was changed to `workers`."""

    workers: int
    group: str = DEFAULT_GROUP


class TimePassed(_Event, frozen=True):
    """The time `PoolState.wake_at` was reached."""


class TaskSubmitted(_Event, frozen=True):
    """A caller submitted a task."""

    task_id: int
    spec: TaskSpec  # complete if the sources are staged
    nbytes: int = 0  # length of the sources together; 0: not known yet
    staged: bool = True  # whether a worker can read the sources; False: `TaskStaged` or `StagingFailed` follows
    copy_nbytes: int = 0  # length of the block for copies of the sources; 0: not known yet, or there are none


class TaskEstimated(_Event, frozen=True):
    """The headers of the task's sources were read and its plugins gave an estimate. The sources are not staged yet."""

    task_id: int
    spec: TaskSpec  # complete except the locations of the sources
    nbytes: int  # length of the sources together
    copy_nbytes: int = 0  # length of the block for copies of the sources; 0: there are none


class SourceMemoryRequested(_Event, frozen=True):
    """The stager of a task requested the block for copies of the sources."""

    task_id: int
    nbytes: int  # length of the block


class TaskStaged(_Event, frozen=True):
    """The task's sources were staged: a worker can read them."""

    task_id: int
    spec: TaskSpec


class StagingFailed(_Event, frozen=True):
    """A source of the task could not be staged, or the staging was interrupted."""

    task_id: int
    error: OffloopError | None  # None: it was interrupted, because the caller leaves; `TaskCancelled` follows


class SourceHashed(_Event, frozen=True):
    """The task's sources were hashed. `digest` is None if one of them could not be read."""

    task_id: int
    digest: bytes | None


class SourcesDelivered(_Event, frozen=True):
    """A delivery has ended: the task's sources are in the inbox of its worker, unless there is an error or it was stopped."""

    delivery_id: int
    error: OffloopError | None = None  # outcome of the task: a source could not be copied or read


class TaskCancelled(_Event, frozen=True):
    """The caller cancelled the task."""

    task_id: int


class CreditGranted(_Event, frozen=True):
    """The receiver of a task's outputs has room for more of them."""

    task_id: int
    outputs: int  # number of outputs that the task may hand over before its end, counted from its start


class OutputOpened(_Event, frozen=True):
    """The file of an `OpenOutput` was opened. `error`: it could not be opened, or not be sent."""

    slot: int
    task_id: int
    dispatch: int  # number of the task's dispatch, from the command
    error: OffloopError | None = None


class InputRequested(_Event, frozen=True):
    """A caller requested a block of the inbox."""

    input_id: int
    nbytes: int
    addresses_bytes: int = 0  # maximum length of the block in bytes; 0: it does not grow


class GrowthRequested(_Event, frozen=True):
    """A stream requested more pages for its block. Each block has at most one request at a time."""

    input_id: int
    generation: int
    nbytes: int  # length that the block must have, in bytes
    wanted_nbytes: int  # length that the block gets if no other request waits, in bytes


class InputCompleted(_Event, frozen=True):
    """A stream ended: its block needs only `nbytes`."""

    generation: int
    nbytes: int


class InputCancelled(_Event, frozen=True):
    """The requester of inbox memory left before it was provided."""

    input_id: int


class BlocksReturned(_Event, frozen=True):
    """The callers returned these blocks, or their last views were released."""

    generations: tuple[int, ...]


class PagesReserved(_Event, frozen=True):
    """A reservation was carried out."""

    reservation: Reservation


class PagesRefused(_Event, frozen=True):
    """The system refused the pages of a reservation; none of them is reserved."""

    reservation: Reservation
    free_bytes: int  # free bytes of the file system behind shared memory


class PressureMeasured(_Event, frozen=True):
    """The memory pressure of the machine was measured."""

    available_share: float  # share of all memory that is available without swapping, 0 to 1
    stalled_share: float  # share of the last ten seconds in which a process waited for memory; 0 if unknown


class WorkerSpawned(_Event, frozen=True):
    """The process of the slot's worker was started."""

    slot: int
    pid: int | None  # None: a test double without a process


class WorkerReported(_Event, frozen=True):
    """A message from a worker was received and decoded."""

    slot: int
    message: FromWorker
    more: tuple[Done | Failed, ...] = ()  # answers that came in the same read after the message


class RunsWithdrawn(_Event, frozen=True):
    """The answer to `WithdrawRuns`."""

    slot: int
    outbox_id: int
    kept_to: int  # number of the last `Run` that was not withdrawn, because the worker has begun it, or it was not to be


class WorkerViolatedProtocol(_Event, frozen=True):
    """A worker broke the protocol."""

    slot: int
    reason: str


class WorkerDisconnected(_Event, frozen=True):
    """The channel of a worker reached end of file."""

    slot: int


class WorkerExited(_Event, frozen=True):
    """`waitid` reported the exit of a worker, or its process could not be started."""

    slot: int
    exit_code: int | None  # negative: number of the signal; None: there was no process
    reason: str | None = None  # reason why there was no process
    status: Status | None = None  # last contents of its status page
    stderr_tail: str = ""
    last_words: tuple[FromWorker, ...] = ()  # messages that were unread when it died


class WorkerAbandoned(_Event, frozen=True):
    """A killed worker was given up. The runtime sends no more events for its slot, and awaits its exit in the background."""

    slot: int
    status: Status | None = None  # last contents of its status page
    stderr_tail: str = ""


class AbandonedWorkerExited(_Event, frozen=True):
    """`waitid` reported the exit of an abandoned worker."""

    outbox_id: int


Event = (
    PoolStarted
    | CloseRequested
    | DrainRequested
    | ResizeRequested
    | TimePassed
    | TaskSubmitted
    | TaskEstimated
    | TaskStaged
    | StagingFailed
    | SourceHashed
    | SourceMemoryRequested
    | SourcesDelivered
    | TaskCancelled
    | CreditGranted
    | OutputOpened
    | InputRequested
    | GrowthRequested
    | InputCompleted
    | InputCancelled
    | BlocksReturned
    | PagesReserved
    | PagesRefused
    | PressureMeasured
    | WorkerSpawned
    | WorkerReported
    | RunsWithdrawn
    | WorkerViolatedProtocol
    | WorkerDisconnected
    | WorkerExited
    | WorkerAbandoned
    | AbandonedWorkerExited
)
