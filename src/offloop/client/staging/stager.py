"""Stages the sources of a task: finds them where a worker can read them, or copies them into the inbox.

`bytes` cannot change, so they stay in the caller's memory until the task is sent, and are copied from there into the inbox of
its worker. Other sources are copied into the pool's inbox at once, and once more when the task is sent.

All copies of one task lie in one block, which is requested when their lengths are known, because a task that held memory for
one source while it waits for another could wait for ever. Large copies run in a thread and without the GIL, so the event loop
goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TypeAlias

import msgspec

from ...core.model.blocks import CALLER_MEMORY, Block
from ...core.model.events import SourceMemoryRequested
from ...errors import InvalidTask
from ...runtime.files.open_files import TaskFiles
from ...runtime.files.source_files import file_nbytes, read_file_into
from ...runtime.loop.futures import BlockFuture, TaskFuture
from ...runtime.memory.page_manager import INLINE_NBYTES
from ...runtime.memory.source_file import CallerMemory, SourceFile
from ...runtime.supervisor import Supervisor
from ...wire.handles import INBOX, OUTBOX, EncodedAt, Handle, RasterAt
from ..buffers import Buffer
from ..results import Result
from ..sources import ArrayObject, Bytes, File, Material, Samples, TableObject, samples_of
from .tables import Table, table_of

__all__ = [
    "Moved",
    "Prepared",
    "SourceStager",
    "StagedSources",
    "await_block",
    "copy_lengths",
    "copy_nbytes",
    "lengths_in_memory",
    "path_of",
    "write_bytes",
]

_SHORT_FILE_NBYTES = 64 * 1024  # a file without a header is kept as bytes up to this length
_ALIGNMENT = 64  # bytes: a copy starts at a cache line, which is what Arrow and numpy want


class Moved(msgspec.Struct, frozen=True):
    """A `Buffer` that was moved into a task."""

    handle: Handle | None  # None: zero bytes
    data: memoryview  # its memory; keeps the block


Prepared: TypeAlias = Bytes | File | SourceFile | Samples | Table | Moved | Result
"""A source whose kind and length can be asked for without the object's own code."""


class StagedSources(msgspec.Struct, frozen=True):
    """Sources that a worker can read. Those that are not copies must be kept until their task holds them."""

    sources: tuple[EncodedAt | RasterAt, ...]  # handles, and shape and dtype of samples
    views: tuple[memoryview, ...] = ()  # views that keep the blocks of a `Buffer` or `Result`
    outbox_id: int | None = None  # outbox of sources in place, which only its own worker can read; None: the inbox
    can_repeat: bool = False  # whether all are copies, which can be made again
    memory: tuple[CallerMemory, ...] = ()  # sources that stay with the caller, in the order of their handles' offsets

    @property
    def in_files(self) -> bool:
        """Whether one is an open file."""
        return any(isinstance(source, SourceFile) for source in self.memory)


_NO_BYTES = StagedSources((EncodedAt(None),))  # one empty source


