"""Hashes sources in threads, to recognise content that has killed workers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

import anyio.to_thread

from ..core.memory.arena import INBOX_ID
from ..core.model.blocks import CALLER_MEMORY
from ..core.model.commands import HashSource
from ..core.model.events import Event, SourceHashed
from .loop.background import BackgroundTasks
from .memory.segments import Segment, digest_of

__all__ = ["hash_source"]


def hash_source(
    command: HashSource,
    segments: dict[int, Segment],
    background: BackgroundTasks,
    memory: Sequence[memoryview] | None,
    apply: Callable[[Event], None],
) -> None:
    """Hash the sources of a task in a thread, and report the digest.

    Args:
        command: the task and its sources.
        segments: the pool's.
        background: the pool's tasks and threads.
        memory: the sources of the task that lie in its caller's memory; None: the task is settled.
        apply: reports the digest.
    """
    work = _digest_of(command, segments, memory)

    async def hash_in_thread() -> None:
        digest: bytes | None = None
        with suppress(RuntimeError):  # no thread can be started: the digest is unknown
            digest = await anyio.to_thread.run_sync(work, limiter=background.own_threads)
        apply(SourceHashed(command.task_id, digest))

    background.run(hash_in_thread)


def _digest_of(command: HashSource, segments: dict[int, Segment], memory: Sequence[memoryview] | None) -> Callable[[], bytes]:
    if command.sources[0].segment != CALLER_MEMORY:
        return partial(segments[INBOX_ID].digest, [(source.offset, source.nbytes) for source in command.sources])
    assert memory is not None, "the command comes before the one that settles the task"
    return partial(digest_of, [memory[source.offset] for source in command.sources])
