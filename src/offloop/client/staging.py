"""Stages sources: copies them into the inbox, where workers can read them.

A source is copied once. Large copies run in a thread and without the GIL, so the event loop goes on.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable
from functools import partial
from typing import cast

import msgspec

from ..core.model.blocks import Block
from ..errors import InvalidTask, SourceTooLarge
from ..runtime.files.source_files import file_nbytes, read_file_into
from ..runtime.loop.futures import BlockFuture
from ..runtime.memory.page_manager import INLINE_NBYTES
from ..runtime.memory.segments import Segment
from ..runtime.memory.source_memory import is_private_memory
from ..runtime.supervisor import Supervisor
from ..wire.handles import INBOX, OUTBOX, EncodedAt, Handle, RasterAt

__all__ = ["SourceStager", "StagedSource", "in_inbox", "in_outbox"]

_FIRST_NBYTES = 256 * 1024  # initial memory of a stream of unknown length; doubled when it is full
_MAX_STEP_NBYTES = 8 * 1024 * 1024  # maximum memory that one growth of a stream adds


class StagedSource(msgspec.Struct, eq=False):
    """A source that a worker can read, kept in memory until `SourceStager.release`."""

    source: EncodedAt | RasterAt  # handle, and shape and dtype of samples
    block: Block | None = None  # block of a staged copy, which `release` returns
    view: memoryview | None = None  # view that keeps the block of a `Buffer` or `Result`
    outbox_id: int | None = None  # outbox of a source in place, which only its own worker can read; None: the inbox


class SourceStager:
    """Copies sources into the inbox of one pool."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    async def stage(self, task_id: int, data: memoryview, *, private: bool) -> StagedSource:
        """Copy bytes into the inbox as a task's source.

        Args:
            task_id: the task of the source.
            data: one-dimensional bytes, or an array of any strides. It must not change until this returns.
            private: no other process can remove the pages of the data.

        Raises:
            InvalidTask: the memory of the data cannot be read.
            MemoryLimitExceeded: the data can never fit.
        """
        if not data.nbytes:
            return StagedSource(EncodedAt(None))
        block = await self._allocate(task_id, data.nbytes)
        try:
            await self._write(block, 0, data, private=private)
        except BaseException:
            self._supervisor.views.return_block(block.generation)
            raise
        return StagedSource(EncodedAt(in_inbox(block, data.nbytes)), block)

    async def stage_raster(
        self, task_id: int, data: memoryview, shape: tuple[int, ...], dtype: str, *, private: bool
    ) -> StagedSource:
        """Copy samples into the inbox as a task's source, C-contiguous."""
        staged = await self.stage(task_id, data, private=private)
        staged.source = RasterAt(staged.source.block, shape, dtype)
        return staged

    async def stage_file(self, task_id: int, path: str) -> StagedSource:
        """Read a file into the inbox as a task's source, in a thread.

        Raises:
            InvalidTask: the path cannot be read, is not a regular file, or the file was changed while it was read.
            MemoryLimitExceeded: the file can never fit.
        """
        background = self._supervisor.background
        nbytes = await background.run_in_thread(file_nbytes, path, limiter=background.file_threads)
        if not nbytes:
            return StagedSource(EncodedAt(None))
        block = await self._allocate(task_id, nbytes)
        try:
            await background.run_in_thread(
                read_file_into, path, self._inbox, block.offset, nbytes, limiter=background.file_threads
            )
        except BaseException:
            self._supervisor.views.return_block(block.generation)
            raise
        return StagedSource(EncodedAt(in_inbox(block, nbytes)), block)

    async def receive(
        self, chunks: AsyncIterable[bytes], max_bytes: int, expected_bytes: int | None
    ) -> tuple[BlockFuture, int]:
        """Write a stream's chunks into the inbox as they arrive. Returns the future of their block, and the number of bytes.

        The block has the addresses of `max_bytes` from the start and gets pages as the bytes arrive, so a stream never moves.

        Raises:
            SourceTooLarge: the stream has more than `max_bytes`.
            MemoryLimitExceeded: there is no memory for more bytes, and waiting cannot help.
        """
        first = min(expected_bytes or _FIRST_NBYTES, max_bytes)
        iterator = aiter(chunks)
        future = await self._future(max(first, 1), addresses_bytes=max_bytes)
        block = future.block
        assert block is not None
        received = 0
        try:
            async for chunk in iterator:
                data = _flat_chunk(chunk)
                end = _end(received, data, max_bytes)
                if end > block.nbytes:
                    await self._grow(block, end)
                await self._write(block, received, data, private=is_private_memory(data))
                received = end
        except BaseException:
            self._supervisor.abandon_input(future)
            raise
        finally:
            await _close_iterator(iterator, chunks)
        self._supervisor.complete_input(block, received)
        future.nbytes = received
        return future, received

    def release(self, staged: StagedSource) -> None:
        """Return the staged copy, or drop the view, after the submitted task holds its source itself or has ended."""
        staged.view = None
        if staged.block is not None:
            self._supervisor.views.return_block(staged.block.generation)
            staged.block = None

    async def _allocate(self, task_id: int, nbytes: int) -> Block:
        """A block of the inbox with reserved pages. The caller returns it.

        Raises:
            MemoryLimitExceeded: the block can never fit.
        """
        future = await self._future(nbytes, task_id)
        assert future.block is not None
        return future.block

    async def _future(self, nbytes: int, task_id: int | None = None, addresses_bytes: int = 0) -> BlockFuture:
        return await self._settled(self._supervisor.request_input(nbytes, task_id, addresses_bytes))

    async def _grow(self, block: Block, nbytes: int) -> None:
        """Wait until a block has pages for `nbytes`, or for more if there is plenty of free memory."""
        step = min(max(block.nbytes, _FIRST_NBYTES), _MAX_STEP_NBYTES)
        await self._settled(self._supervisor.request_growth(block, nbytes, block.nbytes + step))

    async def _settled(self, future: BlockFuture) -> BlockFuture:
        if not future.is_set:
            try:
                await future.wait()
            except BaseException:
                self._supervisor.abandon_input(future)
                raise
        future.check()
        return future

    async def _write(self, block: Block, position: int, data: memoryview, *, private: bool) -> None:
        """Copy bytes into a block: on the loop if they are few and private, because a mapped file may be read from a disk."""
        offset, inbox = block.offset + position, self._inbox
        if private and data.nbytes <= INLINE_NBYTES and data.c_contiguous:
            inbox.write(offset, data)
            return
        background = self._supervisor.background
        await background.run_in_thread(
            partial(inbox.write_large, private=private), offset, data, limiter=background.source_threads
        )

    @property
    def _inbox(self) -> Segment:
        return self._supervisor.inbox


