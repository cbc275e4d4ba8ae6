"""The outcomes of `Pool.map_call`: values instead of results in shared memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, cast

import msgspec

from ..client.batches.batch import Batch
from ..client.batches.batch_progress import BatchProgress
from ..errors import OffloopError
from ..runtime.loop.background import BackgroundTasks
from .callee import Callee

__all__ = ["CallBatch", "CallOutcome"]

ValueT = TypeVar("ValueT")


class CallOutcome(msgspec.Struct, Generic[ValueT], frozen=True, eq=False):
    """How one call of a batch ended: with a value, or an error."""

    index: int
    """Number of the call in the order in which its arguments were pulled, from 0."""

    arguments: Any
    """The arguments, as they were given."""

    value: ValueT | None = None
    """What the function returned; None also if it failed."""

    error: Exception | None = None
    """The error, usually an `OffloopError`; None: the function returned."""

    def unwrap(self) -> ValueT:
        """Return the value, or raise the error."""
        if self.error is not None:
            raise self.error
        return cast("ValueT", self.value)


class CallBatch(AsyncIterator[CallOutcome[ValueT]]):
    """The outcomes of `pool.map_call`, as the calls finish, or in the order of the arguments.

    Leave it with `async with`, which stops the calls that still run. One task of the loop may read it.
    """

    def __init__(self, batch: Batch[Any], callee: Callee, background: BackgroundTasks) -> None:
        self._batch = batch
        self._callee = callee
        self._background = background

    @property
    def progress(self) -> BatchProgress:
        """Number of calls, share of the work that is done, and expected time until the end."""
        return self._batch.progress

    async def __aenter__(self) -> Self:
        await self._batch.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._batch.__aexit__(kind, error, traceback)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> CallOutcome[ValueT]:
        """The next outcome. A call that fails is an outcome with an error.

        Raises:
            PoolMisused: another task of the loop reads.
            Exception: the iterator of the arguments raised it.
        """
        outcome = await anext(self._batch)
        value, error = None, outcome.error
        if outcome.result is not None:
            try:
                value = await self._callee.value_of(outcome.result, self._background)
            except OffloopError as caught:
                error = caught
        if error is not None:
            self._callee.add_note(error)
        return CallOutcome(outcome.index, outcome.source, value, error)
