"""One worker process from its start to its end: spawned, configured, listened to, reaped."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from enum import Enum
from functools import partial
from math import inf
from time import monotonic
from typing import Protocol

import anyio
import anyio.to_thread

from ...core.memory.arena import INBOX_ID
from ...core.model.commands import StartWorker
from ...core.model.events import (
    AbandonedWorkerExited,
    Event,
    WorkerAbandoned,
    WorkerDisconnected,
    WorkerExited,
    WorkerReported,
    WorkerSpawned,
    WorkerViolatedProtocol,
)
from ...wire.framing import ProtocolError
from ...wire.messages import Configure, File, FromSupervisor, FromWorker, Run, Warm
from ...wire.status import STATUS_NBYTES, Status, read_status
from ..loop.io import clock
from ..memory.segments import Segment
from ..telemetry.safe_logging import SafeLogger
from .channel import LOAD_LIMIT_S, STALL_LIMIT_S, Channel
from .config import WorkerConfig
from .launcher import LaunchedWorker
from .output_log import WORKER_LOGGER, OutputLog
from .spawn_errors import describe_spawn_error

__all__ = ["WorkerConnection"]

_log = SafeLogger("offloop.supervisor")

_FOR_GOOD_S = 1e6  # eleven days: poll() takes no much longer time
_LATE_REAP_LIMIT_S = 5.0  # for a process that was started after its slot was given up; a thread of its own waits


class _Host(Protocol):
    """What a worker's host needs of the supervisor."""

    segments: dict[int, Segment]
    settings: WorkerConfig

    def apply(self, event: Event) -> None: ...
    def abort(self) -> None: ...


class _State(Enum):
    STARTING = "starting"  # a thread makes its outbox and starts its process
    RUNNING = "running"
    ABANDONED = "abandoned"  # it was killed and is not dead: it has no slot any more, and only its end is waited for
    ENDING = "ending"  # its loop ends: it was killed, and is reaped without the loop
    ENDED = "ended"  # it is dead, or never was


