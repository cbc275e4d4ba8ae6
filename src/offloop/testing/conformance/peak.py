"""Measures the peak of private memory of one task, in a process of its own, without a pool.

A program: it reads a `Measurement` from stdin, runs the task, and prints the peak in bytes above the idle process.
"""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import time
from importlib import import_module
from typing import Any

import msgspec

from ...operation import Operation, Plugin, decoder_for
from ...processor import Encoded
from ...worker.isolation.memory_limits import PrivateMemory
from ..inline import InlineTask, InlineWorker

__all__ = ["main", "measure_peak"]

_TIMEOUT_S = 50


class Measurement(msgspec.Struct):
    """One task for the program."""

    module: str
    """Module of the plugin's class."""

    name: str
    """Name of the plugin's class."""

    source: bytes
    """An encoded source."""

    operations: bytes
    """Operations of the plugin, encoded."""

    result_nbytes: int
    """Bytes of shared memory for results."""


def measure_peak(plugin: type[Plugin], source: bytes, operations: list[Operation], result_nbytes: int) -> int:
    """Returns the peak of private memory of a task in bytes, above that of a process with the opened processor.

    Raises:
        subprocess.CalledProcessError: the task failed. The process wrote the reason to stderr.
    """
    encoded = msgspec.msgpack.encode(operations)
    measurement = Measurement(plugin.__module__, plugin.__qualname__, source, encoded, result_nbytes)
    done = subprocess.run(
        [sys.executable, "-c", f"from {__name__} import main; main()"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},  # the plugin may be a module of the tests
        input=msgspec.msgpack.encode(measurement),
        stdout=subprocess.PIPE,
        check=True,
        timeout=_TIMEOUT_S,
    )
    return int(done.stdout)


class _SharedResults(InlineTask):
    """A task whose result memory is shared memory, which does not count as private, as in a worker."""

    def __init__(self, nbytes: int) -> None:
        super().__init__()
        self._memory = memoryview(mmap.mmap(-1, nbytes))
        self._used = 0

    def allocate(self, nbytes: int) -> memoryview:
        self.checkpoint()
        block = self._memory[self._used : self._used + nbytes]
        if len(block) < nbytes:
            raise MemoryError(f"{nbytes} bytes of result memory")
        self._used += nbytes
        return block


def main() -> None:
    """Run the task that stdin describes, and print its peak."""
    measurement = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Measurement)
    plugin: type[Plugin] = getattr(import_module(measurement.module), measurement.name)
    module, _, name = plugin.processor.partition(":")
    processor: Any = getattr(import_module(module), name)()
    processor.open(InlineWorker(plugin.settings))
    operations = decoder_for(plugin.operations).decode(measurement.operations)
    task, memory = _SharedResults(measurement.result_nbytes), PrivateMemory()
    memory.begin(0)
    memory.peak(time.monotonic_ns())  # what was before counts as an earlier task
    memory.rebaseline()
    memory.begin(time.monotonic_ns())
    processor.run(Encoded(measurement.source), operations, task)
    sys.stdout.write(str(memory.peak(time.monotonic_ns())))
