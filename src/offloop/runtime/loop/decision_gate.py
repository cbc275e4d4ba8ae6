"""State of the core driver: idle, processing an event, or stopped after an internal error."""

from __future__ import annotations

from enum import Enum

from ...errors import InternalError, OffloopError, PoolClosed

__all__ = ["DecisionGate", "GateState"]


class GateState(Enum):
    """Whether an event can be processed."""

    IDLE = "idle"  # an event is processed at once
    PROCESSING = "processing"  # another event is being processed; new events are queued
    STOPPED = "stopped"  # no event is processed any more: after an internal error, an abort, or in a forked child


class DecisionGate:
    """The gate state, and the internal error that stopped it."""

    def __init__(self) -> None:
        self.state = GateState.IDLE
        self.internal_error: BaseException | None = None  # the first defect in offloop, or an interrupt

    def fail(self, error: BaseException) -> None:
        """Stop the gate, because no decision can be trusted. The first error is kept."""
        self.state = GateState.STOPPED
        self.internal_error = self.internal_error or error

    def raise_if_failed(self) -> None:
        """Raise the error that stopped the gate, if any.

        Raises:
            InternalError: a defect in offloop.
            PoolClosed: a KeyboardInterrupt or the like.
        """
        if self.internal_error is not None:
            raise self.error() from self.internal_error

    @property
    def was_interrupted(self) -> bool:
        """Whether a KeyboardInterrupt or the like has stopped the gate, and not a defect."""
        return self.internal_error is not None and not isinstance(self.internal_error, Exception)

    def error(self) -> OffloopError:
        """The error for callers after the gate was stopped."""
        if self.was_interrupted:
            return PoolClosed(f"the pool was ended by {type(self.internal_error).__name__}")
        return InternalError(f"{type(self.internal_error).__name__}: {self.internal_error}")
