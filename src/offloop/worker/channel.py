"""The worker's end of the socket to the supervisor, and the control thread that reads it while a task runs.

Main and control thread both read the socket: the main thread between tasks and while it waits for memory, the control thread
while a processor runs, for a `Cancel` or the supervisor's death. `_read_lock` ensures that only one does at a time.

Because waking a sleeping thread costs more than a small task, the control thread does not watch a task from its start. It
checks every few milliseconds whether the same task still runs, and only then blocks on the socket. If no task has run for a
second, it sleeps until the next task without polling.
"""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NoReturn, Protocol

from ..wire.codec import decode_from_supervisor, encode_frame
from ..wire.framing import HEADER_NBYTES, MAX_FROM_SUPERVISOR_NBYTES, MAX_FROM_WORKER_NBYTES, FrameReader, ProtocolError
from ..wire.messages import Cancel, File, FromSupervisor, FromWorker, NeedFile, Run
from .isolation.descriptors import isolate_fd

__all__ = ["EXIT_SUPERVISOR_GONE", "Cancellable", "Channel", "MessageTooLarge"]

_TICK_S = 0.004  # seconds between two checks for a task that still runs, and between two repetitions of a cancel
_STATUS_INTERVAL_S = 0.05  # seconds between two updates of the status page during a long task
_MAX_QUIET_TICKS = 250  # ticks without a task before the control thread sleeps until the next task
_READ_NBYTES = 32 * 1024  # maximum bytes of a read
EXIT_SUPERVISOR_GONE = 70
"""Exit code of a worker whose supervisor is gone: EX_SOFTWARE's number."""


class Cancellable(Protocol):
    """A task that the control thread can watch."""

    @property
    def task_id(self) -> int: ...

    @property
    def cancelled(self) -> bool: ...

    def cancel(self) -> None:
        """Tell the task to stop. The control thread repeats the call until the task has stopped."""
        ...

    def write_status(self) -> None:
        """Update the status page, which a crash report shows. Called every 50 ms while the task runs."""
        ...


class MessageTooLarge(ValueError):
    """A message is above its size limit. The supervisor would kill the worker that sends it."""


