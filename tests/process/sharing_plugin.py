"""A plugin whose processor shares its work between pipelines, and hands over their results in its own order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

from offloop import Encoded, Operation, Payload, Plugin, Task, TaskFailed, WorkerContext


class Repeat(Operation, frozen=True):
    """Return the source `times` times; refuse 13. Hand over a preview before, if there is a receiver and `preview`."""

    times: int
    preview: bool = False
    previews: ClassVar[int] = 1


class SharingPlugin(Plugin):
    name = "sharing"
    operations = (Repeat,)
    processor = "sharing_plugin:Sharing"


class Sharing:
    def open(self, worker: WorkerContext) -> None:
        pass

    def run(self, payload: Payload, operations: Sequence[Operation], task: Task) -> Payload:
        return repeat(bytes(payload.data), operations)

    def run_many(
        self, payload: Payload, pipelines: Sequence[Sequence[Operation]], task: Task
    ) -> Iterator[tuple[int, Payload | Exception]]:
        data = bytes(payload.data)
        if data == b"raise":
            yield 0, repeat(data, pipelines[0])
            raise OSError("the source is gone")
        if data == b"forget":
            return
        for index, operations in reversed(list(enumerate(pipelines))):
            if isinstance(first := operations[0], Repeat) and first.preview:
                assert task.is_last_stage
                task.preview(Encoded(b"preview"), index)
            try:
                yield index, repeat(data, operations)
            except TaskFailed as error:
                yield index, error


def repeat(data: bytes, operations: Sequence[Operation]) -> Encoded:
    for operation in operations:
        assert isinstance(operation, Repeat)
        if operation.times == 13:
            raise TaskFailed("unlucky", "13")
        data *= operation.times
    return Encoded(data)
