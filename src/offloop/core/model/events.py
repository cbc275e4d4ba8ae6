"""What happened: facts, in the past tense, that the host tells the core."""

from __future__ import annotations

import msgspec

from ...errors import OffloopError
from ...wire.messages import FromWorker
from ...wire.status import Status
from .blocks import Reservation
from .task import TaskSpec

__all__ = [
    "AbandonedWorkerExited",
    "BlocksReturned",
    "CloseRequested",
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
    "SourceHashed",
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
    """The pool is being left: nothing new is taken, what is held ends."""


class DrainRequested(_Event, frozen=True):
    """Nothing new is to be taken; what is held goes on."""


class ResizeRequested(_Event, frozen=True):
    """From now on so many tasks may run at once."""

    workers: int


class TimePassed(_Event, frozen=True):
    """It is at least as late as the core wanted to be woken."""


class TaskSubmitted(_Event, frozen=True):
    """A caller has a task."""

    task_id: int
    spec: TaskSpec  # complete, if the source is staged
    nbytes: int = 0  # length of the source, where that is known beforehand
    staged: bool = True  # the source lies where a worker can read it; False: `TaskStaged` follows


class TaskEstimated(_Event, frozen=True):
    """The header of the task's source was read, and its plugins were asked. The source itself is still on its way."""

    task_id: int
    spec: TaskSpec  # complete, but for where the source will lie
    nbytes: int  # of the source


class TaskStaged(_Event, frozen=True):
    """The task's source lies where a worker can read it."""

    task_id: int
    spec: TaskSpec


class StagingFailed(_Event, frozen=True):
    """The task's source could not be prepared."""

    task_id: int
    error: OffloopError


class SourceHashed(_Event, frozen=True):
    """Its source was read, and this is its digest; None if it could not be."""

    task_id: int
    digest: bytes | None


class TaskCancelled(_Event, frozen=True):
    """Its caller does not want it any more."""

    task_id: int


class OutputOpened(_Event, frozen=True):
    """The file was opened that `OpenOutput` asked for, or could not be."""

    slot: int
    task_id: int
    dispatch: int  # as in the command
    error: OffloopError | None = None


class InputRequested(_Event, frozen=True):
    """Somebody wants memory of the inbox."""

    input_id: int
    nbytes: int
    task_id: int | None = None  # that it is the source of; None: it is a caller's own
    addresses_bytes: int = 0  # that the block may grow to


class GrowthRequested(_Event, frozen=True):
    """A stream needs more of its block's addresses. One request at a time for each block."""

    input_id: int
    generation: int
    nbytes: int  # that the block must have
    wanted_nbytes: int  # that it should have where nobody else waits


class InputCompleted(_Event, frozen=True):
    """A stream has ended: its block needs no more than so many bytes."""

    generation: int
    nbytes: int


class InputCancelled(_Event, frozen=True):
    """Whoever wanted memory of the inbox has left before getting it."""

    input_id: int


class BlocksReturned(_Event, frozen=True):
    """The last views of these blocks are gone, or their caller has no more use for them."""

    generations: tuple[int, ...]


class PagesReserved(_Event, frozen=True):
    """A reservation was carried out."""

    reservation: Reservation


class PagesRefused(_Event, frozen=True):
    """The system did not give the pages of a reservation; none of them is there."""

    reservation: Reservation
    free_bytes: int  # what the file system behind shared memory has left


class PressureMeasured(_Event, frozen=True):
    """The machine's memory was looked at."""

    available_share: float  # that could be had without swapping, of all that there is
    stalled_share: float  # of the last ten seconds, in which a process waited for memory; 0 where the kernel does not say


class WorkerSpawned(_Event, frozen=True):
    """There is a worker in the slot now."""

    slot: int
    pid: int | None  # None: it is no process, but something that plays one


class WorkerReported(_Event, frozen=True):
    """A message came from a worker, and it decoded."""

    slot: int
    message: FromWorker


class WorkerViolatedProtocol(_Event, frozen=True):
    """A worker broke the protocol."""

    slot: int
    reason: str


class WorkerDisconnected(_Event, frozen=True):
    """A worker's channel is at its end."""

    slot: int


class WorkerExited(_Event, frozen=True):
    """A worker is dead by waitid's word, or could never be started."""

    slot: int
    exit_code: int | None  # negative: the signal; None: there was no process
    reason: str | None = None  # why there was no process
    status: Status | None = None  # the last that it noted of its work
    stderr_tail: str = ""
    last_words: tuple[FromWorker, ...] = ()  # messages that it had sent and nobody had read when it died


class WorkerAbandoned(_Event, frozen=True):
    """A worker was killed and is not dead: the host tells its slot nothing more, and waits for its end in the background."""

    slot: int
    status: Status | None = None  # the last that it noted of its work
    stderr_tail: str = ""


class AbandonedWorkerExited(_Event, frozen=True):
    """An abandoned worker is dead by waitid's word."""

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
    | TaskCancelled
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
    | WorkerViolatedProtocol
    | WorkerDisconnected
    | WorkerExited
    | WorkerAbandoned
    | AbandonedWorkerExited
)
