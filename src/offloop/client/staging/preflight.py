"""Preflight: estimates a task from the headers or the shapes of its sources, before they are staged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import msgspec

from ...errors import InvalidTask
from ...operation import Estimate
from ...plugins.estimator import Estimator, SourceHead
from ...runtime.files.open_files import TaskFiles
from ...runtime.files.source_files import FileHead, read_file_head
from ...runtime.loop.background import BackgroundTasks
from ...runtime.memory.source_file import SourceFile
from ...runtime.memory.source_memory import read_head
from ...wire.handles import RasterAt
from ..results import Result
from ..sources import Bytes, File, Samples
from .stager import Prepared, path_of
from .tables import Table

__all__ = ["Preflight", "run_preflight"]

_MAX_QUICK_SOURCES = 4  # sources of one task whose headers are read on the event loop


class Preflight(msgspec.Struct, frozen=True):
    """Result of a preflight."""

    lengths: Sequence[int] = ()  # length of each source in bytes; empty: memory was released, and staging raises the error
    estimate: Estimate | None = None  # the plugins' estimate; None: unknown
    media_type: str = ""  # media type of the first source, from its header
    file_contents: Mapping[int, Bytes] = {}  # contents of files that are no longer than their headers, by index
    kept: Mapping[int, Bytes | SourceFile] = {}  # files that may be kept until the task is sent, by index


async def run_preflight(
    estimator: Estimator, sources: Sequence[Prepared], background: BackgroundTasks, files: TaskFiles | None = None
) -> Preflight:
    """Read the headers of a task's sources and ask the plugins for an estimate.

    Runs in a thread, or, if the plugins are quick and the bytes are in memory, on the event loop within the `LoopBudget`.
    Files are opened for `files`; None: they are not kept.

    Raises:
        InvalidTask: the file or the memory of a source cannot be read.
    """
    estimate = partial(_estimate, estimator, sources, files)
    try:
        if any(path_of(source) is not None for source in sources):
            return await background.run_in_thread(estimate, limiter=background.file_threads)
        is_quick = estimator.quick and len(sources) <= _MAX_QUICK_SOURCES
        if is_quick and not any(_is_foreign(source) for source in sources):
            return await background.loop_budget.call(estimate)
        return await background.run_in_thread(estimate, limiter=background.source_threads)
    except InvalidTask:
        raise
    except ValueError:
        return Preflight()  # the memory of a source was released


def _is_foreign(source: Prepared) -> bool:
    """Whether memory may be a mapped file, or is not contiguous, so that it is copied before it is read."""
    return isinstance(source, Bytes) and not (source.private and source.data.c_contiguous)


def _estimate(estimator: Estimator, sources: Sequence[Prepared], files: TaskFiles | None) -> Preflight:
    heads: list[SourceHead] = []
    contents: dict[int, Bytes] = {}
    kept: dict[int, Bytes | SourceFile] = {}
    for index, source in enumerate(sources):
        if (path := path_of(source)) is None:
            heads.append(_head_of(source, estimator.probe_nbytes))
            continue
        head, kept_file = _open(path, estimator.probe_nbytes, files)
        heads.append(SourceHead(head.nbytes, head.data))
        if len(head.data) == head.nbytes:
            contents[index] = Bytes(head.data, private=True)
        if kept_file is not None:
            kept[index] = kept_file if isinstance(kept_file, SourceFile) else contents[index]
    return Preflight([head.nbytes for head in heads], *estimator.estimate(heads), contents, kept)


def _open(path: str, head_nbytes: int, files: TaskFiles | None) -> tuple[FileHead, memoryview | SourceFile | None]:
    return (read_file_head(path, head_nbytes), None) if files is None else files.open(path, head_nbytes)


def _head_of(source: Prepared, nbytes: int) -> SourceHead:
    assert not isinstance(source, File | SourceFile)
    if isinstance(source, Table):
        return SourceHead(source.nbytes, memoryview(b""))
    samples = source.raster if isinstance(source, Result) else source
    if isinstance(samples, Samples | RasterAt):
        return SourceHead(source.data.nbytes, None, samples.shape)
    if _is_foreign(source):
        return SourceHead(source.data.nbytes, memoryview(read_head(source.data, nbytes)))
    return SourceHead(source.data.nbytes, source.data[:nbytes].toreadonly())
