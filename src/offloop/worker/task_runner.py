"""Runs one task and sends exactly one answer for it, unless the processor ends the process."""

from __future__ import annotations

import os
from time import monotonic_ns, process_time_ns
from typing import ClassVar

from ..errors import InvalidTask, PluginError, TaskFailed
from ..processor import Encoded, Payload, TaskCancelled
from ..wire.handles import EncodedAt, Handle, RasterAt, WrittenTo
from ..wire.messages import Done, Failed, InfoValue, Output, Run
from ..wire.status import write_stage
from .channel import Channel
from .error_text import text_of
from .isolation.memory_limits import PrivateMemory
from .output import flush_output
from .processors import ProcessorCache
from .result_checks import check_memory, check_payload, checked_info
from .segments import Segment
from .task import RunningTask

__all__ = ["TaskRunner"]

_MAX_TEXT_NBYTES = 24 * 1024  # maximum bytes of an error's text, and of its traceback, in UTF-8; both fit into one frame

_MAX_WRITE_NBYTES = 8 * 1024 * 1024  # maximum bytes of a write to a file; a task can be cancelled between two writes

_EMPTY = memoryview(b"")


class TaskRunner:
    """Runs tasks with the worker's processors, and sends the outputs of each, then `Done` or `Failed`."""

    task_type: ClassVar[type[RunningTask]] = RunningTask

    def __init__(self, channel: Channel, outbox: Segment, processors: ProcessorCache, memory: PrivateMemory) -> None:
        self._channel = channel
        self._outbox = outbox
        self._processors = processors
        self._memory = memory
        self._cpu_ns = process_time_ns()  # CPU time of the process at the end of the last task, in nanoseconds
        self._preallocated: Handle | None = None  # result memory that the next task starts with; None: the last result uses it

    def run(self, run: Run, source: Payload) -> int:
        """Run a task and send its answer. Returns the CPU time of the task in nanoseconds."""
        channel, memory = self._channel, self._memory
        started_ns = monotonic_ns()
        private_bytes = memory.begin(started_ns)  # without any task's memory: the last one has freed its own
        if run.grant is not None:
            self._preallocated = run.grant

        def hand_over(task: RunningTask, payload: Payload, name: str) -> None:
            self._send_output(run, task, payload, name, started_ns)

        task = self.task_type(run, self._preallocated, channel, self._outbox, memory, hand_over)
        channel.watch(task)
        try:
            payload = self._run_stages(run, source, task)
            output, info = (None, {}) if payload is None else self._place_result(run, task, payload)
            channel.unwatch()  # first, because the control thread must not sample the memory after the task
            flush_output()
            finished_ns = monotonic_ns()
            peak_bytes, cpu_ns = memory.peak(finished_ns), self._cpu_ns_since_last_task()
            recycle = self._processors.worker.retiring
            channel.send(Done(run.task_id, output, info, started_ns, finished_ns, private_bytes, peak_bytes, cpu_ns, recycle))
            if isinstance(output, EncodedAt | RasterAt):
                self._release_preallocated(output)
        except BaseException as error:  # includes SystemExit, because a processor must not end the worker by raising
            channel.unwatch()
            flush_output()
            memory.set_soft_limit(None)
            peak_bytes, cpu_ns = memory.peak(monotonic_ns()), self._cpu_ns_since_last_task()
            recycle = self._processors.worker.retiring or getattr(error, "recycle", False) is True
            channel.send(_failure(run, error, started_ns, private_bytes, peak_bytes, cpu_ns, recycle=recycle))
        return cpu_ns

    def _place_result(
        self, run: Run, task: RunningTask, payload: Payload
    ) -> tuple[EncodedAt | RasterAt | WrittenTo, dict[str, InfoValue]]:
        """Check the last output of a task, and put it into result memory or into the task's file."""
        plugin = run.stages[-1].plugin
        check_memory(plugin, payload)
        output = _write_file(payload, task, self._channel) if run.to_file else _place(payload, task)
        return output, checked_info(plugin, payload) if payload.info else {}

    def _send_output(self, run: Run, task: RunningTask, payload: Payload, name: str, started_ns: int) -> None:
        """Hand over an output before the end of the task, after the stages that follow the stage that emitted it."""
        stage = task.stage
        plugin = run.stages[stage].plugin
        check_payload(plugin, payload)
        if stage + 1 < len(run.stages):
            plugin = run.stages[-1].plugin
            payload = check_payload(plugin, self._run_stages(run, payload, task, stage + 1))
            self._begin_stage(run, task, stage)
        check_memory(plugin, payload)
        output, info = _place(payload, task), checked_info(plugin, payload) if payload.info else {}
        self._channel.send(Output(run.task_id, name, output, info, started_ns, monotonic_ns()))
        if output.block is not None:
            task.forget_block(output.block)
        self._release_preallocated(output)

    def _release_preallocated(self, output: EncodedAt | RasterAt) -> None:
        """Forget the preallocated block if an output lies in it, because the caller owns it now."""
        block = output.block
        if self._preallocated is not None and block is not None and block.generation == self._preallocated.generation:
            self._preallocated = None

    def _cpu_ns_since_last_task(self) -> int:
        """Returns the CPU time of all threads since the last call, in nanoseconds."""
        before_ns = self._cpu_ns
        self._cpu_ns = now_ns = process_time_ns()
        return now_ns - before_ns

    def _run_stages(self, run: Run, payload: Payload, task: RunningTask, first: int = 0) -> Payload | None:
        """Run the stages from the first one on. Returns None if one of them handed over all outputs of the task itself."""
        result: Payload | None = payload
        for index in range(first, len(run.stages)):
            self._begin_stage(run, task, index)
            stage = run.stages[index]
            result = self._processors.run_stage(stage, payload, task)
            if result is None and run.credit:
                break
            payload = check_payload(stage.plugin, result)
        task.checkpoint()
        return result

    def _begin_stage(self, run: Run, task: RunningTask, index: int) -> None:
        task.stage = index
        # marks the task as begun: if this worker crashes, the supervisor does not give it to another worker
        write_stage(self._outbox.first_page, run.task_id, index, self._memory.nbytes)
        task.checkpoint()
        self._memory.set_soft_limit(run.private_bytes)


