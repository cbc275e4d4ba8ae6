"""The kit for plugins finds the faults that it is for. `tests/cli/test_new_plugin.py` has a plugin that passes it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, ClassVar

import limits_plugin
import pytest

from offloop import Encoded, Operation, Payload, Plugin, Task, TaskFailed, WorkerDied
from offloop.testing import ProcessorConformance, ProcessorSubject


class Step(Operation, frozen=True):
    """The operation of all these plugins."""


class Sound:
    """A processor without a fault."""

    kept: ClassVar[list[Any]] = []

    def open(self, worker: object) -> None:
        pass

    def run(self, payload: Payload, operations: Sequence[Operation], task: Task) -> Payload:
        if not len(payload.data):
            raise TaskFailed("corrupt_source", "it is empty")
        for percent in range(0, 100, 10):
            task.checkpoint()
            task.progress(percent / 100)
        return Encoded(bytes(payload.data))


class KeepsTheSource(Sound):
    def run(self, payload: Payload, operations: Sequence[Operation], task: Task) -> Payload:
        self.kept.append(memoryview(payload.data))
        return super().run(payload, operations, task)


class WritesIntoTheSource(Sound):
    def run(self, payload: Payload, operations: Sequence[Operation], task: Task) -> Payload:
        memoryview(payload.data)[0] = 0
        return super().run(payload, operations, task)


class NeverStops(Sound):
    def run(self, payload: Payload, operations: Sequence[Operation], task: Task) -> Payload:
        return Encoded(bytes(payload.data))


class StopsOnlyAtItsStart(Sound):
    def run(self, payload: Payload, operations: Sequence[Operation], task: Task) -> Payload:
        task.checkpoint()
        for _ in range(3):
            with suppress(Exception):
                task.checkpoint()
        return Encoded(bytes(payload.data))


class GoesBack(Sound):
    def run(self, payload: Payload, operations: Sequence[Operation], task: Task) -> Payload:
        task.progress(0.9)
        return super().run(payload, operations, task)


class RaisesAnything(Sound):
    def run(self, payload: Payload, operations: Sequence[Operation], task: Task) -> Payload:
        if bytes(payload.data) != SOURCE:
            raise ValueError("an error without a type of offloop")
        return super().run(payload, operations, task)


SOURCE = bytes(range(1, 256))


def kit_for(kind: type[Sound], **settings: Any) -> ProcessorConformance:
    class FaultyPlugin(Plugin):
        name = "faulty"
        operations = (Step,)
        processor = f"{__name__}:{kind.__name__}"

        def probe(self, data: Any) -> None:
            if kind is RaisesAnything and bytes(data) != SOURCE:
                raise ValueError("a header that the author did not expect")

    class Subject(ProcessorSubject, frozen=True):
        @property
        def processor(self) -> Any:
            return kind()

    class Kit(ProcessorConformance):
        subject = Subject(plugin=FaultyPlugin, source=SOURCE, pipeline=[Step()], reports_progress=True, **settings)

    return Kit()


IN_PROCESS = sorted(name for name in dir(ProcessorConformance) if name.startswith("test_") and "worker" not in name)


@pytest.mark.parametrize("name", IN_PROCESS)
def test_a_sound_processor_passes(name: str) -> None:
    getattr(kit_for(Sound, broken=[b""]), name)()


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (KeepsTheSource, "test_the_source_is_only_read_and_not_kept"),
        (WritesIntoTheSource, "test_the_source_is_only_read_and_not_kept"),
        (NeverStops, "test_a_cancelled_task_stops"),
        (NeverStops, "test_a_task_that_is_cancelled_while_it_runs_stops"),
        (StopsOnlyAtItsStart, "test_a_task_that_is_cancelled_while_it_runs_stops"),
        (GoesBack, "test_progress_is_a_fraction_that_grows"),
        (NeverStops, "test_progress_is_a_fraction_that_grows"),
        (RaisesAnything, "test_a_damaged_source_is_a_typed_error_or_a_result"),
        (RaisesAnything, "test_no_bytes_make_the_light_half_raise"),
    ],
)
def test_a_fault_is_found(kind: type[Sound], name: str) -> None:
    with pytest.raises(BaseException):  # noqa: B017, PT011 (a failure of pytest.raises is none of Exception)
        getattr(kit_for(kind), name)()
    KeepsTheSource.kept.clear()


def test_a_source_that_should_be_refused_and_is_not_is_found() -> None:
    with pytest.raises(BaseException, match="DID NOT RAISE"):
        kit_for(Sound, broken=[SOURCE]).test_a_broken_source_is_a_typed_error()


def test_an_operation_that_should_be_refused_and_is_not_is_found() -> None:
    with pytest.raises(BaseException, match="DID NOT RAISE"):
        kit_for(Sound, refused=[Step]).test_a_wrong_operation_cannot_be_made()


def kit_with_limits(plugin: type[Plugin], **settings: Any) -> ProcessorConformance:
    class Kit(ProcessorConformance):
        subject = ProcessorSubject(plugin=plugin, source=SOURCE, pipeline=[limits_plugin.Step()], **settings)

    return Kit()


def test_a_processor_that_stops_and_fails_in_order_passes_the_test_of_limits() -> None:
    kit_with_limits(limits_plugin.SteadyPlugin).test_a_worker_goes_on_after_a_task_that_reached_its_limit()


def test_a_processor_that_ends_its_process_for_want_of_memory_is_found_or_declared() -> None:
    with pytest.raises(WorkerDied):
        kit_with_limits(limits_plugin.EndsItsProcessPlugin).test_a_worker_goes_on_after_a_task_that_reached_its_limit()
    declared = kit_with_limits(limits_plugin.EndsItsProcessPlugin, survives_memory_limit=False)
    declared.test_a_worker_goes_on_after_a_task_that_reached_its_limit()


def test_a_processor_that_a_stopped_task_leaves_broken_is_found() -> None:
    with pytest.raises(TaskFailed, match="an earlier task was stopped"):
        kit_with_limits(
            limits_plugin.StaysBrokenPlugin, survives_memory_limit=False
        ).test_a_worker_goes_on_after_a_task_that_reached_its_limit()


def test_a_result_that_is_larger_than_its_bound_is_found() -> None:
    with pytest.raises(AssertionError):
        kit_for(Sound, max_result_nbytes=len(SOURCE) - 1).test_a_result_is_no_larger_than_its_bound()
