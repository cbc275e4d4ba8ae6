"""Callers that wait for memory of the inbox: for a new block, or for more of a block that grows while its stream is received.

Growing blocks come before new ones, because only a stream that ends will ever give its memory back. New blocks are given in the
order in which they were asked for; small ones pass one for which there is no room, until together they were as much as
that, so a large one is not overtaken for ever.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import islice
from typing import NamedTuple

from ...errors import PoolClosed
from ..model.blocks import Block, Holder, Lease
from ..model.commands import Command, ConfirmGrowth, ProvideInput, RefuseInput, ReservePages
from .arena import INBOX_ID, Arena
from .budget import Budget

__all__ = ["Growth", "InputQueue", "InputRequest", "caller_lease"]

_BYPASS_CANDIDATES = 16  # requests, whether they may pass the first
_BYPASS_SHARE = 1 / 8  # of the first: what may pass it


def caller_lease(block: Block) -> Lease:
    """The lease of a caller that uses a block outside of any task."""
    return Lease(Holder.CALLER, block.generation)


class InputRequest(NamedTuple):
    """A new block that is asked for."""

    nbytes: int
    addresses_bytes: int  # that it may grow to
    beside_bytes: int  # memory that its task will need while this is held
    since: float


class Growth(NamedTuple):
    """A block that is to have more of its own addresses."""

    block: Block
    before_nbytes: int
    nbytes: int  # that it must have
    wanted_nbytes: int  # that it should have where there is room
    since: float


class InputQueue:
    """Both kinds of requests, and those whose pages are being reserved. Requests are known by their input id."""

    def __init__(self, arena: Arena, budget: Budget) -> None:
        self._arena = arena
        self._budget = budget
        self.requests: OrderedDict[int, InputRequest] = OrderedDict()
        """New blocks that are waited for; only to be looked at."""
        self.growths: OrderedDict[int, Growth] = OrderedDict()
        """Blocks that wait for more memory; only to be looked at."""
        self._bypassed = (0, 0)  # the first request, and how many bytes of others have passed it
        self._reserving: dict[int, tuple[int, InputRequest | Growth]] = {}  # by the generation of the block

    @property
    def growing_bytes(self) -> int:
        """What the blocks have that wait for more."""
        return sum(growth.block.nbytes for growth in self.growths.values())

    def abandon(self, input_id: int) -> None:
        """The caller has left: its new block is free again. A growing block stays as it is, because the caller returns it."""
        self.requests.pop(input_id, None)
        self.growths.pop(input_id, None)
        for generation, (waiting, wanted) in tuple(self._reserving.items()):
            if waiting == input_id:
                del self._reserving[generation]
                if isinstance(wanted, InputRequest):
                    block = self._arena.get(generation)
                    assert block is not None, "a block under reservation is held"
                    self._arena.release(block, caller_lease(block))

    def close(self) -> list[Command]:
        """No request will be served any more."""
        waiting = [*self.requests, *self.growths, *(input_id for input_id, _ in self._reserving.values())]
        for input_id in waiting:
            self.abandon(input_id)
        error = "the pool was closed while a source waited for memory"
        return [RefuseInput(input_id, PoolClosed(error)) for input_id in waiting]

    def pages_reserved(self, block: Block) -> list[Command]:
        """The pages that were missing are there."""
        wanted = self._reserving.pop(block.generation, None)
        if wanted is None:
            return []
        input_id, request = wanted
        return [ConfirmGrowth(input_id) if isinstance(request, Growth) else ProvideInput(input_id, block)]

    def pages_refused(self, block: Block) -> None:
        """The system has no pages: the request waits again, in the order in which they came."""
        wanted = self._reserving.pop(block.generation, None)
        if wanted is None:
            return
        input_id, request = wanted
        if isinstance(request, Growth):
            self._arena.cut(block, request.before_nbytes)
            self.growths[input_id] = request
            self.growths.move_to_end(input_id, last=False)
            return
        self._arena.release(block, caller_lease(block))
        self.requests[input_id] = request
        for waiting in sorted(self.requests):
            self.requests.move_to_end(waiting)

    def allocate_waiting(self, *, leave_room: bool) -> list[Command]:
        """Give what there is; `leave_room` to what tasks are expected to need."""
        commands: list[Command] = []
        while self.growths and (served := self._grow(*next(iter(self.growths.items())), leave_room)):
            commands += served
        if self.growths:
            first_id, growing = next(iter(self.growths.items()))
            return commands + self._bypass_small(first_id, growing.nbytes, leave_room)
        while self.requests and (served := self._provide(*next(iter(self.requests.items())), leave_room)):
            commands += served
        if len(self.requests) > 1:
            first_id, first = next(iter(self.requests.items()))
            commands += self._bypass_small(first_id, first.nbytes, leave_room)
        return commands

    def _grow(self, input_id: int, growth: Growth, leave_room: bool) -> list[Command]:
        leave_bytes = self._budget.headroom_for_admitted(0) if leave_room else 0
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
        """There is no room for the first: what is far smaller passes it, until together it was as much."""
        commands: list[Command] = []
        passed_bytes = self._bypassed[1] if self._bypassed[0] == first_id else 0
        for input_id, request in list(islice(self.requests.items(), _BYPASS_CANDIDATES)):
            small = request.nbytes <= first_nbytes * _BYPASS_SHARE and passed_bytes + request.nbytes <= first_nbytes
            if input_id != first_id and small and (served := self._provide(input_id, request, leave_room)):
                commands += served
                passed_bytes += request.nbytes
        self._bypassed = (first_id, passed_bytes)
        return commands

    def _provide(self, input_id: int, request: InputRequest, leave_room: bool) -> list[Command]:
        leave_bytes = self._budget.headroom_for_admitted(request.beside_bytes) if leave_room else 0
        cut = self._arena.allocate(
            INBOX_ID,
            request.nbytes,
            Holder.CALLER,
            leave_bytes=leave_bytes,
            addresses_bytes=request.addresses_bytes,
        )
        if cut is None:
            return []
        del self.requests[input_id]
        block, reservation = cut
        if reservation is None:
            return [ProvideInput(input_id, block)]
        self._reserving[block.generation] = (input_id, request)
        return [ReservePages(reservation)]