class WorkerConnection:
    """Owns the descriptors of one process. Messages that are sent before it runs are kept for it."""

    def __init__(
        self,
        command: StartWorker,
        supervisor: _Host,
        threads: anyio.CapacityLimiter,
        loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        self._loop = loop
        self._slot = command.slot
        self._outbox_id = command.outbox_id
        self._outbox_nbytes = command.outbox_nbytes
        self._helper = command.helper
        self._supervisor = supervisor
        self._threads = threads
        self._unsent: list[FromSupervisor] = []  # until the process runs
        self._channel: Channel | None = None  # None: it does not run yet
        self._log: OutputLog | None = None
        self._process: LaunchedWorker | None = None
        self._clock = clock(loop)
        self._leave_at = inf  # when the process is no longer waited for
        self._scope: anyio.CancelScope | None = None  # None: it is not served yet
        self._is_reaped = False  # without the loop
        self._kill_requested = False  # killed before there was a process to kill
        self._state = _State.STARTING
        self._starting = threading.RLock()  # held while a process comes into being for us, or while its slot is given up

    def send(self, message: FromSupervisor) -> None:
        """Send to the worker, now or as soon as it runs."""
        if self._channel is None or self._log is None:
            self._unsent.append(message)
            return
        if isinstance(message, Run):
            self._log.begin_task(message.task_id)
        elif isinstance(message, Warm):
            self._channel.write_limit_s = LOAD_LIMIT_S  # until it answers: it may not read while it loads
        self._channel.send(message)

    def send_file(self, task_id: int, descriptor: int) -> OSError | None:
        """Send the worker, which has asked for it, its task's file. Returns why the system does not pass it."""
        assert self._channel is not None, "it has asked"
        try:
            self._channel.socket.send_with_descriptor(File(task_id, opened=True), descriptor)
        except ProtocolError as error:
            self._supervisor.apply(WorkerViolatedProtocol(self._slot, str(error)))
        except OSError as error:
            return error
        return None

    def kill(self) -> None:
        """SIGKILL, now or as soon as there is a process."""
        self._kill_requested = True
        if self._process is not None:
            self._process.kill()

    def abandon(self) -> None:
        """Give up the slot: `WorkerAbandoned` is the last event that names it. The process's end is reported by its outbox."""
        with self._starting:
            if self._state is _State.ENDED:
                return  # it died at the last moment, and `WorkerReaped` is next
            self._state = _State.ABANDONED
        if self._log is None:
            self._supervisor.apply(WorkerAbandoned(self._slot))
            return
        self._log.drain_rest()
        self._supervisor.apply(WorkerAbandoned(self._slot, self._last_status(), self._log.tail))

    def leave(self, after_s: float = 0.0) -> None:
        """Wait for the process no longer than that; what ends it later is a thread."""
        self._leave_at = self._clock() + after_s
        if self._scope is not None:
            self._scope.deadline = self._leave_at

    def reap(self, deadline: float) -> int | None:
        """After `kill`: wait for the process's death until then, without the loop. Returns the exit code if there is one."""
        with self._starting:
            if self._state in (_State.STARTING, _State.RUNNING):
                self._state = _State.ENDING
        if self._process is None:
            return None
        left_s = 0.0 if self._state is _State.ABANDONED else max(deadline - monotonic(), 0.0)
        exit_code = self._process.reap(left_s)
        self._is_reaped = exit_code is not None
        return exit_code

    def end(self, deadline: float) -> None:
        """As `reap`, and report it. In the loop's thread; may be called again after a KeyboardInterrupt in the middle of it."""
        exit_code = self.reap(deadline)
        if self._state is _State.ABANDONED:
            self._report_late_end()
        elif self._state is _State.ENDING:
            self._report_end(exit_code, reason="the event loop ended" if self._process is None else None)

    async def run(self) -> None:
        """Run the worker and report what happens to it; `WorkerReaped` is the last event, unless it was abandoned.

        It ends when the process does, or with `leave`. If it is cancelled from outside, the process is for `end` and `close`.
        """
        with anyio.CancelScope(deadline=self._leave_at) as self._scope:
            await self._serve()
        self.close()

    def close(self) -> None:
        """Close the descriptors of the process, if there is one. One that is not dead is reaped by a thread, once it is."""
        process, self._process = self._process, None
        if process is None:
            return
        if self._state is _State.ENDED or self._is_reaped:
            process.close()
            return
        late = "process %s was killed and has not ended: the pool is closed without it, and the system ends it when it can"
        _log.log(logging.WARNING, late, process.pid)
        try:
            threading.Thread(target=_reap_late, args=(process,), name="offloop-reaper", daemon=True).start()
        except RuntimeError:  # the interpreter is at its end, or has no thread to give: the process is init's to reap
            process.close()

    async def _serve(self) -> None:
        try:
            started = await anyio.to_thread.run_sync(self._start, abandon_on_cancel=True, limiter=self._threads)
        except RuntimeError as error:  # no thread
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
        """In a thread: make the outbox, fetch its first page, start the process. Text: why that failed.

        It does not raise: a thread that idles keeps its last error, and with its traceback the segment.
        """
        segments = self._supervisor.segments
        try:
            outbox = Segment(self._outbox_nbytes, workers_write=True)
            segments[self._outbox_id] = outbox  # owned, before anything can fail
            outbox.fetch(0, STATUS_NBYTES)
            process = self._supervisor.settings.launch(segments[INBOX_ID].worker_fd, outbox.worker_fd)
        except Exception as error:  # no memory, no descriptor, no interpreter: the slot must hear of it
            process = describe_spawn_error(error)
        with self._starting:
            if self._state is _State.STARTING:
                self._process = None if isinstance(process, str) else process
                return process
        self._end_late_start(process)
        return "its slot was given up"

    def _end_late_start(self, process: LaunchedWorker | str) -> None:
        """In the starting thread: the slot was given up meanwhile, or the pool was ended."""
        if not isinstance(process, str):
            process.kill()
            process.reap(_LATE_REAP_LIMIT_S)
            process.close()
        if self._state is not _State.ABANDONED:  # else its outbox is dropped when its end is reported
            outbox = self._supervisor.segments.pop(self._outbox_id, None)
            if outbox is not None:
                outbox.close()

    async def _supervise(self, process: LaunchedWorker) -> None:
        channel = self._channel = Channel(process.channel, STALL_LIMIT_S, self._loop)
        log = self._log = OutputLog(self._slot, process.log_fd, self._loop)
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
            self._supervisor.abort()  # one of these tasks was cancelled from outside, and took the others along
        elif self._state is _State.ABANDONED:
            self._report_late_end()
        elif self._state is _State.RUNNING:
            self._report_end(exit_code)

    def _report_end(self, exit_code: int | None, *, reason: str | None = None) -> None:
        """Tell the core that no process is left, with all that the worker had said."""
        self._state = _State.ENDED
        if self._log is None or self._channel is None:
            self._supervisor.apply(WorkerExited(self._slot, exit_code, reason=reason))
            return
        self._log.drain_rest()
        last_words, status, tail = _drain_messages(self._channel), self._last_status(), self._log.tail
        self._supervisor.apply(
            WorkerExited(self._slot, exit_code, reason=reason, status=status, stderr_tail=tail, last_words=last_words)
        )

    def _report_late_end(self) -> None:
        self._state = _State.ENDED
        self._supervisor.apply(AbandonedWorkerExited(self._outbox_id))

    async def _listen(self, channel: Channel) -> None:
        await channel.receive(self._on_message)
        self._report(WorkerDisconnected(self._slot))

    def _on_message(self, message: FromWorker) -> None:
        assert self._channel is not None
        self._channel.write_limit_s = STALL_LIMIT_S
        self._report(WorkerReported(self._slot, message))

    def _report(self, event: Event) -> None:
        """Tell the core, while the process has a slot."""
        if self._state is _State.RUNNING:
            self._supervisor.apply(event)

    async def _report_violations(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except ProtocolError as error:
            self._report(WorkerViolatedProtocol(self._slot, str(error)))

    def _configuration(self) -> Configure:
        inbox = self._supervisor.segments[INBOX_ID]
        settings = self._supervisor.settings
        return Configure(
            self._slot,
            inbox.nbytes,
            self._outbox_nbytes,
            settings.plugins,
            settings.nice,
            settings.max_private_bytes,
            self._helper,
            WORKER_LOGGER.level,
        )

    def _last_status(self) -> Status:
        return read_status(self._supervisor.segments[self._outbox_id].read(0, STATUS_NBYTES))


def _reap_late(process: LaunchedWorker) -> None:
    """In a thread: wait for a process that could not be killed. The interpreter does not wait for it."""
    process.reap(_FOR_GOOD_S)
    process.close()


def _drain_messages(channel: Channel) -> tuple[FromWorker, ...]:
    try:
        return tuple(channel.drain())
    except ProtocolError:
        return ()
