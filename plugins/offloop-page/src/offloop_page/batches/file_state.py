"""The states of a file, and the events that change them. An event without an entry for a state is illegal."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["FileEvent", "FileState", "next_state"]


class FileState(StrEnum):
    """State of a file of a batch."""

    EXPECTED = "expected"
    """Its name is known, and no byte has come."""
    BLOCKED = "blocked"
    """Its upload has begun, and waits for memory of the pool."""
    UPLOADING = "uploading"
    """Its bytes come."""
    WAITING = "waiting"
    """It waits for memory or a worker."""
    WORKING = "working"
    """A worker converts it."""
    DONE = "done"
    """Its results can be downloaded."""
    FAILED = "failed"
    """It has no results, for a reason."""
    CANCELLED = "cancelled"
    """The client has stopped it."""

    @property
    def has_ended(self) -> bool:
        """Whether nothing happens before the file is sent again."""
        return self in (FileState.DONE, FileState.FAILED, FileState.CANCELLED)

    @property
    def is_active(self) -> bool:
        """Whether the server works for it."""
        return not self.has_ended and self is not FileState.EXPECTED


class FileEvent(StrEnum):
    """A fact about a file."""

    UPLOAD_BEGUN = "upload_begun"
    MEMORY_GRANTED = "memory_granted"
    RECEIVED = "received"
    STARTED = "started"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


_S, _E = FileState, FileEvent

_ENDS = {_E.FAILED: _S.FAILED, _E.CANCELLED: _S.CANCELLED}

_TABLE: dict[FileState, dict[FileEvent, FileState]] = {
    _S.EXPECTED: {_E.UPLOAD_BEGUN: _S.BLOCKED, **_ENDS},
    _S.BLOCKED: {_E.MEMORY_GRANTED: _S.UPLOADING, **_ENDS},
    _S.UPLOADING: {_E.RECEIVED: _S.WAITING, **_ENDS},
    _S.WAITING: {_E.STARTED: _S.WORKING, _E.SUCCEEDED: _S.DONE, **_ENDS},
    _S.WORKING: {_E.STARTED: _S.WORKING, _E.SUCCEEDED: _S.DONE, **_ENDS},
    _S.DONE: {_E.UPLOAD_BEGUN: _S.BLOCKED},
    _S.FAILED: {_E.UPLOAD_BEGUN: _S.BLOCKED},
    _S.CANCELLED: {_E.UPLOAD_BEGUN: _S.BLOCKED},
}


def next_state(state: FileState, event: FileEvent) -> FileState | None:
    """Returns the state after an event; None if the event is illegal."""
    return _TABLE[state].get(event)
