"""A fake worker: a thread that implements the worker's protocol and follows a script.

For the supervisor it is like any other worker: it has a channel, reads and writes shared memory, requests memory, and can be
killed. The same contract test runs on it and on real processes. But a script function cannot be interrupted, so it must return.
"""

from __future__ import annotations

import mmap
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from traceback import format_exc
from typing import TypeAlias

import anyio
import msgspec

from ..operation import Operation
from ..runtime.workers.launcher import LaunchedWorker
from ..wire.codec import decode_from_supervisor, encode_frame
from ..wire.framing import MAX_FROM_SUPERVISOR_NBYTES, FrameReader
from ..wire.handles import INBOX, EncodedAt, Handle, RasterAt, WrittenTo
from ..wire.messages import (
    Cancel,
    Configure,
    Done,
    Failed,
    File,
    FromSupervisor,
    FromWorker,
    Grant,
    Loading,
    Need,
    NeedFile,
    Ready,
    Retire,
    Run,
)
from ..wire.status import write_stage
from ..worker.processors import decoder_for, import_object
from .steps import Answer, Die, Refuse, Send, Stall, Step

__all__ = ["Script", "ScriptLauncher", "ScriptedTask", "ScriptedWorker"]

_EXIT_SUPERVISOR_GONE = 70  # exit code, as of a real worker


class ScriptedTask(msgspec.Struct, frozen=True):
    """A task, as the argument of a script function."""

    task_id: int
    slot: int
    """Index of the worker's slot in the pool, from 0."""

    source: bytes
    operations: list[Operation]


Script: TypeAlias = Sequence[Step] | Callable[[ScriptedTask], Step]
"""A step for each task, in the order in which workers start them; or a function, called for each task in a worker's thread."""


class ScriptLauncher:
    """Launcher of workers that share one script."""

    def __init__(self, script: Script, starts: Sequence[Step | None] = ()) -> None:
        self._script = script
        self._steps: Iterator[Step] = iter(()) if callable(script) else iter(script)
        self._starts = iter(starts)
        self._lock = threading.Lock()

    def __call__(self, inbox_fd: int, outbox_fd: int, /) -> LaunchedWorker:
        with self._lock:
            start = next(self._starts, None)
        return ScriptedWorker(self._next, inbox_fd, outbox_fd, start=start)

    def _next(self, task: ScriptedTask) -> Step:
        if callable(self._script):
            return self._script(task)
        with self._lock:
            return next(self._steps, Refuse("script_over", f"the script has no step for task {task.task_id}"))


class _Disconnected(Exception):
    """The supervisor has closed the channel, or has killed this worker."""