class SourceStager:
    """Stages the sources of one pool's tasks."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    async def prepare(self, sources: Sequence[Material]) -> list[Prepared]:
        """Move buffers, and read the samples of objects that copy them.

        Buffers are moved first, because their owner loses them even if the task is refused.

        Raises:
            InvalidTask: a buffer was moved before or belongs to another pool; or an object's array interface is broken.
        """
        prepared = [self._move(source) if isinstance(source, Buffer) else source for source in sources]
        return [await self._read(source) if isinstance(source, ArrayObject | TableObject) else source for source in prepared]

    def find_in_place(self, sources: Sequence[Material | Prepared]) -> StagedSources | None:
        """Return the sources if a worker can read all of them where they are; otherwise None.

        That is so if they are empty, or are results of this pool in the outbox of the same worker.
        """
        first = sources[0]
        if type(first) is Bytes and (first.data.nbytes or len(sources) == 1):  # the usual case
            return None if first.data.nbytes else _NO_BYTES
        found: list[EncodedAt | RasterAt] = []
        views: list[memoryview] = []
        outbox_id: int | None = None
        for source in sources:
            if isinstance(source, Bytes) and not source.data.nbytes:
                found.append(EncodedAt(None))
                continue
            block = source.block if isinstance(source, Result) else None
            if block is None or not isinstance(source, Result) or not self._supervisor.owns(block):
                return None
            if outbox_id is not None and outbox_id != block.segment_id:
                return None
            try:
                view = source.data[:]
            except ValueError:
                return None  # the result was released; `stage` raises the error
            outbox_id = block.segment_id
            views.append(view)
            found.append(_located(source.raster, Handle(OUTBOX, block.offset, view.nbytes, block.generation)))
        return StagedSources(tuple(found), tuple(views), outbox_id)

    def has_private_sources(self, group: str) -> bool:
        """Whether each worker of a group has an inbox of its own."""
        return self._supervisor.settings.groups[group].inbox_nbytes is not None

    def find_in_caller_memory(self, sources: Sequence[Material | Prepared], group: str) -> StagedSources | None:
        """Return the sources if all of them can stay with the caller until the task is sent to a worker; otherwise None.

        That is so if they are `bytes` or open files, and each worker of the group has an inbox of its own for them.
        """
        if not self.has_private_sources(group):
            return None
        staged: list[EncodedAt] = []
        memory: list[CallerMemory] = []
        left = self._supervisor.core.settings.inbox_nbytes
        for source in sources:
            if isinstance(source, SourceFile):
                kept: CallerMemory = source
            elif isinstance(source, Bytes) and type(source.data.obj) is bytes and source.data.c_contiguous:
                kept = source.data
            else:
                return None
            nbytes = kept.nbytes
            left -= nbytes
            staged.append(EncodedAt(Handle(CALLER_MEMORY, len(memory), nbytes, 0) if nbytes else None))
            if nbytes:
                memory.append(kept)
        return StagedSources(tuple(staged), memory=tuple(memory)) if left >= 0 else None

    async def open_files(self, sources: Sequence[Prepared], files: TaskFiles) -> list[Prepared]:
        """Open the files among sources, in a thread. A file that cannot be kept stays what it is.

        Raises:
            InvalidTask: a file cannot be read, or is not a regular file.
        """
        opened = list(sources)
        background = self._supervisor.background
        for index, source in enumerate(sources):
            if (path := path_of(source)) is not None:
                open_file = partial(files.open, path, _SHORT_FILE_NBYTES)
                _, kept = await background.run_in_thread(open_file, limiter=background.file_threads)
                if kept is not None:
                    opened[index] = kept if isinstance(kept, SourceFile) else Bytes(kept, private=True)
        return opened

    async def measure(self, sources: Sequence[Prepared]) -> list[int]:
        """Return the length of the copy of each source; 0 for moved buffers, which lie in the inbox.

        Raises:
            InvalidTask: the memory of a result was released; or a file cannot be read, or is not a regular file.
        """
        return [0 if isinstance(source, Moved) else await self._nbytes_of(source) for source in sources]

    def request_memory(self, task_id: int, lengths: Sequence[int]) -> None:
        """Request the block for copies of these lengths, if the request was not part of another event."""
        if nbytes := copy_nbytes(lengths):
            self._supervisor.apply(SourceMemoryRequested(task_id, nbytes))

    async def copy(self, sources: Sequence[Prepared], lengths: Sequence[int], future: TaskFuture) -> StagedSources | None:
        """Wait for the requested block, and copy the sources of a task into it. None: the task was settled meanwhile.

        Bytes and samples must not change until this returns.

        Raises:
            InvalidTask: memory or a file cannot be read, or a file was changed while it was read.
        """
        *offsets, nbytes = _offsets(lengths)
        start, generation = 0, 0
        if nbytes:
            block = future.block or await self._await_memory(future)
            if block is None:
                return None
            future.block = None
            future.rearm()
            start, generation = block.offset, block.generation
        staged: list[EncodedAt | RasterAt] = []
        for source, offset, length in zip(sources, offsets, lengths, strict=True):
            if isinstance(source, Moved):
                staged.append(EncodedAt(source.handle))
                continue
            readable = _readable(source) if isinstance(source, Result) else source
            handle = Handle(INBOX, start + offset, length, generation) if length else None
            if handle is not None:
                await self._copy(readable, handle)
            staged.append(_located(readable, handle))
        views = tuple([source.data for source in sources if isinstance(source, Moved)])
        return StagedSources(tuple(staged), views, can_repeat=bool(nbytes) and not views)

    async def _await_memory(self, future: TaskFuture) -> Block | None:
        while future.block is None and not future.settled:
            await future.wait()
        return future.block

    def _move(self, buffer: Buffer) -> Moved:
        if not buffer.belongs_to(self._supervisor):
            raise InvalidTask("this buffer belongs to another pool")
        block, view = buffer.move()
        return Moved(Handle(INBOX, block.offset, view.nbytes, block.generation) if view.nbytes else None, view)

    async def _read(self, source: ArrayObject | TableObject) -> Samples | Table | Bytes:
        background = self._supervisor.background
        read = partial(samples_of, source) if isinstance(source, ArrayObject) else partial(table_of, source)
        return await background.run_in_thread(read, limiter=background.source_threads)

    async def _nbytes_of(self, source: Bytes | File | SourceFile | Samples | Table | Result) -> int:
        if isinstance(source, Table | SourceFile):
            return source.nbytes
        readable = _readable(source) if isinstance(source, Result) else source
        if not isinstance(readable, File):
            return readable.data.nbytes
        background = self._supervisor.background
        return await background.run_in_thread(file_nbytes, readable.path, limiter=background.file_threads)

    async def _copy(self, source: Bytes | File | SourceFile | Samples | Table, handle: Handle) -> None:
        if isinstance(source, Table):
            background = self._supervisor.background
            fill = partial(self._supervisor.inbox.fill, handle.offset, handle.nbytes, source.write)
            await background.run_in_thread(fill, limiter=background.source_threads)
            return
        if not isinstance(source, File | SourceFile):
            await write_bytes(self._supervisor, handle.offset, source.data, private=source.private)
            return
        background, inbox = self._supervisor.background, self._supervisor.inbox
        if isinstance(source, SourceFile):
            read = partial(source.read_into, inbox, handle.offset)
        else:
            read = partial(read_file_into, source.path, inbox, handle.offset, handle.nbytes)
        await background.run_in_thread(read, limiter=background.threads_to_read(handle.nbytes))


def lengths_in_memory(sources: Sequence[Material]) -> list[int] | None:
    """Return the lengths of sources in the caller's memory; None if one lies elsewhere, or was released."""
    lengths: list[int] = []
    try:
        for source in sources:
            if not isinstance(source, Bytes | Samples):
                return None
            lengths.append(source.data.nbytes)
    except ValueError:
        return None  # copying it raises the error
    return lengths


