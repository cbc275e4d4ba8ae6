"""Calls the `on_progress` of one task: monotonic, one call at a time, and none after the outcome."""

from __future__ import annotations

import contextvars
import logging
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import TypeAlias

import anyio
import msgspec

from ..runtime.loop.futures import OneShotEvent
from ..runtime.supervisor import Supervisor
from ..runtime.telemetry.progress_monitor import Progress
from .results import Result
from .single_flight.shared_submission import SharedSubmission
from .submission import Submission

__all__ = ["ProgressCallback", "ProgressListener", "run_with_progress"]

ProgressCallback: TypeAlias = Callable[[Progress], Awaitable[object] | object]

_log = logging.getLogger("offloop.progress")

_MAX_FRACTION = 0.99  # highest fraction before the task has succeeded


async def run_with_progress(
    supervisor: Supervisor, submission: Submission | SharedSubmission, callback: ProgressCallback
) -> Result:
    """Run a task, and call the callback with its progress; with 1 after success, and not after the outcome."""
    listener = ProgressListener(supervisor, submission, callback)
    listener.start()
    try:
        result = await submission.run()
    except BaseException:
        await listener.cancel()
        raise
    await listener.finish()
    return result


class ProgressListener:
    """Calls one callback, in the context of the caller. A callback that raises is logged, and not called again."""

    def __init__(self, supervisor: Supervisor, submission: Submission | SharedSubmission, callback: ProgressCallback) -> None:
        self._supervisor = supervisor
        self._submission = submission
        self._callback: ProgressCallback | None = callback
        self._context = contextvars.copy_context()
        self._last = Progress(0.0, "", "", None)
        self._call: _AsyncCall | None = None  # call of an async callback that has not ended

    @property
    def task_id(self) -> int:
        return self._submission.task_id

    def start(self) -> None:
        """Begin to call the callback."""
        self._supervisor.progress_monitor.add(self)

    def update(self, progress: Progress) -> None:
        """Tell the callback, unless nothing has changed, or its last call has not ended."""
        fraction = max(min(progress.fraction, _MAX_FRACTION), self._last.fraction)
        progress = msgspec.structs.replace(progress, fraction=fraction)
        if self._call is not None or _shown(progress) == _shown(self._last):
            return
        self._last = progress
        awaitable = self._start_call(self._last)
        if awaitable is not None:
            self._call = _AsyncCall(self._supervisor, awaitable)
            self._supervisor.background.run(self._finish_call, until_closed=True, context=self._context)

    async def finish(self) -> None:
        """The task has succeeded: wait for the last call to end, and tell the callback."""
        self._supervisor.progress_monitor.remove(self)
        if self._call is not None and not self._call.withdraw():
            await self._call.ended.wait()
        awaitable = self._start_call(msgspec.structs.replace(self._last, fraction=1.0, eta_s=0.0, waits_for=None))
        if awaitable is not None:
            await self._guarded(awaitable)

    async def cancel(self) -> None:
        """The task has not succeeded: cancel a call that has not ended, and return when it has."""
        self._supervisor.progress_monitor.remove(self)
        if self._call is not None and not self._call.withdraw():
            self._call.scope.cancel()
            await self._call.ended.wait_uncancellable()

    def _start_call(self, progress: Progress) -> Awaitable[object] | None:
        if self._callback is None:
            return None
        try:
            returned = self._context.copy().run(self._callback, progress)
        except Exception:
            self._drop()
            return None
        return returned if isawaitable(returned) else None

    async def _finish_call(self) -> None:
        call = self._call
        assert call is not None
        if call.is_withdrawn:
            return
        call.has_begun = True
        try:
            with call.scope:
                await self._guarded(call.awaitable)
        finally:
            self._call = None
            call.ended.set()

    async def _guarded(self, awaitable: Awaitable[object]) -> None:
        try:
            await awaitable
        except Exception:
            self._drop()

    def _drop(self) -> None:
        """Log the error of the callback, and do not call it again."""
        self._callback = None
        _log.warning("an on_progress callback raised, and is not called again; its task goes on", exc_info=True)


def _shown(progress: Progress) -> tuple[object, ...]:
    """Returns what a callback is told of when it changes."""
    return progress.fraction, progress.operation, progress.waits_for


class _AsyncCall:
    """One call of an async callback."""

    def __init__(self, supervisor: Supervisor, awaitable: Awaitable[object]) -> None:
        self.awaitable = awaitable
        self.scope = anyio.CancelScope()
        self.ended = OneShotEvent(supervisor.affinity.loop)
        self.has_begun = False
        self.is_withdrawn = False

    def withdraw(self) -> bool:
        """Drop the call if it has not begun. A background task that is cancelled before its first step would never end it."""
        if not self.has_begun and not self.is_withdrawn:
            self.is_withdrawn = True
            close: Callable[[], object] | None = getattr(self.awaitable, "close", None)
            if close is not None:
                close()  # otherwise Python warns that a coroutine was never awaited
        return self.is_withdrawn
