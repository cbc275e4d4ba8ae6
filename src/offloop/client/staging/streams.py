"""Receives streams into the inbox, chunk by chunk."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable
from typing import cast

from ...core.model.blocks import Block
from ...errors import InvalidTask, SourceTooLarge
from ...runtime.loop.futures import BlockFuture
from ...runtime.memory.source_memory import is_private_memory
from ...runtime.supervisor import Supervisor
from .stager import await_block, write_bytes

__all__ = ["receive_stream"]

_FIRST_NBYTES = 256 * 1024  # initial memory of a stream of unknown length; doubled when it is full
_MAX_STEP_NBYTES = 8 * 1024 * 1024  # maximum memory that one growth of a stream adds


async def receive_stream(
    supervisor: Supervisor, chunks: AsyncIterable[bytes], max_bytes: int, expected_bytes: int | None
) -> tuple[BlockFuture, int]:
    """Write a stream's chunks into the inbox as they arrive. Returns the future of their block, and the number of bytes.

    The block has the addresses of `max_bytes` from the start and gets pages as the bytes arrive, so a stream never moves.

    Raises:
        SourceTooLarge: the stream has more than `max_bytes`.
        MemoryLimitExceeded: there is no memory for more bytes, and waiting cannot help.
    """
    first = min(expected_bytes or _FIRST_NBYTES, max_bytes)
    iterator = aiter(chunks)
    future = await await_block(supervisor, supervisor.request_input(max(first, 1), addresses_bytes=max_bytes))
    block = future.block
    assert block is not None
    received = 0
    try:
        async for chunk in iterator:
            data = _flat_chunk(chunk)
            end = _end(received, data, max_bytes)
            if end > block.nbytes:
                await _grow(supervisor, block, end)
            await write_bytes(supervisor, block.offset + received, data, private=is_private_memory(data))
            received = end
    except BaseException:
        supervisor.abandon_input(future)
        raise
    finally:
        await _close_iterator(iterator, chunks)
    supervisor.complete_input(block, received)
    future.nbytes = received
    return future, received


async def _grow(supervisor: Supervisor, block: Block, nbytes: int) -> None:
    """Wait until a block has pages for `nbytes`, or for more if there is plenty of free memory."""
    step = min(max(block.nbytes, _FIRST_NBYTES), _MAX_STEP_NBYTES)
    await await_block(supervisor, supervisor.request_growth(block, nbytes, block.nbytes + step))


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
