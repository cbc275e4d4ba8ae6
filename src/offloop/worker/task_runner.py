"""Runs one task and sends exactly one answer for it, unless the processor ends the process."""

from __future__ import annotations

import os
from time import monotonic_ns, process_time_ns
from typing import ClassVar

from ..errors import PluginError, TaskFailed
from ..processor import Encoded, Payload, TaskCancelled
from ..wire.handles import EncodedAt, Handle, RasterAt, WrittenTo
from ..wire.messages import Done, Failed, InfoValue, Output, OutputFailed, Run, Skipped
from ..wire.status import write_stage
from .channel import Channel
from .failures import describe_failure, exception_type_of
from .isolation.memory_limits import PrivateMemory
from .named_pipelines import NamedPipeline, group_by_processor, named_pipelines
from .output import flush_output
from .processors import ProcessorCache
from .result_checks import check_memory, check_payload, checked_info
from .segments import Segment
from .task import RunningTask

__all__ = ["TaskRunner"]

_MAX_WRITE_NBYTES = 8 * 1024 * 1024  # maximum bytes of a write to a file; a task can be cancelled between two writes

_EMPTY = memoryview(b"")
_MIN_MEASURED_NS = 500_000  # duration of the shortest task whose CPU time is measured, because that is a slow system call


class TaskRunner:
    """Runs tasks with the worker's processors, and sends the outputs of each, then `Done` or `Failed`."""

    task_type: ClassVar[type[RunningTask]] = RunningTask

    def __init__(self, channel: Channel, outbox: Segment, processors: ProcessorCache, memory: PrivateMemory) -> None:
        self._channel = channel
        self._outbox = outbox
        self._processors = processors
        self._memory = memory
        self._cpu_ns = process_time_ns()  # CPU time of the process at the end of the last task, in nanoseconds
        self._unmeasured_ns = 0  # duration of the tasks since then whose CPU time was not measured, in nanoseconds
        self._preallocated: Handle | None = None  # result memory that the next task starts with; None: the last result uses it

    @property
    def retiring(self) -> bool:
        """Whether a processor has requested that the worker is replaced, so that it begins no further task."""
        return self._processors.worker.retiring

    def skip(self, run: Run) -> None:
        """Do not begin a task. Result memory that came with it is for the next one."""
        if run.grant is not None:
            self._preallocated = run.grant
        self._channel.send(Skipped(run.task_id, run.number))

    def run(self, run: Run, sources: tuple[Payload, ...]) -> int:
        """Run a task on its sources and send its answer. Returns the CPU time of the task in nanoseconds."""
        channel, memory = self._channel, self._memory
        started_ns = monotonic_ns()
        private_bytes = memory.begin(started_ns)  # without any task's memory: the last one has freed its own
        if run.grant is not None:
            self._preallocated = run.grant
        task = self.task_type(
            run, sources, self._preallocated, channel, self._outbox, memory, self._send_output, self._send_preview, started_ns
        )
        channel.watch(task)
        try:
            payload = self._run_named_pipelines(task) if run.pipelines else self._run_stages(sources[0], task)
            output, info = (None, {}) if payload is None else self._place_result(task, payload)
            channel.unwatch()  # first, because the control thread must not sample the memory after the task
            flush_output()
            finished_ns = monotonic_ns()
            cpu_ns = self._cpu_ns_of_task(started_ns, finished_ns)
            peak_bytes = memory.peak(finished_ns)
            recycle = self._processors.worker.retiring
            channel.send(Done(run.task_id, output, info, started_ns, finished_ns, private_bytes, peak_bytes, cpu_ns, recycle))
            if isinstance(output, EncodedAt | RasterAt):
                self._release_preallocated(output)
        except BaseException as error:  # includes SystemExit, because a processor must not end the worker by raising
            channel.unwatch()
            flush_output()
            memory.set_soft_limit(None)
            peak_bytes, cpu_ns = memory.peak(monotonic_ns()), self._cpu_ns_of_task(started_ns, monotonic_ns())
            recycle = self._processors.worker.retiring or getattr(error, "recycle", False) is True
            failure, kind = describe_failure(run, error), exception_type_of(error)
            times = (started_ns, monotonic_ns())
            channel.send(Failed(run.task_id, *failure, *times, private_bytes, peak_bytes, cpu_ns, recycle, kind))
        return cpu_ns

    def _place_result(
        self, task: RunningTask, payload: Payload
    ) -> tuple[EncodedAt | RasterAt | WrittenTo, dict[str, InfoValue]]:
        """Check the last output of a task, and put it into result memory or into the task's file."""
        plugin = task.run.stages[-1].plugin
        check_memory(plugin, payload)
        output = _write_file(payload, task, self._channel) if task.run.to_file else _place(payload, task)
        return output, checked_info(plugin, payload, task.info)

    def _run_named_pipelines(self, task: RunningTask) -> None:
        """Run each pipeline on the first source, and hand over its result or its failure."""
        run, source = task.run, task.sources[0]
        pipelines = list(named_pipelines(run))
        for shared in group_by_processor(pipelines, run.stages, self._processors):
            if len(shared) == 1:
                self._finish_pipeline(task, shared[0], source)
                continue
            left = task.unfinished = dict(enumerate(shared))
            task.end = shared[0].end
            self._begin_stage(task, shared[0].first)
            try:
                stages = [run.stages[pipeline.first] for pipeline in shared]
                for index, result in self._processors.run_many(stages, source, task):
                    pipeline = left.pop(index)
                    if isinstance(result, BaseException):
                        self._send_failure(run, pipeline, result)
                    else:
                        self._finish_pipeline(task, pipeline, result, is_begun=True)
                        task.end = shared[0].end  # because the processor goes on with its stage
            except TaskCancelled:
                raise
            except BaseException as error:
                for pipeline in left.values():
                    self._send_failure(run, pipeline, error)
                left.clear()
            for pipeline in left.values():
                error = PluginError(run.stages[pipeline.first].plugin, "its processor returned no result for a pipeline")
                self._send_failure(run, pipeline, error)

    def _finish_pipeline(self, task: RunningTask, pipeline: NamedPipeline, payload: Payload, *, is_begun: bool = False) -> None:
        """Run the stages of one pipeline, or all after the first if it is begun, and hand over the result or the failure."""
        task.name, task.end = pipeline.name, pipeline.end
        info_of_all = task.info.copy()
        plugin = task.run.stages[pipeline.end - 1].plugin
        try:
            result = check_payload(plugin, self._run_stages(payload, task, pipeline.first + is_begun))
            self._send_payload(task, plugin, result, task.name, last=True)
        except TaskCancelled:
            raise
        except BaseException as error:
            self._send_failure(task.run, pipeline, error)
        task.info = info_of_all

    def _send_failure(self, run: Run, pipeline: NamedPipeline, error: BaseException) -> None:
        self._memory.set_soft_limit(None)
        code, message, traceback = describe_failure(run, error)
        kind = exception_type_of(error)
        self._channel.send(OutputFailed(run.task_id, pipeline.name, code, message, traceback, kind))

    def _send_output(self, task: RunningTask, payload: Payload, name: str) -> None:
        """Hand over an output before the end of the task, after the stages that follow the stage that emitted it."""
        stage, stages = task.stage, task.run.stages
        plugin = stages[stage].plugin
        check_payload(plugin, payload)
        if stage + 1 < task.end:
            plugin = stages[task.end - 1].plugin
            payload = check_payload(plugin, self._run_stages(payload, task, stage + 1))
            self._begin_stage(task, stage)
        self._send_payload(task, plugin, payload, task.name or name)

    def _send_preview(self, task: RunningTask, payload: Payload, pipeline: int | None) -> None:
        """Hand over a preview as it is, without the stages that follow."""
        plugin = task.run.stages[task.stage].plugin
        name = task.name if pipeline is None else task.unfinished[pipeline].name
        self._send_payload(task, plugin, check_payload(plugin, payload), name)

    def _send_payload(self, task: RunningTask, plugin: str, payload: Payload, name: str, *, last: bool = False) -> None:
        check_memory(plugin, payload)
        output, info = _place(payload, task), checked_info(plugin, payload, task.info)
        self._channel.send(Output(task.task_id, name, output, info, task.started_ns, monotonic_ns(), last))
        if output.block is not None:
            task.forget_block(output.block)
        self._release_preallocated(output)

    def _release_preallocated(self, output: EncodedAt | RasterAt) -> None:
        """Forget the preallocated block if an output lies in it, because the caller owns it now."""
        block = output.block
        if self._preallocated is not None and block is not None and block.generation == self._preallocated.generation:
            self._preallocated = None

    def _cpu_ns_of_task(self, started_ns: int, finished_ns: int) -> int:
        """Returns the CPU time of a task, in nanoseconds; 0 if it was so short that to measure it would be a part of its cost.

        The next measurement leaves out the time of unmeasured tasks.
        """
        ran_ns = finished_ns - started_ns
        if ran_ns < _MIN_MEASURED_NS:
            self._unmeasured_ns += ran_ns
            return 0
        unmeasured_ns, self._unmeasured_ns = self._unmeasured_ns, 0
        return max(self._cpu_ns_since_last_task() - unmeasured_ns, 0)

    def _cpu_ns_since_last_task(self) -> int:
        """Returns the CPU time of all threads since the last call, in nanoseconds."""
        before_ns = self._cpu_ns
        self._cpu_ns = now_ns = process_time_ns()
        return now_ns - before_ns

    def _run_stages(self, payload: Payload, task: RunningTask, first: int = 0) -> Payload | None:
        """Run the stages from the first one on. Returns None if one of them handed over all outputs of the task itself."""
        run = task.run
        result: Payload | None = payload
        for index in range(first, task.end):
            self._begin_stage(task, index)
            stage = run.stages[index]
            result = self._processors.run_stage(stage, payload, task)
            if result is None and run.credit > run.previews:
                break
            payload = check_payload(stage.plugin, result)
        task.checkpoint()
        return result

    def _begin_stage(self, task: RunningTask, index: int) -> None:
        task.stage = index
        # marks the task as begun: if this worker crashes, the supervisor does not give it to another worker
        write_stage(self._outbox.first_page, task.task_id, index, self._memory.nbytes)
        task.checkpoint()
        self._memory.set_soft_limit(task.run.private_bytes)


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
