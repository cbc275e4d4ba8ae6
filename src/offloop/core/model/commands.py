"""What is to be done: imperatives, in the order in which the host must carry them out."""

from __future__ import annotations

import msgspec

from ...errors import OffloopError
from ...wire.handles import Handle
from ...wire.messages import FromSupervisor
from .blocks import Block, Reservation, Span
from .task import Completed

__all__ = [
    "AbandonWorker",
    "AnnounceOpening",
    "Command",
    "ConfirmGrowth",
    "DropOutbox",
    "HashSource",
    "KillWorker",
    "OpenOutput",
    "ProvideInput",
    "RefuseInput",
    "ReleasePages",
    "ReservePages",
    "RestageSource",
    "Send",
    "SendFile",
    "SettleTask",
    "StartWorker",
]


class _Command(msgspec.Struct, frozen=True):
    pass


class StartWorker(_Command, frozen=True):
    """Start a process for the slot, with a new outbox; it ends with `WorkerReaped`, whatever happens."""

    slot: int
    outbox_id: int
    outbox_nbytes: int
    helper: bool = False  # it is for small tasks beside large ones, and to have more of a CPU than those
    plugins: tuple[str, ...] = ()  # names of the plugins to load, in this order


class Send(_Command, frozen=True):
    """Send the message to the worker in the slot."""

    slot: int
    message: FromSupervisor


class OpenOutput(_Command, frozen=True):
    """Open the file that the task's result goes into, and answer `OutputOpened`."""

    slot: int
    task_id: int
    dispatch: int  # the number of the task's dispatch: a worker that died may have asked before


class SendFile(_Command, frozen=True):
    """Send the worker in the slot the message `File`, with the descriptor of the file that was opened for the task. Where the
    system does not pass it, answer `OutputOpened` once more, with the error."""

    slot: int
    task_id: int
    dispatch: int  # as in `OpenOutput`


class KillWorker(_Command, frozen=True):
    """SIGKILL, now. A no-op if it is dead already."""

    slot: int


class AbandonWorker(_Command, frozen=True):
    """The worker in the slot was killed and is not dead in time. Answer `WorkerAbandoned` now, and `AbandonedWorkerExited` once
    it is dead."""

    slot: int


class DropOutbox(_Command, frozen=True):
    """A dead worker's outbox is not used again: give these spans' pages back and forget the segment."""

    outbox_id: int
    spans: tuple[Span, ...]


class ReleasePages(_Command, frozen=True):
    """Nobody uses the pages of these spans: give them back, in the order in which such commands came."""

    spans: tuple[Span, ...]


class ReservePages(_Command, frozen=True):
    """Carry out the reservation, in the order in which such commands came; answer PagesReserved or PagesRefused."""

    reservation: Reservation


class HashSource(_Command, frozen=True):
    """Read the task's source in the inbox and answer with its digest: `SourceIdentified`."""

    task_id: int
    source: Handle


class ProvideInput(_Command, frozen=True):
    """The block is the requester's, and its pages are there."""

    input_id: int
    block: Block


class ConfirmGrowth(_Command, frozen=True):
    """The block of a stream has the memory that was asked for, with its pages."""

    input_id: int


class RestageSource(_Command, frozen=True):
    """The task's source had to make way for a running task's result: bring it in again, as if it had never been."""

    task_id: int


class RefuseInput(_Command, frozen=True):
    """There will be no such block."""

    input_id: int
    error: OffloopError


class SettleTask(_Command, frozen=True):
    """This is the task's one outcome."""

    task_id: int
    outcome: Completed | OffloopError | None  # None: cancelled by its caller


class AnnounceOpening(_Command, frozen=True):
    """Every worker has had its first start; with an error if none came of it."""

    error: OffloopError | None


Command = (
    StartWorker
    | Send
    | SendFile
    | OpenOutput
    | KillWorker
    | AbandonWorker
    | DropOutbox
    | ReservePages
    | ReleasePages
    | HashSource
    | ProvideInput
    | ConfirmGrowth
    | RefuseInput
    | SettleTask
    | RestageSource
    | AnnounceOpening
)
