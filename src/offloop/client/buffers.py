"""Memory that a caller fills itself and then hands over, without a copy."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from ..core.model.blocks import Block
from ..errors import InvalidTask
from ..runtime.loop.futures import BlockFuture

if TYPE_CHECKING:
    from ..runtime.supervisor import Supervisor

__all__ = ["Buffer"]


class Buffer:
    """A piece of the pool's inbox, made by `pool.buffer(nbytes)` or `pool.receive(...)`.

    Fill `view`, then pass the buffer as a task's source. That moves it: afterwards `view` is released and using it
    raises `ValueError`, as with a transferred ArrayBuffer in a browser. A buffer that is never used gives its memory
    back when it and all its views are gone.
    """

    def __init__(self, supervisor: Supervisor, future: BlockFuture) -> None:
        self._supervisor = supervisor
        self._future = future
        self._nbytes = future.nbytes
        self._view: memoryview | None = None
        self._is_moved = False
        self._unclaimed = weakref.finalize(self, supervisor.views.release_unused, future)
        self._unclaimed.atexit = False

    @property
    def nbytes(self) -> int:
        """Its length in bytes, as asked for or as trimmed."""
        return self._nbytes

    async def ready(self) -> Buffer:
        """Wait until there is room and the pages are there, without holding up the loop; returns the buffer itself.

        Raises:
            MemoryLimitExceeded: there will never be that much.
            PoolMisused: this is another process, thread or loop than the pool's.
        """
        self._supervisor.affinity.check()
        await self._future.wait()
        self._future.check()
        return self

    @property
    def view(self) -> memoryview:
        """The memory: writable, one-dimensional, `nbytes` long; contents undefined until you write.

        Pages are fetched in a thread from the moment the buffer is made. Taking the view before they are there waits
        for them on the caller's own thread, about 14 ms for 128 MiB; `await buffer.ready()` first avoids that.

        Raises:
            MemoryLimitExceeded: there is no room at this moment (`await buffer.ready()` would wait for it), or never.
            InvalidTask: the buffer was moved into a task.
            PoolClosed: the pool is closed, and the view was not taken before.
            PoolMisused: the pages are not there yet, and this is another thread than the pool's; `await buffer.ready()` there.
        """
        if self._is_moved:
            raise InvalidTask("this buffer was moved into a task; make a new one with pool.buffer(nbytes)")
        if self._view is None:
            self._supervisor.reserve_now(self._future)
            assert self._future.block is not None
            inbox = self._supervisor.inbox
            if self._unclaimed.detach() is None:  # from here on the end of the view gives the block back
                raise InvalidTask("the view of this buffer is being taken by another thread")
            self._view = self._supervisor.views.view(inbox, self._future.block, self._nbytes)
        return self._view

    def trim(self, nbytes: int) -> None:
        """Keep only the first `nbytes`: what was made for the largest case and filled with less. A view taken before is
        released.

        Raises:
            ValueError: that is more than there is, or negative.
        """
        if not 0 <= nbytes <= self._nbytes:
            raise ValueError(f"trim({nbytes}): must be from 0 to the buffer's {self._nbytes} bytes")
        if self._view is not None:
            longer, self._view = self._view, self._view[:nbytes]
            longer.release()
        self._nbytes = nbytes

    def belongs_to(self, supervisor: Supervisor) -> bool:
        """Whether it lies in that pool's inbox. For the pool's own use."""
        return self._supervisor is supervisor

    def move(self) -> tuple[Block, memoryview]:
        """Take it from its owner: the block, and the one view that still holds it. For the pool's own use.

        Raises:
            InvalidTask: it was moved before, or an object over its view (a numpy array) is still alive.
        """
        view = self.view
        block = self._future.block
        assert block is not None
        assert self._view is not None
        kept = view[:]
        try:
            self._view.release()
        except BufferError:
            raise InvalidTask("an object made over the buffer's view is still in use; release it first") from None
        self._view = None
        self._is_moved = True
        return block, kept
