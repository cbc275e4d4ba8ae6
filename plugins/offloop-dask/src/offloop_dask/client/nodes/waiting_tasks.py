"""Tasks that wait for a node with room: by priority, then in their order of arrival."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Iterable
from copy import copy
from itertools import count

import msgspec

from .placement import NodeLoad, choose

__all__ = ["WaitingTasks"]


class _Waiting(msgspec.Struct, order=True, eq=True):
    rank: int  # the negative priority
    number: int  # in the order of arrival
    nbytes: int
    avoided: frozenset[str]
    future: asyncio.Future[NodeLoad]


class WaitingTasks:
    """The queue of a client."""

    def __init__(self, loads: Callable[[], Iterable[NodeLoad]]) -> None:
        """`loads`: returns the loads of the nodes that can take tasks."""
        self._loads = loads
        self._queue: list[_Waiting] = []
        self._numbers = count()

    def __len__(self) -> int:
        return sum(not waiting.future.done() for waiting in self._queue)

    def __bool__(self) -> bool:
        """Whether a task waits. Without the count, because each call with progress asks, beside thousands of waiting tasks."""
        return any(not waiting.future.done() for waiting in self._queue)

    async def place(self, nbytes: int, priority: int, avoided: frozenset[str]) -> NodeLoad:
        """Wait for a node, and count the task there.

        Raises:
            Exception: the error of `refuse`.
        """
        future: asyncio.Future[NodeLoad] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._queue, _Waiting(-priority, next(self._numbers), nbytes, avoided, future))
        self.give()
        try:
            return await future
        except BaseException:
            if future.done() and not future.cancelled() and future.exception() is None:
                future.result().end()
                self.give()
            raise

    def give(self) -> None:
        """Give nodes to waiting tasks, as long as there is room."""
        while self._queue:
            first = self._queue[0]
            if not first.future.done():
                load = choose(self._loads(), first.nbytes, first.avoided)
                if load is None:
                    return
                load.begin(first.nbytes)
                first.future.set_result(load)
            heapq.heappop(self._queue)

    def refuse(self, error: Exception) -> None:
        """End all waits with an error."""
        queue, self._queue = self._queue, []
        for waiting in queue:
            if not waiting.future.done():
                waiting.future.set_exception(copy(error))
