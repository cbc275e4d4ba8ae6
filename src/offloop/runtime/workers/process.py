"""Starts, kills and reaps worker processes.

`subprocess.Popen` runs in a thread, because it waits for the child's exec. Only this module reaps the child, through its
pidfd, so a pid is never signalled after the kernel may have reused it.
"""

from __future__ import annotations

import errno
import logging
import os
import secrets
import select
import signal
import socket
import subprocess
import threading
from contextlib import ExitStack, suppress
from time import monotonic, sleep

import anyio
import anyio.to_thread

from ..loop import fork_safety
from ..telemetry.safe_logging import SafeLogger
from .command_line import WorkerProgram
from .orphans import kill_orphans

__all__ = ["ProcessLauncher", "WorkerProcess", "spawn"]

_log = SafeLogger("offloop.supervisor")

_SIGNAL_PROCESS_GROUP = 4  # PIDFD_SIGNAL_PROCESS_GROUP, since Linux 6.9
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}
_POLL_S = 0.002  # seconds between checks of a process without a pidfd


class WorkerProcess:
    """One worker process and the server's descriptors for it."""

    def __init__(
        self, process: subprocess.Popen[bytes], worker_id: str, channel: socket.socket, lifeline_fd: int, log_fd: int
    ) -> None:
        """Take ownership of a running child and of the descriptors.

        Raises:
            OSError: no descriptor is free for the pidfd; the caller keeps ownership.
        """
        with fork_safety.fd_lock:
            self._pidfd = _open_pidfd(process.pid)
            if self._pidfd is not None:
                fork_safety.protect(self._pidfd)
        self.channel = channel  # the server's end of the socket pair
        self.log_fd = log_fd  # read end of the child's stdout and stderr
        self.pid = process.pid
        self._process = process
        self._worker_id = worker_id  # in the environment of the child and its descendants
        self._lifeline_fd = lifeline_fd  # closing it kills the child
        self._is_reaped = False
        self._reap_lock = threading.RLock()  # because without a pidfd the pid may be signalled only before it is reaped

    def kill(self) -> None:
        """Send SIGKILL; does nothing after the process was reaped. Any thread may call it."""
        with suppress(ProcessLookupError), self._reap_lock:
            if self._is_reaped:
                return
            if self._pidfd is not None:
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            else:
                os.kill(self.pid, signal.SIGKILL)

    async def wait(self, threads: anyio.CapacityLimiter) -> int | None:
        """Wait until the process has exited, reap it, and kill the processes that it has started.

        Returns the exit code, negative for a signal. None: other code of the server has reaped the process, by waiting for any
        child or by ignoring SIGCHLD.
        """
        if self._pidfd is None:
            await anyio.to_thread.run_sync(self._await_death, abandon_on_cancel=True, limiter=threads)
        else:
            await anyio.wait_readable(self._pidfd)
        exit_code = self._reap()
        await self._kill_orphans(threads)
        return exit_code

    async def _kill_orphans(self, threads: anyio.CapacityLimiter) -> None:
        try:
            killed = await anyio.to_thread.run_sync(kill_orphans, self._worker_id, self.pid, limiter=threads)
        except RuntimeError:  # no thread can be started
            killed = kill_orphans(self._worker_id, self.pid)
        if killed:
            message = "worker process %d left %d processes of other groups behind, which were killed"
            _log.log(logging.WARNING, message, self.pid, killed)

    def reap(self, timeout_s: float) -> int | None:
        """As `wait`, but blocking, without a loop and in any thread. None also if the process has not exited in time."""
        if self._is_reaped or not self._dies_within(timeout_s):
            return None
        exit_code = self._reap()
        kill_orphans(self._worker_id, self.pid)
        return exit_code

    def close(self) -> None:
        """Close the server's descriptors. After that the process is neither signalled nor reaped."""
        with self._reap_lock:
            self._is_reaped = True
        for descriptor in (self._lifeline_fd, self.log_fd, self._pidfd):
            if descriptor is not None:
                fork_safety.close(descriptor)
        with fork_safety.fd_lock:
            fork_safety.unprotect(self.channel.fileno())
            self.channel.close()

    def _await_death(self) -> None:
        with suppress(ChildProcessError):
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)

    def _dies_within(self, timeout_s: float) -> bool:
        """Block until the process has exited. Returns False after the time-out."""
        if self._pidfd is not None:
            death = select.poll()
            death.register(self._pidfd, select.POLLIN)
            return bool(death.poll(timeout_s * 1000))
        deadline = monotonic() + timeout_s
        while self._is_running():
            if monotonic() >= deadline:
                return False
            sleep(_POLL_S)
        return True

    def _is_running(self) -> bool:
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None
        except ChildProcessError:
            return False  # other code of the server has reaped it

    def _reap(self) -> int | None:
        which = (os.P_PID, self.pid) if self._pidfd is None else (os.P_PIDFD, self._pidfd)
        with self._reap_lock:
            if self._is_reaped:
                return None  # another thread was first
            self._kill_group(*which)
            try:
                end = os.waitid(*which, os.WEXITED)  # returns at once, because the process has exited
            except ChildProcessError:
                end = None
            self._is_reaped = True
        self._process.returncode = 0  # because Popen must not wait for a pid that may be reused
        if end is None:
            return None
        return end.si_status if end.si_code == os.CLD_EXITED else -end.si_status

    def _kill_group(self, kind: int, number: int) -> None:
        """Kill the process group: by pidfd where the kernel supports it, else by number, but only before it is reaped."""
        if self._pidfd is not None:
            with suppress(OSError):  # EINVAL from a kernel before 6.9; ESRCH for an empty group
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL, None, _SIGNAL_PROCESS_GROUP)
                return
        with suppress(ChildProcessError, ProcessLookupError, PermissionError):
            os.waitid(kind, number, os.WEXITED | os.WNOWAIT | os.WNOHANG)
            os.killpg(self.pid, signal.SIGKILL)


