"""A plugin that says what its tasks will take; sometimes that is true."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence

from offloop import Encoded, Estimate, Header, Needs, Operation, Payload, Plugin, Task, WorkerContext

MIB = 1 << 20


class Take(Operation, frozen=True):
    """Take so much memory, and keep it until there is a file of that name."""

    says_mebibytes: int = 1
    says_s: float = 0.01
    mebibytes: int = 0
    hold: str = ""
    result_mebibytes: int = 0


class WeighingPlugin(Plugin):
    name = "weighing"
    operations = (Take,)
    processor = "weighing_plugin:WeighingProcessor"
    needs = Needs(read=("/proc/self",))  # so that it can look for files

    def probe(self, data: memoryview) -> Header | None:
        return Header(media_type="text/plain", width=1, height=1) if bytes(data[:4]) == b"text" else None

    def estimate(self, header: Header | None, operations: Sequence[Operation], nbytes: int) -> Estimate | None:
        takes = [operation for operation in operations if isinstance(operation, Take)]
        return Estimate(
            peak_bytes=max(take.says_mebibytes for take in takes) * MIB,
            work_s=sum(take.says_s for take in takes),
            output_bytes=sum(take.result_mebibytes for take in takes) * MIB,
        )


class WeighingProcessor:
    def open(self, worker: WorkerContext) -> None: ...

    def run(self, payload: Payload, operations: Sequence[Operation], task: Task) -> Payload:
        (take,) = operations
        assert isinstance(take, Take)
        taken = bytearray(take.mebibytes * MIB)
        taken[::4096] = b"x" * len(taken[::4096])
        while take.hold and not os.path.exists(take.hold):
            task.checkpoint()
            os.sched_yield()
        return Encoded(task.allocate(take.result_mebibytes * MIB), {"threads": task.threads})


class HesitantPlugin(WeighingPlugin):
    """Says what its tasks will take when it is allowed to."""

    name = "hesitant"
    asked = threading.Event()
    allowed = threading.Event()

    def estimate(self, header: Header | None, operations: Sequence[Operation], nbytes: int) -> Estimate | None:
        self.asked.set()
        assert self.allowed.wait(20)
        return super().estimate(header, operations, nbytes)
