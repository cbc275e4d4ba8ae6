"""Writes results into files of this machine, for `to=` with a path."""

from __future__ import annotations

import asyncio
from pathlib import Path

from offloop.runtime.files.output_files import OutputFile

from .results import ClusterResult

__all__ = ["written_to_file"]


async def written_to_file(result: ClusterResult, file: OutputFile) -> ClusterResult:
    """Write a result into a file: completely or not at all. Returns a result without bytes that names the file.

    Raises:
        TaskFailed: with the code "cannot_write".
        InvalidTask: the path is that of something else than a file.
    """
    await asyncio.to_thread(file.write, result.data)
    return result.in_file(Path(file.path))
