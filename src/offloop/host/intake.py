"""How a source gets into shared memory, whatever it is: copied once, or not at all.

A copy goes through the segment's descriptor, in a thread when it is large, so the loop goes on and the GIL is free meanwhile.
"""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable
from typing import TypeVar, TypeVarTuple, Unpack, cast

import msgspec

from ..core.blocks import Block
from ..errors import InvalidTask, SourceTooLarge
from ..wire.handles import INBOX, OUTBOX, EncodedAt, Handle, RasterAt
from .pager import INLINE_NBYTES
from .segments import Segment
from .supervisor import Supervisor
from .tickets import InputTicket

Value = TypeVar("Value")
Arguments = TypeVarTuple("Arguments")

__all__ = ["Intake", "Placed", "in_inbox", "in_outbox", "unreadable"]

_UNREADABLE = "the source cannot be read"  # without the path, for a client
_FIRST_CHUNKS_NBYTES = 256 * 1024  # received data of unknown length starts here and doubles


class Placed(msgspec.Struct, eq=False):
    """A source where a worker can read it, held until `Intake.release`."""

    source: EncodedAt | RasterAt
    block: Block | None = None  # ours: returned by `release`
    view: memoryview | None = None  # what holds a block that is somebody else's
    outbox_id: int | None = None  # only this outbox's worker can read it


