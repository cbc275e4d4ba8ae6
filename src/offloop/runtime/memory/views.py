"""Views of blocks that users hold, and the news of their end.

A block that a user looks at goes back when the last view of it is gone: slices, numpy arrays and all. The news comes
from the garbage collector, in any thread and between any two lines, so it is only put into a deque; the supervisor
collects it before each decision, and is woken through a pipe when somebody waits for memory.
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
    """Makes views, and remembers which blocks came back."""

    def __init__(self) -> None:
        self.released: deque[int | BlockFuture] = deque()  # generations that came back, tickets that nobody will use
        with fork_safety.fd_lock:
            self.wake_fd, self._wake_writer = os.pipe()  # closed on exec
            fork_safety.protect(self.wake_fd, self._wake_writer)
        os.set_blocking(self.wake_fd, False)
        os.set_blocking(self._wake_writer, False)
        self._views: dict[int, weakref.ref[object]] = {}  # by the generation of the block; each goes with what it refers to
        self._wake_lock = threading.RLock()  # a finalizer may strike while this thread is waking already
        self.notifying = False  # somebody waits for memory: a block that comes back is news

    def view(self, segment: Segment, block: Block, nbytes: int) -> memoryview:
        """A writable view of a block's first `nbytes`; the block is returned when every object that refers to it is gone."""
        array = segment.export(block.offset, block.nbytes)  # whole pages: few different lengths, so few ctypes types
        self._views[block.generation] = weakref.ref(
            array, partial(self._view_gone, segment, block.offset, block.nbytes, block.generation)
        )
        return memoryview(array).cast("B")[:nbytes]

    def _view_gone(self, segment: Segment, offset: int, nbytes: int, generation: int, _reference: object) -> None:
        """From any thread, between any two lines."""
        segment.withdraw(offset, nbytes)
        del self._views[generation]
        self.return_block(generation)

    def return_block(self, generation: int) -> None:
        """Say that nobody uses the block any more. From any thread, at any time."""
        self.released.append(generation)
        if self.notifying:
            self.wake()

    def release_unused(self, future: BlockFuture) -> None:
        """Say that nobody will use what was asked for with this ticket. From any thread, at any time."""
        self.released.append(future)
        if self.notifying:
            self.wake()

    def collect(self) -> tuple[tuple[int, ...], list[BlockFuture]]:
        """The generations of the blocks that came back since the last call, and the tickets that nobody will use."""
        returned: list[int] = []
        forgotten: list[BlockFuture] = []
        while self.released:
            news = self.released.popleft()
            if isinstance(news, int):
                returned.append(news)
            else:
                forgotten.append(news)
        return tuple(returned), forgotten

    def notify_on_release(self, *, wanted: bool) -> None:
        """From now on a block that comes back is news to somebody who waits for memory, or is not any more."""
        self.notifying = wanted
        if wanted and self.released:
            self.wake()  # it came before

    def drain_wake(self) -> None:
        """Empty the pipe after it woke somebody."""
        with suppress(BlockingIOError):
            os.read(self.wake_fd, 64 * 1024)  # as much as it holds

    def close(self) -> None:
        """Close the pipe; blocks that come back later are not reported. A second call does nothing."""
        with self._wake_lock:
            self.notifying = False
            descriptors, self._wake_writer, self.wake_fd = (self._wake_writer, self.wake_fd), -1, -1
        for descriptor in descriptors:
            if descriptor >= 0:
                fork_safety.close(descriptor)

    def forked(self) -> None:
        """In a forked child: what comes back here is not the parent's news."""
        self._wake_lock = threading.RLock()  # whoever held the other one is not here
        self.notifying = False

    def wake(self) -> None:
        """Have the supervisor collect what came back."""
        with self._wake_lock, suppress(OSError):  # full: it is awake already; closed: nobody listens
            os.write(self._wake_writer, b"w")
