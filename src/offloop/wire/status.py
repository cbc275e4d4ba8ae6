"""The status page: the worker's current task, stage, progress and memory, in shared memory. Readable after a crash.

It is the first page of the worker's outbox. It has one writer and no lock. Because a read may return a half-written update, the
reader must treat every value as a hint.
"""

from __future__ import annotations

import struct

import msgspec

__all__ = ["LOADING_ID", "STATUS_NBYTES", "Status", "read_status", "write_memory", "write_progress", "write_stage"]

STATUS_NBYTES = 4096  # size in bytes; a whole page, so that no block shares it
LOADING_ID = (1 << 64) - 1  # in place of a task id, while the worker loads the plugin whose index stands in place of the stage

_status = struct.Struct("<QI4xdQ")  # task id, index of the stage, progress from 0 to 1, private memory in bytes
_progress = struct.Struct("<d")
_memory = struct.Struct("<Q")
_PROGRESS_OFFSET = 16
_MEMORY_OFFSET = 24


class Status(msgspec.Struct, frozen=True):
    """Contents of the status page."""

    task_id: int  # id of the worker's last task
    stage: int  # index of the current stage in the task's pipeline
    progress: float  # progress of the stage, from 0 to 1
    memory_bytes: int = 0  # private memory of the process at its last sample, in bytes; 0: never sampled


def write_stage(page: memoryview, task_id: int, stage: int, memory_nbytes: int = 0) -> None:
    """Write that a stage of a task begins, and the private memory of the process."""
    _status.pack_into(page, 0, task_id, stage, 0.0, memory_nbytes)


def write_progress(page: memoryview, fraction: float) -> None:
    """Write the progress of the stage, from 0 to 1."""
    _progress.pack_into(page, _PROGRESS_OFFSET, fraction)


def write_memory(page: memoryview, nbytes: int) -> None:
    """Write the private memory of the process."""
    _memory.pack_into(page, _MEMORY_OFFSET, nbytes)


def read_status(page: memoryview | bytes) -> Status:
    """Read the status page. The values are hints: an update may be half written, and a worker is not trusted."""
    return Status(*_status.unpack_from(page, 0))
