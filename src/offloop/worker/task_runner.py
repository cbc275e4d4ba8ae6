"""One task, one answer: whatever a processor does short of ending the process, the supervisor hears exactly once of it."""

from __future__ import annotations

import os
from time import monotonic_ns, process_time_ns

from ..errors import InvalidTask, PluginError, TaskFailed
from ..processor import Encoded, Payload, TaskCancelled
from ..wire.handles import EncodedAt, Handle, RasterAt, WrittenTo
from ..wire.messages import Done, Failed, Run
from ..wire.status import write_stage
from .channel import Channel
from .isolation.memory_limits import PrivateMemory
from .output import flush_output
from .processors import ProcessorCache
from .result_checks import check_memory, checked_info
from .segments import Segment
from .task import RunningTask

__all__ = ["TaskRunner"]

_TEXT_LIMIT = 32 * 1024  # characters of an error's text and of its traceback

_WRITE_NBYTES = 8 * 1024 * 1024  # of a file at once: between two pieces the task can be stopped

_NOTHING = memoryview(b"")


class TaskRunner:
    """Runs tasks and reports on them."""

    def __init__(self, channel: Channel, outbox: Segment, stages: ProcessorCache, memory: PrivateMemory) -> None:
        self._channel = channel
        self._outbox = outbox
        self._stages = stages
        self._memory = memory
        self._cpu_ns = process_time_ns()  # at the end of the last task
        self._standing: Handle | None = None  # result memory to begin a task with, until a result lies in it

    def run(self, run: Run, source: Payload) -> int:
        """Carry a task out and send its answer. Returns the CPU time that it took, in nanoseconds."""
        channel, memory = self._channel, self._memory
        started_ns = monotonic_ns()
        private_bytes = memory.begin(started_ns)  # the last task has let go of everything, and this one has nothing yet
        if run.grant is not None:
            self._standing = run.grant
        task = RunningTask(run.task_id, run.threads, self._standing, channel, self._outbox, memory)
        channel.watch(task)
        try:
            payload = self._run_stages(run, source, task)
            check_memory(run.stages[-1].plugin, payload)
            output = _write_file(payload, task, channel) if run.to_file else _deliver(payload, task)
            info = checked_info(run.stages[-1].plugin, payload) if payload.info else {}
            channel.unwatch()  # first: nobody is to look at the memory of a task that is over
            flush_output()
            finished_ns = monotonic_ns()
            peak_bytes, cpu_ns = memory.peak(finished_ns), self._take_cpu_ns()
            recycle = self._stages.worker.retiring
            channel.send(Done(run.task_id, output, info, started_ns, finished_ns, private_bytes, peak_bytes, cpu_ns, recycle))
            if not isinstance(output, WrittenTo) and output.block is not None:
                self._release_preallocated(output.block)
        except BaseException as error:  # SystemExit too: a processor does not end the worker by raising
            channel.unwatch()
            flush_output()
            memory.set_soft_limit(None)
            peak_bytes, cpu_ns = memory.peak(monotonic_ns()), self._take_cpu_ns()
            recycle = self._stages.worker.retiring or getattr(error, "recycle", False) is True
            channel.send(_failure(run, error, started_ns, private_bytes, peak_bytes, cpu_ns, recycle=recycle))
        return cpu_ns

    def _release_preallocated(self, block: Handle) -> None:
        """The block of a result belongs to whoever gets the result."""
        if self._standing is not None and block.generation == self._standing.generation:
            self._standing = None

    def _take_cpu_ns(self) -> int:
        """CPU time of all threads since this was last asked, in nanoseconds."""
        before_ns = self._cpu_ns
        self._cpu_ns = now_ns = process_time_ns()
        return now_ns - before_ns

    def _run_stages(self, run: Run, payload: Payload, task: RunningTask) -> Payload:
        for index, stage in enumerate(run.stages):
            # begun: from now on it is given to no other worker
            write_stage(self._outbox.first_page, run.task_id, index, self._memory.nbytes)
            if stage.plugin not in self._stages.loaded:
                task.checkpoint()
                self._load(stage.plugin)
            task.checkpoint()
            self._memory.set_soft_limit(run.private_bytes)
            payload = self._stages.run_stage(stage, payload, task)
        task.checkpoint()
        return payload

    def _load(self, plugin: str) -> None:
        """What a plugin has when it is loaded is not the task's, and not limited with it."""
        self._memory.set_soft_limit(None)
        self._stages.load(plugin)
        self._memory.rebaseline()


def _deliver(payload: Payload, task: RunningTask) -> EncodedAt | RasterAt:
    """Where the result lies; memory that is not the task's own result memory is copied there."""
    data = _flat(payload)
    block = _block_with(data, task) if data else None
    return EncodedAt(block) if isinstance(payload, Encoded) else RasterAt(block, payload.shape, payload.dtype)


def _block_with(data: memoryview, task: RunningTask) -> Handle | None:
    block = task.handle_of(data)
    if block is None:
        place = task.allocate(data.nbytes)
        place[:] = data
        block = task.handle_of(place)
    return block


def _flat(payload: Payload) -> memoryview:
    data = memoryview(payload.data)
    return data.cast("B") if data.nbytes else _NOTHING


def _write_file(payload: Payload, task: RunningTask, channel: Channel) -> WrittenTo:
    """Write the result into the file that the server has opened for it, and will give its name."""
    rest = _flat(payload)
    nbytes, descriptor = rest.nbytes, channel.request_file(task)
    task.checkpoint()
    if descriptor is None:
        raise TaskFailed("cannot_write", "the file cannot be opened")
    try:
        while rest:
            rest = rest[os.write(descriptor, rest[:_WRITE_NBYTES]) :]
            task.checkpoint()
    except OSError as error:
        raise TaskFailed("cannot_write", f"the file cannot be written: {error.strerror}") from None
    finally:
        os.close(descriptor)
    return WrittenTo(nbytes)


def _failure(
    run: Run, error: BaseException, started_ns: int, private_bytes: int, peak_bytes: int, cpu_ns: int, *, recycle: bool
) -> Failed:
    code, message, traceback = "exception", "", None
    if isinstance(error, TaskCancelled):
        code = "cancelled"
    elif isinstance(error, TaskFailed):
        code, message = error.code, error.message
    elif isinstance(error, InvalidTask):
        code, message = "invalid_task", str(error)
    elif isinstance(error, MemoryError) and run.private_bytes is not None:
        code = "memory_limit"
        message = (
            f"the task needed more than the {run.private_bytes:,} bytes of private memory that it may take; that follows from "
            "its estimate (Plugin.estimate, or a guess from the source's length) and its part of memory_limit"
        )
    elif isinstance(error, PluginError):
        code, message, traceback = f"plugin_error:{error.plugin}", error.reason, _traceback_of(error)
    else:
        message, traceback = _text_of(error), _traceback_of(error)
    return Failed(
        run.task_id,
        _sendable(code)[:64],
        _sendable(message),
        traceback,
        started_ns,
        monotonic_ns(),
        private_bytes,
        peak_bytes,
        cpu_ns,
        recycle,
    )


def _sendable(text: object) -> str:
    """Text that can be encoded, whatever a processor made of it: names of files may have bytes in them that are no text."""
    return str(text)[:_TEXT_LIMIT].encode("utf-8", "backslashreplace").decode()


def _text_of(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except BaseException:
        return f"{type(error).__name__} (and its text cannot be had)"


def _traceback_of(error: BaseException) -> str:
    from traceback import format_exception  # noqa: PLC0415 (only failures pay for it)

    return _sendable("".join(format_exception(error))[-_TEXT_LIMIT:])
