"""A worker that is a thread of the server. For the supervisor it is like any other worker, except that a kill has to wait until
the thread reads its channel."""

from __future__ import annotations

import mmap
import os
import select
import signal
import socket
import threading
from contextlib import ExitStack, suppress
from traceback import format_exc
from typing import Generic, NoReturn, TypeVar

import anyio

from ..wire.messages import Configure
from ..worker.channel import EXIT_SUPERVISOR_GONE, Channel
from ..worker.isolation.memory_limits import PrivateMemory
from ..worker.segments import Segment, address_of

__all__ = ["ThreadChannel", "ThreadSegment", "ThreadWorker", "UnmeasuredMemory", "WorkerExit"]

ChannelT = TypeVar("ChannelT", bound="ThreadChannel")


class WorkerExit(Exception):
    """The worker ends with this exit code."""

    def __init__(self, code: int) -> None:
        self.code = code


class ThreadChannel(Channel):
    """The worker's end of the channel, in a thread. If no control thread is started, tasks are not told to stop."""

    def _exit(self) -> NoReturn:
        raise WorkerExit(EXIT_SUPERVISOR_GONE)

    def disconnect(self) -> None:
        """Have the thread read the end of the stream. Called by other threads."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


class ThreadSegment(Segment):
    """Segment that is unmapped with its last view, because the process outlives the worker."""

    def __init__(self, descriptor: int, nbytes: int, *, writable: bool) -> None:
        mapping = mmap.mmap(descriptor, nbytes, prot=mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0))
        os.close(descriptor)
        self._memory = memoryview(mapping)
        self.address = address_of(self._memory) or 0  # only an outbox needs it
        self.first_page = self._memory[: mmap.PAGESIZE]


class UnmeasuredMemory(PrivateMemory):
    """Private memory that is neither measured nor limited, because the process is not the worker's."""

    def __init__(self) -> None:
        self.nbytes = 0

    def sample(self) -> int:
        return 0

    def begin(self, now_ns: int) -> int:  # noqa: ARG002 (the signature is the base's)
        return 0

    def begin_result(self, nbytes: int) -> None:
        pass

    def peak(self, now_ns: int) -> int:  # noqa: ARG002 (the signature is the base's)
        return 0

    def set_soft_limit(self, more_bytes: int | None) -> None:
        pass


class ThreadWorker(Generic[ChannelT]):
    """Implements `offloop.runtime.workers.launcher.LaunchedWorker` with a thread. A subclass has `serve`."""

    def __init__(self, inbox_fd: int, outbox_fd: int, channel_type: type[ChannelT]) -> None:
        """Start the thread.

        Args:
            inbox_fd, outbox_fd: descriptors of the segments. They are duplicated, and the caller closes them.
            channel_type: the class of the worker's end of the channel.
        """
        self._ended = False
        self._exit_code = 0
        self._killed = False
        self._end_lock = threading.Lock()  # guards `_killed`, `_ended` and `_exit_code`
        with ExitStack() as opened:  # closes all if one fails
            segments = [_kept(opened, os.dup(descriptor)) for descriptor in (inbox_fd, outbox_fd)]
            self.channel, end = map(opened.enter_context, socket.socketpair())
            self._worker_channel = channel_type(end.detach())
            opened.callback(self._worker_channel.close)
            self.log_fd, self._stderr = (_kept(opened, descriptor) for descriptor in os.pipe())
            os.set_blocking(self.log_fd, False)
            # `_ended_fd` is readable when the thread has ended
            self._ended_fd, self._ending = (_kept(opened, descriptor) for descriptor in os.pipe())
            threading.Thread(target=self._run_thread, args=segments, name="offloop-worker", daemon=True).start()
            opened.pop_all()

    def serve(self, channel: ChannelT, inbox_fd: int, outbox_fd: int) -> None:
        """Serve until the supervisor retires the worker. Owns and closes the descriptors. Runs in the worker's thread.

        Raises:
            WorkerExit: the worker ends otherwise.
        """
        raise NotImplementedError

    @staticmethod
    def configured(channel: ChannelT, inbox_fd: int, outbox_fd: int) -> tuple[Configure, ThreadSegment, ThreadSegment]:
        """Wait for the configuration. Returns it, the inbox and the outbox, which own the descriptors."""
        try:
            configure = channel.next_message()
            assert isinstance(configure, Configure), "the first message is Configure"
        except BaseException:
            os.close(inbox_fd)
            os.close(outbox_fd)
            raise
        inbox = ThreadSegment(inbox_fd, configure.inbox_nbytes, writable=False)
        return configure, inbox, ThreadSegment(outbox_fd, configure.outbox_nbytes, writable=True)

    # Methods that the supervisor calls

    pid = None  # because the worker is a thread

    def kill(self) -> None:
        with self._end_lock:
            if not self._ended:
                self._killed = True
                self._worker_channel.disconnect()

    async def wait(self, threads: anyio.CapacityLimiter) -> int:  # noqa: ARG002 (only real processes may need a thread)
        await anyio.wait_readable(self._ended_fd)
        return self._exit_code

    def reap(self, timeout_s: float) -> int | None:
        ended, _, _ = select.select([self._ended_fd], [], [], timeout_s)
        return self._exit_code if ended else None

    def close(self) -> None:
        os.close(self.log_fd)
        os.close(self._ended_fd)
        self.channel.close()

    # Methods of the thread

    def _run_thread(self, inbox_fd: int, outbox_fd: int) -> None:
        try:
            self.serve(self._worker_channel, inbox_fd, outbox_fd)
            code = 0
        except WorkerExit as error:
            code = error.code
        except Exception:  # ends the worker, as an error of its own code ends a process
            self._print(format_exc())
            code = 1
        with self._end_lock:
            self._ended = True
            self._exit_code = -signal.SIGKILL if self._killed else code
            self._worker_channel.close()
        os.close(self._stderr)
        os.close(self._ending)

    def _print(self, text: str) -> None:
        os.write(self._stderr, text.encode()[-4096:])  # less than the capacity of a pipe, so it never blocks


def _kept(opened: ExitStack, descriptor: int) -> int:
    """Returns the descriptor, which `opened` closes."""
    opened.callback(os.close, descriptor)
    return descriptor
