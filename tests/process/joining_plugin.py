"""A plugin whose operation has attachments: it joins all sources of its task."""

from __future__ import annotations

import os
from collections.abc import Sequence

from offloop import Attachment, Encoded, Estimate, Needs, Operation, Payload, Plugin, Raster, SourceHeader, Task, WorkerContext


class Join(Operation, frozen=True):
    """Join the payload and the attachments. If there is a file of the name `dies`, remove it and end the worker."""

    others: tuple[Attachment, ...] = ()
    dies: str = ""


class JoiningPlugin(Plugin):
    name = "joining"
    operations = (Join,)
    processor = "joining_plugin:JoiningProcessor"

    @property
    def needs(self) -> Needs:  # pyright: ignore[reportIncompatibleVariableOverride]
        return Needs(write=(os.environ.get("TMPDIR", "/tmp"),))


class WeighingJoiningPlugin(JoiningPlugin):
    """Estimates as much memory as the sources have bytes."""

    name = "weighing"

    def estimate_sources(self, sources: Sequence[SourceHeader], operations: Sequence[Operation]) -> Estimate | None:
        return Estimate(peak_bytes=sum(source.nbytes for source in sources), work_s=0.001)


class JoiningProcessor:
    def open(self, worker: WorkerContext) -> None: ...

    def run(self, payload: Payload, operations: Sequence[Operation], task: Task) -> Payload:
        (join,) = operations
        assert isinstance(join, Join)
        if join.dies and os.path.exists(join.dies):
            os.unlink(join.dies)
            os._exit(3)
        sources = [task.sources[attachment.index] for attachment in join.others]
        assert all(memoryview(source.data).readonly for source in sources)
        kinds = [f"{source.shape} {source.dtype}" if isinstance(source, Raster) else "" for source in task.sources]
        return Encoded(b"".join([payload.data, *[source.data for source in sources]]), {"kinds": kinds})
