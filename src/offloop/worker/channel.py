"""The worker's end of the pipe, and the thread that listens to it while a task runs.

Two threads want to read: the main one between tasks and while it waits for memory, the control thread while a processor
runs, for a cancel or the supervisor's end. Only the holder of the right to read does; the right changes hands under a lock.

A wake-up of a sleeping thread costs more than a small task. So the control thread does not watch every task from its first
moment: it looks every few milliseconds whether the same task is still running, only then blocks on the pipe, and sleeps
without any clock when nothing has run for a while.
"""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from ..wire.codec import decode_from_supervisor, encode_frame
from ..wire.framing import MAX_FROM_SUPERVISOR_NBYTES, MAX_FROM_WORKER_NBYTES, FrameReader, ProtocolError
from ..wire.messages import MAX_UNLESS_FAILED_NBYTES, Cancel, Failed, File, FromSupervisor, FromWorker, NeedFile
from .isolation.descriptors import isolate_fd

__all__ = ["Cancellable", "Channel", "MessageTooLarge"]

_TICK_S = 0.004  # how long a task runs before the control thread watches; and how often a cancel is repeated
_NOTE_S = 0.05  # how often a long task's memory is noted
_QUIET_TICKS = 250  # without a task before the control thread sleeps for good
_READ_NBYTES = 32 * 1024
_EXIT_SUPERVISOR_GONE = 70  # EX_SOFTWARE's number; nobody is left to read it


class Cancellable(Protocol):
    """The task that the control thread watches over."""

    @property
    def task_id(self) -> int: ...

    @property
    def cancelled(self) -> bool: ...

    def cancel(self) -> None:
        """Tell the task to stop; called again and again until it does."""
        ...

    def write_status(self) -> None:
        """Write down what a report on the worker's end should say; called now and then while it runs."""
        ...


class MessageTooLarge(ValueError):
    """The supervisor would kill the sender of such a frame."""


class Channel:
    """Messages in both directions. `send` and `next_message` are for the thread that runs the task; one at a time."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._socket.setblocking(True)
        self._frames = FrameReader(MAX_FROM_SUPERVISOR_NBYTES)
        self._received: deque[FromSupervisor] = deque()
        self._cancelled_id: int | None = None  # a task that was told to stop before it was taken up
        self._read_lock = threading.Lock()  # who holds it may take bytes from the socket
        self._watched: Cancellable | None = None  # what the control thread may read for; None: the main thread reads
        self._wake = threading.Semaphore(0)
        self._control_asleep = False
        self._on_idle: Callable[[], object]

    def start_control(self, on_idle: Callable[[], object]) -> None:
        """Start the control thread, before the first task; it has the priority that this thread has by now.

        Args:
            on_idle: is called in that thread each time that the worker has been idle for a second.
        """
        self._on_idle = on_idle
        threading.Thread(target=self._watch_tasks, name="offloop-control", daemon=True).start()

    def send(self, message: FromWorker) -> None:
        """Send, waiting while the pipe is full.

        Raises:
            MessageTooLarge: nothing was sent.
        """
        frame = encode_frame(message)
        if len(frame) > MAX_UNLESS_FAILED_NBYTES:
            limit = MAX_FROM_WORKER_NBYTES if isinstance(message, Failed) else MAX_UNLESS_FAILED_NBYTES
            if len(frame) > limit:
                raise MessageTooLarge(f"{len(frame):,} bytes; the limit is {limit:,}")
        try:
            self._socket.sendall(frame)
        except OSError:
            os._exit(_EXIT_SUPERVISOR_GONE)

    def next_message(self) -> FromSupervisor:
        """The next message that is not a cancel, waiting for it."""
        received = self._received
        while not received:
            self._process_bytes(self._socket.recv(_READ_NBYTES), None)
        return received.popleft()

    def next_message_for(self, task: Cancellable) -> FromSupervisor | None:
        """The next message that is not a cancel, or None once the watched task is cancelled."""
        with self._read_lock:
            self._watched = None  # it is this thread that reads now
        try:
            while not self._received and not task.cancelled:
                self._process_bytes(self._socket.recv(_READ_NBYTES), task)
            return None if task.cancelled else self._received.popleft()
        finally:
            self._watch(task)

    def request_file(self, task: Cancellable) -> int | None:
        """Ask for the file of the watched task and wait for it. The descriptor, which is the caller's; None if the file cannot
        be opened, or the task is cancelled."""
        with self._read_lock:
            self._watched = None  # before the answer can come: a descriptor is lost on a thread that does not expect it
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
        """From now on the control thread listens for this task."""
        if task.task_id == self._cancelled_id:
            task.cancel()
        self._watch(task)

    def _watch(self, task: Cancellable) -> None:
        """Have the control thread listen; it may have gone to sleep while this thread waited for an answer."""
        self._watched = task
        if self._control_asleep:
            self._control_asleep = False
            self._wake.release()

    def unwatch(self) -> None:
        """The task is over; when this returns, the control thread neither reads nor calls anything of it."""
        with self._read_lock:
            self._watched = None

    def _process_bytes(self, data: bytes, watched: Cancellable | None) -> None:
        if not data:
            os._exit(_EXIT_SUPERVISOR_GONE)
        try:
            for frame in self._frames.feed(data):
                message = decode_from_supervisor(frame)
                if not isinstance(message, Cancel):
                    self._received.append(message)
                elif watched is not None and message.task_id == watched.task_id:
                    watched.cancel()
                else:
                    self._cancelled_id = message.task_id  # its `Run` may have come with it, while a plugin was loaded
        except ProtocolError:
            os._exit(_EXIT_SUPERVISOR_GONE)  # whatever that is at the other end, it is not our supervisor

    def _watch_tasks(self) -> None:
        quiet_ticks = 0
        while True:
            seen = self._watched
            if seen is None:
                quiet_ticks += 1
                if quiet_ticks > _QUIET_TICKS:
                    self._on_idle()
                    self._sleep_until_a_task_comes()
                    quiet_ticks = 0
                    continue
            else:
                quiet_ticks = 0
            time.sleep(_TICK_S)
            if seen is not None and self._watched is seen:
                self._listen_for(seen)

    def _sleep_until_a_task_comes(self) -> None:
        self._control_asleep = True
        if self._watched is not None:  # it came between the last look and going to sleep: `watch` may not have seen us asleep
            self._control_asleep = False
            return
        self._wake.acquire()

    def _listen_for(self, task: Cancellable) -> None:
        """Read for a task until it is over, then tell it to stop again and again if it was cancelled."""
        poller = select.poll()
        poller.register(self._socket, select.POLLIN)
        while self._watched is task:
            readable = poller.poll((_TICK_S if task.cancelled else _NOTE_S) * 1000)
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
            data = self._socket.recv(_READ_NBYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        self._process_bytes(data, task)
