"""Input queue: requests for inbox memory, for a new block, or for more of a block that grows while its stream is received.

A new block is for a caller, or for the copies of a task's sources. The block of a task has the leases of the task and of its
stager: the task may be settled while a thread still writes.

Growing blocks come before new ones, because only a stream that ends releases its memory. New blocks are provided in the order
of their requests. Small requests may pass one for which there is no room, until their sum is as large as that one, so a large
request does not wait for ever.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import islice
from typing import NamedTuple

from ...errors import PoolClosed
from ..model.blocks import Block, Holder, Lease
from ..model.commands import Command, ConfirmGrowth, ProvideInput, ProvideSourceMemory, RefuseInput, ReservePages
from ..model.task_record import TaskRecord
from .arena import INBOX_ID, Arena
from .budget import Budget
from .stall_limit import WaitStart

__all__ = ["Growth", "InputQueue", "InputRequest", "caller_lease"]

_BYPASS_CANDIDATES = 16  # requests that are examined whether they may pass the first one
_BYPASS_SHARE = 1 / 8  # largest size of a request that may pass, as a share of the first one's


def caller_lease(block: Block) -> Lease:
    """The lease of a caller that uses a block outside of any task."""
    return Lease(Holder.CALLER, block.generation)


class InputRequest(NamedTuple):
    """A request for a new block."""

    nbytes: int  # size of the block
    addresses_bytes: int  # size to which it may grow
    task: TaskRecord | None  # the task whose sources go into it; None: it is for a caller
    since: WaitStart  # time of the request


class Growth(NamedTuple):
    """A request for more of a block's own addresses."""

    block: Block
    before_nbytes: int  # its size before
    nbytes: int  # size that it must have
    wanted_nbytes: int  # size that it gets if there is room
    since: WaitStart  # time of the request


