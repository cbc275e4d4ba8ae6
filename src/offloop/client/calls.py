"""The calls that give work to a pool: `run`, `map`, `run_many`, `stream`. `Pool` inherits them."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping
from types import EllipsisType
from typing import Any, TypeVar, Unpack, overload

import msgspec

from ..core.model.pool_phase import PoolPhase
from ..errors import PoolClosed
from ..operation import Operation
from ..plugins import Plan, Planner, Registry
from ..runtime.files.output_files import destination_path
from ..runtime.supervisor import Supervisor
from ..settings import PoolSettings, check_range
from ..task_options import StreamKeywords, TaskKeywords, TaskOptions
from .batches.batch import Batch
from .batches.source_puller import SourcePuller, Sources
from .outputs.frames import MAX_BUFFER, FrameStream, Overrun, check_reading
from .outputs.named_outcomes import NamedOutcomes
from .previews import PreviewCallback, PreviewListener
from .progress_listener import ProgressCallback, run_with_progress
from .results import Result
from .single_flight.flights import FlightTable
from .single_flight.shared_submission import SharedSubmission, error_of_shared_file
from .sources import Source, classify_all
from .staging.stager import SourceStager
from .submission import Submission, TaskTemplate

__all__ = ["Calls"]

SourceT = TypeVar("SourceT")

_OPEN = PoolPhase.OPEN  # a member that is looked up on its class costs 0.1 us on Python 3.11

_MAX_NAME_LENGTH = 100  # characters of a pipeline's name, which travels with each of its outputs


class Calls:
    """The calls of a pool that give work to it."""

    _settings: PoolSettings
    _supervisor: Supervisor | None = None
    _stager: SourceStager
    _registry: Registry
    _planner: Planner
    _flights: FlightTable

    async def run(
        self,
        source: Source,
        pipeline: Iterable[Operation],
        *,
        to: str | os.PathLike[str] | None = None,
        on_progress: ProgressCallback | None = None,
        on_preview: PreviewCallback | None = None,
        coalesce: bool = False,
        **options: Unpack[TaskKeywords],
    ) -> Result:
        """Run a pipeline on a source in a worker, and return the result in shared memory.

        Args:
            source: bytes-like (`bytes` are copied when a worker gets the task, others at once), a `pathlib.Path` (opened now,
                read when a worker gets the task, and refused if the file changes until the task has ended; a `str` is
                refused), a `Buffer` (moved: its view is released), a `Result` (in place if its own worker is idle, else
                copied), or an array of numbers, of 1 to 8 dimensions and any strides (copied at once).
            pipeline: operations in the order in which they are applied.
            to: the path of a file that the worker writes instead of returning bytes: completely or not at all. An existing
                file is replaced and keeps its mode; a symbolic link is replaced and not followed. Nothing is synchronized.
            on_progress: called in the event loop with a `Progress` while the task runs, or waits for a worker or for memory
                (`Progress.waits_for`), at most 20 times a second, once more after success, and never after that. A sync or
                async function; one call ends before the next begins. If it raises, that is logged, it is not called again, and
                the task goes on.
            on_preview: called in the event loop with a `Result` for each preview of the pipeline (`Preview` of offloop-vips),
                before the result. A sync or async function; one call ends before the next begins, and before this call returns.
                If it raises, the same as for `on_progress`. A retry makes previews again. None: no previews are made.
            coalesce: share one task with other calls with `coalesce=True` at the same time that have a source of equal content,
                and an equal pipeline, tenant, priority and number of retries. A call joins a task with limits that are not
                shorter than its own, which then end only its own wait. Each call has a result of its own over the same memory,
                or the same error. The task is cancelled when the last call is. A file is recognized by its path and status if
                it is older than two seconds; memory with gaps (a strided array) is not shared. Not together with `to`.
            options: `timeout`, `queue_timeout`, `retries`, `priority`, `tenant`, `memory_limit`, `labels`: see `TaskKeywords`.

        Raises:
            InvalidTask: the source or the pipeline is invalid, or a file cannot be read.
            QueueFull, QueueTimeout: the queue is full; the task waited longer than `queue_timeout`, or would have had to.
            TaskTimeout: the task ran too long; it was told to stop, and after the grace its worker was killed. Or it was not
                started, because similar tasks take more than twice as long.
            TaskFailed: a processor refused the task or failed.
            WorkerDied: the task's worker crashed or was killed; `report` has the details.
            TaskQuarantined: this source with this pipeline has killed too many workers.
            MemoryLimitExceeded: the source, the result, or the task's estimated memory can never fit; or callers hold all
                memory, and released none for 30 seconds. Waiting for a result's memory does not count towards `timeout`.
            PluginError: a plugin's processor cannot be loaded.
            PoolClosed: the pool is not open, or was closed before the task ended.
            PoolMisused: called in another process, thread or loop than the pool's. All methods but `statistics` raise it.

        Cancelling the call removes the task from the queue, or stops it as a timeout does. The call ends when the task has
        its outcome and its memory is returned.
        """
        supervisor = self._open()
        checked = TaskOptions.checked(self._settings, "run", options, to=to)
        plan = self._planner.plan(pipeline)
        if on_preview is not None:
            checked = checked.with_previews(plan.previews)
        submission = self._submission(supervisor, plan, source, checked)
        if coalesce:
            submission = SharedSubmission(supervisor, self._flights, submission, plan, checked)
        if checked.previews and on_preview is not None:
            submission.on_preview = PreviewListener(on_preview)
        if on_progress is None:
            return await submission.run()
        return await run_with_progress(supervisor, submission, on_progress)

    @overload
    def map(
        self,
        sources: Sources[SourceT],
        pipeline: Iterable[Operation],
        *,
        ordered: bool = False,
        max_in_flight: int | None = None,
        to: Callable[[SourceT], str | os.PathLike[str]] | None = None,
        coalesce: bool = False,
        **options: Unpack[TaskKeywords],
    ) -> Batch[SourceT]: ...

    @overload
    def map(
        self,
        sources: Sources[tuple[SourceT, Iterable[Operation]]],
        pipeline: None = None,
        *,
        ordered: bool = False,
        max_in_flight: int | None = None,
        to: Callable[[SourceT], str | os.PathLike[str]] | None = None,
        coalesce: bool = False,
        **options: Unpack[TaskKeywords],
    ) -> Batch[SourceT]: ...

    def map(
        self,
        sources: Sources[Any],
        pipeline: Iterable[Operation] | None = None,
        *,
        ordered: bool = False,
        max_in_flight: int | None = None,
        to: Callable[[Any], str | os.PathLike[str]] | None = None,
        coalesce: bool = False,
        **options: Unpack[TaskKeywords],
    ) -> Batch[Any]:
        """Run a pipeline on many sources, and iterate over the outcomes as the tasks finish.

            async with pool.map(folder.glob("*.jpg"), [Resize(640), Webp()]) as outcomes:
                async for outcome in outcomes:
                    print(outcome.source, outcome.error or outcome.result.nbytes)

        A source is pulled when there is room for it: few of the batch's tasks wait for memory or a worker, and the reader has
        read the outcomes before. So a batch of a million sources takes the memory of a few. The failure of a task is its
        outcome. Leaving the block cancels the tasks that still run. Nothing is pulled before the block is entered. A preview
        of a pipeline is an outcome, too, with `Outcome.preview`. It comes before that of its source, and at once also in order.

        Args:
            sources: an iterable or async iterable of sources as for `run`; or of pairs (source, pipeline), without `pipeline`.
                An iterable is advanced in the event loop, so each step must be short.
            pipeline: operations for every source; None: each source comes with its pipeline.
            ordered: whether the outcomes come in the order of the sources.
            max_in_flight: maximum number of tasks that run or whose outcomes are unread, from 1. Default: twice the number of
                tasks that may run at once, and at least 8.
            coalesce: as for `run`.
            to: returns the path of the file for the result of a source, as `to` of `run`; None: results stay in memory.
            options: those of each task, see `TaskKeywords`.

        Raises:
            ValueError, TypeError: an option is out of its range, or of the wrong type.
            InvalidTask, PluginError: the pipeline is invalid.
            PoolClosed, PoolMisused: as `run`.
        """
        supervisor = self._open()
        if max_in_flight is not None:
            check_range("max_in_flight", max_in_flight, 1, math.inf, whole=True)
        checked = TaskOptions.checked(self._settings, "map", options)
        pipeline = None if pipeline is None else list(pipeline)
        if pipeline is not None:
            self._planner.plan(pipeline)  # an error of the pipeline is raised here, and not for each source
        if coalesce and to is not None:
            raise error_of_shared_file()

        def submit(
            source: Any, operations: Iterable[Operation], path: str | os.PathLike[str] | None
        ) -> Submission | SharedSubmission:
            plan = self._planner.plan(operations)
            own = (checked if path is None else checked.with_file(path)).with_previews(plan.previews)
            submission = self._submission(supervisor, plan, source, own)
            return SharedSubmission(supervisor, self._flights, submission, plan, own) if coalesce else submission

        return Batch(supervisor, SourcePuller(sources, pipeline, to), submit, ordered=ordered, max_in_flight=max_in_flight)

    def run_many(
        self,
        source: SourceT,
        pipelines: Mapping[str, Iterable[Operation]],
        *,
        to: Mapping[str, str | os.PathLike[str]] | None = None,
        on_progress: ProgressCallback | None = None,
        **options: Unpack[TaskKeywords],
    ) -> NamedOutcomes[SourceT]:
        """Run several named pipelines on one source, in one task. The source is copied once, and decoded once where that is
        cheaper.

            outcomes = await pool.run_many(photo, {"card": [Resize(640), Webp()], "icon": [Resize(64), Webp()]})
            card = outcomes["card"].unwrap()

        Awaited, it gives a dict of all outcomes by name. Entered, it gives each as soon as it is ready:

            async with pool.run_many(photo, pipelines) as outcomes:
                async for name, outcome in outcomes:
                    ...

        The failure of one pipeline is its outcome; the others go on. If the whole task fails (a time-out, a dead worker), the
        pipelines without an outcome have its error. The task is not retried after its first outcome. A preview of a pipeline
        comes before its outcome, with `Outcome.preview`; none is made if the call is awaited.

        Args:
            source: as for `run`.
            pipelines: pipelines by name, of at most 100 characters; up to 32, their previews counted.
            to: paths of files, by name of the pipeline. The server writes them from shared memory: completely or not at all.
            on_progress: as for `run`, for all pipelines together; its last call comes when the last outcome was read.
            options: see `TaskKeywords`; the `timeout` is that of all pipelines together.

        Raises:
            ValueError, TypeError: an option is out of its range, or of the wrong type; or there is no pipeline, or too many.
            InvalidTask, PluginError, PoolClosed, PoolMisused: as `run`, for the source or a pipeline.
        """
        supervisor = self._open()
        check_range("the number of pipelines", len(pipelines), 1, MAX_BUFFER, whole=True)
        for name in pipelines:
            if not isinstance(name, str) or not 1 <= len(name) <= _MAX_NAME_LENGTH:  # pyright: ignore[reportUnnecessaryIsInstance] (callers are not all typed)
                raise ValueError(f"the name {name!r} of a pipeline: must be text of 1 to {_MAX_NAME_LENGTH} characters")
        unknown = set(to or ()) - set(pipelines)
        if unknown:
            raise ValueError(f"to={min(unknown)!r}: there is no pipeline of this name")
        checked = TaskOptions.checked(self._settings, "run_many", options)
        plan = self._planner.plan_many(pipelines)
        check_range("the number of pipelines and previews", len(pipelines) + plan.previews, 1, MAX_BUFFER, whole=True)
        checked = msgspec.structs.replace(checked, credit=len(pipelines), previews=plan.previews)
        paths = {name: destination_path(path) for name, path in (to or {}).items()}
        submission = self._submission(supervisor, plan, source, checked)
        return NamedOutcomes(supervisor, submission, tuple(pipelines), source, paths, on_progress)

    def stream(
        self,
        source: Source,
        pipeline: Iterable[Operation],
        *,
        buffer: int = 4,
        overrun: Overrun = "wait",
        frame_timeout: float | EllipsisType | None = ...,
        idle_timeout: float | None = 60.0,
        on_progress: ProgressCallback | None = None,
        **options: Unpack[StreamKeywords],
    ) -> FrameStream:
        """Run a pipeline whose processor hands over many outputs, and read each as soon as it is ready.

            async with pool.stream(track, [Visualize(fps=30), Jpeg()]) as frames:
                async for frame in frames:
                    await websocket.send_bytes(frame.data)

        Operations that follow the one with many outputs are applied to each of them. Frames are read in place, without a copy.
        A pipeline with one output gives one frame.

        Args:
            source, pipeline: as for `run`.
            buffer: number of unread frames, 1 to 32, beyond which the worker waits or the oldest frame is dropped.
            overrun: "wait": the worker waits until a frame was read; "latest": the oldest unread frame is dropped, and counted
                in `FrameStream.dropped`.
            frame_timeout: seconds that each frame may take in the worker, without waits; None: no limit. Default: `timeout` of
                the pool.
            idle_timeout: seconds for which a worker waits for a reader that reads nothing; None: no limit.
            on_progress: as for `run`; its last call comes when all frames were read.
            options: `queue_timeout`, `retries`, `priority`, `tenant`, `memory_limit`, `labels`: see `StreamKeywords`.

        Raises:
            ValueError, TypeError: an option is out of its range, or of the wrong type.
            InvalidTask, PluginError, PoolClosed, PoolMisused: as `run`. Other errors are raised when the stream is read.
        """
        supervisor = self._open()
        check_reading(buffer, overrun)
        checked = TaskOptions.for_stream(
            self._settings,
            "stream",
            options,
            credit=buffer + (overrun == "latest"),
            frame_timeout=frame_timeout,
            idle_timeout=idle_timeout,
        )
        submission = self._submission(supervisor, self._planner.plan(pipeline), source, checked)
        return FrameStream(supervisor, submission, buffer, overrun, on_progress)

    def _submission(self, supervisor: Supervisor, plan: Plan, source: Any, options: TaskOptions) -> Submission:
        sources = classify_all(source, plan.attachments)
        return Submission(supervisor, self._stager, TaskTemplate.of(plan, options), sources)

    def _open(self) -> Supervisor:
        supervisor = self._supervisor
        if supervisor is None or supervisor.core.phase is not _OPEN:
            raise PoolClosed
        supervisor.affinity.check()
        if supervisor.gate.internal_error is not None:
            supervisor.gate.raise_if_failed()
        return supervisor
