"""The async side that owns the worker slots: tells the core what happened and carries out what it commands.

Which event is next, and that nothing comes between it and its commands, is the `Turns`' affair.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from copy import copy
from functools import partial
from itertools import count
from typing import Any

import anyio
import anyio.to_thread

from ..core.memory.arena import INBOX_ID
from ..core.model.blocks import Block
from ..core.model.commands import (
    AbandonWorker,
    AnnounceOpening,
    ConfirmGrowth,
    DropOutbox,
    HashSource,
    KillWorker,
    OpenOutput,
    ProvideInput,
    RefuseInput,
    ReleasePages,
    ReservePages,
    RestageSource,
    Send,
    SendFile,
    SettleTask,
    StartWorker,
)
from ..core.model.events import (
    BlocksReturned,
    GrowthRequested,
    InputCancelled,
    InputCompleted,
    InputRequested,
    PoolStarted,
    SourceHashed,
    TaskCancelled,
    TimePassed,
)
from ..core.model.pool_phase import PoolPhase
from ..core.model.settings import CoreSettings
from ..core.model.task import Completed
from ..core.pool_state import PoolState
from ..errors import MemoryLimitExceeded, OffloopError, PoolClosed, WorkerDied
from ..wire.handles import WrittenTo
from .conditions import PoolConditions
from .driver import CoreDriver
from .files.output_delivery import OutputDelivery
from .lifecycle import Lifecycle
from .loop import fork_safety
from .loop.affinity import LoopAffinity
from .loop.background import BackgroundTasks
from .loop.decision_gate import DecisionGate, GateState
from .loop.futures import BlockFuture, TaskFuture
from .loop.io import clock, when_readable
from .loop.oneshot_event import OneShotEvent
from .memory.page_manager import PageManager
from .memory.segments import Segment
from .memory.views import ViewTracker
from .pending_tasks import PendingTasks
from .telemetry.event_stream import EventStream
from .telemetry.memory_monitor import watch_memory
from .workers.config import WorkerConfig
from .workers.connection import WorkerConnection
from .workers.spawn_errors import describe_spawn_error

__all__ = ["Supervisor"]


class Supervisor:
    """One pool's processes, memory and tickets. Made when the pool is entered, in the loop that it will live in."""

    def __init__(self, core_settings: CoreSettings, settings: WorkerConfig) -> None:
        self.affinity = LoopAffinity()
        loop = self.affinity.loop
        self.core = PoolState(core_settings)
        self.settings = settings
        self.segments: dict[int, Segment] = {}
        self.views = ViewTracker()
        self.gate = DecisionGate()
        self.conditions = PoolConditions(self.core, self.gate, loop)
        self._lifecycle = Lifecycle(self)
        self.close = self._lifecycle.close
        self.abort = self._lifecycle.abort
        self.background = BackgroundTasks(loop, self._lifecycle)
        self.event_stream = EventStream(self.core.event_log, loop)
        self._page_manager = PageManager(self.segments, self.background, lambda: self._driver.apply_page_results())  # noqa: PLW0108 (made below)
        self._workers: dict[int, WorkerConnection] = {}
        self._abandoned: list[WorkerConnection] = []  # killed and not dead; perhaps dead by now
        self._inputs: dict[int, BlockFuture] = {}
        self._numbers = count(1)
        self._clock = clock(loop)
        self._opening_error: OffloopError | None = None
        carry_out: dict[type, Callable[[Any], None]] = {
            StartWorker: self._start_worker,
            Send: self._send,
            KillWorker: self._kill_worker,
            AbandonWorker: self._abandon_worker,
            DropOutbox: self._page_manager.enqueue,
            ReservePages: self._page_manager.enqueue,
            ReleasePages: self._page_manager.enqueue,
            HashSource: self._hash_source,
            ProvideInput: self._provide_input,
            ConfirmGrowth: self._confirm_growth,
            RefuseInput: self._refuse_input,
            AnnounceOpening: self._announce_opening,
        }
        self._driver = CoreDriver(
            self.core,
            self.gate,
            self._page_manager,
            self.views,
            self.event_stream,
            self.conditions,
            loop,
            carry_out=carry_out,
            abandon_input=self.abandon_input,
            fail=self.fail,
        )
        self.apply = self._driver.apply
        self._watch_memory = partial(watch_memory, self.core, self.apply, settings.memory_pressure)
        self.collect_returns = self._driver.collect_returns
        self._pending_tasks = PendingTasks(self.apply, self._result_view, loop)
        carry_out[SettleTask] = self._pending_tasks.settle
        self.outputs = OutputDelivery(self.background, self._workers, self.apply)
        carry_out |= {OpenOutput: self.outputs.open, SendFile: self.outputs.send}
        carry_out[RestageSource] = self._pending_tasks.stage_again
        self.submit = self._pending_tasks.submit
        fork_safety.register(self)

    async def open(self) -> None:
        """Make the inbox and start the workers. If that fails, or is cancelled, all is ended before the error is raised.

        Raises:
            WorkerDied: no worker could be started.
            PoolClosed: the pool was closed meanwhile.
            InternalError: a defect of ours.
        """
        for errand in (self._run_timer, self._watch_returns, self._watch_memory, self.background.loop_budget.refill):
            self.background.run(errand, until_closed=True)
        try:
            await self._open()
        except BaseException:
            await self.close()
            raise

    @property
    def workers(self) -> Collection[WorkerConnection]:
        """Every worker that has a process, or is about to."""
        return (*self._workers.values(), *self._abandoned)

    def leave_abandoned(self) -> None:
        """Wait no longer for workers that were killed and have not ended."""
        for worker in self._abandoned:
            worker.leave()

    @property
    def inbox(self) -> Segment:
        """The segment that sources go to.

        Raises:
            PoolClosed: it is gone.
        """
        segment = self.segments.get(INBOX_ID)
        if segment is None:
            raise PoolClosed
        return segment

    def can_run_in_place(self, task_id: int, block: Block) -> bool:
        """Whether a task whose source is this block of an outbox could start this moment, with its source where it lies."""
        there = self.core.arena.get(block.generation) is block
        return there and self.core.can_run_in_place(block.segment_id, task_id, block.nbytes)

    # Tickets: what callers wait on

    def new_task_id(self) -> int:
        """A number for `submit`, never used twice."""
        return next(self._numbers)

    async def withdraw(self, task_id: int, future: TaskFuture) -> None:
        """Leave an unsettled task: when this returns it has its outcome, and its memory is back. Not cancellable."""
        self.apply(TaskCancelled(task_id))
        await future.wait_uncancellable()

    def request_input(self, nbytes: int, task_id: int | None = None, addresses_bytes: int = 0) -> BlockFuture:
        """Ask for memory of the inbox, for the source of that task or for a caller; it may grow to `addresses_bytes`."""
        self.gate.raise_if_failed()
        future = self._new_input_ticket(nbytes)
        self.apply(InputRequested(future.input_id, future.nbytes, task_id, addresses_bytes))
        return future

    def request_growth(self, block: Block, nbytes: int, wanted_nbytes: int) -> BlockFuture:
        """Ask for more memory in the addresses of a block; the ticket is set once it is there, and has no block of its own."""
        self.gate.raise_if_failed()
        future = self._new_input_ticket(nbytes)
        self.apply(GrowthRequested(future.input_id, block.generation, nbytes, wanted_nbytes))
        return future

    def complete_input(self, block: Block, nbytes: int) -> None:
        """A block needs no more than so many bytes."""
        self.apply(InputCompleted(block.generation, nbytes))

    def _new_input_ticket(self, nbytes: int) -> BlockFuture:
        future = BlockFuture(next(self._numbers), nbytes, self.affinity.loop)
        self._inputs[future.input_id] = future
        return future

    def reserve_now(self, future: BlockFuture) -> None:
        """Wait on this thread for the pages of a requested block. Without room the request stays as it is.

        Raises:
            MemoryLimitExceeded: there is no room at this moment, or never.
            PoolMisused: it has not come yet, and this is another thread or loop than the pool's; or another process.
        """
        if not future.is_set or self.affinity.forked:
            self.affinity.check()
        if not future.is_set:
            self._page_manager.work()
            self._driver.apply_page_results()
        if not future.is_set:
            used = self.core.arena.used_bytes
            raise MemoryLimitExceeded(
                future.nbytes, max(self.core.settings.inbox_nbytes - used, 0), limited_by="what is free now"
            )
        future.check()

    def abandon_input(self, future: BlockFuture) -> None:
        """Give up a request, or the block that came of it."""
        if self._inputs.pop(future.input_id, None) is None:
            if future.block is not None:
                self.views.return_block(future.block.generation)
        else:
            self.apply(InputCancelled(future.input_id))

    def forked(self) -> None:
        """In a forked child: the pool is the parent's. Nothing is decided here any more, and who waits here is told so."""
        self.affinity.forked = True
        self.gate.state = GateState.STOPPED
        self.views.forked()
        if self.affinity.in_thread:  # else their loop is not here
            self._pending_tasks.fail_all(self.affinity.error())
            for future in self._inputs.values():
                future.set_exception(self.affinity.error())

    # The loop's own tasks

    async def _open(self) -> None:
        try:
            await self.background.run_in_thread(self._make_inbox, limiter=self.background.own_threads)
        except OSError as error:
            reason = f"its shared memory could not be made: {describe_spawn_error(error)}"
            raise WorkerDied(None, reason=reason) from error
        self.apply(PoolStarted())
        await self.conditions.opened.wait()
        if self._opening_error is not None:
            raise copy(self._opening_error)  # what is kept here must not refer to its traceback
        if self.core.phase is PoolPhase.CLOSING:
            raise PoolClosed("the pool was closed while it was opening")

    async def _run_timer(self) -> None:
        turns = self._driver
        while self.gate.state is not GateState.STOPPED:  # else nothing is decided, and it is always time
            turns.timer_changed = OneShotEvent(self.affinity.loop)
            turns.timer_deadline = self.core.wake_at
            with anyio.CancelScope(deadline=turns.timer_deadline):
                await turns.timer_changed.wait()
            if self._clock() >= turns.timer_deadline:
                self.apply(TimePassed())

    async def _watch_returns(self) -> None:
        def hear() -> bool:
            self.views.drain_wake()
            self.collect_returns()
            return True

        await when_readable(self.affinity.loop, self.views.wake_fd, hear)

    def _make_inbox(self) -> None:
        self.segments[INBOX_ID] = Segment(
            self.core.settings.inbox_addresses_nbytes or self.core.settings.inbox_nbytes, workers_write=False
        )

    def release(self) -> None:
        """Give up memory and descriptors, when no task of the pool's own is left. Views that exist stay valid.

        May be called again after a KeyboardInterrupt in the middle of it.
        """
        for worker in self.workers:
            worker.close()
        while self.segments:
            self.segments.popitem()[1].close()
        self.views.close()
        self.event_stream.close()
        with suppress(KeyError):  # it was dropped before
            self.core.arena.drop_segment(INBOX_ID)

    def fail(self, error: BaseException) -> None:
        """End everything after a defect of ours, because no decision can be trusted any more. Every waiting caller is told."""
        self.gate.fail(error)
        for worker in self._workers.values():
            worker.kill()
            worker.leave(self.core.settings.kill_timeout_s)
        self.fail_all(self.gate.error())

    def fail_all(self, error: OffloopError) -> None:
        """Decide nothing any more, and give every caller that still waits this error."""
        self.gate.state = GateState.STOPPED
        self._pending_tasks.fail_all(error)
        for future in self._inputs.values():
            if not future.is_set:
                future.set_exception(error)
        self.conditions.release_all()

    # Commands

    def _start_worker(self, command: StartWorker) -> None:
        worker = self._workers[command.slot] = WorkerConnection(command, self, self.background.own_threads, self.affinity.loop)
        self.background.run(worker.run)

    def _send(self, command: Send) -> None:
        self._workers[command.slot].send(command.message)

    def _kill_worker(self, command: KillWorker) -> None:
        self._workers[command.slot].kill()

    def _abandon_worker(self, command: AbandonWorker) -> None:
        worker = self._workers[command.slot]
        self._abandoned.append(worker)
        worker.abandon()

    def _hash_source(self, command: HashSource) -> None:
        inbox, source = self.inbox, command.source

        async def identify() -> None:
            digest: bytes | None = None
            with suppress(RuntimeError):  # the system has no thread to give: unknown, then
                digest = await anyio.to_thread.run_sync(
                    inbox.digest, source.offset, source.nbytes, limiter=self.background.own_threads
                )
            self.apply(SourceHashed(command.task_id, digest))

        self.background.run(identify)

    def _provide_input(self, command: ProvideInput) -> None:
        future = self._inputs.get(command.input_id)
        if future is None:  # abandoned: that event is behind the one that freed this block
            self.apply(BlocksReturned((command.block.generation,)))
        else:
            future.set_result(command.block)
            del self._inputs[command.input_id]

    def _confirm_growth(self, command: ConfirmGrowth) -> None:
        future = self._inputs.pop(command.input_id, None)
        if future is not None:  # else abandoned: the block is returned by the request that it came from
            future.set()

    def _refuse_input(self, command: RefuseInput) -> None:
        future = self._inputs.get(command.input_id)
        if future is not None:  # else abandoned, as above
            future.set_exception(command.error)
            del self._inputs[command.input_id]

    def _result_view(self, outcome: Completed, block: Block) -> memoryview:
        assert not isinstance(outcome.output, WrittenTo)
        assert outcome.output.block is not None
        return self.views.view(self.segments[block.segment_id], block, outcome.output.block.nbytes).toreadonly()

    def _announce_opening(self, command: AnnounceOpening) -> None:
        self._opening_error = command.error
        self.conditions.opened.set()