class InputQueue:
    """Requests of both kinds, and the ones whose pages are being reserved, by the id of the input or task."""

    def __init__(self, arena: Arena, budget: Budget) -> None:
        self._arena = arena
        self._budget = budget
        self.requests: OrderedDict[int, InputRequest] = OrderedDict()
        """Requests for new blocks. Read only."""
        self.growths: OrderedDict[int, Growth] = OrderedDict()
        """Requests for larger blocks. Read only."""
        self._bypassed = (0, 0)  # id of the first request, and bytes of the requests that have passed it
        # input id and request, by the block's generation; id None: the growth is not wanted any more
        self._reserving: dict[int, tuple[int | None, InputRequest | Growth]] = {}
        self._staging: dict[int, Block] = {}  # blocks that stagers write to, by task id

    @property
    def growing_bytes(self) -> int:
        """Bytes of the blocks that wait for more."""
        return sum(growth.block.nbytes for growth in self.growths.values())

    def cancel(self, input_id: int) -> None:
        """Remove a request, and free its new block. A growing block stays as it is, because its caller releases it."""
        self.requests.pop(input_id, None)
        self.growths.pop(input_id, None)
        for generation, (reserving_id, request) in tuple(self._reserving.items()):
            if reserving_id != input_id:
                continue
            if isinstance(request, Growth):
                self._reserving[generation] = (None, request)  # it is undone if the system refuses the pages
            else:
                del self._reserving[generation]
                block = self._arena.get(generation)
                assert block is not None, "a block under reservation is held"
                self._arena.release(block, _lease_of(request, block))

    def end_staging(self, task_id: int) -> None:
        """The stager of a task does not write any more."""
        block = self._staging.pop(task_id, None)
        if block is not None:
            self._arena.release(block, Lease(Holder.STAGER, task_id))

    def close(self) -> list[Command]:
        """Refuse all requests of callers. Those of tasks end with their tasks."""
        waiting = [input_id for input_id, request in self.requests.items() if request.task is None]
        waiting += self.growths
        for reserving_id, reserving in self._reserving.values():
            if reserving_id is not None and (isinstance(reserving, Growth) or reserving.task is None):
                waiting.append(reserving_id)
        for input_id in waiting:
            self.cancel(input_id)
        error = "the pool was closed while a source waited for memory"
        return [RefuseInput(input_id, PoolClosed(error)) for input_id in waiting]

    def pages_reserved(self, block: Block) -> list[Command]:
        """The pages of a block are reserved: its request is fulfilled."""
        reserving = self._reserving.pop(block.generation, None)
        if reserving is None:
            return []
        input_id, request = reserving
        if input_id is None:
            return []
        return [ConfirmGrowth(input_id) if isinstance(request, Growth) else self._hand_over(input_id, request, block)]

    def pages_refused(self, block: Block) -> None:
        """The system has refused the pages of a block: its request waits again, at its old place."""
        reserving = self._reserving.pop(block.generation, None)
        if reserving is None:
            return
        input_id, request = reserving
        if isinstance(request, Growth):
            self._arena.cut(block, request.before_nbytes)
            if input_id is not None:
                self.growths[input_id] = request
                self.growths.move_to_end(input_id, last=False)
            return
        assert input_id is not None
        self._arena.release(block, _lease_of(request, block))
        self.requests[input_id] = request
        for waiting in sorted(self.requests):
            self.requests.move_to_end(waiting)

    def allocate_waiting(self, *, leave_room: bool) -> list[Command]:
        """Allocate memory for the requests, as far as there is room.

        Args:
            leave_room: whether sources must leave memory for admitted tasks. They also must as soon as one task has its
                sources, because that one will run.
        """
        commands: list[Command] = []
        while self.growths and (grown := self._grow(*next(iter(self.growths.items())), leave_room)):
            commands += grown
        if self.growths:
            first_id, growing = next(iter(self.growths.items()))
            return commands + self._bypass_small(first_id, growing.nbytes, leave_room)
        while self.requests and (provided := self._provide(*next(iter(self.requests.items())), leave_room)):
            commands += provided
        if len(self.requests) > 1:
            first_id, first = next(iter(self.requests.items()))
            commands += self._bypass_small(first_id, first.nbytes, leave_room)
        return commands

    def _grow(self, input_id: int, growth: Growth, leave_room: bool) -> list[Command]:
        leave_bytes = self._headroom(0, leave_room)
        reservations = None
        if len(self.growths) == 1 and not self.requests:
            reservations = self._arena.extend(growth.block, growth.wanted_nbytes, leave_bytes=leave_bytes)
        if reservations is None:
            reservations = self._arena.extend(growth.block, growth.nbytes, leave_bytes=leave_bytes)
        if reservations is None:
            return []
        del self.growths[input_id]
        if not reservations:
            return [ConfirmGrowth(input_id)]
        self._reserving[growth.block.generation] = (input_id, growth)
        return [ReservePages(reservation) for reservation in reservations]

    def _bypass_small(self, first_id: int, first_nbytes: int, leave_room: bool) -> list[Command]:
        """Provide far smaller requests while there is no room for the first one, until their sum is as large as that one."""
        commands: list[Command] = []
        passed_bytes = self._bypassed[1] if self._bypassed[0] == first_id else 0
        for input_id, request in list(islice(self.requests.items(), _BYPASS_CANDIDATES)):
            small = request.nbytes <= first_nbytes * _BYPASS_SHARE and passed_bytes + request.nbytes <= first_nbytes
            if input_id != first_id and small and (provided := self._provide(input_id, request, leave_room)):
                commands += provided
                passed_bytes += request.nbytes
        self._bypassed = (first_id, passed_bytes)
        return commands

    def _provide(self, input_id: int, request: InputRequest, leave_room: bool) -> list[Command]:
        task = request.task
        beside_bytes = 0 if task is None else task.peak_bytes + task.output_bytes + task.copy_bytes
        allocated = self._arena.allocate(
            INBOX_ID,
            request.nbytes,
            Holder.CALLER if task is None else Holder.TASK,
            None if task is None else task.task_id,
            leave_bytes=self._headroom(beside_bytes, leave_room),
            addresses_bytes=request.addresses_bytes,
        )
        if allocated is None:
            return []
        del self.requests[input_id]
        block, reservation = allocated
        if reservation is None:
            return [self._hand_over(input_id, request, block)]
        self._reserving[block.generation] = (input_id, request)
        return [ReservePages(reservation)]

    def _headroom(self, beside_bytes: int, leave_room: bool) -> int:
        """Bytes that a request must leave free; `beside_bytes` are what its own task needs beside it."""
        staged = self._arena.leases[Holder.TASK]
        return self._budget.headroom_for_admitted(beside_bytes, staged) if leave_room or staged else 0

    def _hand_over(self, input_id: int, request: InputRequest, block: Block) -> Command:
        """Give a block with all pages to its caller, or to the stager of its task."""
        task = request.task
        if task is None:
            return ProvideInput(input_id, block)
        task.source_blocks = (block,)
        self._staging[task.task_id] = block
        self._arena.acquire(block, Lease(Holder.STAGER, task.task_id))
        return ProvideSourceMemory(task.task_id, block)


def _lease_of(request: InputRequest, block: Block) -> Lease:
    return caller_lease(block) if request.task is None else Lease(Holder.TASK, request.task.task_id)