def _flat_chunk(chunk: object) -> memoryview:
    """The memory of one chunk of a stream, in one dimension if it is contiguous.

    Raises:
        InvalidTask: the chunk is not bytes-like.
    """
    try:
        view = memoryview(chunk)  # pyright: ignore[reportArgumentType] (the error is the check)
    except TypeError:
        raise InvalidTask(f"the stream gave a chunk of type {type(chunk).__name__}; chunks must be bytes-like") from None
    except ValueError as error:  # a released memoryview
        raise InvalidTask(f"a chunk of the stream cannot be read: {error}") from None
    if not view.nbytes:
        return memoryview(b"")
    return view.cast("B") if view.c_contiguous else view


async def _close_iterator(iterator: object, stream: object) -> None:
    """Close an iterator that may be unfinished, but never the caller's own stream.

    An async generator is closed, because the garbage collector would otherwise close it at an unknown time. An iterator that
    `stream.__aiter__` made for this call is closed, too. A stream that is its own iterator (an anyio byte stream) stays open.
    """
    if iterator is not stream or isinstance(iterator, AsyncGenerator):
        aclose: Callable[[], Awaitable[object]] | None = getattr(cast("object", iterator), "aclose", None)
        if aclose is not None:
            await aclose()


def _end(received: int, data: memoryview, max_bytes: int) -> int:
    end = received + data.nbytes
    if end > max_bytes:
        raise SourceTooLarge(end, max_bytes)
    return end


def in_outbox(block: Block, nbytes: int) -> Handle:
    """The handle of a result in its worker's outbox, for that worker."""
    return Handle(OUTBOX, block.offset, nbytes, block.generation)


def in_inbox(block: Block, nbytes: int) -> Handle:
    """The handle of a block of the inbox."""
    return Handle(INBOX, block.offset, nbytes, block.generation)
