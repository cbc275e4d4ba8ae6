"""The async side of a pool: owns its processes, shared memory and futures, and carries out the core's commands.

`CoreDriver` passes events to the core one at a time and calls the methods here for the commands.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from copy import copy
from functools import partial
from itertools import count
from typing import Any

import anyio.lowlevel

from ..core.memory.arena import INBOX_ID
from ..core.model.blocks import Block
from ..core.model.commands import (
    AbandonWorker,
    AnnounceOpening,
    ConfirmGrowth,
    DropOutbox,
    KillWorker,
    OpenOutput,
    ProvideInput,
    RefuseInput,
    ReleasePages,
    ReservePages,
    Send,
    SendFile,
    StartWorker,
    WithdrawRuns,
)
from ..core.model.events import (
    BlocksReturned,
    GrowthRequested,
    InputCancelled,
    InputCompleted,
    InputRequested,
    PoolStarted,
    TaskCancelled,
    TimePassed,
)
from ..core.model.pool_phase import PoolPhase
from ..core.model.settings import CoreSettings
from ..core.model.task import TaskOutput
from ..core.pool_state import PoolState
from ..errors import MemoryLimitExceeded, OffloopError, PoolClosed, WorkerDied
from ..wire.handles import WrittenTo
from .conditions import PoolConditions
from .driver import CoreDriver
from .files.open_files import FileAllowances
from .files.output_delivery import OutputDelivery
from .lifecycle import Lifecycle
from .loop import fork_safety
from .loop.affinity import LoopAffinity
from .loop.background import BackgroundTasks
from .loop.decision_gate import DecisionGate, GateState
from .loop.futures import BlockFuture, OneShotEvent, TaskFuture
from .loop.io import clock, wait_until, when_readable
from .memory.page_manager import PageManager
from .memory.segments import Segment, find_status
from .memory.views import ViewTracker
from .pending_tasks import PendingTasks
from .proc_entries import ClosedProcEntries
from .source_commands import SourceCommands
from .telemetry.event_stream import EventStream
from .telemetry.memory_monitor import watch_memory
from .telemetry.progress_monitor import ProgressMonitor
from .workers.config import WorkerConfig
from .workers.connection import WorkerConnection
from .workers.spawn_errors import describe_spawn_error

__all__ = ["Supervisor"]


class Supervisor:
    """One pool's processes, shared memory and futures. Made when the pool is entered, in the pool's event loop."""

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
        self._page_manager = PageManager(self.segments, self.background, lambda: self._driver.apply_page_results())  # noqa: PLW0108 (the driver is made below)
        self._workers: dict[int, WorkerConnection] = {}
        self._abandoned: list[WorkerConnection] = []  # workers that were killed, did not exit in time, and lost their slots
        self._inputs: dict[int, BlockFuture] = {}
        self._numbers = count(1)
        self._clock = clock(loop)
        self._opening_error: OffloopError | None = None
        carry_out: dict[type, Callable[[Any], None]] = {
            StartWorker: self._start_worker,
            Send: self._send,
            WithdrawRuns: self._withdraw_runs,
            KillWorker: self._kill_worker,
            AbandonWorker: self._abandon_worker,
            DropOutbox: self._page_manager.enqueue,
            ReservePages: self._page_manager.enqueue,
            ReleasePages: self._page_manager.enqueue,
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
        pending = self._pending_tasks = PendingTasks(self.apply, self._view_output, self.event_stream, loop)
        carry_out |= pending.handlers
        self.outputs = OutputDelivery(self.background, self._workers, self.apply)
        carry_out |= {OpenOutput: self.outputs.open, SendFile: self.outputs.send}
        carry_out |= SourceCommands(self.segments, self._workers, self.background, pending.memory_of, self.apply).handlers
        self.submit = pending.submit
        self.memory_of = pending.memory_of
        self.file_allowances = FileAllowances()
        self.progress_monitor = ProgressMonitor(self.core, partial(find_status, self.segments), self.background, self._clock)
        self._proc_entries = ClosedProcEntries(needed=any(group.sandbox != "off" for group in settings.groups.values()))
        fork_safety.register(self)

    async def open(self) -> None:
        """Make the inbox and start the workers. If that fails or is cancelled, the pool is closed before the error is raised.

        Raises:
            WorkerDied: no worker could be started.
            PoolClosed: the pool was closed while it was opening.
            InternalError: a defect in offloop.
        """
        for job in (self._run_timer, self._watch_returns, self._watch_memory, self.background.loop_budget.refill):
            self.background.run(job, until_closed=True)
        try:
            await self._open()
        except BaseException:
            await self.close()
            raise

    @property
    def workers(self) -> Collection[WorkerConnection]:
        """Every worker that has a process or is starting one, abandoned workers included."""
        return (*self._workers.values(), *self._abandoned)

    def stop_waiting_for_abandoned(self) -> None:
        """Stop waiting for workers that were killed and have not exited."""
        for worker in self._abandoned:
            worker.stop_waiting()

    @property
    def inbox(self) -> Segment:
        """The segment for sources.

        Raises:
            PoolClosed: the segment was released.
        """
        segment = self.segments.get(INBOX_ID)
        if segment is None:
            raise PoolClosed
        return segment

    def now(self) -> float:
        """The time of the pool's clock, in seconds."""
        return self._clock()

    @property
    def concurrency(self) -> int:
        """Number of tasks of the default group that may run at once."""
        return self.core.groups.default.slots.concurrency_limit

    def owns(self, block: Block) -> bool:
        """Whether a block is this pool's, and still held."""
        return self.core.arena.get(block.generation) is block

    # Tasks and memory requests of callers

    def new_task_id(self) -> int:
        """A unique task id for `submit`."""
        return next(self._numbers)

    async def withdraw(self, task_id: int, future: TaskFuture) -> None:
        """Cancel an unsettled task. When this returns, the task has its outcome and its memory is freed. Not cancellable."""
        future.rearm()  # because an output may have set it
        self.apply(TaskCancelled(task_id))
        await future.wait_uncancellable()

    def request_input(self, nbytes: int, addresses_bytes: int = 0) -> BlockFuture:
        """Request a block of the inbox for a caller. It may grow to `addresses_bytes`."""
        if self.gate.internal_error is not None:
            self.gate.raise_if_failed()
        future = self._new_block_future(nbytes)
        self.apply(InputRequested(future.input_id, future.nbytes, addresses_bytes))
        return future

    def request_growth(self, block: Block, nbytes: int, wanted_nbytes: int) -> BlockFuture:
        """Request more pages within the addresses of a block. The future is set when they are reserved, without a block."""
        self.gate.raise_if_failed()
        future = self._new_block_future(nbytes)
        self.apply(GrowthRequested(future.input_id, block.generation, nbytes, wanted_nbytes))
        return future

    def complete_input(self, block: Block, nbytes: int) -> None:
        """Tell the core that a block needs only this many bytes."""
        self.apply(InputCompleted(block.generation, nbytes))

    def _new_block_future(self, nbytes: int) -> BlockFuture:
        future = BlockFuture(next(self._numbers), nbytes, self.affinity.loop)
        self._inputs[future.input_id] = future
        return future

    def reserve_now(self, future: BlockFuture) -> None:
        """Reserve the pages of a requested block, blocking this thread. Without free memory the request stays as it is.

        Raises:
            MemoryLimitExceeded: there is no free memory now, or the request can never be met.
            PoolMisused: called in a forked process, or before the block is provided in another thread or loop than the pool's.
        """
        if not future.is_set or self.affinity.forked:
            self.affinity.check()
        if not future.is_set:
            self._page_manager.work()
            self._driver.apply_page_results()
        if not future.is_set:
            used = self.core.arena.used_bytes
            raise MemoryLimitExceeded(
                future.nbytes, max(self.core.settings.inbox_nbytes - used, 0), limited_by="what is free now", is_temporary=True
            )
        future.check()

    def abandon_input(self, future: BlockFuture) -> None:
        """Cancel a request, or return the block that it was given."""
        if self._inputs.pop(future.input_id, None) is None:
            if future.block is not None:
                self.views.return_block(future.block.generation)
        else:
            self.apply(InputCancelled(future.input_id))

    def forked(self) -> None:
        """Stop deciding in a forked child, because the pool is the parent's. Callers that wait here get `PoolMisused`."""
        self.affinity.forked = True
        self.gate.state = GateState.STOPPED
        self.views.forked()
        if self.affinity.in_thread:  # another thread's loop does not exist in the child
            self._pending_tasks.fail_all(self.affinity.error())
            for future in self._inputs.values():
                future.set_exception(self.affinity.error())

    # The pool's background tasks

    async def _open(self) -> None:
        try:
            await self.background.run_in_thread(self._make_inbox, limiter=self.background.own_threads)
        except OSError as error:
            reason = f"its shared memory could not be created: {describe_spawn_error(error)}"
            raise WorkerDied(None, reason=reason) from error
        self.apply(PoolStarted())
        await self.conditions.opened.wait()
        if self._opening_error is not None:
            raise copy(self._opening_error)  # a copy, because the kept error must not refer to a traceback
        if self.core.phase is PoolPhase.CLOSING:
            raise PoolClosed("the pool was closed while it was opening")

    async def _run_timer(self) -> None:
        driver = self._driver
        while self.gate.state is not GateState.STOPPED:  # a stopped gate never moves `wake_at`: an endless loop
            driver.timer_changed = OneShotEvent(self.affinity.loop)
            driver.timer_deadline = self.core.wake_at
            await wait_until(driver.timer_changed, driver.timer_deadline)
            if self._clock() >= driver.timer_deadline:
                await anyio.lowlevel.checkpoint()  # so that answers which have arrived are read before
                self.apply(TimePassed())

    async def _watch_returns(self) -> None:
        def on_readable() -> bool:
            self.views.drain_wake()
            self.collect_returns()
            return True

        await when_readable(self.affinity.loop, self.views.wake_fd, on_readable)

    def _make_inbox(self) -> None:
        self.segments[INBOX_ID] = Segment(
            self.core.settings.inbox_addresses_nbytes or self.core.settings.inbox_nbytes, workers_write=False
        )

    def release(self) -> None:
        """Release shared memory and descriptors after the last background task has ended. Existing views stay valid.

        May be called again after a KeyboardInterrupt has interrupted it.
        """
        for worker in self.workers:
            worker.close()
        self._pending_tasks.close_files()
        while self.segments:
            self.segments.popitem()[1].close()
        self.views.close()
        self.event_stream.close()
        self._proc_entries.reopen()
        with suppress(KeyError):  # the segment was dropped before
            self.core.arena.drop_segment(INBOX_ID)

    def fail(self, error: BaseException) -> None:
        """End the pool after a defect in offloop, because no decision can be trusted. Every waiting caller gets the error."""
        self.gate.fail(error)
        for worker in self._workers.values():
            worker.kill()
            worker.stop_waiting(self.core.settings.kill_timeout_s)
        self.fail_all(self.gate.error())

    def fail_all(self, error: OffloopError) -> None:
        """Stop deciding, and give this error to every waiting caller."""
        self.gate.state = GateState.STOPPED
        self._pending_tasks.close_files()
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

    def _withdraw_runs(self, command: WithdrawRuns) -> None:
        self._workers[command.slot].withdraw_runs(command)

    def _kill_worker(self, command: KillWorker) -> None:
        self._workers[command.slot].kill()

    def _abandon_worker(self, command: AbandonWorker) -> None:
        worker = self._workers[command.slot]
        self._abandoned.append(worker)
        worker.abandon()

    def _provide_input(self, command: ProvideInput) -> None:
        future = self._inputs.get(command.input_id)
        if future is None:  # abandoned: its `InputCancelled` is still queued
            self.apply(BlocksReturned((command.block.generation,)))
        else:
            future.set_result(command.block)
            del self._inputs[command.input_id]

    def _confirm_growth(self, command: ConfirmGrowth) -> None:
        future = self._inputs.pop(command.input_id, None)
        if future is not None:  # None: abandoned; the block is returned through its first request
            future.set()

    def _refuse_input(self, command: RefuseInput) -> None:
        future = self._inputs.get(command.input_id)
        if future is not None:  # None: abandoned
            future.set_exception(command.error)
            del self._inputs[command.input_id]

    def _view_output(self, output: TaskOutput) -> memoryview | None:
        if output.block is None:
            return None
        assert not isinstance(output.output, WrittenTo)
        assert output.output.block is not None
        return self.views.view(self.segments[output.block.segment_id], output.block, output.output.block.nbytes).toreadonly()

    def _announce_opening(self, command: AnnounceOpening) -> None:
        self._opening_error = command.error
        self.conditions.opened.set()
