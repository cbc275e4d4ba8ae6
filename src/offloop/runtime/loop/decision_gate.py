"""Whether a supervisor may decide: at this moment, and ever again."""

from __future__ import annotations

from enum import Enum

from ...errors import InternalError, OffloopError, PoolClosed

__all__ = ["Standing", "Turn"]


class Turn(Enum):
    """What stands between an event and a decision."""

    FREE = "free"  # nothing
    TAKEN = "taken"  # another event is being decided on; this one is next
    OVER = "over"  # after a defect of ours, and in a forked child: no event is decided on any more


class Standing:
    """The turn, and the defect that ended it, if one did."""

    def __init__(self) -> None:
        self.turn = Turn.FREE
        self.defect: BaseException | None = None  # of ours

    def fail(self, defect: BaseException) -> None:
        """No decision can be trusted any more; the first defect is the one that is told."""
        self.turn = Turn.OVER
        self.defect = self.defect or defect

    def check_sound(self) -> None:
        """Return if no defect of ours has struck.

        Raises:
            InternalError: one has.
        """
        if self.defect is not None:
            raise self.error() from self.defect

    @property
    def was_interrupted(self) -> bool:
        """Whether what ended the decisions is a KeyboardInterrupt or the like, and no defect."""
        return self.defect is not None and not isinstance(self.defect, Exception)

    def error(self) -> OffloopError:
        """Why nothing is decided any more, as callers are told of it."""
        if self.was_interrupted:
            return PoolClosed(f"the pool was ended by {type(self.defect).__name__}")
        return InternalError(f"{type(self.defect).__name__}: {self.defect}")
