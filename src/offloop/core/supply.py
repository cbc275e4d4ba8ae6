"""Memory for those who ask: at once where there is room, in turn where there is not.

Running tasks come before new sources, because only they will ever give memory back. Sources are served in order; small ones
pass one for which there is no room, until together they were as much as that: so a large one is not overtaken for ever. What
can never be had is refused with both numbers.

Nobody waits for ever, and nobody is refused, because of an estimate alone: where nothing runs that could give memory back,
sources leave no room for what is expected; where all tasks that run wait for results, one gets it out of its own charge.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import islice
from typing import NamedTuple

from ..errors import MemoryLimitExceeded, PoolClosed
from ..wire.handles import OUTBOX, Handle
from ..wire.messages import Grant
from .arena import INBOX_ID, Arena
from .blocks import Block, Holder, Lease, Reservation, Span
from .budget import Budget
from .commands import Command, FetchPages, GivePagesBack, ProvideInput, RefuseInput, Send
from .tasks import TaskRecord

__all__ = ["Supply", "caller_lease", "worker_lease"]


_LOOK_AT = 16  # sources, whether they may pass the first
_SMALL_SHARE = 1 / 8  # of the first: what may pass it


def caller_lease(block: Block) -> Lease:
    """The lease of whoever uses a block outside of any task."""
    return Lease(Holder.CALLER, block.generation)


def worker_lease(task: TaskRecord) -> Lease:
    """The lease of the worker that runs the task."""
    return Lease(Holder.WORKER, task.task_id)


class _Wish(NamedTuple):
    """What somebody wants of the inbox."""

    nbytes: int
    beside_bytes: int  # memory that its task will need while this is held


class _Need(NamedTuple):
    """A running task that waits for result memory."""

    slot: int
    outbox_id: int
    task: TaskRecord


class Supply:
    """Who waits for memory, who waits for pages, and who gets the next block."""

    def __init__(self, arena: Arena, budget: Budget) -> None:
        self._arena = arena
        self._budget = budget
        self._closed = False
        self.inputs: OrderedDict[int, _Wish] = OrderedDict()
        """Who waits for room in the inbox, by input id; only to be looked at."""
        self._passed = (0, 0)  # the first of them, and how many bytes of others have passed it
        self._fetching: dict[int, tuple[int, _Wish]] = {}  # generation -> input id: waiting for pages
        self.needs: OrderedDict[int, _Need] = OrderedDict()
        """Running tasks that wait for result memory, by task id; only to be looked at."""
        self._granting: dict[int, tuple[_Need, int]] = {}  # generation -> whose pages are fetched, and how much of its charge
        self._priming: set[int] = set()  # outboxes whose pages are being fetched ahead of a grant, or were refused

    @property
    def anyone_waits(self) -> bool:
        """Whether a block that comes back would be of use to somebody at once."""
        return bool(self.inputs or self.needs)

    def request_input(self, input_id: int, nbytes: int, task: TaskRecord | None = None) -> list[Command]:
        """Somebody wants a block of the inbox, for himself or for the source of a task; `serve` gives it."""
        if self._closed:
            return [RefuseInput(input_id, PoolClosed())]
        limit = self._arena.segment_nbytes(INBOX_ID)
        if nbytes > limit:
            error = MemoryLimitExceeded(nbytes, limit, limited_by="the inbox's share of memory_limit")
            return [RefuseInput(input_id, error)]
        self.inputs[input_id] = _Wish(nbytes, 0 if task is None else task.peak_bytes + task.output_bytes)
        return []

    def abandon_input(self, input_id: int) -> None:
        """Whoever wanted that block does not want it any more."""
        self.inputs.pop(input_id, None)
        for generation, (waiting, _) in tuple(self._fetching.items()):
            if waiting == input_id:
                del self._fetching[generation]
                block = self._arena.get(generation)
                assert block is not None, "a block under reservation is held"
                self._arena.release(block, caller_lease(block))

    def close(self) -> list[Command]:
        """Nobody gets anything any more: those who wait are told."""
        self._closed = True
        waiting = [*self.inputs, *(input_id for input_id, _ in self._fetching.values())]
        for input_id in waiting:
            self.abandon_input(input_id)
        return [
            RefuseInput(input_id, PoolClosed("the pool was closed while a source waited for memory")) for input_id in waiting
        ]

    def request_grant(self, slot: int, outbox_id: int, task: TaskRecord, nbytes: int) -> list[Command]:
        """A running task wants a block of its worker's outbox; `serve` gives it."""
        task.needed_bytes = nbytes
        if nbytes > self._arena.limit_bytes:
            error = MemoryLimitExceeded(nbytes, self._arena.limit_bytes)
            return [self._refusal(slot, task, error)]
        self.needs[task.task_id] = _Need(slot, outbox_id, task)
        return []

    def maybe_grant_standing(self, outbox_id: int, nbytes: int) -> Block | None:
        """Memory that a worker may begin any task with: only from pages that are there, and only what sources never need."""
        if not self._may_stand(nbytes):
            return None
        return self._arena.maybe_allocate_reserved(outbox_id, nbytes, Holder.STANDING, outbox_id)

    def trim(self) -> tuple[Span, ...]:
        """Pages that are kept for reuse and must go: the memory is somebody else's now."""
        return self._arena.trim() if self._arena.reserved_bytes > self._arena.ceiling_bytes else ()

    def prime(self, outbox_id: int, nbytes: int) -> list[Command]:
        """Fetch pages for an outbox's next standing grant, if there is room and nobody has to give any back for it."""
        if outbox_id in self._priming or self._arena.unreserved_bytes < nbytes or not self._may_stand(nbytes):
            return []
        cut = self._arena.allocate(outbox_id, nbytes, Holder.CALLER)
        if cut is None:
            return []
        block, reservation = cut
        self._arena.release(block, caller_lease(block))
        if reservation is None:
            return []
        self._priming.add(outbox_id)
        return [FetchPages(reservation)]

    def forget_outbox(self, outbox_id: int) -> None:
        """Its worker is dead."""
        self._priming.discard(outbox_id)

    def _may_stand(self, nbytes: int) -> bool:
        standing = self._arena.leases[Holder.STANDING] * nbytes
        return standing + nbytes <= self._arena.limit_bytes - self._arena.segment_nbytes(INBOX_ID)

    def take_back(self, generations: tuple[int, ...]) -> None:
        """Callers do not look at these blocks any more."""
        for generation in generations:
            block = self._arena.get(generation)
            assert block is not None, "a block is known while its caller holds it"
            self._arena.release(block, caller_lease(block))

    def withdraw(self, task: TaskRecord) -> None:
        """The task is being stopped, has ended, or its worker is dead: it waits for nothing any more."""
        self.needs.pop(task.task_id, None)
        task.needed_bytes = None

    def pages_reserved(self, reservation: Reservation) -> list[Command]:
        """The pages are there: whoever waited for them gets the block."""
        block = reservation.block
        commands: list[Command] = []
        wanted = self._fetching.pop(block.generation, None)
        if wanted is not None:
            commands.append(ProvideInput(wanted[0], block))
        granted = self._granting.pop(block.generation, None)
        if granted is not None:
            commands += self._hand_over(block, granted[0])
        self._priming.discard(block.segment_id)
        self._arena.release(block, Lease(Holder.RESERVATION, block.generation))
        return commands

    def pages_refused(self, reservation: Reservation, free_bytes: int) -> None:
        """The system has no pages: whoever waited for them waits again, now within what the system has."""
        block = reservation.block
        wanted = self._fetching.pop(block.generation, None)
        if wanted is not None:
            self._arena.release(block, caller_lease(block))
            self.inputs = OrderedDict(sorted([*self.inputs.items(), wanted]))  # in the order in which they came
        granted = self._granting.pop(block.generation, None)
        if granted is not None and block in granted[0].task.granted:
            need, counted_bytes = granted
            need.task.granted.remove(block)
            self._arena.release(block, worker_lease(need.task))
            self._budget.turn_into_result(need.task, -counted_bytes)
            if need.task.needed_bytes is not None:
                self.needs[need.task.task_id] = need
        self._arena.release(block, Lease(Holder.RESERVATION, block.generation))
        self._arena.undo(reservation, free_bytes)
        if not self.anyone_waits:
            self._arena.ask_system_again()  # nobody is to be held to an answer that nobody waited for

    def serve(self, running: int, waiting: int) -> list[Command]:
        """Give what there is to those who wait; tell those who could wait for ever that they will not get it.

        Args:
            running: how many tasks workers have. Only they, and callers who hold blocks, can give memory back.
            waiting: how many tasks are yet to run; there may be room once they have.
        """
        nobody_to_wait_for = not running and not waiting
        commands = self._serve_needs()
        if self._all_wait(running):
            commands += self._serve_needs(one_in_any_case=True)
        commands += self._serve_inputs(leave_room=not nobody_to_wait_for)
        while (refusal := self._maybe_refuse(running, waiting)) is not None:
            commands += [refusal, *self._serve_inputs(leave_room=not nobody_to_wait_for)]
        return commands

    def _all_wait(self, running: int) -> bool:
        """Whether every task that runs waits for result memory, and none is about to get it."""
        return bool(self.needs) and len(self.needs) >= running and not self._granting

    def _serve_inputs(self, *, leave_room: bool) -> list[Command]:
        commands: list[Command] = []
        while self.inputs and (served := self._maybe_provide(*next(iter(self.inputs.items())), leave_room)):
            commands.append(served)
        if len(self.inputs) > 1:
            commands += self._let_pass(leave_room=leave_room)
        return commands

    def _let_pass(self, *, leave_room: bool) -> list[Command]:
        """There is no room for the first: what is far smaller passes it, until together it was as much."""
        commands: list[Command] = []
        looked_at = list(islice(self.inputs.items(), _LOOK_AT))
        first_id, first = looked_at[0]
        passed_bytes = self._passed[1] if self._passed[0] == first_id else 0
        for input_id, wish in looked_at[1:]:
            if wish.nbytes <= first.nbytes * _SMALL_SHARE and passed_bytes + wish.nbytes <= first.nbytes:
                served = self._maybe_provide(input_id, wish, leave_room)
                if served is not None:
                    commands.append(served)
                    passed_bytes += wish.nbytes
        self._passed = (first_id, passed_bytes)
        return commands

    def _maybe_provide(self, input_id: int, wish: _Wish, leave_room: bool) -> Command | None:
        leave_bytes = self._budget.to_be_left_bytes(wish.beside_bytes) if leave_room else 0
        cut = self._arena.allocate(INBOX_ID, wish.nbytes, Holder.CALLER, leave_bytes=leave_bytes)
        if cut is None:
            return None
        del self.inputs[input_id]
        block, reservation = cut
        if reservation is None:
            return ProvideInput(input_id, block)
        self._fetching[block.generation] = (input_id, wish)
        return FetchPages(reservation)

    def _serve_needs(self, *, one_in_any_case: bool = False) -> list[Command]:
        """Grant what there is room for, or is in a task's charge; in any case: to one, all that it is charged with."""
        commands: list[Command] = []
        for need in tuple(self.needs.values()):
            task = need.task
            assert task.needed_bytes is not None
            counted = min(task.needed_bytes, self._budget.owed_bytes(task))
            leave_bytes = -task.charged_bytes if one_in_any_case else -counted
            cut = self._arena.allocate(need.outbox_id, task.needed_bytes, Holder.WORKER, task.task_id, leave_bytes=leave_bytes)
            if cut is None:
                continue
            counted = max(counted, self._arena.used_bytes - self._arena.ceiling_bytes)
            self._budget.turn_into_result(task, counted)
            if spans := self.trim():
                commands.append(GivePagesBack(spans))
            del self.needs[task.task_id]
            block, reservation = cut
            task.granted.append(block)
            if reservation is None:
                commands += self._hand_over(block, need)
            else:
                self._granting[block.generation] = (need, counted)
                commands.append(FetchPages(reservation))
            if one_in_any_case:
                break
        return commands

    def _maybe_refuse(self, running: int, waiting: int) -> Command | None:
        """Refuse one who waits, if nothing that anybody holds could ever come back for it."""
        more_room_to_come = self._budget.enforced and (running or waiting)
        if self.inputs and not self._arena.busy_bytes and not more_room_to_come:
            input_id, wish = self.inputs.popitem(last=False)
            return RefuseInput(input_id, self._shortage(wish.nbytes))
        to_come = self._arena.leases[Holder.CALLER] or self._arena.leases[Holder.RESERVATION]
        if self._all_wait(running) and not to_come:
            slot, _, task = self.needs.popitem()[1]  # the one that waits least long
            assert task.needed_bytes is not None
            return self._refusal(slot, task, self._shortage(task.needed_bytes))
        return None

    def _shortage(self, nbytes: int) -> MemoryLimitExceeded:
        """The error, once per refusal of the system: who comes next asks it again, so this ends."""
        error = self._arena.shortage(nbytes)
        self._arena.ask_system_again()
        return error

    @staticmethod
    def _hand_over(block: Block, need: _Need) -> list[Command]:
        task = need.task
        if task.needed_bytes is None or block not in task.granted:
            return []  # the task ended while its pages were fetched
        nbytes, task.needed_bytes = task.needed_bytes, None
        handle = Handle(OUTBOX, block.offset, nbytes, block.generation)
        return [Send(need.slot, Grant(task.task_id, handle))]

    @staticmethod
    def _refusal(slot: int, task: TaskRecord, error: MemoryLimitExceeded) -> Command:
        task.needed_bytes = None
        task.refused = error
        return Send(slot, Grant(task.task_id, None))
