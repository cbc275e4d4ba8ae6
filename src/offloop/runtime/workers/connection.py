"""Runs one worker process: starts and configures it, passes its messages to the core, reaps it."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from enum import Enum
from functools import partial
from math import inf
from time import monotonic
from typing import Protocol

import anyio
import anyio.to_thread

from ...core.memory.arena import INBOX_ID
from ...core.model.commands import StartWorker, WithdrawRuns
from ...core.model.events import (
    AbandonedWorkerExited,
    Event,
    RunsWithdrawn,
    WorkerAbandoned,
    WorkerDisconnected,
    WorkerExited,
    WorkerReported,
    WorkerSpawned,
    WorkerViolatedProtocol,
)
from ...system.memory_barrier import execute_barrier
from ...wire.claims import withdraw_runs
from ...wire.framing import ProtocolError
from ...wire.messages import Configure, Done, Failed, File, FromSupervisor, FromWorker, Run, Skipped
from ...wire.status import STATUS_NBYTES, Status, read_status
from ..loop.background import BackgroundTasks
from ..loop.io import clock
from ..memory.segments import Segment
from ..memory.source_file import CallerMemory
from ..telemetry.safe_logging import SafeLogger
from .channel import STALL_LIMIT_S, Channel
from .config import WorkerConfig
from .launcher import LaunchedWorker, reap_late
from .output_log import WORKER_LOGGER, OutputLog
from .source_delivery import SourceDelivery
from .spawn_errors import describe_spawn_error
from .worker_inbox import WorkerInbox

__all__ = ["WorkerConnection"]

_log = SafeLogger("offloop.supervisor")

_ANSWERS = (Done, Failed)  # no union, because that would be made anew for each check

_LATE_REAP_LIMIT_S = 5.0  # for a process that was started after its slot was given up; the starting thread waits


class _Supervisor(Protocol):
    """The part of `Supervisor` that a connection uses."""

    segments: dict[int, Segment]
    settings: WorkerConfig
    background: BackgroundTasks

    def apply(self, event: Event) -> None: ...
    def abort(self) -> None: ...
    def memory_of(self, task_id: int) -> Sequence[CallerMemory] | None: ...


class _State(Enum):
    STARTING = "starting"  # a thread creates the outbox and starts the process
    RUNNING = "running"  # the process runs
    ABANDONED = "abandoned"  # killed, did not exit in time, and lost its slot; only its exit is still awaited
    ENDING = "ending"  # the loop ends: the process was killed, and is reaped without the loop
    ENDED = "ended"  # the process has exited, or was never started


class WorkerConnection:
    """One worker process and its descriptors. Messages that are sent before the process runs are buffered."""

    def __init__(
        self,
        command: StartWorker,
        supervisor: _Supervisor,
        threads: anyio.CapacityLimiter,
        loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        self._loop = loop
        self._slot = command.slot
        self._outbox_id = command.outbox_id
        self._outbox_nbytes = command.outbox_nbytes
        self._group = command.group
        self._plugins = command.plugins
        self._supervisor = supervisor
        self._threads = threads
        self._unsent: list[FromSupervisor] = []  # messages that wait for the process to run
        self._runs: deque[Run] = deque()  # those without an answer
        self._failed: dict[int, Failed] = {}  # failures of runs behind another one whose sources were not copied, by task id
        self._channel: Channel | None = None  # None: the process does not run yet
        self._log: OutputLog | None = None
        self._process: LaunchedWorker | None = None
        self._clock = clock(loop)
        self._stop_waiting_at = inf  # loop time at which the wait for the process ends
        self._scope: anyio.CancelScope | None = None  # None: `run` was not called yet
        self._is_reaped = False  # whether `reap` has reaped the process
        self._kill_requested = False  # whether `kill` was called, possibly before the process was started
        self._state = _State.STARTING
        self._inbox: WorkerInbox | None = None  # the worker's own inbox; None: not made yet, or it maps the pool's
        self.sources: SourceDelivery | None = None
        """The sources in its own inbox. None: the process does not run yet, or maps the pool's inbox."""
        self._start_lock = threading.RLock()  # held while the started process is stored, and while the slot is given up

    def send(self, message: FromSupervisor) -> None:
        """Send a message to the worker, now or as soon as the process runs."""
        if self._channel is None or self._log is None:
            self._unsent.append(message)
            return
        send = self._channel.send
        if type(message) is not Run:
            send(message)
            return
        self._runs.append(message)
        if len(self._runs) == 1:
            self._log.begin_task(message.task_id, message.labels)
        else:
            send = self._channel.send_soon
        if self.sources is None:
            send(message)
        else:
            self.sources.send_run(message, send)

    def withdraw_runs(self, command: WithdrawRuns) -> None:
        """Withdraw runs that the worker has not begun, and report which ones it keeps."""
        outbox, first, last = self._supervisor.segments.get(command.outbox_id), command.first, command.last
        withdraw = partial(withdraw_runs, first=first, last=last, execute_barrier=execute_barrier)
        begun = last if outbox is None else outbox.with_first_page(withdraw)
        kept_to = max(begun, first - 1)
        while self._runs and self._runs[-1].number > kept_to:
            run = self._runs.pop()
            self._failed.pop(run.task_id, None)
            if self.sources is not None:
                self.sources.note_end(run.task_id)
        self._supervisor.apply(RunsWithdrawn(command.slot, command.outbox_id, kept_to))

    def send_file(self, task_id: int, descriptor: int) -> OSError | None:
        """Send the worker the open file of its task, which it has asked for. Returns the error if the system refuses."""
        assert self._channel is not None, "the worker has asked for the file"
        try:
            self._channel.socket.send_with_descriptor(File(task_id, opened=True), descriptor)
        except ProtocolError as error:
            self._supervisor.apply(WorkerViolatedProtocol(self._slot, str(error)))
        except OSError as error:
            return error
        return None

    def kill(self) -> None:
        """Send SIGKILL, now or as soon as the process is started."""
        self._kill_requested = True
        if self._process is not None:
            self._process.kill()

    def abandon(self) -> None:
        """Give up the slot. `WorkerAbandoned` is the last event with the slot; `AbandonedWorkerExited` names the outbox."""
        with self._start_lock:
            if self._state is _State.ENDED:
                return  # it has just exited, and `WorkerExited` is queued
            self._state = _State.ABANDONED
        if self._log is None:
            self._supervisor.apply(WorkerAbandoned(self._slot))
            return
        self._log.drain_rest()
        self._supervisor.apply(WorkerAbandoned(self._slot, self._last_status(), self._log.tail))

    def stop_waiting(self, after_s: float = 0.0) -> None:
        """Stop waiting for the process after this time. A thread reaps it later."""
        self._stop_waiting_at = self._clock() + after_s
        if self._scope is not None:
            self._scope.deadline = self._stop_waiting_at

    def reap(self, deadline: float) -> int | None:
        """Wait for a killed process until the deadline, without the loop. Returns the exit code, None if it is unknown."""
        with self._start_lock:
            if self._state in (_State.STARTING, _State.RUNNING):
                self._state = _State.ENDING
        if self._process is None:
            return None
        left_s = 0.0 if self._state is _State.ABANDONED else max(deadline - monotonic(), 0.0)
        exit_code = self._process.reap(left_s)
        self._is_reaped = exit_code is not None
        return exit_code

    def end(self, deadline: float) -> None:
        """Reap the process and report its exit, in the loop's thread. May be called again after a KeyboardInterrupt."""
        exit_code = self.reap(deadline)
        if self._state is _State.ABANDONED:
            self._report_late_end()
        elif self._state is _State.ENDING:
            self._report_end(exit_code, reason="the event loop ended" if self._process is None else None)

    async def run(self) -> None:
        """Run the worker and report its events to the core. The last one is `WorkerExited`, unless it was abandoned.

        Returns when the process has exited, or after `stop_waiting`. If it is cancelled from outside, `end` and `close` reap
        the process.
        """
        with anyio.CancelScope(deadline=self._stop_waiting_at) as self._scope:
            await self._serve()
        self.close()

    def close(self) -> None:
        """Close the descriptors of the process. If the process has not exited, a thread waits for it first."""
        self._close_inbox()
        process, self._process = self._process, None
        if process is None:
            return
        if self._state is _State.ENDED or self._is_reaped:
            process.close()
            return
        text = "process %s was killed and has not ended: the pool is closed without it, and the system ends it when it can"
        _log.log(logging.WARNING, text, process.pid)
        reap_late(process)

    def _close_inbox(self) -> None:
        with self._start_lock:  # because the thread that starts the process may close it, too
            inbox, self._inbox = self._inbox, None
        if inbox is not None:
            inbox.close()

    async def _serve(self) -> None:
        try:
            started = await anyio.to_thread.run_sync(self._start, abandon_on_cancel=True, limiter=self._threads)
        except RuntimeError as error:  # no thread can be started
            started = describe_spawn_error(error)
        if self._state is _State.ABANDONED:
            self._report_late_end()
        elif self._state is not _State.STARTING:
            return
        elif isinstance(started, str):
            self._report_end(None, reason=f"it could not be started: {started}")
        else:
            self._state = _State.RUNNING
            await self._supervise(started)

    def _start(self) -> LaunchedWorker | str:
        """Create the segments, reserve the first page and start the process, in a thread. Returns a text if that fails.

        It does not raise, because an idle thread keeps its last error, and the traceback would keep the segment.
        """
        segments, group = self._supervisor.segments, self._supervisor.settings.groups[self._group]
        try:
            if group.inbox_nbytes is not None:
                self._inbox = WorkerInbox(group.inbox_nbytes)
            outbox = Segment(self._outbox_nbytes, workers_write=True)
            segments[self._outbox_id] = outbox  # in the table before anything can fail
            outbox.reserve_pages(0, STATUS_NBYTES)
            process = group.launch((self._inbox or segments[INBOX_ID]).worker_fd, outbox.worker_fd)
        except Exception as error:  # no memory, descriptor or interpreter: reported to the slot
            process = describe_spawn_error(error)
        with self._start_lock:
            if self._state is _State.STARTING:
                self._process = None if isinstance(process, str) else process
                return process
        self._discard_late_start(process)
        return "its slot was given up"

    def _discard_late_start(self, process: LaunchedWorker | str) -> None:
        """End a process whose slot was given up, or whose pool was ended, during the start. Runs in the starting thread."""
        if not isinstance(process, str):
            process.kill()
            process.reap(_LATE_REAP_LIMIT_S)
            process.close()
        self._close_inbox()
        if self._state is not _State.ABANDONED:  # an abandoned worker's outbox is dropped after its exit is reported
            outbox = self._supervisor.segments.pop(self._outbox_id, None)
            if outbox is not None:
                outbox.close()

    async def _supervise(self, process: LaunchedWorker) -> None:
        channel = self._channel = Channel(process.channel, STALL_LIMIT_S, self._loop)
        log = self._log = OutputLog(self._slot, process.log_fd, self._loop)
        if self._inbox is not None:
            pool, inbox = self._supervisor, self._supervisor.segments[INBOX_ID]
            self.sources = SourceDelivery(self._inbox, inbox, pool.background, pool.memory_of, pool.apply, self._fail_run)
        self._supervisor.apply(WorkerSpawned(self._slot, process.pid))
        channel.send(self._configuration())
        for message in self._unsent:
            channel.send(message)
        if self._kill_requested:
            process.kill()
        reaped, exit_code = False, None
        async with anyio.create_task_group() as task_group:
            for work in (channel.write_unsent, channel.time_frames, partial(self._listen, channel)):
                task_group.start_soon(self._report_violations, work)
            task_group.start_soon(log.drain)
            exit_code = await process.wait(self._threads)
            reaped = True
            task_group.cancel_scope.cancel()
        if not reaped:
            self._supervisor.abort()  # a task of the group was cancelled from outside
        elif self._state is _State.ABANDONED:
            self._report_late_end()
        elif self._state is _State.RUNNING:
            self._report_end(exit_code)

    def _report_end(self, exit_code: int | None, *, reason: str | None = None) -> None:
        """Report `WorkerExited` to the core, with the worker's unread messages, status and output."""
        self._state = _State.ENDED
        if self._log is None or self._channel is None:
            self._supervisor.apply(WorkerExited(self._slot, exit_code, reason=reason))
            return
        self._log.drain_rest()
        messages, status, tail = self._channel.drain_last(), self._last_status(), self._log.tail
        self._supervisor.apply(
            WorkerExited(self._slot, exit_code, reason=reason, status=status, stderr_tail=tail, last_words=messages)
        )

    def _report_late_end(self) -> None:
        self._state = _State.ENDED
        self._supervisor.apply(AbandonedWorkerExited(self._outbox_id))

    async def _listen(self, channel: Channel) -> None:
        await channel.receive(self._on_messages)
        self._report(WorkerDisconnected(self._slot))

    def _on_messages(self, messages: list[FromWorker]) -> None:
        """Report the messages of one read. Several answers are one event."""
        if len(messages) == 1:  # the usual case of an idle pool
            self._on_message(messages[0])
            return
        answers = [message for message in messages if isinstance(message, _ANSWERS)]
        if self._failed or len(answers) < len(messages):
            for message in messages:
                self._on_message(message)
            return
        self._end_runs(answers)
        self._report(WorkerReported(self._slot, answers[0], tuple(answers[1:])))

    def _on_message(self, message: FromWorker) -> None:
        runs = self._runs
        if isinstance(message, _ANSWERS) or (type(message) is Skipped and runs and message.number == runs[0].number):
            self._end_runs((message,))
        self._report(WorkerReported(self._slot, message))
        if self._failed and self._runs and self._runs[0].task_id in self._failed:
            self._on_message(self._failed.pop(self._runs[0].task_id))

    def _fail_run(self, failed: Failed) -> None:
        """A run does not reach the worker. It fails when its turn has come."""
        if self._runs and self._runs[0].task_id != failed.task_id:
            self._failed[failed.task_id] = failed
        else:
            self._on_message(failed)

    def _end_runs(self, answers: Iterable[Done | Failed | Skipped]) -> None:
        """Runs have ended: the output of the next one begins. Answers for withdrawn runs are ignored."""
        runs, before = self._runs, len(self._runs)
        for answer in answers:
            if runs and answer.task_id == runs[0].task_id:
                runs.popleft()
            if self.sources is not None:
                self.sources.note_end(answer.task_id)
        if runs and len(runs) < before and self._log is not None:
            self._log.begin_task(runs[0].task_id, runs[0].labels)

    def _report(self, event: Event) -> None:
        """Report an event to the core, if the process still has its slot."""
        if self._state is _State.RUNNING:
            self._supervisor.apply(event)

    async def _report_violations(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except ProtocolError as error:
            self._report(WorkerViolatedProtocol(self._slot, str(error)))

    def _configuration(self) -> Configure:
        inbox = self._inbox or self._supervisor.segments[INBOX_ID]
        settings = self._supervisor.settings
        group = settings.groups[self._group]
        return Configure(
            self._slot,
            inbox.nbytes,
            self._outbox_nbytes,
            {name: settings.plugins[name] for name in self._plugins},
            group.nice,
            settings.max_private_bytes,
            WORKER_LOGGER.level,
            group.sandbox,
            group.needs,
        )

    def _last_status(self) -> Status:
        return read_status(self._supervisor.segments[self._outbox_id].read(0, STATUS_NBYTES))
