"""One cell of `calibrate_vips.py`: a process that runs one pipeline on one source and measures it.

Source and result are in shared memory whose pages were touched before, as in a pool, so that the peak does not include them.
"""

from __future__ import annotations

import json
import mmap
import resource
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import msgspec

from offloop.operation import Operation, decoder_for
from offloop.processor import Encoded
from offloop.testing import InlineTask
from offloop.worker.isolation.memory_limits import PrivateMemory
from offloop_vips import VipsPlugin
from offloop_vips.processor import VipsProcessor

__all__ = ["Taken", "decode_pipeline", "encode_pipeline"]


class Taken(msgspec.Struct, frozen=True):
    """Measurements of one task."""

    peak_bytes: int  # peak of private memory in bytes, above that before the task
    data_bytes: int  # peak of the addresses that RLIMIT_DATA counts in bytes, above that before the task
    cpu_s: float
    wall_s: float
    result_bytes: int
    error: str = ""


class Shared:
    """Result memory of a fixed capacity, whose pages are touched at the start."""

    def __init__(self, nbytes: int) -> None:
        self.memory = memoryview(mmap.mmap(-1, max(nbytes, 1)))
        for at in range(0, len(self.memory), mmap.PAGESIZE):
            self.memory[at] = 1
        self.used = 0

    def write(self, chunk: memoryview | bytes | bytearray) -> int:
        self.memory[self.used : self.used + len(chunk)] = chunk
        self.used += len(chunk)
        return len(chunk)

    @property
    def view(self) -> memoryview:
        return self.memory[: self.used]


class SharedTask(InlineTask):
    """A task whose result is in shared memory."""

    def __init__(self, threads: int, nbytes: int) -> None:
        super().__init__(threads)
        self.shared = Shared(nbytes)

    def allocate(self, nbytes: int) -> memoryview:
        self.shared.used = nbytes
        return self.shared.view

    def output(self, expected_nbytes: int = 0) -> Shared:  # type: ignore[override]
        return self.shared


class DataWatch:
    """Measures the peak of the addresses that RLIMIT_DATA counts, by frequent samples, because the system records no peak."""

    def __init__(self) -> None:
        self.most, self._left, self._started = 0, threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        self._started.wait()
        self.before = self._now()  # includes the stack of this thread

    def stop(self) -> int:
        self._left.set()
        self._thread.join()
        return self.most - self.before

    def _watch(self) -> None:
        self._started.set()
        while not self._left.wait(0.002):
            self.most = max(self.most, self._now())

    @staticmethod
    def _now() -> int:
        return int(Path("/proc/self/statm").read_text().split()[5]) * mmap.PAGESIZE


def encode_pipeline(operations: list[Operation]) -> str:
    return msgspec.msgpack.encode(operations, enc_hook=lambda attachment: attachment.index).hex()


def decode_pipeline(text: str) -> list[Operation]:
    return decoder_for(VipsPlugin.operations).decode(bytes.fromhex(text))


def read(path: str) -> Shared:
    source = Shared(Path(path).stat().st_size)
    with open(path, "rb") as file:
        file.readinto(source.memory)  # type: ignore[attr-defined]
    return source


def carry_out(paths: list[str], operations: list[Operation], threads: int, result_nbytes: int, limit: int | None) -> Taken:
    """Run one task on a source, with a second source. A limit is one of RLIMIT_DATA, above the current addresses."""
    source, second = read(paths[0]), read(paths[1])
    task = SharedTask(threads, result_nbytes)
    task.sources = (Encoded(source.memory.toreadonly()), Encoded(second.memory.toreadonly()))
    processor = VipsProcessor()
    processor.open(None)  # type: ignore[arg-type]
    memory, watch = PrivateMemory(), DataWatch()
    memory.rebaseline()
    memory.set_soft_limit(limit)
    memory._is_peak_stale = True  # noqa: SLF001 (what came before is to be forgotten)
    memory.begin(time.monotonic_ns())
    cpu, wall, error = time.process_time(), time.monotonic(), ""
    try:
        result = processor.run(Encoded(source.memory.toreadonly()), operations, task)
        nbytes = memoryview(result.data).nbytes
    except BaseException as caught:
        error, nbytes = f"{type(caught).__name__}: {caught}", 0
    cpu, wall = time.process_time() - cpu, time.monotonic() - wall
    with suppress(MemoryError):
        memory.set_soft_limit(None)
    return Taken(memory.peak(time.monotonic_ns()), watch.stop(), cpu, wall, nbytes, error)


if __name__ == "__main__":
    path, attached, pipeline, threads, result_nbytes, limit = sys.argv[1:]
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    taken = carry_out([path, attached], decode_pipeline(pipeline), int(threads), int(result_nbytes), int(limit) or None)
    print(json.dumps(msgspec.to_builtins(taken)))
