"""When a worker is replaced because of what its tasks answered: its processor asked for it, or nothing works in it any more.

An unexpected exception (the code "exception", and not what a processor raises as `TaskFailed` or `InvalidTask`) may leave a
library in a state in which everything fails. One may be the source's fault, and two may be its second try; after three in a
row on one worker, with no success between, the worker is replaced. A start costs a tenth of a second of CPU time.

Where every task fails, because the plugin itself is broken, replacing does not help: each replacement without a success after
it doubles the number, so a broken plugin costs few starts.
"""

from __future__ import annotations

from ...wire.messages import Done, Failed
from ..model.worker_slot import WorkerSlot

__all__ = ["FailureStreaks"]

_FIRST = 3
_MOST = 192


class FailureStreaks:
    """Counts unexpected exceptions in a row for each worker."""

    def __init__(self) -> None:
        self._max_streak = _FIRST  # in a row, until a worker is replaced

    def on_task_answered(self, slot: WorkerSlot, answer: Done | Failed) -> str | None:
        """Count an answer. Returns why the worker must not have another task; None: it may."""
        if isinstance(answer, Done):
            self._max_streak = _FIRST
        unexpected = isinstance(answer, Failed) and answer.code == "exception"
        slot.failures = slot.failures + 1 if unexpected else 0
        if answer.recycle:
            return "its processor asked to be replaced"
        if slot.failures < self._max_streak:
            return None
        self._max_streak = min(2 * self._max_streak, _MOST)
        return f"{slot.failures} tasks in a row ended with an unexpected exception"
