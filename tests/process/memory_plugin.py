"""A plugin that takes memory in pieces, frees it, and keeps a small block that lies above it."""

import os
from collections.abc import Sequence

from offloop import Encoded, Operation, Payload, Plugin, Task, WorkerContext


class Fragment(Operation, frozen=True):
    """Take so many bytes in pieces and free them."""

    nbytes: int
    piece_nbytes: int = 1000  # more than what Python's own allocator serves


class MemoryPlugin(Plugin):
    name = "memory"
    operations = (Fragment,)
    processor = "memory_plugin:MemoryProcessor"


class MemoryProcessor:
    def open(self, worker: WorkerContext) -> None:
        self.kept: list[bytearray] = []

    def run(self, payload: Payload, operations: Sequence[Operation], task: Task) -> Payload:
        for operation in operations:
            assert isinstance(operation, Fragment)
            pieces = [bytearray(b"x") * operation.piece_nbytes for _ in range(operation.nbytes // operation.piece_nbytes)]
            self.kept.append(bytearray(b"x") * 1000)
            del pieces
        return Encoded(b"", {"pid": os.getpid()})
