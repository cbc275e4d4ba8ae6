"""One worker process from its start to its burial: spawned, configured, listened to, reaped."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

import anyio
import anyio.to_thread

from ..core.arena import INBOX_ID
from ..core.commands import StartWorker
from ..core.events import Event, WorkerExited, WorkerMisbehaved, WorkerReaped, WorkerReported, WorkerSpawned
from ..wire.framing import ProtocolError
from ..wire.messages import Configure, File, FromSupervisor, FromWorker, Run, Warm
from ..wire.status import STATUS_NBYTES, Status, read_status
from .channel import LOAD_LIMIT_S, STALL_LIMIT_S, Channel
from .host_settings import HostSettings
from .launcher import LaunchedWorker
from .segments import Segment
from .start_failure import why_not_started
from .worker_log import WORKER_LOGGER, WorkerLog

__all__ = ["WorkerHost"]


class _Host(Protocol):
    """What a worker's host needs of the supervisor."""

    segments: dict[int, Segment]
    settings: HostSettings

    def apply(self, event: Event) -> None: ...


class WorkerHost:
    """Owns the descriptors of one process. Messages that are sent before it runs are kept for it."""

    def __init__(self, command: StartWorker, supervisor: _Host, threads: anyio.CapacityLimiter) -> None:
        self._slot = command.slot
        self._outbox_id = command.outbox_id
        self._outbox_nbytes = command.outbox_nbytes
        self._helper = command.helper
        self._supervisor = supervisor
        self._threads = threads
        self._unsent: list[FromSupervisor] = []  # until the process runs
        self._channel: Channel | None = None  # None: it does not run yet
        self._log: WorkerLog | None = None
        self._process: LaunchedWorker | None = None
        self._condemned = False  # killed before there was a process to kill

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
            self._channel.line.send_with_descriptor(File(task_id, opened=True), descriptor)
        except ProtocolError as error:
            self._supervisor.apply(WorkerMisbehaved(self._slot, str(error)))
        except OSError as error:
            return error
        return None

    def kill(self) -> None:
        """SIGKILL, now or as soon as there is a process."""
        self._condemned = True
        if self._process is not None:
            self._process.kill()

    async def serve(self) -> None:
        """Run the worker and report what happens to it; `WorkerReaped` is the last event, whatever happens.

        Not cancellable: it ends when the process does, and the supervisor can always see to that.
        """
        with anyio.CancelScope(shield=True):
            try:
                started = await anyio.to_thread.run_sync(self._start, limiter=self._threads)
            except RuntimeError as error:  # no thread
                started = why_not_started(error)
            if isinstance(started, str):
                self._supervisor.apply(WorkerReaped(self._slot, None, reason=f"it could not be started: {started}"))
                return
            self._process = started
            await self._attend(started)

    def _start(self) -> LaunchedWorker | str:
        """In a thread: make the outbox, fetch its first page, start the process. Text: why that failed.

        It does not raise: a thread that idles keeps its last error, and with its traceback the segment.
        """
        try:
            outbox = Segment(self._outbox_nbytes, workers_write=True)
            self._supervisor.segments[self._outbox_id] = outbox  # owned, before anything can fail
            outbox.fetch(0, STATUS_NBYTES)
            return self._supervisor.settings.launch(self._supervisor.segments[INBOX_ID].worker_fd, outbox.worker_fd)
        except Exception as error:  # no memory, no descriptor, no interpreter: the slot must hear of it
            return why_not_started(error)

    async def _attend(self, process: LaunchedWorker) -> None:
        channel = self._channel = Channel(process.channel, STALL_LIMIT_S)
        log = self._log = WorkerLog(self._slot, process.log_fd)
        self._supervisor.apply(WorkerSpawned(self._slot, process.pid))
        channel.send(self._configuration())
        for message in self._unsent:
            channel.send(message)
        if self._condemned:
            process.kill()
        exit_code: int | None = None
        async with anyio.create_task_group() as task_group:
            for work in (channel.write_unsent, channel.time_frames, partial(self._listen, channel)):
                task_group.start_soon(self._hold_to_account, work)
            task_group.start_soon(log.drain)
            exit_code = await process.wait(self._threads)
            task_group.cancel_scope.cancel()
        log.drain_rest()
        last_words = _last_words(channel)
        status = self._last_status()
        process.close()
        self._supervisor.apply(WorkerReaped(self._slot, exit_code, status=status, stderr_tail=log.tail, last_words=last_words))

    async def _listen(self, channel: Channel) -> None:
        apply, slot = self._supervisor.apply, self._slot

        def report(message: FromWorker) -> None:
            channel.write_limit_s = STALL_LIMIT_S
            apply(WorkerReported(slot, message))

        await channel.receive(report)
        self._supervisor.apply(WorkerExited(self._slot))

    async def _hold_to_account(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except ProtocolError as error:
            self._supervisor.apply(WorkerMisbehaved(self._slot, str(error)))

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


def _last_words(channel: Channel) -> tuple[FromWorker, ...]:
    try:
        return tuple(channel.receive_rest())
    except ProtocolError:
        return ()
