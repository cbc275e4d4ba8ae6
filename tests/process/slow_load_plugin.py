"""A plugin whose processor takes long to open and holds the GIL meanwhile."""

import ctypes
import os
import time
from collections.abc import Sequence

from offloop import Encoded, Operation, Payload, Plugin, Task, WorkerContext


class Hold(Operation, frozen=True):
    """Take so long, and return the worker's pid."""

    seconds: float
    padding: str = ""


class SlowLoadPlugin(Plugin):
    name = "slow_load"
    operations = (Hold,)
    processor = "slow_load_plugin:SlowLoadProcessor"


class SlowLoadProcessor:
    def open(self, worker: WorkerContext) -> None:
        ctypes.PyDLL(None).usleep(1_500_000)

    def run(self, payload: Payload, operations: Sequence[Operation], task: Task) -> Payload:
        for operation in operations:
            assert isinstance(operation, Hold)
            time.sleep(operation.seconds)
        return Encoded(b"", {"pid": os.getpid()})