def _place(payload: Payload, task: RunningTask) -> EncodedAt | RasterAt:
    """Returns the location of an output. Copies the output if it is not in the task's own result memory."""
    data = _bytes_of(payload)
    block = _copy_unless_in_block(data, task) if data else None
    return EncodedAt(block) if isinstance(payload, Encoded) else RasterAt(block, payload.shape, payload.dtype)


def _copy_unless_in_block(data: memoryview, task: RunningTask) -> Handle | None:
    handle = task.find_handle(data)
    if handle is None:
        memory = task.allocate(data.nbytes)
        memory[:] = data
        handle = task.find_handle(memory)
    return handle


def _bytes_of(payload: Payload) -> memoryview:
    data = memoryview(payload.data)
    return data.cast("B") if data.nbytes else _EMPTY


def _write_file(payload: Payload, task: RunningTask, channel: Channel) -> WrittenTo:
    """Write the result into the file that the server has opened. The server names the file afterwards."""
    rest = _bytes_of(payload)
    nbytes, descriptor = rest.nbytes, channel.request_file(task)
    task.checkpoint()
    if descriptor is None:
        raise TaskFailed("cannot_write", "the file cannot be opened")
    try:
        while rest:
            rest = rest[os.write(descriptor, rest[:_MAX_WRITE_NBYTES]) :]
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
            f"the task needed more than the {run.private_bytes:,} bytes of private memory that it may use; that limit follows "
            "from its estimate (Plugin.estimate, or a default from the source's length) and its part of memory_limit"
        )
    elif isinstance(error, PluginError):
        code, message, traceback = f"plugin_error:{error.plugin}", error.reason, _traceback_of(error)
    else:
        message, traceback = text_of(error), _traceback_of(error)
    return Failed(
        run.task_id,
        _encodable(code)[:64],
        _encodable(message),
        traceback,
        started_ns,
        monotonic_ns(),
        private_bytes,
        peak_bytes,
        cpu_ns,
        recycle,
    )


def _encodable(text: object) -> str:
    """Returns text that UTF-8 can encode, because file names in an error's text may contain bytes that are not UTF-8."""
    return str(text)[:_MAX_TEXT_NBYTES].encode("utf-8", "backslashreplace")[:_MAX_TEXT_NBYTES].decode(errors="ignore")


def _traceback_of(error: BaseException) -> str:
    from traceback import format_exception  # noqa: PLC0415 (only failures pay for the import)

    text = "".join(format_exception(error))[-_MAX_TEXT_NBYTES:]
    return text.encode("utf-8", "backslashreplace")[-_MAX_TEXT_NBYTES:].decode(errors="ignore")
