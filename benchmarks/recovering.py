"""The pools whose recovery is compared, each behind the same four calls: enter, `sleep`, `rebuild`, leave."""

from __future__ import annotations

import asyncio
import inspect
import os
import sys
import time
from abc import ABC, abstractmethod
from concurrent.futures import Executor, ProcessPoolExecutor
from multiprocessing import get_context
from typing import Self

import anyio
import anyio.to_process

from offloop import Pool
from offloop.testing.faults import FaultsPlugin, Inspect, Wait

__all__ = ["Contender", "contenders"]


def sleep_and_say_who(seconds: float) -> int:
    """The task of the peers."""
    if seconds:
        time.sleep(seconds)
    return os.getpid()


class Contender(ABC):
    """A pool of `workers` processes, alive inside `async with`."""

    def __init__(self, name: str, workers: int) -> None:
        self.name = name
        self.workers = workers

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @abstractmethod
    async def start(self) -> None: ...

    @abstractmethod
    async def stop(self) -> None: ...

    @abstractmethod
    async def sleep(self, seconds: float) -> object:
        """Sleep in a worker. Raises the pool's error if that worker is killed."""

    async def rebuild(self) -> None:  # noqa: B027 (nothing, for most)
        """Do what the pool's user must do before the next task is accepted."""

    async def who(self, seconds: float) -> int:
        """Returns the pid of the worker that slept."""
        pid = await self.sleep(seconds)
        assert isinstance(pid, int)
        return pid

    async def pids(self) -> list[int]:
        """Returns the pids of its workers after all have started."""
        found: set[int] = set()
        while len(found) < self.workers:
            found.update(await asyncio.gather(*(self.who(0.05) for _ in range(self.workers))))
        return sorted(found)


class Offloop(Contender):
    def __init__(self, name: str, workers: int, **settings: int) -> None:
        super().__init__(name, workers)
        self._settings = settings
        if "restart_intensity" in inspect.signature(Pool).parameters:
            # because eight deaths in a row would open the circuit breaker, and the question is the cost of one
            self._settings["restart_intensity"] = 1000

    async def start(self) -> None:
        self._pool = await Pool(self.workers, plugins=[FaultsPlugin], **self._settings).__aenter__()

    async def stop(self) -> None:
        await self._pool.__aexit__(None, None, None)

    async def sleep(self, seconds: float) -> object:
        return await self._pool.run(b"", [Wait(seconds)])

    async def who(self, seconds: float) -> int:
        return (await self._pool.run(b"", [Wait(seconds), Inspect()])).info.pid


class Standard(Contender):
    """`concurrent.futures.ProcessPoolExecutor`. A death breaks it, so a user must create a new one."""

    def __init__(self, name: str, workers: int, method: str) -> None:
        super().__init__(name, workers)
        self._method = method

    async def start(self) -> None:
        self._executor = self._make()

    async def stop(self) -> None:
        await asyncio.to_thread(self._executor.shutdown)

    async def rebuild(self) -> None:
        broken, self._executor = self._executor, self._make()
        broken.shutdown(wait=False)

    async def sleep(self, seconds: float) -> object:
        return await asyncio.wrap_future(self._executor.submit(sleep_and_say_who, seconds))

    def _make(self) -> Executor:
        return ProcessPoolExecutor(self.workers, get_context(self._method))


class Loky(Standard):
    """loky. `get_reusable_executor` replaces a broken executor."""

    def __init__(self, name: str, workers: int) -> None:
        super().__init__(name, workers, "loky")

    async def rebuild(self) -> None:
        self._executor = self._make()

    async def stop(self) -> None:
        await asyncio.to_thread(self._executor.shutdown, kill_workers=True)

    def _make(self) -> Executor:
        from loky import get_reusable_executor

        return get_reusable_executor(max_workers=self.workers)


class Pebble(Contender):
    """pebble. It replaces a worker that died with a task. An idle worker's death breaks it, so a user must create a new one."""

    async def start(self) -> None:
        from pebble import ProcessPool

        self._pool = ProcessPool(max_workers=self.workers)

    async def stop(self) -> None:
        self._pool.stop()
        await asyncio.to_thread(self._pool.join)

    async def rebuild(self) -> None:
        if not self._pool.active:
            await self.stop()
            await self.start()

    async def sleep(self, seconds: float) -> object:
        return await asyncio.wrap_future(self._pool.schedule(sleep_and_say_who, args=[seconds]))


class AnyioProcesses(Contender):
    async def start(self) -> None:
        self._limiter = anyio.CapacityLimiter(self.workers)

    async def stop(self) -> None:
        pass  # because anyio keeps its processes until the loop ends

    async def sleep(self, seconds: float) -> object:
        return await anyio.to_process.run_sync(sleep_and_say_who, seconds, limiter=self._limiter)


_said: set[str] = set()


def _say_once(line: str) -> None:
    if line not in _said:
        _said.add(line)
        print(line)


def contenders(workers: int) -> list[Contender]:
    """Returns the installed pools, and prints the names of the others."""
    found: list[Contender] = []
    if "spares" in inspect.signature(Pool).parameters:
        found.append(Offloop("offloop, one spare", workers, spares=1))
    else:
        _say_once("(this offloop has no `Pool(spares=...)` yet: skipped)")
    found += [
        Offloop("offloop", workers),
        Standard("ProcessPoolExecutor, spawn", workers, "spawn"),
        Standard("ProcessPoolExecutor, fork", workers, "fork"),
        AnyioProcesses("anyio.to_process", workers),
    ]
    for module, name, contender in (("loky", "loky, reusable", Loky), ("pebble", "pebble", Pebble)):
        try:
            __import__(module)
        except ImportError:
            _say_once(f"({module} is not installed: skipped; `{os.path.basename(sys.executable)} -m pip install {module}`)")
        else:
            found.append(contender(name, workers))
    return found
