"""Tracks users' views of blocks, and returns a block when its last view is deleted.

A block is returned when the last object that refers to it (slice, numpy array) is deleted. The garbage collector calls back in
any thread and between any two lines, so the callback only appends to a deque. The core driver collects the deque before each
event, and is woken through a pipe when a task or caller waits for memory.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from contextlib import suppress
from functools import partial

from ...core.model.blocks import Block
from ..loop import fork_safety
from ..loop.futures import BlockFuture
from .segments import Segment

__all__ = ["ViewTracker"]


class ViewTracker:
    """Makes views, and collects the generations of blocks whose views were deleted."""

    def __init__(self) -> None:
        self.released: deque[int | BlockFuture] = deque()  # generations of returned blocks, and futures of unused requests
        with fork_safety.fd_lock:
            self.wake_fd, self._wake_writer = os.pipe()  # closed on exec
            fork_safety.protect(self.wake_fd, self._wake_writer)
        os.set_blocking(self.wake_fd, False)
        os.set_blocking(self._wake_writer, False)
        self._views: dict[int, weakref.ref[object]] = {}  # by block generation; removed with the view
        self._wake_lock = threading.RLock()  # reentrant, because a finalizer may call `wake` inside `wake`
        self.is_notifying = False  # whether a returned block wakes the supervisor, because memory is waited for

    def view(self, segment: Segment, block: Block, nbytes: int) -> memoryview:
        """A writable view of a block's first `nbytes`. The block is returned when the last reference to it is deleted."""
        array = segment.export(block.offset, block.nbytes)  # whole pages, because each length is a ctypes type of its own
        self._views[block.generation] = weakref.ref(
            array, partial(self._on_view_deleted, segment, block.offset, block.nbytes, block.generation)
        )
        return memoryview(array).cast("B")[:nbytes]

    def _on_view_deleted(self, segment: Segment, offset: int, nbytes: int, generation: int, _reference: object) -> None:
        """Return the block of a deleted view. Called in any thread, between any two lines."""
        segment.withdraw(offset, nbytes)
        del self._views[generation]
        self.return_block(generation)

    def return_block(self, generation: int) -> None:
        """Return a block that is not used any more. Any thread may call it at any time."""
        self.released.append(generation)
        if self.is_notifying:
            self.wake()

    def release_unused(self, future: BlockFuture) -> None:
        """Return the block, or cancel the request, of an unused future. Any thread may call it at any time."""
        self.released.append(future)
        if self.is_notifying:
            self.wake()

    def collect(self) -> tuple[tuple[int, ...], list[BlockFuture]]:
        """The generations of blocks returned since the last call, and the futures of unused requests."""
        returned: list[int] = []
        unused: list[BlockFuture] = []
        while self.released:
            released = self.released.popleft()
            if isinstance(released, int):
                returned.append(released)
            else:
                unused.append(released)
        return tuple(returned), unused

    def notify_on_release(self, *, wanted: bool) -> None:
        """Set whether a returned block wakes the supervisor."""
        self.is_notifying = wanted
        if wanted and self.released:
            self.wake()  # for blocks that were returned before

    def drain_wake(self) -> None:
        """Empty the wake-up pipe."""
        with suppress(BlockingIOError):
            os.read(self.wake_fd, 64 * 1024)  # the capacity of a pipe

    def close(self) -> None:
        """Close the wake-up pipe. Blocks that are returned later are not reported. A second call does nothing."""
        with self._wake_lock:
            self.is_notifying = False
            descriptors, self._wake_writer, self.wake_fd = (self._wake_writer, self.wake_fd), -1, -1
        for descriptor in descriptors:
            if descriptor >= 0:
                fork_safety.close(descriptor)

    def forked(self) -> None:
        """Stop waking the supervisor, in a forked child."""
        self._wake_lock = threading.RLock()  # a new lock, because a thread of the parent may have held the old one
        self.is_notifying = False

    def wake(self) -> None:
        """Wake the supervisor, so that it collects returned blocks."""
        with self._wake_lock, suppress(OSError):  # a full pipe: it is awake already; a closed pipe: the pool is closed
            os.write(self._wake_writer, b"w")
