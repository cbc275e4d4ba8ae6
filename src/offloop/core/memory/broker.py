"""The memory broker: result memory for running tasks, and memory of the inbox for sources, at once or in turn.

Running tasks come before sources, because only they will ever give memory back. A wait for memory ends in one of three ways:

- there is memory;
- it can be known that there never will be: nothing that tasks or callers hold could come back (an error at once, with numbers);
- only callers could give memory back (results that they keep, buffers, streams that have stopped), and they have given none for
  `MEMORY_WAIT_S` seconds: an error that names what they hold.

No task is refused because of an estimate alone: where nothing runs that could give memory back, sources leave no room for what
is expected; where all tasks that run wait for results, one gets it out of its own charge, or beyond the charges of others.
"""

from __future__ import annotations

from collections import OrderedDict
from math import inf
from typing import NamedTuple

from ...errors import MemoryLimitExceeded, PoolClosed
from ...wire.handles import OUTBOX, Handle
from ...wire.messages import Grant
from ..model.blocks import Block, Holder, Lease, Reservation, Span
from ..model.commands import Command, RefuseInput, ReleasePages, ReservePages, Send
from ..model.task import TaskRecord
from .arena import INBOX_ID, Arena
from .budget import Budget
from .input_queue import Growth, InputQueue, InputRequest, caller_lease
from .stall_limit import MEMORY_WAIT_S, StallLimit

__all__ = ["MemoryBroker", "worker_lease"]

_ASK_SYSTEM_AGAIN_S = 1.0  # after it had no pages: others may have given some back


def worker_lease(task: TaskRecord) -> Lease:
    """The lease of the worker that runs the task."""
    return Lease(Holder.WORKER, task.task_id)


class _OutputRequest(NamedTuple):
    """A running task that waits for result memory."""

    slot: int
    outbox_id: int
    task: TaskRecord
    since: float