def copy_lengths(sources: Sequence[Prepared], lengths: Sequence[int]) -> list[int]:
    """Return the lengths of the copies of sources of these lengths: a moved buffer needs none."""
    return [0 if isinstance(source, Moved) else nbytes for source, nbytes in zip(sources, lengths, strict=False)]


def copy_nbytes(lengths: Sequence[int]) -> int:
    """Return the length of the block that copies of these lengths need."""
    return _offsets(lengths)[-1]


async def await_block(supervisor: Supervisor, future: BlockFuture) -> BlockFuture:
    """Wait for requested memory, and return its future.

    Raises:
        MemoryLimitExceeded: the request can never be met.
    """
    if not future.is_set:
        try:
            await future.wait()
        except BaseException:
            supervisor.abandon_input(future)
            raise
    future.check()
    return future


async def write_bytes(supervisor: Supervisor, offset: int, data: memoryview, *, private: bool) -> None:
    """Copy bytes into the inbox: on the loop if they are few and private, because a mapped file may be read from a disk.

    Args:
        supervisor: the pool's.
        offset: position in the inbox, in bytes.
        data: one-dimensional bytes, or an array of any strides. It must not change until this returns.
        private: no other process can remove the pages of the data.

    Raises:
        InvalidTask: the memory of the data cannot be read.
    """
    inbox = supervisor.inbox
    if private and data.nbytes <= INLINE_NBYTES and data.c_contiguous:
        inbox.write(offset, data)
        return
    background = supervisor.background
    await background.run_in_thread(partial(inbox.write_large, private=private), offset, data, limiter=background.source_threads)


def _readable(result: Result) -> Bytes | File | Samples:
    """Return the contents of a result as a source that is copied.

    Raises:
        InvalidTask: its memory was released.
    """
    try:
        data = result.data[:]
    except ValueError:
        raise InvalidTask("this result cannot be a source, because its data was released") from None
    if result.path is not None:
        return File(str(result.path))
    raster = result.raster
    return Bytes(data, private=True) if raster is None else Samples(data, raster.shape, raster.dtype, private=True)


def path_of(source: Prepared) -> str | None:
    """Return the path of a source that is a file and is not open."""
    if isinstance(source, File):
        return source.path
    return str(source.path) if isinstance(source, Result) and source.path is not None else None


def _located(
    source: Bytes | File | SourceFile | Samples | Table | RasterAt | None, handle: Handle | None
) -> EncodedAt | RasterAt:
    if isinstance(source, Samples | RasterAt):
        return RasterAt(handle, source.shape, source.dtype)
    return EncodedAt(handle)


def _offsets(lengths: Sequence[int]) -> list[int]:
    """Return the offset of each copy in the block, and the length of the block."""
    if len(lengths) == 1:  # the usual case
        return [0, lengths[0]]
    offsets = [0]
    for nbytes in lengths:
        end = offsets[-1] + nbytes
        offsets.append(end if len(offsets) == len(lengths) else -(-end // _ALIGNMENT) * _ALIGNMENT)
    return offsets
