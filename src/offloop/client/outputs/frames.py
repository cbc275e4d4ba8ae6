"""Stream of a task's outputs: `async with pool.stream(...) as frames`, then `async for frame in frames`.

The receiver's count of outputs goes to the worker as credit, so that a slow reader holds the worker back. With
`overrun="latest"`, the oldest unread frame is dropped instead.
"""

from __future__ import annotations

from typing import Literal, get_args

from ...core.model.events import CreditGranted
from ...core.model.task import Completed, TaskOutput
from ...runtime.loop.futures import TaskFuture
from ...runtime.supervisor import Supervisor
from ...settings import check_range
from ..progress_listener import ProgressCallback
from ..results import Result
from ..submission import Submission
from .reader import OutputReader

__all__ = ["MAX_BUFFER", "Frame", "FrameStream", "Overrun", "check_reading"]

MAX_BUFFER = 32  # unread frames, because a worker that sends more than 64 messages at once is killed

Overrun = Literal["wait", "latest"]


def check_reading(buffer: int, overrun: Overrun) -> None:
    """Check the options of a stream's reader.

    Raises:
        ValueError, TypeError: naming the option, the value and the range.
    """
    check_range("buffer", buffer, 1, MAX_BUFFER, whole=True)
    if overrun not in get_args(Overrun):
        raise ValueError(f"overrun={overrun!r}: must be one of {', '.join(map(repr, get_args(Overrun)))}")


class Frame(Result):
    """One output of a stream, in shared memory. Its memory is returned when the last view of it is deleted."""

    __slots__ = ("index",)

    def __init__(self, output: TaskOutput, view: memoryview | None, queued: float, index: int) -> None:
        super().__init__(output, view, queued, None)
        self.index = index
        """Number of the frame, from 0. Dropped frames have numbers, too."""


class FrameStream(OutputReader[Frame]):
    """The frames of one task, each as soon as it is ready. One task of the loop may read them.

    Leaving the block cancels the task, if it still runs, and returns when its memory is free, except that of frames which are
    still referred to. If the task fails, the frames that came before are read first, then its error is raised.

    Reading raises, beside `PoolMisused`:
        StreamAbandoned: no frame was read for `idle_timeout` seconds.
        Every error of `Pool.run`; `TaskTimeout` means that one frame took longer than `frame_timeout`.
    """

    _call = "pool.stream()"

    def __init__(
        self,
        supervisor: Supervisor,
        submission: Submission,
        buffer: int,
        overrun: Overrun,
        on_progress: ProgressCallback | None,
    ) -> None:
        super().__init__(supervisor, submission, on_progress)
        self.dropped = 0
        """Number of frames that were dropped, because the reader was slower than the worker."""
        self._supervisor = supervisor
        self._buffer = buffer
        self._read = 0  # number of frames that were read
        self._granted = submission.credit
        self._overrun: Overrun = overrun

    def _attach(self, future: TaskFuture) -> None:
        super()._attach(future)
        if self._overrun == "latest":
            future.on_output = self._drop_oldest

    async def _next(self, future: TaskFuture) -> Frame:
        delivered = await self._wait_for_output(future)
        if delivered is not None:
            output, view = delivered
            assert isinstance(output, TaskOutput), "only a task with named pipelines hands over failures"
            return self._frame(output, view)
        outcome = future.pop_outcome()
        if outcome is None:
            raise StopAsyncIteration
        if not isinstance(outcome, Completed):
            try:
                raise outcome
            finally:
                del outcome  # because the error's traceback refers to this frame: a reference cycle otherwise
        if outcome.output is None:
            raise StopAsyncIteration
        view, future.view = future.view, None
        return self._frame(outcome.output, view)

    def _frame(self, output: TaskOutput, view: memoryview | None) -> Frame:
        index = self._read + self.dropped
        self._read += 1
        self._grant()
        return Frame(output, view, self._submission.queued, index)

    def _drop_oldest(self) -> None:
        if len(self._unread) > self._buffer:
            self._unread.popleft()
            self.dropped += 1
            self._grant()

    def _grant(self) -> None:
        """Tell the worker how many outputs have room, when half of the buffer is free again."""
        credit = self._read + self.dropped + self._submission.credit
        if credit - self._granted >= max(self._buffer // 2, 1):
            self._granted = credit
            self._supervisor.apply(CreditGranted(self._submission.task_id, credit))
