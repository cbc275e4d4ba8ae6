"""Commands of the core: imperatives, in the order in which the runtime must carry them out."""

from __future__ import annotations

import msgspec

from ...errors import OffloopError
from ...operation import DEFAULT_GROUP
from ...wire.handles import EncodedAt, Handle, RasterAt
from ...wire.messages import FromSupervisor
from .blocks import Block, Reservation, Span
from .task import Completed, FailedOutput, TaskOutput

__all__ = [
    "AbandonWorker",
    "AnnounceOpening",
    "Command",
    "ConfirmGrowth",
    "DeliverOutput",
    "DeliverSources",
    "DropOutbox",
    "HashSource",
    "KillWorker",
    "OpenOutput",
    "ProvideInput",
    "ProvideSourceMemory",
    "RefuseInput",
    "ReleaseInbox",
    "ReleasePages",
    "ReservePages",
    "RestageSource",
    "Send",
    "SendFile",
    "SettleTask",
    "StartWorker",
    "StopDelivery",
    "WithdrawRuns",
]


class _Command(msgspec.Struct, frozen=True):
    pass


class StartWorker(_Command, frozen=True):
    """Start a process for the slot, with a new outbox. `WorkerExited` follows in every case, unless the worker is abandoned."""

    slot: int
    outbox_id: int
    outbox_nbytes: int
    group: str = DEFAULT_GROUP  # name of the slot's worker group
    plugins: tuple[str, ...] = ()  # names of the plugins to load, in this order


class Send(_Command, frozen=True):
    """Send the message to the worker in the slot."""

    slot: int
    message: FromSupervisor


class WithdrawRuns(_Command, frozen=True):
    """Withdraw `Run` messages that the worker in the slot has not begun, and answer `RunsWithdrawn`."""

    slot: int
    outbox_id: int
    first: int  # number of the first one
    last: int  # number of the last one


class DeliverSources(_Command, frozen=True):
    """Copy or read the task's sources into the own inbox of the worker in the slot, in a thread. Answer `SourcesDelivered` when
    the thread has ended, also if the delivery was stopped. The task is sent with a `Run` after that."""

    slot: int
    delivery_id: int
    task_id: int
    sources: tuple[EncodedAt | RasterAt, ...]


class StopDelivery(_Command, frozen=True):
    """The worker in the slot does not get the task of this delivery. A no-op if its thread has ended."""

    slot: int
    delivery_id: int


class OpenOutput(_Command, frozen=True):
    """Open the output file of the task, and answer `OutputOpened`."""

    slot: int
    task_id: int
    dispatch: int  # number of the task's dispatch, because a worker that died may have sent the same request


class SendFile(_Command, frozen=True):
    """Send the worker in the slot the message `File`, with the descriptor of the task's output file. If the system does not
    pass the descriptor, answer `OutputOpened` once more, with the error."""

    slot: int
    task_id: int
    dispatch: int  # number of the task's dispatch


class KillWorker(_Command, frozen=True):
    """Send SIGKILL to the worker in the slot. A no-op if it is dead."""

    slot: int


class AbandonWorker(_Command, frozen=True):
    """Give up a killed worker that did not exit in time. Answer `WorkerAbandoned` now, and `AbandonedWorkerExited` after its
    exit."""

    slot: int


class DropOutbox(_Command, frozen=True):
    """Release the pages of these spans and drop the segment, because the worker of this outbox is dead."""

    outbox_id: int
    spans: tuple[Span, ...]


class ReleasePages(_Command, frozen=True):
    """Release the pages of these unused spans, in the order of the page commands."""

    spans: tuple[Span, ...]


class ReleaseInbox(_Command, frozen=True):
    """Release the pages of a worker's own inbox that it keeps for large sources and that no task uses."""

    slot: int


class ReservePages(_Command, frozen=True):
    """Carry out the reservation, in the order of the page commands. Answer `PagesReserved` or `PagesRefused`."""

    reservation: Reservation


class HashSource(_Command, frozen=True):
    """Hash the task's sources in the inbox or in the caller's memory. Answer `SourceHashed`."""

    task_id: int
    sources: tuple[Handle, ...]  # those of at least one byte, in the order of the task's sources


class ProvideInput(_Command, frozen=True):
    """Give the block, with all pages reserved, to its requester."""

    input_id: int
    block: Block


class ProvideSourceMemory(_Command, frozen=True):
    """Give the block, with all pages reserved, to the stager of the task. Answer `TaskStaged` or `StagingFailed`, also if the
    task is settled before."""

    task_id: int
    block: Block


class ConfirmGrowth(_Command, frozen=True):
    """Tell the requester that its block has grown and its pages are reserved."""

    input_id: int


class RestageSource(_Command, frozen=True):
    """Stage the task's sources again, because their memory was given to a running task's result."""

    task_id: int


class RefuseInput(_Command, frozen=True):
    """Give the error to the requester of a block, instead of the block."""

    input_id: int
    error: OffloopError


class DeliverOutput(_Command, frozen=True):
    """Give an output of an unsettled task, or its failure, to the caller."""

    task_id: int
    output: TaskOutput | FailedOutput


class SettleTask(_Command, frozen=True):
    """Give the task its one outcome."""

    task_id: int
    outcome: Completed | OffloopError | None  # None: cancelled by its caller


class AnnounceOpening(_Command, frozen=True):
    """Finish the opening of the pool, after the first start of every worker. `error`: none of them became ready."""

    error: OffloopError | None


Command = (
    StartWorker
    | Send
    | DeliverSources
    | StopDelivery
    | WithdrawRuns
    | SendFile
    | OpenOutput
    | KillWorker
    | AbandonWorker
    | DropOutbox
    | ReleaseInbox
    | ReservePages
    | ReleasePages
    | HashSource
    | ProvideInput
    | ProvideSourceMemory
    | ConfirmGrowth
    | RefuseInput
    | DeliverOutput
    | SettleTask
    | RestageSource
    | AnnounceOpening
)
