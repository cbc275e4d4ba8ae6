"""A fake worker: a thread that runs the worker's own task runner, with a script in place of processors.

For the supervisor it is like any other worker: it has a channel, reads and writes shared memory, requests memory, and can be
killed. The same contract test runs on it and on real processes. But a script function cannot be interrupted, so it must return.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import msgspec

from ..errors import TaskFailed
from ..inline.thread_worker import ThreadChannel, ThreadWorker, UnmeasuredMemory, WorkerExit
from ..operation import Operation, decoder_for
from ..processor import Encoded, Payload, Raster, Task
from ..runtime.workers.launcher import LaunchedWorker
from ..wire.messages import Loading, PluginSource, Ready, Retire, Run, Stage
from ..wire.status import write_stage
from ..worker.channel import Channel
from ..worker.main import serve
from ..worker.processors import ProcessorCache, import_object
from ..worker.segments import Segment
from ..worker.task import RunningTask
from ..worker.task_runner import TaskRunner
from .steps import Answer, Die, Refuse, Send, Stall, Step

__all__ = ["Script", "ScriptLauncher", "ScriptedTask", "ScriptedWorker"]


class ScriptedTask(msgspec.Struct, frozen=True):
    """A task, as the argument of a script function."""

    task_id: int
    slot: int
    """Index of the worker's slot in the pool, from 0."""

    source: bytes
    """Bytes of the first source."""

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


class ScriptedWorker(ThreadWorker["_ScriptChannel"]):
    """Implements `offloop.runtime.workers.launcher.LaunchedWorker` with a thread."""

    def __init__(
        self, next_step: Callable[[ScriptedTask], Step], inbox_fd: int, outbox_fd: int, *, start: Step | None = None
    ) -> None:
        """Start the thread.

        Args:
            next_step: returns the step for a task.
            inbox_fd, outbox_fd: descriptors of the segments. They are duplicated, and the caller closes them.
            start: step instead of becoming ready; None: become ready.
        """
        self._next_step = next_step
        self._start = start
        super().__init__(inbox_fd, outbox_fd, _ScriptChannel)

    def serve(self, channel: _ScriptChannel, inbox_fd: int, outbox_fd: int) -> None:
        """Follow the script."""
        configure, inbox, outbox = self.configured(channel, inbox_fd, outbox_fd)
        if self._start is not None:
            self._fail_start(self._start)
        else:
            channel.send(Loading(threading.get_native_id()))
            channel.send(Ready(threading.get_native_id()))
        script = _ScriptProcessors(configure.slot, configure.plugins, channel)
        serve(channel, _ScriptRunner(channel, outbox, script, self._next_step, self._print), inbox, outbox)

    def _fail_start(self, step: Step) -> None:
        match step:
            case Die():
                self._print(step.stderr)
                raise WorkerExit(step.exit_code)
            case Send():
                self._worker_channel.send_all(step)
            case Stall():
                while not (isinstance(self._worker_channel.next_message(), Retire) and step.obey):
                    pass
                raise WorkerExit(0)
            case _:
                raise TypeError(f"{step!r} is a step for a task, and not for a start; use Die, Stall or Send")


class _ScriptChannel(ThreadChannel):
    def send_all(self, step: Send) -> None:
        """Send messages, and bytes as they are."""
        for message in step.messages:
            if isinstance(message, bytes):
                self._send_frame(message)
            else:
                self.send(message)


class _ScriptProcessors(ProcessorCache):
    """Does the step of the script in the first stage of a task. The other stages return their payload."""

    def __init__(self, slot: int, plugins: dict[str, PluginSource], channel: Channel) -> None:
        super().__init__(slot, plugins)
        self._channel = channel
        self._operations = {name: decoder_for(import_object(source.reference).operations) for name, source in plugins.items()}
        self.step: Answer | Refuse | Stall | None = None  # step of the current task, until it is done

    def operations_of(self, run: Run) -> list[Operation]:
        """Returns the operations of all stages."""
        return [operation for stage in run.stages for operation in self._operations[stage.plugin].decode(stage.operations)]

    def run_stage(self, stage: Stage, payload: Payload, task: Task) -> Payload:  # noqa: ARG002 (the script knows the stages)
        step, self.step = self.step, None
        match step:
            case Answer(shape=None):
                return Encoded(step.data, step.info)
            case Answer():
                return Raster(step.data, step.shape or (), step.dtype, step.info)
            case Refuse():
                raise TaskFailed(step.code, step.message)
            case Stall():
                assert isinstance(task, RunningTask)
                self._stall(step, task)
            case None:
                pass
        return payload

    def _stall(self, step: Stall, task: RunningTask) -> None:
        while self._channel.next_message_for(task) is not None:
            pass
        if step.obey:
            task.checkpoint()
        while True:
            self._channel.next_message()


class _ScriptRunner(TaskRunner):
    """Does the steps of the script that end the worker or break the protocol. The worker's own runner does the others."""

    def __init__(
        self,
        channel: _ScriptChannel,
        outbox: Segment,
        processors: _ScriptProcessors,
        next_step: Callable[[ScriptedTask], Step],
        print_text: Callable[[str], object],
    ) -> None:
        super().__init__(channel, outbox, processors, UnmeasuredMemory())
        self._thread_channel = channel
        self._script = processors
        self._next_step = next_step
        self._print = print_text

    def run(self, run: Run, sources: tuple[Payload, ...]) -> int:
        script = self._script
        source = bytes(sources[0].data)
        step = self._next_step(ScriptedTask(run.task_id, script.worker.slot, source, script.operations_of(run)))
        match step:
            case Die():
                if step.begun:
                    self._begin(run)
                self._print(step.stderr)
                raise WorkerExit(step.exit_code)
            case Send():
                self._begin(run)
                self._thread_channel.send_all(step)
                return 0
            case _:
                script.step = step
                return super().run(run, sources)

    def _begin(self, run: Run) -> None:
        write_stage(self._outbox.first_page, run.task_id, 0)

    def _cpu_ns_since_last_task(self) -> int:
        return 0  # because the process's CPU time is not the worker's
