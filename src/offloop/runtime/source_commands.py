"""Carries out the commands about the sources of tasks: hashes them, delivers them to workers, and has inboxes release pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

import anyio.to_thread

from ..core.memory.arena import INBOX_ID
from ..core.model.blocks import CALLER_MEMORY
from ..core.model.commands import DeliverSources, HashSource, ReleaseInbox, StopDelivery
from ..core.model.events import Event, SourceHashed
from ..errors import InvalidTask
from .loop.background import BackgroundTasks
from .memory.segments import Segment, digest_of
from .memory.source_file import CallerMemory, SourceFile

__all__ = ["SourceCommands"]


class _SourceDelivery(Protocol):
    def deliver(self, command: DeliverSources) -> None: ...
    def stop(self, delivery_id: int) -> None: ...
    def release_kept(self) -> None: ...


class _Worker(Protocol):
    """The part of a `WorkerConnection` that is used here."""

    @property
    def sources(self) -> _SourceDelivery | None: ...


class SourceCommands:
    """Handlers of the commands about sources."""

    def __init__(
        self,
        segments: dict[int, Segment],
        workers: Mapping[int, _Worker],
        background: BackgroundTasks,
        memory_of: Callable[[int], Sequence[CallerMemory] | None],
        apply: Callable[[Event], None],
    ) -> None:
        """Connect the parts.

        Args:
            segments: the pool's.
            workers: the connections, by slot.
            background: the pool's tasks and threads.
            memory_of: returns the sources of a task that stay with its caller; None: the task is settled.
            apply: reports a digest.
        """
        self._segments = segments
        self._workers = workers
        self._background = background
        self._memory_of = memory_of
        self._apply = apply
        self.handlers: dict[type, Callable[[Any], None]] = {
            HashSource: self._hash,
            DeliverSources: self._deliver,
            StopDelivery: self._stop,
            ReleaseInbox: self._release_inbox,
        }

    def _deliver(self, command: DeliverSources) -> None:
        sources = self._workers[command.slot].sources
        assert sources is not None, "the worker is ready and has an inbox of its own"
        sources.deliver(command)

    def _stop(self, command: StopDelivery) -> None:
        sources = self._workers[command.slot].sources
        assert sources is not None, "a delivery was begun"
        sources.stop(command.delivery_id)

    def _release_inbox(self, command: ReleaseInbox) -> None:
        sources = self._workers[command.slot].sources
        if sources is not None:
            sources.release_kept()

    def _hash(self, command: HashSource) -> None:
        """Hash the sources of a task in a thread, to recognise content that has killed workers, and report the digest."""
        memory = self._memory_of(command.task_id) or ()
        held = [source for source in memory if isinstance(source, SourceFile) and source.hold()]
        work = self._digest_of(command, memory)

        async def hash_in_thread() -> None:
            digest: bytes | None = None
            try:
                with suppress(RuntimeError, InvalidTask):  # no thread can be started, or a file has changed: it is unknown
                    digest = await anyio.to_thread.run_sync(work, limiter=self._background.own_threads)
            finally:
                for file in held:  # the task may be settled before
                    file.release()
            self._apply(SourceHashed(command.task_id, digest))

        self._background.run(hash_in_thread)

    def _digest_of(self, command: HashSource, memory: Sequence[CallerMemory]) -> Callable[[], bytes]:
        if command.sources[0].segment != CALLER_MEMORY:
            return partial(self._segments[INBOX_ID].digest, [(source.offset, source.nbytes) for source in command.sources])
        return partial(_digest_of_caller, [memory[source.offset] for source in command.sources])


def _digest_of_caller(sources: Sequence[CallerMemory]) -> bytes:
    return digest_of(_pieces(sources))


def _pieces(sources: Sequence[CallerMemory]) -> Iterator[memoryview | bytes]:
    for source in sources:
        if isinstance(source, SourceFile):
            yield from source.pieces()
        else:
            yield source