class MemoryBroker:
    """Which tasks and callers wait for memory, which of them wait for pages, and which one gets the next block."""

    def __init__(self, arena: Arena, budget: Budget) -> None:
        self._arena = arena
        self._budget = budget
        self._closed = False
        self._input_queue = InputQueue(arena, budget)
        self.input_requests = self._input_queue.requests
        """New blocks of the inbox that are waited for, by input id; only to be looked at."""
        self.growths = self._input_queue.growths
        """Blocks of streams that wait for more memory, by input id; only to be looked at."""
        self.output_requests: OrderedDict[int, _OutputRequest] = OrderedDict()
        """Running tasks that wait for result memory, by task id; only to be looked at."""
        self._reserving_outputs: dict[
            int, tuple[_OutputRequest, int]
        ] = {}  # generation -> whose pages are fetched, and how much of its charge
        self._prefetching: set[int] = set()  # outboxes whose pages are being fetched ahead of a grant, or were refused
        self._stall = StallLimit()
        self._system_refused_at = -inf
        self.wake_at = inf
        """When a wait is to end, or the system to be asked again."""

    @property
    def has_waiters(self) -> bool:
        """Whether a block that comes back would be of use at once."""
        return bool(self.input_requests or self.output_requests or self.growths)

    def request_input(
        self, input_id: int, nbytes: int, task: TaskRecord | None = None, *, addresses_bytes: int = 0, now: float = 0.0
    ) -> list[Command]:
        """A block of the inbox is wanted, by a caller or for the source of a task; `serve` gives it.

        Args:
            addresses_bytes: what the block may grow to with `request_growth`.
        """
        if self._closed:
            return [RefuseInput(input_id, PoolClosed())]
        limit = self._arena.segment_nbytes(INBOX_ID)
        if nbytes > limit:
            return [RefuseInput(input_id, self._arena.exceeds_inbox(nbytes))]
        beside_bytes = 0 if task is None else task.peak_bytes + task.output_bytes
        self.input_requests[input_id] = InputRequest(nbytes, min(addresses_bytes, limit), beside_bytes, now)
        return []

    def request_growth(self, input_id: int, generation: int, nbytes: int, wanted_nbytes: int, now: float) -> list[Command]:
        """A stream needs more of its block's addresses; `serve` gives it."""
        if self._closed:
            return [RefuseInput(input_id, PoolClosed())]
        block = self._arena.get(generation)
        assert block is not None, "a block is known while its caller holds it"
        if nbytes > block.addresses_nbytes:
            return [RefuseInput(input_id, self._arena.exceeds_inbox(nbytes))]
        wanted_nbytes = min(max(wanted_nbytes, nbytes), block.addresses_nbytes)
        self.growths[input_id] = Growth(block, block.nbytes, nbytes, wanted_nbytes, now)
        return []

    def complete_input(self, generation: int, nbytes: int) -> None:
        """A stream has ended: the rest of its block is free."""
        block = self._arena.get(generation)
        assert block is not None, "a block is known while its caller holds it"
        self._arena.shrink(block, nbytes)

    def abandon_input(self, input_id: int) -> None:
        """That request is not waited for any more."""
        self._input_queue.abandon(input_id)

    def close(self) -> list[Command]:
        """No source gets memory any more: those that wait are told."""
        self._closed = True
        return self._input_queue.close()

    def request_output(self, slot: int, outbox_id: int, task: TaskRecord, nbytes: int, now: float = 0.0) -> list[Command]:
        """A running task wants a block of its worker's outbox; `serve` gives it."""
        task.requested_bytes = nbytes
        if nbytes > self._arena.capacity_bytes:
            return [self._refusal(slot, task, self._arena.exceeds_capacity(nbytes))]
        self.output_requests[task.task_id] = _OutputRequest(slot, outbox_id, task, now)
        return []

    def try_preallocate(self, outbox_id: int, nbytes: int) -> Block | None:
        """Memory that a worker may begin any task with: only from pages that are there, and only what sources never need."""
        if not self._may_preallocate(nbytes):
            return None
        return self._arena.try_allocate_reserved(outbox_id, nbytes, Holder.STANDING, outbox_id)

    def trim(self) -> tuple[Span, ...]:
        """Pages that are kept for reuse and must go, because running tasks are charged with the memory now."""
        return self._arena.trim() if self._arena.reserved_bytes > self._arena.effective_capacity_bytes else ()

    def prefetch(self, outbox_id: int, nbytes: int) -> list[Command]:
        """Fetch pages for an outbox's next standing grant, if there is room and nobody has to give any back for it."""
        if outbox_id in self._prefetching or self._arena.unreserved_bytes < nbytes or not self._may_preallocate(nbytes):
            return []
        cut = self._arena.allocate(outbox_id, nbytes, Holder.CALLER)
        if cut is None:
            return []
        block, reservation = cut
        self._arena.release(block, caller_lease(block))
        if reservation is None:
            return []
        self._prefetching.add(outbox_id)
        return [ReservePages(reservation)]

    def forget_outbox(self, outbox_id: int) -> None:
        """Its worker is dead."""
        self._prefetching.discard(outbox_id)

    def _may_preallocate(self, nbytes: int) -> bool:
        standing = self._arena.leases[Holder.STANDING] * nbytes
        return standing + nbytes <= self._arena.capacity_bytes - self._arena.segment_nbytes(INBOX_ID)

    def release_returned(self, generations: tuple[int, ...], now: float = 0.0) -> None:
        """Callers do not look at these blocks any more."""
        for generation in generations:
            block = self._arena.get(generation)
            assert block is not None, "a block is known while its caller holds it"
            self._arena.release(block, caller_lease(block))
        self._stall.memory_moved(now)

    def cancel_output_request(self, task: TaskRecord) -> None:
        """The task is being stopped, has ended, or its worker is dead: it waits for nothing any more."""
        self.output_requests.pop(task.task_id, None)
        task.requested_bytes = None

    def pages_reserved(self, reservation: Reservation, now: float = 0.0) -> list[Command]:
        """The pages are there: the request that waited for them gets the block."""
        block = reservation.block
        commands = self._input_queue.pages_reserved(block)
        granted = self._reserving_outputs.pop(block.generation, None)
        if granted is not None:
            self._stall.memory_moved(now)
            commands += self._send_grant(block, granted[0])
        self._prefetching.discard(block.segment_id)
        self._arena.release(block, Lease(Holder.RESERVATION, block.generation))
        return commands

    def pages_refused(self, reservation: Reservation, free_bytes: int, now: float = 0.0) -> None:
        """The system has no pages: the request that waited for them waits again, now within what the system has."""
        block = reservation.block
        self._input_queue.pages_refused(block)
        granted = self._reserving_outputs.pop(block.generation, None)
        if granted is not None and block in granted[0].task.granted:
            need, counted_bytes = granted
            need.task.granted.remove(block)
            self._arena.release(block, worker_lease(need.task))
            self._budget.transfer_to_arena(need.task, -counted_bytes)
            if need.task.requested_bytes is not None:
                self.output_requests[need.task.task_id] = need
        self._arena.release(block, Lease(Holder.RESERVATION, block.generation))
        self._arena.rollback(reservation, free_bytes)
        self._system_refused_at = now
        if not self.has_waiters:
            self._arena.reset_system_capacity()  # no later request is to be held to an answer that no request waited for

    def allocate_waiting(self, running: int, waiting: int, now: float = 0.0) -> list[Command]:
        """Give what there is to those that wait.

        Args:
            running: how many tasks workers have. Only they, and callers who hold blocks, can give memory back.
            waiting: how many tasks are yet to run; there may be room once they have.
            now: seconds.
        """
        if self._arena.system_is_short and now >= self._system_refused_at + _ASK_SYSTEM_AGAIN_S:
            self._arena.reset_system_capacity()
        commands = self._allocate_outputs(now)
        if self._all_running_tasks_wait(running):
            commands += self._allocate_outputs(now, one_in_any_case=True)
        return commands + self._allocate_inputs(running, waiting)

    def is_starved(self, running: int, now: float) -> bool:
        """Whether all tasks that run wait for memory, and no caller will give any back, or none has for too long."""
        if not self._all_running_tasks_wait(running) or self._arena.leases[Holder.RESERVATION]:
            return False
        return not self._arena.leases[Holder.CALLER] or any(
            self._expires_at(need) <= now for need in self.output_requests.values()
        )

    def refuse(self, running: int, waiting: int, now: float = 0.0) -> list[Command]:
        """Tell those that could wait for ever, or that have waited too long, that they will not get it."""
        commands: list[Command] = []
        self._stall.note_help(now, pool_can_help=not self._only_callers_can_release(running, waiting))
        while self.has_waiters and (refusal := self._find_refusal(running, waiting, now)):
            commands += refusal
            commands += self._allocate_inputs(running, waiting)
        self.wake_at = self._next_expiry(running, waiting, now) if self.has_waiters else inf
        return commands

    def _allocate_inputs(self, running: int, waiting: int) -> list[Command]:
        return (
            self._input_queue.allocate_waiting(leave_room=bool(running or waiting))
            if self.input_requests or self.growths
            else []
        )

    def _all_running_tasks_wait(self, running: int) -> bool:
        """Whether every task that runs waits for result memory, and none is about to get it."""
        return bool(self.output_requests) and len(self.output_requests) >= running and not self._reserving_outputs

    def _allocate_outputs(self, now: float, *, one_in_any_case: bool = False, beyond_charges: bool = False) -> list[Command]:
        """Grant what there is room for, or is in a task's charge.

        Args:
            now: seconds.
            one_in_any_case: to one task only, and all that it is charged with.
            beyond_charges: to one task only, and what all others are charged with, too, because those are estimates.
        """
        commands: list[Command] = []
        for need in tuple(self.output_requests.values()):
            task = need.task
            assert task.requested_bytes is not None
            counted = min(task.requested_bytes, self._budget.unused_output_bytes(task))
            leave_bytes = -task.charged_bytes if one_in_any_case else -counted
            if beyond_charges:
                leave_bytes = -self._budget.running_bytes
            cut = self._arena.allocate(
                need.outbox_id, task.requested_bytes, Holder.WORKER, task.task_id, leave_bytes=leave_bytes
            )
            if cut is None:
                continue
            counted = max(counted, self._arena.used_bytes - self._arena.effective_capacity_bytes)
            self._budget.transfer_to_arena(task, counted)
            if spans := self.trim():
                commands.append(ReleasePages(spans))
            del self.output_requests[task.task_id]
            block, reservation = cut
            task.granted.append(block)
            if reservation is None:
                self._stall.memory_moved(now)  # not before there are pages: the system may refuse them again and again
                commands += self._send_grant(block, need)
            else:
                self._reserving_outputs[block.generation] = (need, counted)
                commands.append(ReservePages(reservation))
            if one_in_any_case or beyond_charges:
                break
        return commands

    def _find_refusal(self, running: int, waiting: int, now: float) -> list[Command]:
        """Refuse one that waits, if nothing that is held could ever come back for it, or nothing has come back for too long."""
        arena = self._arena
        if arena.leases[Holder.RESERVATION]:
            return []
        more_room_to_come = self._budget.enforced and (running or waiting)
        if self.growths and arena.busy_bytes == self._input_queue.growing_bytes and not more_room_to_come:
            input_id, growth = self.growths.popitem()  # the stream that came last
            return [RefuseInput(input_id, self._shortage(growth.nbytes, beside=growth.block.nbytes))]
        if self.input_requests and not arena.busy_bytes and not more_room_to_come:
            input_id, request = self.input_requests.popitem(last=False)
            return [RefuseInput(input_id, self._shortage(request.nbytes))]
        if self._all_running_tasks_wait(running) and not arena.leases[Holder.CALLER] and not self._queued_sources():
            if beyond := self._allocate_outputs(now, beyond_charges=True):
                return beyond
            need = self.output_requests.popitem()[1]  # the one that waits least long
            assert need.task.requested_bytes is not None
            return [self._refusal(need.slot, need.task, self._shortage(need.task.requested_bytes))]
        return self._fail_expired(running, waiting, now)

    def _queued_sources(self) -> bool:
        """Whether tasks hold sources that are not among `needs`, as all that run are: their callers may leave."""
        return self._arena.leases[Holder.TASK] > sum(
            need.task.source_block is not None for need in self.output_requests.values()
        )

    def _fail_expired(self, running: int, waiting: int, now: float) -> list[Command]:
        """Refuse one that has waited for callers for too long."""
        if not self._only_callers_can_release(running, waiting):
            return []
        for need in self.output_requests.values():
            if self._expires_at(need) <= now:
                assert need.task.requested_bytes is not None
                del self.output_requests[need.task.task_id]
                return [self._refusal(need.slot, need.task, self._expired_requests(need.task.requested_bytes, now))]
        for queue in (self.growths, self.input_requests):
            for input_id, request in queue.items():
                if self._stall.ends_at(request.since, request.since) <= now:
                    del queue[input_id]
                    return [RefuseInput(input_id, self._expired_requests(request.nbytes, now))]
        return []

    def _only_callers_can_release(self, running: int, waiting: int) -> bool:
        """Whether nothing that the pool does by itself gives memory back: no task is at work, and none will be."""
        return self._all_running_tasks_wait(running) or not (running or waiting or self._reserving_outputs)

    def _next_expiry(self, running: int, waiting: int, now: float) -> float:
        """When the next wait is given up, or the system asked again."""
        again = self._system_refused_at + _ASK_SYSTEM_AGAIN_S if self._arena.system_is_short else inf
        if self._arena.leases[Holder.RESERVATION] or not self._only_callers_can_release(running, waiting):
            return again
        ends = [self._expires_at(need) for need in self.output_requests.values()]
        for queue in (self.growths, self.input_requests):
            ends += [self._stall.ends_at(request.since, request.since) for request in queue.values()]
        return min(again, *(max(end, now) for end in ends))

    def _expires_at(self, need: _OutputRequest) -> float:
        return self._stall.ends_at(need.since, need.task.submitted_at)

    def _expired_requests(self, nbytes: int, now: float) -> MemoryLimitExceeded:
        self._stall.request_failed(now)
        return self._arena.shortage(nbytes, f"nothing came back for {MEMORY_WAIT_S:g} s: {self._arena.holders()}. ")

    def _shortage(self, nbytes: int, beside: int = 0) -> MemoryLimitExceeded:
        """The error, once per refusal of the system: the next request asks it again, so this ends."""
        what = f"streams that are being received hold {self._input_queue.growing_bytes + beside:,} bytes. " if beside else ""
        error = self._arena.shortage(nbytes, what)
        self._arena.reset_system_capacity()
        return error

    @staticmethod
    def _send_grant(block: Block, need: _OutputRequest) -> list[Command]:
        task = need.task
        if task.requested_bytes is None or block not in task.granted:
            return []  # the task ended while its pages were fetched
        nbytes, task.requested_bytes = task.requested_bytes, None
        handle = Handle(OUTBOX, block.offset, nbytes, block.generation)
        return [Send(need.slot, Grant(task.task_id, handle))]

    @staticmethod
    def _refusal(slot: int, task: TaskRecord, error: MemoryLimitExceeded) -> Command:
        task.requested_bytes = None
        task.grant_error = error
        return Send(slot, Grant(task.task_id, None))