class ScriptedWorker:
    """Implements `offloop.runtime.workers.launcher.LaunchedWorker` with a thread."""

    def __init__(
        self, next_step: Callable[[ScriptedTask], Step], inbox_fd: int, outbox_fd: int, *, start: Step | None = None
    ) -> None:
        """Start the thread.

        Args:
            next_step: returns the step for a task.
            inbox_fd, outbox_fd: descriptors of the segments. They are mapped at once, and the caller closes them.
            start: step instead of becoming ready; None: become ready.
        """
        self._next_step = next_step
        self._start = start
        self._frames = FrameReader(MAX_FROM_SUPERVISOR_NBYTES)
        self._received: list[FromSupervisor] = []
        self._descriptors: list[int] = []  # descriptors of files that were received and not yet used
        self._preallocated: Handle | None = None  # result memory that the next task starts with
        self._operations: dict[str, msgspec.msgpack.Decoder[list[Operation]]] = {}
        self._slot = 0
        self._ended = False
        self._exit_code = 0
        self._killed = False
        self._end_lock = threading.Lock()  # guards `_killed`, `_ended` and `_exit_code`
        with ExitStack() as opened:  # closes all if one fails
            self._inbox = opened.enter_context(mmap.mmap(inbox_fd, 0, prot=mmap.PROT_READ))
            self._outbox = opened.enter_context(mmap.mmap(outbox_fd, 0))
            self.channel, self._end = map(opened.enter_context, socket.socketpair())
            self.log_fd, self._stderr = _pipe(opened)
            os.set_blocking(self.log_fd, False)
            self._ended_fd, self._ending = _pipe(opened)  # `_ended_fd` is readable when the thread has ended
            threading.Thread(target=self._run_thread, name="offloop-scripted-worker", daemon=True).start()
            opened.pop_all()

    # Methods that the supervisor calls

    pid = None  # because the worker is a thread

    def kill(self) -> None:
        with self._end_lock:
            if not self._ended:
                self._killed = True
                with suppress(OSError):
                    self._end.shutdown(socket.SHUT_RDWR)

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

    def _run_thread(self) -> None:
        try:
            code = self._serve()
        except _Disconnected:
            code = _EXIT_SUPERVISOR_GONE
        except Exception:  # an error of the script ends the worker, as an error of its own code ends a real one
            self._print(format_exc())
            code = 1
        self._inbox.close()
        self._outbox.close()
        for descriptor in self._descriptors:
            os.close(descriptor)
        with self._end_lock:
            self._ended = True
            self._exit_code = -signal.SIGKILL if self._killed else code
            self._end.close()
        os.close(self._stderr)
        os.close(self._ending)

    def _serve(self) -> int:
        configure = self._receive()
        assert isinstance(configure, Configure), "the first message is Configure"
        self._slot = configure.slot
        for name, source in configure.plugins.items():
            self._operations[name] = decoder_for(import_object(source.reference).operations)
        if self._start is not None:
            code = self._fail_start(self._start)
            if code is not None:
                return code
        else:
            self._send(Loading(threading.get_native_id()))
            self._send(Ready(threading.get_native_id()))
        while True:
            match self._receive():
                case Run() as run:
                    code = self._run_task(run)
                    if code is not None:
                        return code
                case Retire():
                    return 0
                case _:
                    pass  # a message for a task that has ended

    def _fail_start(self, step: Step) -> int | None:
        match step:
            case Die():
                self._print(step.stderr)
                return step.exit_code
            case Send():
                self._send_all(step)
                return None
            case Stall():
                while not (isinstance(self._receive(), Retire) and step.obey):
                    pass
                return 0
            case _:
                raise TypeError(f"{step!r} is a step for a task, and not for a start; use Die, Stall or Send")

    def _run_task(self, run: Run) -> int | None:
        """Do the script's step for a task. Returns the exit code if the worker ends; else None."""
        step = self._next_step(ScriptedTask(run.task_id, self._slot, self._source_of(run), self._operations_of(run)))
        if isinstance(step, Die):
            if step.begun:
                self._write_begun(run)
            self._print(step.stderr)
            return step.exit_code
        self._write_begun(run)
        if run.grant is not None:
            self._preallocated = run.grant
        match step:
            case Answer():
                self._answer(run, step)
            case Refuse():
                self._send(self._failure(run, step.code, step.message))
            case Send():
                self._send_all(step)
            case Stall():
                while not (self._wait_for_cancel(run) and step.obey):
                    pass
                self._send(self._failure(run, "cancelled"))
        return None

    def _answer(self, run: Run, answer: Answer) -> None:
        started_ns = time.monotonic_ns()
        if run.to_file:
            try:
                output: EncodedAt | RasterAt | WrittenTo = self._write_file(run, answer.data)
            except _Refused as refused:
                self._send(self._failure(run, refused.code))
                return
        else:
            try:
                block = self._write_result(run, answer.data) if answer.data else None
            except _Refused as refused:
                self._send(self._failure(run, refused.code))
                return
            output = EncodedAt(block) if answer.shape is None else RasterAt(block, answer.shape, answer.dtype)
        self._send(Done(run.task_id, output, dict(answer.info), started_ns, time.monotonic_ns()))

    def _write_result(self, run: Run, data: bytes) -> Handle:
        """Write a result into the preallocated or a requested block. Returns its handle."""
        if self._preallocated is not None and self._preallocated.nbytes >= len(data):
            block, self._preallocated = self._preallocated, None  # the caller of the task owns it now
        else:
            self._send(Need(run.task_id, len(data)))
            block = self._receive_grant(run)
        self._outbox[block.offset : block.offset + len(data)] = data
        return Handle(block.segment, block.offset, len(data), block.generation)

    def _write_file(self, run: Run, data: bytes) -> WrittenTo:
        self._send(NeedFile(run.task_id))
        while True:
            match self._receive():
                case File(task_id=run.task_id, opened=True):
                    with open(self._descriptors.pop(0), "wb") as file:
                        return WrittenTo(file.write(data))
                case File(task_id=run.task_id):
                    raise _Refused("cannot_write")
                case Cancel(task_id=run.task_id):
                    raise _Refused("cancelled")
                case _:
                    pass

    def _receive_grant(self, run: Run) -> Handle:
        while True:
            match self._receive():
                case Grant(task_id=run.task_id, block=block):
                    if block is None:
                        raise _Refused("memory_limit")
                    return block
                case Cancel(task_id=run.task_id):
                    raise _Refused("cancelled")
                case _:
                    pass

    def _wait_for_cancel(self, run: Run) -> bool:
        message = self._receive()
        return isinstance(message, Cancel) and message.task_id == run.task_id

    def _source_of(self, run: Run) -> bytes:
        handle = run.source.block
        if handle is None:
            return b""
        segment = self._inbox if handle.segment == INBOX else self._outbox
        return segment[handle.offset : handle.offset + handle.nbytes]

    def _operations_of(self, run: Run) -> list[Operation]:
        return [operation for stage in run.stages for operation in self._operations[stage.plugin].decode(stage.operations)]

    def _write_begun(self, run: Run) -> None:
        with memoryview(self._outbox) as page:
            write_stage(page, run.task_id, 0)

    @staticmethod
    def _failure(run: Run, code: str, message: str = "") -> Failed:
        now_ns = time.monotonic_ns()
        return Failed(run.task_id, code, message, None, now_ns, now_ns)

    def _print(self, text: str) -> None:
        os.write(self._stderr, text.encode()[-4096:])  # less than the capacity of a pipe, so it never blocks

    def _send_all(self, step: Send) -> None:
        for message in step.messages:
            self._send(message)

    def _send(self, message: FromWorker | bytes) -> None:
        try:
            self._end.sendall(message if isinstance(message, bytes) else encode_frame(message))
        except OSError:
            raise _Disconnected from None

    def _receive(self) -> FromSupervisor:
        while not self._received:
            try:
                data, descriptors, *_ = socket.recv_fds(self._end, 32 * 1024, 1, socket.MSG_CMSG_CLOEXEC)
                self._descriptors += descriptors
            except OSError:
                data = b""
            if not data:
                raise _Disconnected
            self._received += map(decode_from_supervisor, self._frames.feed(data))
        return self._received.pop(0)


def _pipe(opened: ExitStack) -> tuple[int, int]:
    reader, writer = os.pipe()
    opened.callback(os.close, reader)
    opened.callback(os.close, writer)
    return reader, writer


class _Refused(Exception):
    """The task fails with a code: cancelled, or no memory or file for its result."""

    def __init__(self, code: str) -> None:
        self.code = code
