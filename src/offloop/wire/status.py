"""The status block: what a worker notes in shared memory while it works, readable after it was killed.

It is the first page of the worker's outbox. One writer, no lock: a reader may see a torn update and must treat every value as
a hint, never as an argument.
"""

from __future__ import annotations

import struct

import msgspec

__all__ = ["STATUS_NBYTES", "Status", "read_status", "write_progress", "write_stage"]

STATUS_NBYTES = 4096  # one page, so that no block shares it

_stage = struct.Struct("<QI")  # task id, index of the stage
_progress = struct.Struct("<d")  # 0 to 1
_PROGRESS_OFFSET = 16


class Status(msgspec.Struct, frozen=True):
    """A worker's last word on what it was doing."""

    task_id: int
    stage: int
    progress: float


def write_stage(page: memoryview, task_id: int, stage: int) -> None:
    """Note that a stage of a task begins."""
    _progress.pack_into(page, _PROGRESS_OFFSET, 0.0)
    _stage.pack_into(page, 0, task_id, stage)


def write_progress(page: memoryview, fraction: float) -> None:
    """Note how far the stage is."""
    _progress.pack_into(page, _PROGRESS_OFFSET, fraction)


def read_status(page: memoryview | bytes) -> Status:
    """Whatever stands there now."""
    task_id, stage = _stage.unpack_from(page, 0)
    (progress,) = _progress.unpack_from(page, _PROGRESS_OFFSET)
    return Status(task_id, stage, progress)