class Intake:
    """Puts bytes into the inbox."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    async def place(self, task_id: int, data: memoryview) -> Placed:
        """Copy bytes in, for that task. One-dimensional and contiguous; they must not change until this returns."""
        if not data.nbytes:
            return Placed(EncodedAt(None))
        block = await self._allocate(task_id, data.nbytes)
        try:
            await self._write(block, 0, data)
        except BaseException:
            self._supervisor.exports.return_block(block.generation)
            raise
        return Placed(EncodedAt(in_inbox(block, data.nbytes)), block)

    async def place_raster(self, task_id: int, data: memoryview, shape: tuple[int, int, int], dtype: str) -> Placed:
        """Copy samples in: (height, width, bands), C-contiguous."""
        placed = await self.place(task_id, data)
        placed.source = RasterAt(placed.source.block, shape, dtype)
        return placed

    async def place_file(self, task_id: int, path: str) -> Placed:
        """Read a file in, in a thread.

        Raises:
            InvalidTask: it cannot be read, or is no regular file.
        """
        nbytes = await self._in_thread(_size_of, path)
        if not nbytes:
            return Placed(EncodedAt(None))
        block = await self._allocate(task_id, nbytes)
        try:
            await self._in_thread(_read_file, path, self._inbox, block.offset, nbytes)
        except BaseException:
            self._supervisor.exports.return_block(block.generation)
            raise
        return Placed(EncodedAt(in_inbox(block, nbytes)), block)

    async def receive(
        self, chunks: AsyncIterable[bytes], max_bytes: int, expected_bytes: int | None
    ) -> tuple[InputTicket, int]:
        """Write chunks in as they come; returns the settled ticket of their block and how many bytes there are.

        Raises:
            SourceTooLarge: there are more than `max_bytes`.
        """
        first = min(expected_bytes or _FIRST_CHUNKS_NBYTES, max_bytes)
        iterator = aiter(chunks)
        ticket = await self._ticket(max(first, 1))
        received = 0
        try:
            async for chunk in iterator:
                data = _flat_chunk(chunk)
                end = _end(received, data, max_bytes)
                if end > ticket.nbytes:
                    ticket = await self._moved_to_larger(ticket, received, max(end, min(2 * ticket.nbytes, max_bytes)))
                assert ticket.block is not None
                await self._write(ticket.block, received, data)
                received = end
        except BaseException:
            self._supervisor.abandon_input(ticket)
            raise
        finally:
            await _close_iterator(iterator, chunks)
        return ticket, received

    def release(self, placed: Placed) -> None:
        """The task holds its source itself now, or there will be no task."""
        placed.view = None
        if placed.block is not None:
            self._supervisor.exports.return_block(placed.block.generation)
            placed.block = None

    async def _allocate(self, task_id: int, nbytes: int) -> Block:
        """A block of the inbox with pages, held until it is returned.

        Raises:
            MemoryLimitExceeded: there will never be that much.
        """
        ticket = await self._ticket(nbytes, task_id)
        assert ticket.block is not None
        return ticket.block

    async def _ticket(self, nbytes: int, task_id: int | None = None) -> InputTicket:
        ticket = self._supervisor.request_input(nbytes, task_id)
        if not ticket.is_set:
            try:
                await ticket.wait()
            except BaseException:
                self._supervisor.abandon_input(ticket)
                raise
        if ticket.error is not None:
            raise ticket.error
        return ticket

    async def _moved_to_larger(self, ticket: InputTicket, received: int, nbytes: int) -> InputTicket:
        larger = await self._ticket(nbytes)
        try:
            assert ticket.block is not None
            assert larger.block is not None
            with memoryview(self._inbox.export(ticket.block.offset, ticket.block.nbytes)).cast("B") as old:
                await self._write(larger.block, 0, old[:received])
        except BaseException:
            self._supervisor.abandon_input(larger)
            raise
        self._supervisor.abandon_input(ticket)
        return larger

    async def _write(self, block: Block, position: int, data: memoryview) -> None:
        if data.nbytes <= INLINE_NBYTES:
            self._inbox.write(block.offset + position, data)
        else:
            await self._in_thread(self._inbox.write_large, block.offset + position, data)

    async def _in_thread(self, function: Callable[[Unpack[Arguments]], Value], *arguments: *Arguments) -> Value:
        return await self._supervisor.errands.in_thread(function, *arguments, limiter=self._supervisor.errands.source_threads)

    @property
    def _inbox(self) -> Segment:
        return self._supervisor.inbox


def _flat_chunk(chunk: object) -> memoryview:
    """The bytes of one chunk of a stream.

    Raises:
        InvalidTask: the chunk is not bytes-like.
    """
    try:
        view = memoryview(chunk)  # pyright: ignore[reportArgumentType] (the error is the check)
    except TypeError:
        raise InvalidTask(f"the stream gave a chunk of type {type(chunk).__name__}; chunks must be bytes-like") from None
    except ValueError as error:  # a released memoryview
        raise InvalidTask(f"a chunk of the stream cannot be read: {error}") from None
    return view.cast("B") if view.nbytes and view.c_contiguous else memoryview(view.tobytes())


async def _close_iterator(iterator: object, stream: object) -> None:
    """Close an iteration that may have been left half-way, and never the caller's own stream.

    An async generator is closed, because the garbage collector would otherwise end it at an unknown moment. So is an iterator
    that `stream.__aiter__` made for this call. A stream that is its own iterator (an anyio byte stream) stays open.
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
    """The handle under which its own worker knows a result."""
    return Handle(OUTBOX, block.offset, nbytes, block.generation)


def in_inbox(block: Block, nbytes: int) -> Handle:
    """The handle of a block of the inbox."""
    return Handle(INBOX, block.offset, nbytes, block.generation)


def _size_of(path: str) -> int:
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error
    if not stat.S_ISREG(status.st_mode):
        raise InvalidTask(f"the source {path!r} is not a regular file", public_message=_UNREADABLE)
    return status.st_size


def _read_file(path: str, inbox: Segment, offset: int, nbytes: int) -> None:
    """Read the whole file, which had that size a moment ago."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a FIFO by now must not hold the thread
        try:
            if os.fstat(descriptor).st_size != nbytes or inbox.read_in(descriptor, offset, nbytes) != nbytes:
                raise InvalidTask(f"the source {path!r} was changed while it was read", public_message=_UNREADABLE)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: str, error: Exception) -> InvalidTask:
    """The error for a source file that cannot be read; its text for a client does not name the file."""
    reason = getattr(error, "strerror", None) or error
    return InvalidTask(f"the source {path!r} cannot be read: {reason}", public_message=_UNREADABLE)
