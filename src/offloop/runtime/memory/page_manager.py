"""Reserves and releases pages of shared memory, strictly in the order in which the core planned it.

The core's plan says which range has pages at which point. It holds only if no two operations are swapped: releasing a range
after another request has reserved it would take the pages of a live block. So there is one queue with one lock. A
thread carries out large operations, the loop small ones.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

import anyio.to_thread

from ...core.model.blocks import Span
from ...core.model.commands import DropOutbox, ReleasePages, ReservePages
from ...core.model.events import PagesRefused, PagesReserved
from ..loop.background import BackgroundTasks
from .segments import PagesUnavailable, Segment

__all__ = ["INLINE_NBYTES", "PageManager", "PageOperation"]

PageOperation = ReservePages | ReleasePages | DropOutbox

INLINE_NBYTES = 512 * 1024  # maximum bytes reserved, released or copied on the loop: well under a millisecond


class PageManager:
    """Queue of page operations, and their results for the core."""

    def __init__(self, segments: dict[int, Segment], background: BackgroundTasks, apply_results: Callable[[], None]) -> None:
        self._segments = segments
        self._background = background
        self._apply_results = apply_results  # called after a thread has finished; the caller of `kick` reads the others
        self._has_thread = False
        self.waiting: deque[PageOperation] = deque()
        self._enqueued_nbytes = 0  # bytes of all operations ever queued; written by the loop's thread only
        self._finished_nbytes = 0  # bytes of all operations carried out; written by the holder of the lock only
        self._work_lock = threading.Lock()
        self.results: deque[PagesReserved | PagesRefused] = deque()  # events for the core

    def enqueue(self, operation: PageOperation) -> None:
        """Queue an operation."""
        self.waiting.append(operation)
        self._enqueued_nbytes += _nbytes(operation)

    @property
    def _queued_nbytes(self) -> int:
        """Bytes of the queued operations. Two counters with one writer each need no lock."""
        return self._enqueued_nbytes - self._finished_nbytes

    def kick(self) -> None:
        """Carry out the queue: here if it takes less than a millisecond and no thread is working, else in a thread."""
        if self._queued_nbytes <= INLINE_NBYTES and not self._work_lock.locked():
            self.work()
        elif not self._has_thread:
            self._has_thread = True
            self._background.run(self._work_in_thread)

    def work(self) -> None:
        """Carry out the queue. Blocks; any thread may call it."""
        with self._work_lock:
            while self.waiting:
                operation = self.waiting[0]
                match operation:
                    case ReservePages():
                        self._reserve(operation)
                    case ReleasePages():
                        self._release(operation.spans)
                    case DropOutbox():
                        self._drop(operation)
                self.waiting.popleft()
                self._finished_nbytes += _nbytes(operation)

    async def _work_in_thread(self) -> None:
        """Carry out the queue in threads until it is empty."""
        while self.waiting:
            try:
                await anyio.to_thread.run_sync(self.work, limiter=self._background.own_threads)
            except RuntimeError:  # no thread can be started: block the loop instead
                self.work()
        self._has_thread = False
        self._apply_results()

    def _reserve(self, operation: ReservePages) -> None:
        reservation = operation.reservation
        self._release(reservation.to_release)
        reserved: list[tuple[Segment, int, int]] = []
        try:
            for span in reservation.to_reserve:
                segment = self._segments.get(span.segment_id)
                if segment is not None:
                    segment.reserve_pages(span.start, span.end)
                    reserved.append((segment, span.start, span.end))
        except PagesUnavailable as error:
            for segment, start, end in reserved:
                segment.release_pages(start, end)
            self.results.append(PagesRefused(reservation, error.free_bytes))
        else:
            self.results.append(PagesReserved(reservation))

    def _release(self, spans: tuple[Span, ...]) -> None:
        for span in spans:
            segment = self._segments.get(span.segment_id)
            if segment is not None:
                segment.release_pages(span.start, span.end)

    def _drop(self, operation: DropOutbox) -> None:
        segment = self._segments.pop(operation.outbox_id, None)
        if segment is None:
            return  # the outbox could not be created
        for span in operation.spans:
            segment.release_pages(span.start, span.end)
        segment.close()


def _nbytes(operation: PageOperation) -> int:
    if isinstance(operation, ReservePages):
        spans = operation.reservation.to_release + operation.reservation.to_reserve
    else:
        spans = operation.spans
    return sum(span.end - span.start for span in spans)
