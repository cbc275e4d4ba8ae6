"""Memory for those who ask: at once where there is room, in turn where there is not.

Running tasks come before new sources, because only they will ever give memory back. Sources are served strictly in order, so
that a large one is not overtaken for ever by small ones. What can never be had is refused with both numbers.
"""

from __future__ import annotations

from collections import OrderedDict

from ..errors import MemoryLimitExceeded
from ..wire.handles import OUTBOX, Handle
from ..wire.messages import Grant
from .arena import INBOX_ID, Arena, Block, Holder, Lease, Reservation
from .commands import Command, FetchPages, ProvideInput, RefuseInput, Send
from .tasks import TaskRecord

__all__ = ["Supply", "caller_lease", "worker_lease"]


def caller_lease(block: Block) -> Lease:
    """The lease of whoever uses a block outside of any task."""
    return Lease(Holder.CALLER, block.generation)


def worker_lease(task: TaskRecord) -> Lease:
    """The lease of the worker that runs the task."""
    return Lease(Holder.WORKER, task.task_id)


class Supply:
    """Who waits for memory, who waits for pages, and who gets the next block."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._inputs: OrderedDict[int, int] = OrderedDict()  # input id -> bytes: waiting for room
        self._fetching: dict[int, int] = {}  # generation -> input id: waiting for pages
        self._needs: OrderedDict[int, tuple[int, int, TaskRecord]] = OrderedDict()  # task id -> slot, outbox, task
        self._granting: dict[int, tuple[int, TaskRecord]] = {}  # generation -> slot, task

    @property
    def waiting_inputs(self) -> int:
        return len(self._inputs)

    @property
    def anyone_waits(self) -> bool:
        """Whether a block that comes back would be of use to somebody at once."""
        return bool(self._inputs or self._needs)

    def request_input(self, input_id: int, nbytes: int) -> list[Command]:
        """Somebody wants a block of the inbox."""
        limit = self._arena.segment_nbytes(INBOX_ID)
        if nbytes > limit:
            error = MemoryLimitExceeded(nbytes, limit, limited_by="the inbox's share of memory_limit")
            return [RefuseInput(input_id, error)]
        self._inputs[input_id] = nbytes
        return self._serve_inputs() if len(self._inputs) == 1 else []

    def abandon_input(self, input_id: int) -> list[Command]:
        """Whoever wanted that block does not want it any more."""
        self._inputs.pop(input_id, None)
        for generation, waiting in tuple(self._fetching.items()):
            if waiting == input_id:
                del self._fetching[generation]
                block = self._arena.get(generation)
                assert block is not None, "a block under reservation is held"
                self._arena.release(block, caller_lease(block))
        return self.serve()

    def request_grant(self, slot: int, outbox_id: int, task: TaskRecord, nbytes: int) -> list[Command]:
        """A running task wants a block of its worker's outbox."""
        if nbytes > self._arena.limit_bytes:
            return [self._refusal(slot, task, nbytes, self._arena.limit_bytes)]
        task.needed_bytes = nbytes
        self._needs[task.task_id] = (slot, outbox_id, task)
        return self._serve_needs()

    def maybe_grant_standing(self, outbox_id: int, nbytes: int) -> Block | None:
        """Memory that a worker may begin any task with: only from pages that are there, else nothing."""
        return self._arena.maybe_allocate_reserved(outbox_id, nbytes, Holder.STANDING, outbox_id)

    def prime(self, outbox_id: int, nbytes: int) -> list[Command]:
        """Fetch pages for a new outbox's first grants, if there is room."""
        cut = self._arena.allocate(outbox_id, nbytes, Holder.CALLER)
        if cut is None:
            return []
        block, reservation = cut
        self._arena.release(block, caller_lease(block))
        return [FetchPages(reservation)] if reservation else []

    def withdraw(self, task: TaskRecord) -> None:
        """The task has ended or its worker is dead: it waits for nothing any more."""
        self._needs.pop(task.task_id, None)
        task.needed_bytes = None

    def pages_reserved(self, reservation: Reservation) -> list[Command]:
        """The pages are there: whoever waited for them gets the block."""
        block = reservation.block
        commands: list[Command] = []
        input_id = self._fetching.pop(block.generation, None)
        if input_id is not None:
            commands.append(ProvideInput(input_id, block))
        granted = self._granting.pop(block.generation, None)
        if granted is not None:
            commands += self._hand_over(block, *granted)
        if self._arena.release(block, Lease(Holder.RESERVATION, block.generation)):
            commands += self.serve()
        return commands

    def pages_refused(self, reservation: Reservation, free_bytes: int) -> list[Command]:
        """The system has no pages: a source waits until a block of ours comes back, a running task is refused."""
        block = reservation.block
        self._arena.undo(reservation, free_bytes)
        self._arena.release(block, Lease(Holder.RESERVATION, block.generation))
        input_id = self._fetching.pop(block.generation, None)
        if input_id is not None:
            self._arena.release(block, caller_lease(block))
            self._inputs[input_id] = block.nbytes
            self._inputs.move_to_end(input_id, last=False)
            return [] if self._arena.used_bytes else [self._refuse_first_input(free_bytes)]
        granted = self._granting.pop(block.generation, None)
        if granted is not None and block in granted[1].granted:
            slot, task = granted
            task.granted.remove(block)
            self._arena.release(block, worker_lease(task))
            return [self._refusal(slot, task, block.nbytes, free_bytes)]
        return []

    def serve(self) -> list[Command]:
        """Memory came back: give it to those who wait."""
        return (self._serve_needs() + self._serve_inputs()) if self.anyone_waits else []

    def refuse_deadlocked(self, running: int) -> list[Command]:
        """If every running task waits for memory and no caller could give any back, refuse the youngest of them."""
        if len(self._needs) < running or not self._needs or self._granting or self._arena.leases[Holder.CALLER]:
            return []
        slot, _, task = self._needs.popitem()[1]
        assert task.needed_bytes is not None
        return [self._refusal(slot, task, task.needed_bytes, self._arena.limit_bytes)]

    def _serve_inputs(self) -> list[Command]:
        commands: list[Command] = []
        while self._inputs:
            input_id, nbytes = next(iter(self._inputs.items()))
            cut = self._arena.allocate(INBOX_ID, nbytes, Holder.CALLER)
            if cut is None:
                break
            self._inputs.popitem(last=False)
            block, reservation = cut
            if reservation is None:
                commands.append(ProvideInput(input_id, block))
            else:
                self._fetching[block.generation] = input_id
                commands.append(FetchPages(reservation))
        return commands

    def _refuse_first_input(self, free_bytes: int) -> Command:
        input_id, nbytes = self._inputs.popitem(last=False)
        return RefuseInput(input_id, MemoryLimitExceeded(nbytes, free_bytes, limited_by="the free space of /dev/shm"))

    def _serve_needs(self) -> list[Command]:
        commands: list[Command] = []
        for slot, outbox_id, task in tuple(self._needs.values()):
            assert task.needed_bytes is not None
            cut = self._arena.allocate(outbox_id, task.needed_bytes, Holder.WORKER, task.task_id)
            if cut is None:
                continue
            del self._needs[task.task_id]
            block, reservation = cut
            task.granted.append(block)
            if reservation is None:
                commands += self._hand_over(block, slot, task)
            else:
                self._granting[block.generation] = (slot, task)
                commands.append(FetchPages(reservation))
        return commands

    def _hand_over(self, block: Block, slot: int, task: TaskRecord) -> list[Command]:
        if task.needed_bytes is None or block not in task.granted:
            return []  # the task ended while its pages were fetched
        nbytes, task.needed_bytes = task.needed_bytes, None
        handle = Handle(OUTBOX, block.offset, nbytes, block.generation)
        return [Send(slot, Grant(task.task_id, handle))]

    def _refusal(self, slot: int, task: TaskRecord, nbytes: int, limit_bytes: int) -> Command:
        task.needed_bytes = None
        task.refused = (nbytes, limit_bytes)
        return Send(slot, Grant(task.task_id, None))
