"""What any plugin must pass: checks of operations, limits, damage, cancellation, progress, estimate, outputs, sandbox."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from itertools import pairwise
from typing import Any, ClassVar

import msgspec
import pytest

from ...errors import InvalidTask, MemoryLimitExceeded, TaskFailed, TaskTimeout
from ...operation import Operation, Plugin
from ...pool import Pool
from ...processor import Encoded, Payload, TaskCancelled
from ..inline import InlineTask, InlineWorker, run_inline
from .damage import damaged_copies
from .peak import measure_peak

__all__ = ["ProcessorConformance", "ProcessorSubject"]

_MUTATIONS = 60  # damaged sources
_MAX_FACTOR, _MARGIN_NBYTES = 3, 30_000_000  # greatest estimate, relative to the measured peak
_GRACE_S = 5.0  # seconds in which a task must stop, on a busy machine, too


class ProcessorSubject(msgspec.Struct, frozen=True, kw_only=True):
    """A plugin, with a source and a pipeline that its tests use."""

    plugin: type[Plugin]
    """The plugin. It has no parameters, or defaults for all of them. Workers must be able to import its processor."""

    source: bytes
    """A source as the plugin expects it, for a task that is large enough to report progress."""

    pipeline: Sequence[Operation]
    """Operations of the plugin, which give the same result for the same source each time."""

    refused: Sequence[Callable[[], Operation]] = ()
    """Functions that make an operation with wrong parameters: they must raise `InvalidTask`."""

    broken: Sequence[bytes] = ()
    """Sources that the processor must refuse with `TaskFailed`."""

    max_result_nbytes: int = 64 * 1024 * 1024
    """Bytes that the result has at most."""

    reports_progress: bool = False
    """Whether the processor must report progress."""

    survives_memory_limit: bool = True
    """Whether a task that reaches its limit of memory must leave its worker alive. Some native libraries end their process."""

    @property
    def processor(self) -> Any:
        """A new processor of the plugin, which is not opened."""
        module, _, name = self.plugin.processor.partition(":")
        return getattr(import_module(module), name)()


class _RecordingTask(InlineTask):
    """A task that keeps its progress, and is cancelled at one of its checks."""

    def __init__(self, cancelled_at: int | None = None) -> None:
        super().__init__()
        self.fractions: list[float] = []
        self.checks = 0
        self._cancelled_at = cancelled_at

    def progress(self, fraction: float) -> None:
        self.fractions.append(fraction)

    def checkpoint(self) -> None:
        self.checks += 1
        if self.checks == self._cancelled_at:
            self.cancel()
        super().checkpoint()


class ProcessorConformance:
    """Subclass it in a test module, with a name that pytest collects, and set `subject`."""

    subject: ClassVar[ProcessorSubject]

    def run(self, payload: Payload) -> Payload:
        """Runs the pipeline without a pool."""
        return run_inline(self.subject.processor, payload, self.subject.pipeline, settings=self.subject.plugin.settings)

    def _run_in(self, task: InlineTask) -> None:
        processor = self.subject.processor
        processor.open(InlineWorker(self.subject.plugin.settings))
        processor.run(Encoded(self.subject.source), self.subject.pipeline, task)

    def test_a_wrong_operation_cannot_be_made(self) -> None:
        for make in self.subject.refused:
            with pytest.raises(InvalidTask):
                make()

    def test_the_source_is_only_read_and_not_kept(self) -> None:
        memory = bytearray(self.subject.source)
        view = memoryview(memory).toreadonly()
        result = self.run(Encoded(view))
        bytes(result.data)
        del result
        assert memory == self.subject.source
        view.release()
        memory.clear()  # raises BufferError if the processor has kept a part of it

    def test_a_broken_source_is_a_typed_error(self) -> None:
        for source in self.subject.broken:
            with pytest.raises(TaskFailed):
                self.run(Encoded(source))

    def test_a_damaged_source_is_a_typed_error_or_a_result(self) -> None:
        for damaged in damaged_copies(self.subject.source, _MUTATIONS):
            try:
                self.run(Encoded(damaged))
            except (TaskFailed, InvalidTask):
                continue

    def test_no_bytes_make_the_light_half_raise(self) -> None:
        plugin = self.subject.plugin()
        for damaged in damaged_copies(self.subject.source, 4 * _MUTATIONS):
            header = plugin.probe(memoryview(damaged)[: plugin.probe_nbytes])
            plugin.estimate(header, list(self.subject.pipeline), len(damaged))

    def test_a_cancelled_task_stops(self) -> None:
        task = _RecordingTask()
        task.cancel()
        with pytest.raises(TaskCancelled):
            self._run_in(task)

    def test_a_task_that_is_cancelled_while_it_runs_stops(self) -> None:
        whole = _RecordingTask()
        self._run_in(whole)
        assert whole.checks, "call task.checkpoint(), task.allocate() or task.output() so that a task can be stopped"
        with pytest.raises(TaskCancelled):
            self._run_in(_RecordingTask(cancelled_at=(whole.checks + 1) // 2))

    def test_progress_is_a_fraction_that_grows(self) -> None:
        task = _RecordingTask()
        self._run_in(task)
        text = "the processor has not called task.progress(); if it need not, leave `reports_progress` out of the subject"
        assert task.fractions or not self.subject.reports_progress, text
        assert all(0 <= fraction <= 1 for fraction in task.fractions)
        assert all(first <= second for first, second in pairwise(task.fractions))

    def test_the_estimate_is_near_the_measured_peak(self) -> None:
        source, plugin, pipeline = self.subject.source, self.subject.plugin(), list(self.subject.pipeline)
        header = plugin.probe(memoryview(source)[: plugin.probe_nbytes])
        estimate = plugin.estimate(header, pipeline, len(source))
        if estimate is not None:
            measured = measure_peak(self.subject.plugin, source, pipeline, self.subject.max_result_nbytes)
            assert measured <= estimate.peak_bytes <= _MAX_FACTOR * measured + _MARGIN_NBYTES

    def test_a_result_is_no_larger_than_its_bound(self) -> None:
        assert memoryview(self.run(Encoded(self.subject.source)).data).nbytes <= self.subject.max_result_nbytes

    def test_a_worker_goes_on_after_a_task_that_reached_its_limit(self) -> None:
        alone = bytes(self.run(Encoded(self.subject.source)).data)
        assert asyncio.run(self._run_after_limits()) == alone

    async def _run_after_limits(self) -> bytes:
        """The result of a worker whose tasks before had half of the time that they take, and too little memory."""
        source, pipeline = self.subject.source, list(self.subject.pipeline)
        async with Pool(1, plugins=[self.subject.plugin], grace=_GRACE_S) as pool:
            usual_s = min([(await pool.run(source, pipeline)).timings.ran for _ in range(3)])
            with suppress(TaskTimeout):
                await pool.run(source, pipeline, timeout=usual_s / 2)
            if self.subject.survives_memory_limit:
                with suppress(TaskFailed, MemoryLimitExceeded):
                    await pool.run(source, pipeline, memory_limit="1MiB")
            result = bytes(await pool.run(source, pipeline))
            assert pool.statistics().worker_starts == 1, "a task at its time limit did not stop, so its worker was killed"
            return result

    def test_a_sandboxed_worker_gives_the_same_results_one_by_one_and_together(self) -> None:
        alone = bytes(self.run(Encoded(self.subject.source)).data)
        assert asyncio.run(self._run_in_a_pool()) == [alone] * 4

    async def _run_in_a_pool(self) -> list[bytes]:
        """Results of a worker after its sandbox is complete: a file or module that is needed late is missing there."""
        source, pipeline = self.subject.source, list(self.subject.pipeline)
        async with Pool(1, plugins=[self.subject.plugin]) as pool:
            results = [bytes(await pool.run(source, pipeline)) for _ in range(2)]
            outcomes = await pool.run_many(source, {"first": pipeline, "second": pipeline})
            return [*results, *(bytes(outcome.unwrap()) for outcome in outcomes.values())]
