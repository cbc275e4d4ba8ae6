"""Shared-memory buffer that a caller fills and passes as a source. The event loop does not copy it."""

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
    raises `ValueError`, as with a transferred ArrayBuffer in a browser. `share()` makes it the source of several tasks instead.
    The memory of an unused buffer is returned when the buffer and all its views are deleted.
    """

    def __init__(self, supervisor: Supervisor, future: BlockFuture) -> None:
        self._supervisor = supervisor
        self._future = future
        self._nbytes = future.nbytes
        self._view: memoryview | None = None
        self._is_moved = False
        self._is_shared = False
        self._unclaimed = weakref.finalize(self, supervisor.views.release_unused, future)
        self._unclaimed.atexit = False

    @property
    def nbytes(self) -> int:
        """Length in bytes, as requested or as trimmed."""
        return self._nbytes

    async def ready(self) -> Buffer:
        """Wait until the pages are reserved, without blocking the loop. Returns the buffer itself.

        Raises:
            MemoryLimitExceeded: the buffer can never fit.
            PoolMisused: called in another process, thread or loop than the pool's.
        """
        self._supervisor.affinity.check()
        await self._future.wait()
        self._future.check()
        return self

    @property
    def view(self) -> memoryview:
        """The memory: writable, or read-only after `share`; one-dimensional, `nbytes` long; undefined until it is written.

        A thread reserves the pages from the moment the buffer is made. If `view` is read before that is done, it blocks the
        caller's thread until then, about 14 ms for 128 MiB; `await buffer.ready()` first avoids that.

        Raises:
            MemoryLimitExceeded: there is no free memory now (`await buffer.ready()` waits for it), or the buffer can never fit.
            InvalidTask: the buffer was moved into a task.
            PoolClosed: the pool is closed, and `view` was not read before.
            PoolMisused: the pages are not reserved yet, and this is another thread than the pool's. `await buffer.ready()` in
                the pool's thread first.
        """
        if self._is_moved:
            raise InvalidTask("this buffer was moved into a task; make a new one with pool.buffer(nbytes)")
        if self._view is None:
            self._supervisor.reserve_now(self._future)
            assert self._future.block is not None
            inbox = self._supervisor.inbox
            if self._unclaimed.detach() is None:  # from now on the block is returned when the view is deleted
                raise InvalidTask("the view of this buffer is being taken by another thread")
            self._view = self._supervisor.views.view(inbox, self._future.block, self._nbytes)
        return self._view

    def trim(self, nbytes: int) -> None:
        """Shorten the buffer to its first `nbytes`, for a buffer of the maximum size that was filled with less.

        A view that was read before is released.

        Raises:
            ValueError: `nbytes` is negative, or more than the buffer has.
        """
        if not 0 <= nbytes <= self._nbytes:
            raise ValueError(f"trim({nbytes}): must be from 0 to the buffer's {self._nbytes} bytes")
        if self._view is not None:
            old_view, self._view = self._view, self._view[:nbytes]
            old_view.release()
        self._nbytes = nbytes

    def share(self) -> Buffer:
        """Make the buffer read-only, so that it can be the source of several tasks, which read it in place. Returns the buffer.

            upload = (await pool.receive(request.stream())).share()
            text, picture = await asyncio.gather(pool.call(read_text, upload), pool.call(render_page, upload))

        A task does not move it. The memory is returned when the buffer, its views and its tasks are gone.

        Raises:
            InvalidTask: an object over the writable view still exists, or the buffer was moved. Not every such object is
                noticed: an array of numpy is not. Do not write through one afterwards.
            MemoryLimitExceeded, PoolClosed, PoolMisused: as `view`.
        """
        if not self._is_shared:
            readable = self.view.toreadonly()
            self._release_view()
            self._view = readable
            self._is_shared = True
        return self

    def belongs_to(self, supervisor: Supervisor) -> bool:
        """Whether the buffer lies in that pool's inbox. For the pool's own use."""
        return self._supervisor is supervisor

    def move(self) -> tuple[Block, memoryview]:
        """Return the block, and a view that keeps it, and invalidate the buffer unless it is shared. For the pool's own use.

        Raises:
            InvalidTask: the buffer was moved before, or an object over its view (a numpy array) still exists.
        """
        view = self.view
        block = self._future.block
        assert block is not None
        moved_view = view[:]
        if not self._is_shared:
            self._release_view()
            self._view = None
            self._is_moved = True
        return block, moved_view

    def _release_view(self) -> None:
        assert self._view is not None
        try:
            self._view.release()
        except BufferError:
            raise InvalidTask("an object made over the buffer's view is still in use; release it first") from None