class Channel:
    """Sends and receives messages. Only the main thread, which runs the tasks, may call `send` and `next_message`."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._socket.setblocking(True)
        self._frames = FrameReader(MAX_FROM_SUPERVISOR_NBYTES)
        self._received: deque[FromSupervisor] = deque()  # messages that are no `Run`
        self._runs: deque[Run] = deque()  # tasks that were sent, in order
        self._cancelled_id: int | None = None  # id of a task that was cancelled before the worker started it
        self._read_lock = threading.Lock()  # guards reads from the socket while a task is watched
        self._watched: Cancellable | None = None  # task for which the control thread reads; None: the main thread reads
        self._wake = threading.Semaphore(0)
        self._control_asleep = False
        self._on_idle: Callable[[], object]

    def start_control(self, on_idle: Callable[[], object]) -> None:
        """Start the control thread, before the first task. It inherits the priority of the calling thread.

        Args:
            on_idle: called in the control thread each time the worker has been idle for a second.
        """
        self._on_idle = on_idle
        threading.Thread(target=self._watch_tasks, name="offloop-control", daemon=True).start()

    def send(self, message: FromWorker) -> None:
        """Send a message. Blocks while the socket's buffer is full.

        Raises:
            MessageTooLarge: the message is above its size limit; nothing was sent.
        """
        frame = encode_frame(message)
        if len(frame) - HEADER_NBYTES > MAX_FROM_WORKER_NBYTES:
            raise MessageTooLarge(f"{len(frame) - HEADER_NBYTES:,} bytes; the limit is {MAX_FROM_WORKER_NBYTES:,}")
        self._send_frame(frame)

    def _send_frame(self, frame: bytes) -> None:
        try:
            self._socket.sendall(frame)
        except OSError:
            self._exit()

    def next_message(self) -> FromSupervisor:
        """Wait for the next message that is not a `Cancel`, and return it."""
        received, runs = self._received, self._runs
        while not received and not runs:
            self._process_bytes(self._receive(), None)
        return received.popleft() if received else runs.popleft()

    def next_message_for(self, task: Cancellable) -> FromSupervisor | None:
        """Wait for the next message about the watched task, and return it; None when the task is cancelled."""
        with self._read_lock:
            self._watched = None  # because the main thread reads now
        try:
            while not self._received and not task.cancelled:
                self._process_bytes(self._receive(), task)
            return None if task.cancelled else self._received.popleft()
        finally:
            self._watch(task)

    def find_message_for(self, task: Cancellable) -> FromSupervisor | None:
        """Return the next message about the watched task, if one has arrived; else None."""
        if not self._received:
            with self._read_lock:
                self._process_bytes_nowait(task)
        return self._received.popleft() if self._received else None

    def request_file(self, task: Cancellable) -> int | None:
        """Request the file of the watched task and wait for it. Returns the descriptor, which the caller owns and closes; None
        if the file cannot be opened, or the task is cancelled."""
        with self._read_lock:
            self._watched = None  # before the request, because the control thread's `recv` would drop the descriptor
        try:
            self.send(NeedFile(task.task_id))
            return self._receive_file(task)
        finally:
            self._watch(task)

    def _receive_file(self, task: Cancellable) -> int | None:
        descriptor: int | None = None
        while not task.cancelled:
            while self._received:
                message = self._received.popleft()
                if isinstance(message, File) and message.task_id == task.task_id:
                    return descriptor
            data, descriptors, _, _ = socket.recv_fds(self._socket, _READ_NBYTES, 1, socket.MSG_CMSG_CLOEXEC)
            for received in descriptors:
                descriptor = isolate_fd(received)
            self._process_bytes(data, task)
        if descriptor is not None:
            os.close(descriptor)
        return None

    def watch(self, task: Cancellable) -> None:
        """Let the control thread read the socket while this task runs."""
        if task.task_id == self._cancelled_id:
            task.cancel()
        self._watch(task)

    def _watch(self, task: Cancellable) -> None:
        """Let the control thread read, and wake it, because it may sleep since this thread waited for an answer."""
        self._watched = task
        if self._control_asleep:
            self._control_asleep = False
            self._wake.release()

    def unwatch(self) -> None:
        """Stop watching the task. After the return, the control thread neither reads nor calls a method of the task."""
        with self._read_lock:
            self._watched = None

    def _receive(self, flags: int = 0) -> bytes:
        """Read once. Returns nothing if the supervisor is gone."""
        try:
            return self._socket.recv(_READ_NBYTES, flags)
        except ConnectionError:  # it closed the socket before it had read everything
            return b""

    def _exit(self) -> NoReturn:
        """End the process, because its supervisor is gone."""
        os._exit(EXIT_SUPERVISOR_GONE)

    def _process_bytes(self, data: bytes, watched: Cancellable | None) -> None:
        if not data:
            self._exit()
        try:
            for frame in self._frames.feed(data):
                message = decode_from_supervisor(frame)
                if isinstance(message, Run):
                    self._runs.append(message)
                elif not isinstance(message, Cancel):
                    self._received.append(message)
                elif watched is not None and message.task_id == watched.task_id:
                    watched.cancel()
                else:
                    self._cancelled_id = message.task_id  # its `Run` may be in `_runs`
        except ProtocolError:
            self._exit()  # because the other end is not our supervisor

    def _watch_tasks(self) -> None:
        quiet_ticks = 0
        while True:
            task = self._watched
            if task is None:
                quiet_ticks += 1
                if quiet_ticks > _MAX_QUIET_TICKS:
                    self._on_idle()
                    self._sleep_until_watch()
                    quiet_ticks = 0
                    continue
            else:
                quiet_ticks = 0
            time.sleep(_TICK_S)
            if task is not None and self._watched is task:
                self._listen_for(task)

    def _sleep_until_watch(self) -> None:
        self._control_asleep = True
        if self._watched is not None:  # a task was watched since the last check, and `_watch` may have read the flag before
            self._control_asleep = False
            return
        self._wake.acquire()

    def _listen_for(self, task: Cancellable) -> None:
        """Read the socket until the task is unwatched. Repeat `cancel` if the task was cancelled, else update its status."""
        poller = select.poll()
        poller.register(self._socket, select.POLLIN)
        while self._watched is task:
            readable = poller.poll((_TICK_S if task.cancelled else _STATUS_INTERVAL_S) * 1000)
            with self._read_lock:
                if self._watched is not task:
                    return
                if readable:
                    self._process_bytes_nowait(task)
                elif task.cancelled:
                    task.cancel()
                else:
                    task.write_status()

    def _process_bytes_nowait(self, task: Cancellable) -> None:
        try:
            data = self._receive(socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        self._process_bytes(data, task)
