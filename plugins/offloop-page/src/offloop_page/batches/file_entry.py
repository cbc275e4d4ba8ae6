"""One file of a batch: its state, its progress, its preview and its results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from offloop import Header, Result

from .failures import Failure
from .file_state import FileEvent, FileState, next_state

__all__ = ["FileEntry", "KeptResult", "Upload"]

_UPLOAD_SHARE = 0.3  # part of a file's progress that is its upload


class KeptResult(msgspec.Struct, frozen=True):
    """A result in shared memory. Its memory is returned to the pool when the last reference is gone."""

    result: Result
    """The encoded picture."""

    key: str
    """Name of this result among those of its file: its width, or "full"."""

    file_name: str
    """Safe and unique relative path in the batch's archive."""

    sha256: str
    """Digest of the bytes in hexadecimal digits."""

    crc32: int
    """Checksum of the bytes, which an archive needs before them."""

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields for clients."""
        info = self.result.info
        return {
            "key": self.key,
            "name": self.file_name,
            "media_type": info.media_type,
            "width": info.width,
            "height": info.height,
            "nbytes": self.result.nbytes,
            "sha256": self.sha256,
        }


class Upload(msgspec.Struct, frozen=True):
    """State of the upload of a file's results to the storage."""

    state: str
    """ "waiting", "sending", "stored" or "failed"."""

    detail: str = ""
    """Where the results are, or why they are not stored."""


class FileEntry:
    """One file of a batch. Its batch numbers its changes."""

    def __init__(self, key: str, name: str, nbytes: int) -> None:
        self.key = key  # identifier in the batch, chosen by the client
        self.name = name  # safe relative path
        self.nbytes = nbytes  # announced length in bytes; 0: unknown
        self.state = FileState.EXPECTED
        self.revision = 0  # revision of the batch at the last change
        self.attempt = 0  # number of times that the file was sent
        self.received = 0  # bytes of this attempt that have come
        self.fraction = 0.0  # progress of the conversion, from 0 to 1
        self.operation = ""  # operations that run
        self.eta_s: float | None = None  # expected seconds until the end; None: unknown
        self.cost_s: float | None = None  # expected seconds of a worker's time; None: unknown
        self.waits_for: str | None = None  # "worker" or "memory" in the state WAITING; None: not known
        self.header: Header | None = None  # what the source's first bytes declare; None: not yet known
        self.preview: bytes | None = None  # small WebP picture; None: there is none
        self.results: tuple[KeptResult, ...] = ()
        self.failure: Failure | None = None  # reason in the state FAILED
        self.upload: Upload | None = None  # upload to the storage; None: it was not asked for
        self.stop: Callable[[], object] | None = None  # ends the present upload or conversion; None: there is none

    def apply(self, event: FileEvent) -> bool:
        """Change the state. Returns False, and changes nothing, if the event is illegal in the present state."""
        state = next_state(self.state, event)
        if state is None:
            return False
        if event is FileEvent.UPLOAD_BEGUN:
            self.attempt += 1
            self.received, self.fraction, self.operation, self.eta_s = 0, 0.0, "", None
            self.waits_for = None
            self.failure, self.upload = None, None
        if state.has_ended:
            self.stop = None
        self.state = state
        return True

    @property
    def share(self) -> float:
        """Part of the file's upload and conversion that is over, from 0 to 1."""
        match self.state:
            case FileState.EXPECTED | FileState.BLOCKED:
                return 0.0
            case FileState.UPLOADING:
                return _UPLOAD_SHARE * min(self.received / max(self.nbytes, 1), 1.0)
            case FileState.WAITING:
                return _UPLOAD_SHARE
            case FileState.WORKING:
                return _UPLOAD_SHARE + (1 - _UPLOAD_SHARE) * self.fraction
            case _:
                return 1.0

    @property
    def result_bytes(self) -> int:
        """Length of all results in bytes."""
        return sum(kept.result.nbytes for kept in self.results)

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields for clients."""
        return {
            "key": self.key,
            "name": self.name,
            "nbytes": self.nbytes,
            "state": self.state,
            "attempt": self.attempt,
            "received": self.received,
            "share": round(self.share, 4),
            "fraction": round(self.fraction, 4),
            "operation": self.operation,
            "eta_s": self.eta_s,
            "waits_for": self.waits_for if self.state is FileState.WAITING else None,
            "source": None if self.header is None else self.header.to_dict(),
            "has_preview": self.preview is not None,
            "results": [kept.to_dict() for kept in self.results],
            "failure": None if self.failure is None else msgspec.to_builtins(self.failure),
            "upload": None if self.upload is None else msgspec.to_builtins(self.upload),
        }
