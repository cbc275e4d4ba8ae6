"""The crowd of `chaos.py --crowd`: callers that fill shared memory, and are cancelled at critical moments.

Each round is an event loop of its own with one pool. For some seconds, callers

- receive streams of unknown length and use them, or stop in the middle,
- cancel calls that wait for memory in the iteration of the loop in which a block is freed,
- start tasks in a task group, of which one fails,
- keep results for a while, kill workers, and exceed their time-outs.

A round ends normally, by an error in the body, or by a cancellation, while calls are in progress. Then every task must have
exactly one outcome, every block must be free, and the round must end in time.
"""

from __future__ import annotations

import gc
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from time import monotonic
from typing import Any, Literal, TypeAlias

import anyio
import anyio.lowlevel

from offloop import Buffer, OffloopError, Pool, TaskFailed
from offloop.testing import assert_books_balance
from offloop.testing.faults import Echo, Exit, FaultsPlugin, Raise, Wait

__all__ = ["Crowd", "End", "crowd_round"]

End: TypeAlias = Literal["clean", "error", "cancelled"]

ROUND_END_S = 60.0  # maximum seconds until a round has ended
EXPECTED = {
    "MemoryLimitExceeded",
    "PoolClosed",
    "QueueTimeout",
    "SourceTooLarge",
    "TaskFailed",
    "TaskQuarantined",
    "TaskTimeout",
    "WorkerDied",
}


class BodyError(Exception):
    """The error with which the body of a round ends."""


class Crowd:
    """The callers of one round."""

    def __init__(self, pool: Pool, seed: int, until: float) -> None:
        self._pool = pool
        self._random = random.Random(seed)
        self._until = until
        self._max_nbytes = pool.statistics().shared_memory_limit_bytes // 3
        self.outcomes: Counter[str] = Counter()
        self.violations: list[str] = []

    async def caller(self) -> None:
        """Do one random action after another."""
        actions = [self._stream, self._stream, self._same_turn, self._siblings, self._kept, self._limited, self._killer]
        while monotonic() < self._until and not self.outcomes["PoolClosed"]:
            await self._count_errors(self._random.choice(actions))

    async def _count_errors(self, action: Callable[[], Awaitable[None]]) -> None:
        try:
            await action()
        except OffloopError as error:
            self._book(error)
        except BaseExceptionGroup as group:
            errors, rest = group.split(OffloopError)
            for error in _leaves(errors):
                self._book(error)
            if rest is not None:
                raise rest from None

    def _book(self, error: BaseException) -> None:
        name = type(error).__name__
        self.outcomes[name] += 1
        if name not in EXPECTED:
            self.violations.append(f"{name}: {error}")

    async def _stream(self) -> None:
        nbytes = self._nbytes()
        with anyio.move_on_after(self._random.choice([0.01, 0.1, 5.0])):
            buffer = await self._pool.receive(self._chunks(nbytes), max_bytes=self._max_nbytes)
            await anyio.sleep(self._random.choice([0.0, 0.0, 0.05]))
            await self._echo(buffer, nbytes)

    async def _same_turn(self) -> None:
        """Start two calls that wait for memory, and cancel them in the iteration in which a block is freed."""
        with anyio.move_on_after(2.0):
            held: list[Buffer] = [await self._pool.buffer(self._nbytes()).ready()]
            view = held[0].view[:1]
            async with anyio.create_task_group() as task_group:
                for _ in range(2):
                    task_group.start_soon(self._count_errors, partial(self._echo, bytes(self._nbytes())))
                    task_group.start_soon(self._count_errors, partial(self._receive_and_drop, self._nbytes()))
                for _ in range(self._random.randrange(20)):
                    await anyio.lowlevel.checkpoint()
                view.release()
                held.clear()
                task_group.cancel_scope.cancel()

    async def _receive_and_drop(self, nbytes: int) -> None:
        await self._pool.receive(self._chunks(nbytes))

    async def _siblings(self) -> None:
        async with anyio.create_task_group() as task_group:
            for _ in range(4):
                task_group.start_soon(self._echo, bytes(self._nbytes()))
            await anyio.sleep(self._random.random() * 0.05)
            try:
                await self._pool.run(b"", [Raise()])
            except TaskFailed:
                self.outcomes["TaskFailed"] += 1
                task_group.cancel_scope.cancel()  # as a task group does when a sibling fails

    async def _kept(self) -> None:
        result = await self._pool.run(bytes(self._nbytes()), [Echo()])
        await anyio.sleep(self._random.random() * 0.3)
        self.outcomes["ok"] += 1
        del result

    async def _limited(self) -> None:
        limit_s = self._random.choice([0.0, 0.01, 0.1])
        await self._pool.run(bytes(self._nbytes()), [Wait(0.02), Echo()], timeout=0.1, queue_timeout=limit_s)
        self.outcomes["ok"] += 1

    async def _killer(self) -> None:
        await self._pool.run(self._random.randbytes(8), [Exit()])

    async def _echo(self, source: bytes | Buffer, nbytes: int | None = None) -> None:
        expected = len(source) if isinstance(source, bytes) else nbytes
        result = await self._pool.run(source, [Echo()])
        if result.nbytes != expected or any(result.data[:16]):
            self.violations.append(f"{result.nbytes} bytes came back of {expected}, or others")
        self.outcomes["ok"] += 1

    async def _chunks(self, nbytes: int) -> AsyncIterator[bytes]:
        while nbytes:
            size = min(nbytes, self._random.choice([1000, 64 * 1024, 300_000]))
            yield bytes(size)
            nbytes -= size
            await anyio.sleep(0)

    def _nbytes(self) -> int:
        return self._random.choice([1000, 100_000, self._random.randrange(1, self._max_nbytes)])


async def crowd_round(seed: int, end: End, seconds: float, callers: int, settings: dict[str, Any]) -> Crowd:
    """Run one round. Returns its crowd, with the violations."""
    pool = Pool(plugins=[FaultsPlugin], grace=0.1, **settings)
    crowd: Crowd | None = None
    with anyio.fail_after(seconds + ROUND_END_S):
        try:
            async with anyio.create_task_group() as task_group, pool:
                crowd = Crowd(pool, seed, monotonic() + seconds * (1 if end == "clean" else 2))
                if end == "clean":
                    async with anyio.create_task_group() as drivers:
                        for _ in range(callers):
                            drivers.start_soon(crowd.caller)
                else:
                    for _ in range(callers):
                        task_group.start_soon(crowd.caller)
                    await anyio.sleep(seconds)
                    if end == "cancelled":
                        task_group.cancel_scope.cancel()
                    else:
                        raise BodyError
        except BaseExceptionGroup as group:
            if (rest := group.split(BodyError)[1]) is not None:
                raise rest from None
    assert crowd is not None
    _close_books(pool, crowd)
    return crowd


def _close_books(pool: Pool, crowd: Crowd) -> None:
    gc.collect()  # because a cancelled caller's traceback refers to its results
    statistics = pool.statistics()
    try:
        assert_books_balance(statistics)
    except AssertionError as error:
        crowd.violations.append(str(error))
    if any(statistics.leases.values()) or statistics.memory_used_bytes:
        crowd.violations.append(f"{statistics.memory_used_bytes} bytes are in use after the end: {statistics.leases}")


def _leaves(group: BaseExceptionGroup[OffloopError] | None) -> list[OffloopError]:
    leaves: list[OffloopError] = []
    for error in () if group is None else group.exceptions:
        leaves += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return leaves
