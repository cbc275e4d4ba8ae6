"""Failure streaks: a worker is replaced because its processor asks for it, or because too many of its tasks failed in a row.

An unexpected exception (the code "exception"; not an exception that a processor raises as `TaskFailed` or `InvalidTask`) may
leave a library in a state in which every task fails. One such exception may be caused by the source, and a second one by its
retry. So the worker is replaced after three in a row without a success. A start costs a tenth of a second of CPU time.

If the plugin itself is broken, every task fails, and a replacement does not help. So each replacement without a following
success doubles the number, and a broken plugin costs few starts.
"""

from __future__ import annotations

from ...wire.messages import Done, Failed
from ..model.worker_slot import WorkerSlot

__all__ = ["FailureStreaks"]

_MIN_STREAK = 3  # unexpected exceptions in a row
_MAX_STREAK = 192  # the same, after doubling


class FailureStreaks:
    """Counts the unexpected exceptions in a row of each worker."""

    def __init__(self) -> None:
        self.has_replaced = False  # whether a worker was replaced for its failures, and no task has succeeded since
        self._max_streak = _MIN_STREAK  # unexpected exceptions in a row after which a worker is replaced

    def on_task_answered(self, slot: WorkerSlot, answer: Done | Failed) -> str | None:
        """Count an answer. Returns the reason why the worker must be replaced; None if it may have another task."""
        if isinstance(answer, Done):
            self.has_replaced, self._max_streak = False, _MIN_STREAK
        unexpected = isinstance(answer, Failed) and answer.code == "exception"
        slot.failures = slot.failures + 1 if unexpected else 0
        if answer.recycle:
            return "its processor asked to be replaced"
        if slot.failures < self._max_streak:
            return None
        self.has_replaced, self._max_streak = True, min(2 * self._max_streak, _MAX_STREAK)
        return f"{slot.failures} tasks in a row ended with an unexpected exception"
