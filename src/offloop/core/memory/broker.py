"""Memory broker: allocates result memory for running tasks and inbox memory for sources, at once or when there is room.

Running tasks come before sources, because only they release memory. A request ends in one of three ways:

- It gets memory.
- Nothing that tasks or callers hold can be released. The request fails at once, with numbers.
- Only callers could release memory (results, buffers, streams that have stopped), and in `MEMORY_WAIT_S` seconds without a
  task that makes progress they have released none. The request fails, with the kinds of blocks that are held.

No request fails because of an estimate alone. If no task runs that could release memory, sources need not leave memory for
admitted tasks. If all running tasks wait for result memory, one of them gets it out of its own charge, or beyond the charges of
others.
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
from ..model.task_record import TaskRecord
from .arena import INBOX_ID, Arena
from .budget import Budget
from .input_queue import Growth, InputQueue, InputRequest, caller_lease
from .stall_limit import MEMORY_WAIT_S, StallLimit, WaitStart

__all__ = ["MemoryBroker", "worker_lease"]

_ASK_SYSTEM_AGAIN_S = 1.0  # seconds after the system refused pages, because other processes may have released some


def worker_lease(task: TaskRecord) -> Lease:
    """The lease of the worker that runs the task."""
    return Lease(Holder.WORKER, task.task_id)


class _OutputRequest(NamedTuple):
    """A running task that waits for result memory."""

    slot: int
    outbox_id: int
    task: TaskRecord
    since: WaitStart


class MemoryBroker:
    """The requests that wait for memory, and those whose pages are being reserved."""

    def __init__(self, arena: Arena, budget: Budget) -> None:
        self._arena = arena
        self._budget = budget
        self._closed = False
        self.input_queue = InputQueue(arena, budget)
        self.input_requests = self.input_queue.requests
        """Requests for new blocks of the inbox, by the id of the input or task. Read only."""
        self.growths = self.input_queue.growths
        """Requests for larger blocks of streams, by input id. Read only."""
        self.output_requests: OrderedDict[int, _OutputRequest] = OrderedDict()
        """Requests of running tasks for result memory, by task id. Read only."""
        self._reserving_outputs: dict[int, tuple[_OutputRequest, int]] = {}
        """Requests whose pages are being reserved, and the bytes that moved from the tasks' charges, by block generation."""
        self._prefetching: set[int] = set()  # ids of outboxes whose preallocated pages are being reserved, or were refused
        self.refused_sources: list[tuple[TaskRecord, MemoryLimitExceeded]] = []
        """Tasks whose sources get no memory, with their errors; `PoolState` settles them."""
        self._stall = StallLimit()
        self._system_refused_at = -inf
        self.wake_at = inf
        """When the next request fails, or the system must be asked again; infinity if there is no such time."""

    @property
    def has_waiters(self) -> bool:
        """Whether a request waits for memory."""
        return bool(self.input_requests or self.output_requests or self.growths)

    def request_input(self, input_id: int, nbytes: int, *, addresses_bytes: int = 0, now: float = 0.0) -> list[Command]:
        """Request a block of the inbox for a caller; `allocate_waiting` provides it.

        Args:
            input_id: id of the request.
            nbytes: size of the block.
            addresses_bytes: size to which the block may grow with `request_growth`.
            now: seconds.
        """
        if self._closed:
            return [RefuseInput(input_id, PoolClosed())]
        limit = self._arena.segment_nbytes(INBOX_ID)
        if nbytes > limit:
            return [RefuseInput(input_id, self._arena.exceeds_inbox(nbytes))]
        self.input_requests[input_id] = InputRequest(nbytes, min(addresses_bytes, limit), None, self._stall.begin(now))
        return []

    def request_source_memory(self, task: TaskRecord, nbytes: int, now: float = 0.0) -> MemoryLimitExceeded | None:
        """Request a block of the inbox for the copies of a task's sources; `allocate_waiting` provides it. Returns the error if
        the inbox can never hold so many bytes."""
        if nbytes > self._arena.segment_nbytes(INBOX_ID):
            return self._arena.exceeds_inbox(nbytes)
        self.input_requests[task.task_id] = InputRequest(nbytes, 0, task, self._stall.begin(now))
        return None

    def request_growth(self, input_id: int, generation: int, nbytes: int, wanted_nbytes: int, now: float) -> list[Command]:
        """Request more of its own addresses for the block of a stream; `allocate_waiting` confirms it.

        Args:
            input_id: id of the request.
            generation: the block.
            nbytes: size that the block must have.
            wanted_nbytes: size that it gets if no other request waits and there is room.
            now: seconds.
        """
        if self._closed:
            return [RefuseInput(input_id, PoolClosed())]
        block = self._arena.get(generation)
        assert block is not None, "a block is known while its caller holds it"
        if nbytes > block.addresses_nbytes:
            return [RefuseInput(input_id, self._arena.exceeds_inbox(nbytes))]
        wanted_nbytes = min(max(wanted_nbytes, nbytes), block.addresses_nbytes)
        self.growths[input_id] = Growth(block, block.nbytes, nbytes, wanted_nbytes, self._stall.begin(now))
        return []

    def complete_input(self, generation: int, nbytes: int) -> None:
        """A stream has ended with so many bytes: free the rest of its block."""
        block = self._arena.get(generation)
        assert block is not None, "a block is known while its caller holds it"
        self._arena.shrink(block, nbytes)

    def close(self) -> list[Command]:
        """The pool closes: refuse all requests for inbox memory, now and later."""
        self._closed = True
        return self.input_queue.close()

    def request_output(self, slot: int, outbox_id: int, task: TaskRecord, nbytes: int, now: float = 0.0) -> list[Command]:
        """Request a block of its worker's outbox for a running task; `allocate_waiting` grants it."""
        task.requested_bytes = nbytes
        if nbytes > self._arena.capacity_bytes:
            return [self._refusal(slot, task, self._arena.exceeds_capacity(nbytes))]
        task.last_request_bytes = nbytes
        self.output_requests[task.task_id] = _OutputRequest(slot, outbox_id, task, self._stall.begin(now))
        return []

    def try_preallocate(self, outbox_id: int, nbytes: int) -> Block | None:
        """A block for the results of a worker's next tasks, from reserved pages that no source needs; None if there is none."""
        if not self._may_preallocate(nbytes):
            return None
        return self._arena.try_allocate_reserved(outbox_id, nbytes, Holder.PREALLOCATED, outbox_id)

    def trim(self) -> tuple[Span, ...]:
        """Release pages that are kept for reuse, if running tasks are charged with their memory. Returns their spans."""
        return self._arena.trim() if self._arena.reserved_bytes > self._arena.effective_capacity_bytes else ()

    def prefetch(self, outbox_id: int, nbytes: int) -> list[Command]:
        """Reserve pages for an outbox's next preallocated block, if there is room and no pages must be released for it."""
        if outbox_id in self._prefetching or self._arena.unreserved_bytes < nbytes or not self._may_preallocate(nbytes):
            return []
        allocated = self._arena.allocate(outbox_id, nbytes, Holder.CALLER)
        if allocated is None:
            return []
        block, reservation = allocated
        self._arena.release(block, caller_lease(block))
        if reservation is None:
            return []
        self._prefetching.add(outbox_id)
        return [ReservePages(reservation)]

    def forget_outbox(self, outbox_id: int) -> None:
        """The outbox's worker is dead."""
        self._prefetching.discard(outbox_id)

    def _may_preallocate(self, nbytes: int) -> bool:
        preallocated_bytes = self._arena.leases[Holder.PREALLOCATED] * nbytes
        return preallocated_bytes + nbytes <= self._arena.capacity_bytes - self._arena.segment_nbytes(INBOX_ID)

    def release_returned(self, generations: tuple[int, ...], now: float = 0.0) -> None:
        """Callers do not use these blocks any more: release their leases."""
        for generation in generations:
            block = self._arena.get(generation)
            assert block is not None, "a block is known while its caller holds it"
            self._arena.release(block, caller_lease(block))
        self._stall.moved_at = now

    def cancel_output_request(self, task: TaskRecord) -> None:
        """Remove the request of a task that is being stopped, has ended, or whose worker is dead."""
        self.output_requests.pop(task.task_id, None)
        task.requested_bytes = None

    def pages_reserved(self, reservation: Reservation, now: float = 0.0) -> list[Command]:
        """The pages of a reservation are there: the request that waited for them gets the block."""
        block = reservation.block
        commands = self.input_queue.pages_reserved(block)
        granted = self._reserving_outputs.pop(block.generation, None)
        if granted is not None:
            self._stall.moved_at = now
            commands += self._send_grant(block, granted[0])
        self._prefetching.discard(block.segment_id)
        self._arena.release(block, Lease(Holder.RESERVATION, block.generation))
        return commands

    def pages_refused(self, reservation: Reservation, free_bytes: int, now: float = 0.0) -> None:
        """The system has refused the pages of a reservation: the request waits again, within the free pages of the system."""
        block = reservation.block
        self.input_queue.pages_refused(block)
        granted = self._reserving_outputs.pop(block.generation, None)
        if granted is not None and block in granted[0].task.granted:
            request, moved_bytes = granted
            request.task.granted.remove(block)
            self._arena.release(block, worker_lease(request.task))
            self._budget.transfer_to_arena(request.task, -moved_bytes)
            if request.task.requested_bytes is not None:
                self.output_requests[request.task.task_id] = request
        self._arena.release(block, Lease(Holder.RESERVATION, block.generation))
        self._arena.rollback(reservation, free_bytes)
        self._system_refused_at = now
        if not self.has_waiters:
            self._arena.reset_system_capacity()  # because no request waits for the answer that the system gave

    def allocate_waiting(self, running: int, waiting: int, now: float = 0.0) -> list[Command]:
        """Allocate memory for the waiting requests, as far as there is room.

        Args:
            running: number of running tasks. Only they, and callers that hold blocks, can release memory.
            waiting: number of waiting tasks. They will run, and may release memory then.
            now: seconds.
        """
        self._stall.note_help(now, pool_can_help=self._pool_can_help(running, waiting))
        if self._arena.system_is_short and now >= self._system_refused_at + _ASK_SYSTEM_AGAIN_S:
            self._arena.reset_system_capacity()
        commands = self._allocate_outputs(now)
        if self._all_running_tasks_wait(running):
            commands += self._allocate_outputs(now, one_with_charge=True)
        return commands + self._allocate_inputs(running, waiting)

    def is_starved(self, running: int, now: float) -> bool:
        """Whether all running tasks wait for memory, and no caller holds any, or has released any for too long."""
        if not self._all_running_tasks_wait(running) or self._arena.leases[Holder.RESERVATION]:
            return False
        return not self._arena.leases[Holder.CALLER] or any(
            self._expires_at(request) <= now for request in self.output_requests.values()
        )

    def refuse(self, running: int, waiting: int, now: float = 0.0) -> list[Command]:
        """Refuse the requests that can never get memory, or that have waited too long."""
        commands: list[Command] = []
        if not self.has_waiters:
            self.wake_at = inf
            return commands
        self._stall.note_help(now, pool_can_help=self._pool_can_help(running, waiting))
        while self.has_waiters and (refusal := self._find_refusal(running, waiting, now)) is not None:
            commands += refusal
            commands += self._allocate_inputs(running, waiting)
        self.wake_at = self._next_expiry(running, waiting, now) if self.has_waiters else inf
        return commands

    def _allocate_inputs(self, running: int, waiting: int) -> list[Command]:
        return (
            self.input_queue.allocate_waiting(leave_room=bool(running or waiting))
            if self.input_requests or self.growths
            else []
        )

    def _all_running_tasks_wait(self, running: int) -> bool:
        """Whether each running task waits for result memory, and no pages are being reserved for one."""
        return bool(self.output_requests) and len(self.output_requests) >= running and not self._reserving_outputs

    def _allocate_outputs(self, now: float, *, one_with_charge: bool = False, beyond_charges: bool = False) -> list[Command]:
        """Grant result memory, from free memory and from the result memory in a task's charge.

        Args:
            now: seconds.
            one_with_charge: to one task only, also from all of its charge.
            beyond_charges: to one task only, also from the charges of all tasks, because those are estimates.
        """
        commands: list[Command] = []
        for request in tuple(self.output_requests.values()):
            task = request.task
            assert task.requested_bytes is not None
            moved_bytes = min(task.requested_bytes, self._budget.unused_output_bytes(task))
            leave_bytes = -task.charged_bytes if one_with_charge else -moved_bytes
            if beyond_charges:
                leave_bytes = -self._budget.running_bytes
            allocated = self._arena.allocate(
                request.outbox_id, task.requested_bytes, Holder.WORKER, task.task_id, leave_bytes=leave_bytes
            )
            if allocated is None:
                continue
            moved_bytes = max(moved_bytes, self._arena.used_bytes - self._arena.effective_capacity_bytes)
            self._budget.transfer_to_arena(task, moved_bytes)
            if spans := self.trim():
                commands.append(ReleasePages(spans))
            del self.output_requests[task.task_id]
            block, reservation = allocated
            task.granted.append(block)
            if reservation is None:
                self._stall.moved_at = now  # otherwise only after the reservation, which the system may refuse each time
                commands += self._send_grant(block, request)
            else:
                self._reserving_outputs[block.generation] = (request, moved_bytes)
                commands.append(ReservePages(reservation))
            if one_with_charge or beyond_charges:
                break
        return commands

    def _find_refusal(self, running: int, waiting: int, now: float) -> list[Command] | None:
        """Refuse one request for which no held memory can be released, or none was for too long. None: there is no such one."""
        arena = self._arena
        if arena.leases[Holder.RESERVATION]:
            return None
        more_room_to_come = self._budget.enforced and (running or waiting)
        if self.growths and arena.busy_bytes == self.input_queue.growing_bytes and not more_room_to_come:
            input_id, growth = self.growths.popitem()  # the newest request
            return [RefuseInput(input_id, self._shortage(growth.nbytes, beside=growth.block.nbytes))]
        if self.input_requests and not arena.busy_bytes and not more_room_to_come:
            input_id, request = self.input_requests.popitem(last=False)
            return self._refuse_input(input_id, request, self._shortage(request.nbytes))
        if self._all_running_tasks_wait(running) and not arena.leases[Holder.CALLER] and not self._queued_sources():
            if beyond := self._allocate_outputs(now, beyond_charges=True):
                return beyond
            newest = self.output_requests.popitem()[1]
            assert newest.task.requested_bytes is not None
            return [self._refusal(newest.slot, newest.task, self._shortage(newest.task.requested_bytes))]
        return self._fail_expired(running, waiting, now)

    def _queued_sources(self) -> bool:
        """Whether waiting tasks hold sources, which are released if their callers cancel them. All running tasks have
        requests."""
        of_running = sum(len(request.task.source_blocks) for request in self.output_requests.values())
        return self._arena.leases[Holder.TASK] > of_running

    def _fail_expired(self, running: int, waiting: int, now: float) -> list[Command] | None:
        """Refuse one request that has waited for callers for too long. None: there is none."""
        if not self._only_callers_can_release(running, waiting):
            return None
        for output in self.output_requests.values():
            if self._expires_at(output) <= now:
                assert output.task.requested_bytes is not None
                del self.output_requests[output.task.task_id]
                return [self._refusal(output.slot, output.task, self._expiry_error(output.task.requested_bytes, now))]
        for queue in (self.growths, self.input_requests):
            for input_id, request in queue.items():
                if self._stall.ends_at(request.since, request.since.at) <= now:
                    del queue[input_id]
                    return self._refuse_input(input_id, request, self._expiry_error(request.nbytes, now))
        return None

    def _refuse_input(self, input_id: int, request: InputRequest | Growth, error: MemoryLimitExceeded) -> list[Command]:
        if isinstance(request, InputRequest) and request.task is not None:
            self.refused_sources.append((request.task, error))
            return []
        return [RefuseInput(input_id, error)]

    def _only_callers_can_release(self, running: int, waiting: int) -> bool:
        """Whether the pool itself releases no memory, because no task makes progress, and none will."""
        return self._all_running_tasks_wait(running) or not (running or waiting or self._reserving_outputs)

    def _pool_can_help(self, running: int, waiting: int) -> bool:
        """Whether a task makes progress, or will. One whose pages are being reserved may be refused them each time."""
        return running > len(self.output_requests) + len(self._reserving_outputs) if running else bool(waiting)

    def _next_expiry(self, running: int, waiting: int, now: float) -> float:
        """When the next request fails, or the system must be asked again."""
        again = self._system_refused_at + _ASK_SYSTEM_AGAIN_S if self._arena.system_is_short else inf
        if self._arena.leases[Holder.RESERVATION] or not self._only_callers_can_release(running, waiting):
            return again
        ends = [self._expires_at(request) for request in self.output_requests.values()]
        for queue in (self.growths, self.input_requests):
            ends += [self._stall.ends_at(request.since, request.since.at) for request in queue.values()]
        return min(again, *(max(end, now) for end in ends))

    def _expires_at(self, request: _OutputRequest) -> float:
        return self._stall.ends_at(request.since, request.task.submitted_at)

    def _expiry_error(self, nbytes: int, now: float) -> MemoryLimitExceeded:
        self._stall.request_failed(now)
        return self._arena.shortage(nbytes, f"callers released no memory for {MEMORY_WAIT_S:g} s: {self._arena.holders()}. ")

    def _shortage(self, nbytes: int, beside: int = 0) -> MemoryLimitExceeded:
        """The error for a request that cannot get memory. The next request asks the system again, so one refusal is one
        error."""
        streams = f"streams that are being received hold {self.input_queue.growing_bytes + beside:,} bytes. " if beside else ""
        error = self._arena.shortage(nbytes, streams)
        self._arena.reset_system_capacity()
        return error

    @staticmethod
    def _send_grant(block: Block, request: _OutputRequest) -> list[Command]:
        task = request.task
        if task.requested_bytes is None or block not in task.granted:
            return []  # the task ended while its pages were reserved
        nbytes, task.requested_bytes = task.requested_bytes, None
        handle = Handle(OUTBOX, block.offset, nbytes, block.generation)
        return [Send(request.slot, Grant(task.task_id, handle))]

    @staticmethod
    def _refusal(slot: int, task: TaskRecord, error: MemoryLimitExceeded) -> Command:
        task.requested_bytes = None
        task.grant_error = error
        return Send(slot, Grant(task.task_id, None))
