"""The status block: what a worker notes in shared memory while it works, readable after it was killed.

It is the first page of the worker's outbox. One writer, no lock: a reader may see a torn update and must treat every value as
a hint, never as an argument.
"""

from __future__ import annotations

import struct

import msgspec

__all__ = ["STATUS_NBYTES", "Status", "read_status", "write_memory", "write_progress", "write_stage"]

STATUS_NBYTES = 4096  # one page, so that no block shares it

_status = struct.Struct("<QI4xdQ")  # task id, index of the stage, progress from 0 to 1, bytes of memory
_progress = struct.Struct("<d")
_memory = struct.Struct("<Q")
_PROGRESS_OFFSET = 16
_MEMORY_OFFSET = 24


class Status(msgspec.Struct, frozen=True):
    """A worker's last word on what it was doing."""

    task_id: int
    stage: int
    progress: float
    memory_bytes: int = 0  # private memory of the process when it last looked; 0: it has not


def write_stage(page: memoryview, task_id: int, stage: int, memory_nbytes: int = 0) -> None:
    """Note that a stage of a task begins, and how much private memory the process has."""
    _status.pack_into(page, 0, task_id, stage, 0.0, memory_nbytes)


def write_progress(page: memoryview, fraction: float) -> None:
    """Note how far the stage is."""
    _progress.pack_into(page, _PROGRESS_OFFSET, fraction)


def write_memory(page: memoryview, nbytes: int) -> None:
    """Note how much private memory the process has."""
    _memory.pack_into(page, _MEMORY_OFFSET, nbytes)


def read_status(page: memoryview | bytes) -> Status:
    """Whatever stands there now."""
    return Status(*_status.unpack_from(page, 0))
