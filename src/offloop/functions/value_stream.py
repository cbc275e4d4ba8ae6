"""The values of a generator function: `async with pool.stream_call(...) as values`, then `async for value in values`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self, TypeVar

from ..client.outputs.frames import FrameStream
from ..errors import OffloopError
from ..runtime.loop.background import BackgroundTasks
from .callee import Callee

__all__ = ["ValueStream"]

ValueT = TypeVar("ValueT")


class ValueStream(AsyncIterator[ValueT]):
    """The values that a generator function yields, each as soon as it is ready. One task of the loop may read them.

    Leaving the block stops the function, if it still runs. If it fails, the values that came before are read first, then its
    error is raised.
    """

    def __init__(self, frames: FrameStream, callee: Callee, background: BackgroundTasks) -> None:
        self._frames = frames
        self._callee = callee
        self._background = background

    @property
    def dropped(self) -> int:
        """Number of values that were dropped, because the reader was slower than the function."""
        return self._frames.dropped

    async def __aenter__(self) -> Self:
        """Submit the call. Returns when it waits for a worker.

        Raises:
            PoolMisused: the block was entered before.
        """
        await self._frames.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._frames.__aexit__(kind, error, traceback)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        """The next value.

        Raises:
            PoolMisused: the block was not entered, or another task of the loop reads.
            Every error of `Pool.call` and `Pool.stream`.
        """
        try:
            return await self._callee.value_of(await anext(self._frames), self._background)
        except OffloopError as error:
            self._callee.add_note(error)
            raise
