"""Whether a supervisor may decide: at this moment, and ever again."""

from __future__ import annotations

from enum import Enum

from ...errors import InternalError, OffloopError, PoolClosed

__all__ = ["DecisionGate", "GateState"]


class GateState(Enum):
    """What stands between an event and a decision."""

    IDLE = "free"  # nothing
    PROCESSING = "taken"  # another event is being decided on; this one is next
    STOPPED = "over"  # after a defect of ours, and in a forked child: no event is decided on any more


class DecisionGate:
    """The turn, and the defect that ended it, if one did."""

    def __init__(self) -> None:
        self.state = GateState.IDLE
        self.internal_error: BaseException | None = None  # of ours

    def fail(self, defect: BaseException) -> None:
        """No decision can be trusted any more; the first defect is the one that is told."""
        self.state = GateState.STOPPED
        self.internal_error = self.internal_error or defect

    def raise_if_failed(self) -> None:
        """Return if no defect of ours has struck.

        Raises:
            InternalError: one has.
        """
        if self.internal_error is not None:
            raise self.error() from self.internal_error

    @property
    def was_interrupted(self) -> bool:
        """Whether what ended the decisions is a KeyboardInterrupt or the like, and no defect."""
        return self.internal_error is not None and not isinstance(self.internal_error, Exception)

    def error(self) -> OffloopError:
        """Why nothing is decided any more, as callers are told of it."""
        if self.was_interrupted:
            return PoolClosed(f"the pool was ended by {type(self.internal_error).__name__}")
        return InternalError(f"{type(self.internal_error).__name__}: {self.internal_error}")
