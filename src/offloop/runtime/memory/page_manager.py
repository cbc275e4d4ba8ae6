"""Moving pages, strictly in the order in which the core planned it.

The core's plan says which range has pages at which point. It comes true only if no two moves are swapped: giving a
range back after somebody else fetched it would pull the pages from under a live block. So there is one queue, and
whoever works on it holds its lock: a thread for large moves, the loop itself for small ones.
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

INLINE_NBYTES = 512 * 1024  # what is moved or copied on the loop itself: well under a millisecond


class PageManager:
    """The queue of moves, and their results."""

    def __init__(self, segments: dict[int, Segment], background: BackgroundTasks, tell_results: Callable[[], None]) -> None:
        self._segments = segments
        self._background = background
        self._apply_results = tell_results  # called when a thread is through; otherwise whoever called `begin` looks at them
        self._has_a_thread = False
        self.waiting: deque[PageOperation] = deque()
        self._put_nbytes = 0  # of all moves that were ever queued; changed by the loop's thread only
        self._moved_nbytes = 0  # of all that were carried out; changed by the thread that holds the lock
        self._at_work = threading.Lock()
        self.results: deque[PagesReserved | PagesRefused] = deque()  # to be told to the core

    def enqueue(self, move: PageOperation) -> None:
        """Queue a move."""
        self.waiting.append(move)
        self._put_nbytes += _nbytes(move)

    @property
    def _queued_nbytes(self) -> int:
        """Bytes of the moves that are not carried out yet. Two counters with one writer each need no lock."""
        return self._put_nbytes - self._moved_nbytes

    def kick(self) -> None:
        """Carry out what is queued: here, if it takes less than a millisecond and no thread is at it, else in a thread."""
        if self._queued_nbytes <= INLINE_NBYTES and not self._at_work.locked():
            self.work()
        elif not self._has_a_thread:
            self._has_a_thread = True
            self._background.run(self._work_in_thread)

    def work(self) -> None:
        """Carry out everything queued. Blocks; from any thread."""
        with self._at_work:
            while self.waiting:
                move = self.waiting[0]
                match move:
                    case ReservePages():
                        self._fetch(move)
                    case ReleasePages():
                        self._give_back(move.spans)
                    case DropOutbox():
                        self._drop(move)
                self.waiting.popleft()
                self._moved_nbytes += _nbytes(move)

    async def _work_in_thread(self) -> None:
        """Until nothing is queued."""
        while self.waiting:
            try:
                await anyio.to_thread.run_sync(self.work, limiter=self._background.own_threads)
            except RuntimeError:  # the system has no thread to give: better late than never
                self.work()
        self._has_a_thread = False
        self._apply_results()

    def _fetch(self, move: ReservePages) -> None:
        reservation = move.reservation
        self._give_back(reservation.to_release)
        fetched: list[tuple[Segment, int, int]] = []
        try:
            for span in reservation.to_reserve:
                segment = self._segments.get(span.segment_id)
                if segment is not None:
                    segment.fetch(span.start, span.end)
                    fetched.append((segment, span.start, span.end))
        except PagesUnavailable as error:
            for segment, start, end in fetched:
                segment.give_back(start, end)
            self.results.append(PagesRefused(reservation, error.free_bytes))
        else:
            self.results.append(PagesReserved(reservation))

    def _give_back(self, spans: tuple[Span, ...]) -> None:
        for span in spans:
            segment = self._segments.get(span.segment_id)
            if segment is not None:
                segment.give_back(span.start, span.end)

    def _drop(self, move: DropOutbox) -> None:
        segment = self._segments.pop(move.outbox_id, None)
        if segment is None:
            return  # it could never be made
        for span in move.spans:
            segment.give_back(span.start, span.end)
        segment.close()


def _nbytes(move: PageOperation) -> int:
    spans = move.reservation.to_release + move.reservation.to_reserve if isinstance(move, ReservePages) else move.spans
    return sum(span.end - span.start for span in spans)