def _open_pidfd(pid: int) -> int | None:
    """Open a pidfd of the process. None where pidfds are not supported; then a thread waits for the process.

    A Python that was built with old kernel headers has no `os.pidfd_open` (those that uv installs), and gVisor, on which
    Cloud Run runs containers, has no such system call.

    Raises:
        OSError: no descriptor is free.
    """
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError) as error:
        if isinstance(error, OSError) and error.errno in _EXHAUSTED:
            raise
        return None


class ProcessLauncher:
    """`Launcher` that starts worker processes."""

    def __init__(self, program: WorkerProgram) -> None:
        self._program = program

    def __call__(self, inbox_fd: int, outbox_fd: int, /) -> WorkerProcess:
        """Start a worker that inherits these two segments. Blocks for a few milliseconds: call it in a thread.

        Raises:
            OSError: no process, descriptor or memory is available; no process or descriptor is left.
        """
        pipes = _WorkerPipes()
        inherited = (pipes.theirs.fileno(), pipes.lifeline_reader, inbox_fd, outbox_fd)
        worker_id = secrets.token_hex(8)
        process: subprocess.Popen[bytes] | None = None
        try:
            process = subprocess.Popen(
                self._program.command(inherited),
                env=self._program.variables(worker_id),
                stdin=subprocess.DEVNULL,
                stdout=pipes.log_writer,
                stderr=pipes.log_writer,
                pass_fds=inherited,
                process_group=0,  # because a terminal's signals are for the server only
            )
            worker = WorkerProcess(process, worker_id, pipes.ours, pipes.lifeline, pipes.log)
        except BaseException:
            if process is not None:
                process.kill()
                process.wait()
            pipes.close_ours()
            raise
        finally:
            pipes.close_theirs()
        return worker


spawn = ProcessLauncher(WorkerProgram())
"""Launcher of workers with the default program: neither executable nor environment is set."""


class _WorkerPipes:
    """Socket pair, lifeline pipe and output pipe between the server and one worker."""

    def __init__(self) -> None:
        """Open all descriptors.

        Raises:
            OSError: not enough descriptors are free; none is left open.
        """
        with ExitStack() as opened, fork_safety.fd_lock:
            self.ours, self.theirs = (opened.enter_context(end) for end in socket.socketpair())
            self.lifeline_reader, self.lifeline = _pipe(opened)
            self.log, self.log_writer = _pipe(opened)
            os.set_blocking(self.log, False)
            fork_safety.protect(self.ours.fileno(), self.lifeline, self.log)
            opened.pop_all()

    def close_ours(self) -> None:
        with fork_safety.fd_lock:
            fork_safety.unprotect(self.ours.fileno())
            self.ours.close()
        fork_safety.close(self.lifeline)
        fork_safety.close(self.log)

    def close_theirs(self) -> None:
        self.theirs.close()
        os.close(self.lifeline_reader)
        os.close(self.log_writer)


def _pipe(opened: ExitStack) -> tuple[int, int]:
    reader, writer = os.pipe()  # closed on exec, unless in `pass_fds`
    opened.callback(os.close, reader)
    opened.callback(os.close, writer)
    return reader, writer
